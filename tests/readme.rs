//! Every command line of the README runs as printed.

use crate::python_import::python_home;
use crate::python_manager;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{bob, sample_home};
use crate::support::sign_in::auth_json;
use crate::support::write_program;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::read_to_string(path).expect("read")
}

/// Returns the lines of the `sh` blocks of `text` that run the program, in order.
fn lines(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|b| b.split("```").next().unwrap_or_default().lines());
    lines
        .filter_map(|line| {
            let built = line.strip_prefix("cargo run --release -- ");
            let line = built.map_or(line.to_owned(), |rest| format!("codex-manager {rest}"));
            line.contains("codex-manager ").then_some(line)
        })
        .collect()
}

/// Runs a line in `sh`, with nothing in the environment but a home.
fn run_in_shell(env: &TestEnv, line: &str) -> (Option<i32>, String) {
    let output = Command::new("bash")
        .args(["-c", line])
        .env_clear()
        .env("HOME", env.path("home"))
        .env("TMPDIR", env.path("tmp"))
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", env.path("bin").display()),
        )
        .current_dir(env.path("home"))
        .stdin(Stdio::null())
        .output()
        .expect("bash");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn world() -> TestEnv {
    let env = TestEnv::new();
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_codex-manager"),
        env.path("bin/codex-manager"),
    )
    .unwrap();
    env
}

/// The first commands of a new user on an empty machine, with exit code and suggested next step.
const FIRST_MINUTE: [(&str, i32, &str); 12] = [
    ("backup", 1, "then sign in:\n    codex login"),
    ("list-backups", 0, "codex-manager profile login NAME"),
    ("restore latest", 1, "codex-manager profile login NAME"),
    ("normalize ~/old-dumps", 1, "hint: name an existing folder"),
    ("accounts", 0, "codex-manager profile login NAME"),
    (
        "recommend",
        5,
        "then sign in:\n    codex-manager profile login NAME",
    ),
    ("status", 6, "then sign in:\n    codex login"),
    ("history check", 1, "then sign in:\n    codex login"),
    (
        "prune --keep-last 3 --keep-weekly 4 --dry-run",
        0,
        "nothing to prune",
    ),
    ("doctor", 0, "codex login"),
    (
        "sync init --cloud ~/Dropbox/codex",
        0,
        "check it with:\n    codex-manager sync preflight",
    ),
    (
        "sync run --apply",
        5,
        "hint: mount it, start its client, or create it with mkdir",
    ),
];

#[test]
fn every_readme_command_succeeds_or_gives_a_hint_on_an_empty_machine() {
    let text = readme();
    let mut missing: Vec<_> = FIRST_MINUTE.iter().map(|first| first.0).collect();
    for section in text.split("\n## ") {
        // A section does not rely on the ones before it.
        let env = world();
        for line in lines(section) {
            let plain = line.split(" #").next().unwrap_or_default().trim_end();
            let words = plain.strip_prefix("codex-manager ").unwrap_or_default();
            let (code, text) = run_in_shell(&env, &line);
            let Some((_, expected, next)) = FIRST_MINUTE.iter().find(|first| first.0 == words)
            else {
                let clear = code == Some(0) || text.contains("hint: ") || text.is_empty();
                assert!(
                    code.is_some_and(|c| c <= 6) && clear,
                    "{line}: {code:?}\n{text}"
                );
                continue;
            };
            assert!(
                code == Some(*expected) && text.contains(next),
                "{line}: {code:?}, not {expected} with {next:?}\n{text}"
            );
            assert!(!text.contains(plain), "{line} suggests itself:\n{text}");
            missing.retain(|first| first != &words);
        }
    }
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

/// Returns the script of a `codex` that only has `login`, which signs Bob in.
fn codex_that_signs_in() -> String {
    format!(
        "#!/bin/sh\n[ \"$1\" = login ] || exit 0\n\
         umask 077; cat > \"$CODEX_HOME/auth.json\" <<'END'\n{}\nEND\n",
        auth_json(&bob())
    )
}

#[test]
fn every_readme_command_runs_on_the_sample_home() {
    let env = world();
    sample_home(&env);
    fs::create_dir(env.path("home/old-dumps")).unwrap();
    fs::create_dir_all(env.path("home/Dropbox/codex")).unwrap();
    let legacy = env.codex_home().join("21apr_old@example.com_auth.json");
    fs::rename(
        &legacy,
        env.path("home/old-dumps").join(legacy.file_name().unwrap()),
    )
    .unwrap();
    write_program(&env.path("bin/codex"), &codex_that_signs_in());
    for line in lines(&readme()) {
        let (code, text) = run_in_shell(&env, &line);
        // 6: this codex reports no live figures. The sample's files are not valid
        // conversations: they differ (5), and there is no repair to undo and nothing to resume (1).
        let differs =
            matches!(code, Some(1 | 5)) && (line.contains("history ") || line.contains("resume "));
        assert!(
            matches!(code, Some(0 | 6)) || differs,
            "{line}: {code:?}\n{text}"
        );
    }
}

#[test]
fn the_python_tool_has_its_files_where_the_readme_says() {
    let readme = readme();
    let name_after = |words: &str| {
        let (_, rest) = readme.split_once(words).expect("the sentence");
        rest.split('`').next().expect("a name").to_owned()
    };
    let folder = format!("home/{}", name_after("versions 1.x and 2.0, `~/"));
    let env = TestEnv::new();
    python_home(&env, &folder);
    let before = env.tree(&folder);
    let _ = env.run(["config", "import-python"]).code(0);
    assert_same_tree(&before, &env.tree(&folder));
    let archives = env.run(["list-backups", "--json"]).code(0).json();
    assert_eq!(archives["backups"].as_array().expect("a list").len(), 1);

    let kept = name_after("keeps the old ones as `");
    let env = python_manager::world();
    let figures = fs::read(env.manager_home().join("cooldown.json")).expect("read");
    let hold = ["cooldown", "--set", "bob@example.com", "--until", "+1d"];
    let _ = env.run(hold).code(0);
    assert_eq!(
        fs::read(env.manager_home().join(kept)).expect("read"),
        figures
    );
}
