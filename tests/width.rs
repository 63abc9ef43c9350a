//! Output for people fits a terminal of 80 columns and has correct plurals.

use crate::cooldown::{entry, write_cooldown};
use crate::every_command::{assert_orderly_exit, leaves, world};
use crate::json_output::{Case, case, world_of_two};
use crate::support::conversations::{Conversation, id, write};
use crate::support::env::{Run, TestEnv};
use crate::support::sample::{alice, backup};
use crate::support::sign_in::write_auth;
use crate::support::terminal::Terminal;
use crate::support::usage_lines::{at, context, count};
use regex::Regex;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

const COLUMNS: u16 = 80;

/// Commands whose output is read by other programs.
const VERBATIM: [&str; 3] = ["completions", "hook", "man"];

/// Returns the output of a command on a terminal of this width without input.
pub(crate) fn shown(env: &TestEnv, args: &[String], columns: u16) -> (String, ExitStatus) {
    let mut command = env.command(args);
    command.env_remove("COLUMNS").env("PAGER", "cat");
    let mut terminal = Terminal::watch(&mut command, columns);
    let status = terminal.end();
    (terminal.text(), status)
}

/// Returns the lines that are too long. A path or a command to copy may exceed the width on a line of its
/// own.
pub(crate) fn too_long(text: &str, columns: u16) -> Vec<&str> {
    let is_alone = |line: &str| {
        let line = line.trim();
        let programs = [
            "codex-manager ",
            "codex ",
            "chmod ",
            "chown ",
            "cp ",
            "mv ",
            "$ ",
        ];
        !line.contains(' ') || programs.iter().any(|program| line.starts_with(program))
    };
    let lines = text.split(['\n', '\r']);
    let long = lines.filter(|line| line.trim_end().chars().count() > usize::from(columns));
    // A line of a file that the command prints unchanged.
    let is_quoted = |line: &str| {
        let line = line.trim_start();
        line.starts_with("# made by") || line.starts_with("ExecStart=")
    };
    long.filter(|line| !is_alone(line) && !is_quoted(line))
        .collect()
}

/// Finds wrong plurals such as "1 files".
fn find_wrong_plurals(text: &str) -> Vec<String> {
    let one = Regex::new(r"\b1 ([a-z]+s)\b").unwrap();
    let verbs = ["is", "was", "has", "does", "ms", "needs", "differs"];
    let found = one.captures_iter(text);
    found
        .filter(|found| !verbs.contains(&&found[1]))
        .map(|found| found[0].to_owned())
        .collect()
}

/// Creates a home with one item of each kind.
fn world_of_one() -> TestEnv {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    env.write(
        "home/.codex/sessions/2026/11/18/rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl",
        "{\"timestamp\":\"2026-11-18T10:00:00Z\",\"type\":\"session_meta\",\"payload\":{\"id\":\"01a1f78b-4d30-7ef3-b0ee-5caab8d3b455\"}}\n",
    );
    env.write("home/dumps/21apr_old@example.com_auth.json", "{}");
    env.write("home/dumps/notes.txt", "");
    env.write("home/cloud/prompts/there.md", "of another machine\n");
    let settings = "[paths]\ncloud_root_dir = \"~/cloud\"\nbackup_dir = \"~/sync-backups\"\n";
    env.write("home/.codex-manager/sync.toml", settings);
    backup(&env, &[]);
    let _ = env.run(["profile", "save", "work"]).code(0);
    env
}

/// Creates a home with many faults.
fn damaged_home() -> TestEnv {
    let env = world_of_two();
    env.write("home/.codex/state_5.sqlite", "garbage");
    env.write("home/.codex/auth.json", "");
    env.write("home/.codex/config.toml", "= broken");
    env.write("home/.codex-manager/inventory.json", "{\"schema\": 99}");
    env.write("home/.codex-manager/cooldown.json", "]");
    env.write("home/.codex-manager/backups/notes.txt", "");
    let mut archives = fs::read_dir(env.manager_home().join("backups"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "gz"));
    fs::write(archives.next().unwrap(), "no archive").unwrap();
    env
}

/// Command lines with arguments that the command tree does not suggest.
const LINES: [&str; 34] = [
    "doctor",
    "doctor --fix --dry-run",
    "recommend --explain",
    "recommend --ready-only",
    "recommend --use",
    "use home",
    "use home --dry-run",
    "use nobody@example.com",
    "use -",
    "status",
    "status --all",
    "status --history",
    "status --account home",
    "cooldown --timeline",
    "cooldown --set home --until 2026-12-24T12:00:00Z",
    "list",
    "list-backups",
    "verify --all",
    "verify nothing",
    "prune --keep-last 1 --dry-run",
    "prune --keep-last 1",
    "prune --empty-trash",
    "prune --empty-trash --yes",
    "prune",
    "restore latest --dry-run",
    "restore latest --yes",
    "restore nobody@example.com",
    "normalize home/dumps",
    "normalize --verbose home/dumps",
    "normalize home/.codex",
    "backup --no-status --dry-run",
    "sync plan",
    "sync run --apply --yes",
    "sync preflight",
];

#[test]
fn output_fits_80_columns_and_counts_of_one_are_singular() {
    let mut wrong = Vec::new();
    let mut look = |env: &TestEnv, args: &[String]| {
        let (text, status) = shown(env, args, COLUMNS);
        let root = env.path("").display().to_string();
        let line = args.join(" ");
        let code = status
            .code()
            .unwrap_or_else(|| -status.signal().unwrap_or(1));
        let run = Run {
            stdout: String::new(),
            stderr: text.clone(),
            code,
        };
        assert_orderly_exit(&line, &run);
        let is_verbatim = VERBATIM.contains(&args[0].as_str());
        if !is_verbatim {
            for long in too_long(&text, COLUMNS) {
                wrong.push(format!("{line}: {}", long.replace(&root, "[ROOT]/")));
            }
        }
        for counted in find_wrong_plurals(&text) {
            wrong.push(format!("{line}: {counted}"));
        }
    };
    for leaf in &leaves() {
        let Case { env, args, .. } = case(leaf, &["--yes"]);
        look(&env, &args);
        let env = world_of_one();
        look(&env, &leaf.with(&["--yes"]));
    }
    for world in [
        world_of_two,
        world_of_one,
        damaged_home,
        world,
        TestEnv::new,
    ] {
        let env = world();
        for line in LINES {
            let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
            look(&env, &args);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The screens that people keep open; ID is a conversation with a long title.
const SCREENS: [&str; 28] = [
    "accounts",
    "accounts --timeline",
    "status",
    "current",
    "recommend",
    "recommend --explain",
    "sessions",
    "sessions --archived",
    "find checker",
    "find checkr",
    "find checker -C 2",
    "show ID",
    "usage",
    "usage sessions",
    "usage --window",
    "usage --window alice@example.com",
    "status --history",
    "launches",
    "sessions --launched",
    "storage",
    "storage trash ID --dry-run",
    "list-backups",
    "prune --keep-last 1 --dry-run",
    "diff",
    "doctor",
    "history check",
    "history losses",
    "profile list",
];

#[test]
fn screens_fit_terminals_of_40_80_and_120_columns() {
    let env = crate::session_picker::home();
    let title = "Explain why the borrow checker refuses the table of merges ".repeat(3);
    let used = [100_000, 0, 1000, 0];
    let lines = [context(at(0), "gpt-5"), count(at(0), used, used, None)];
    let mut long = Conversation::new(9, 10, &title, &title);
    let lines = lines.iter().map(|line| serde_json::from_str(line));
    long.lines.extend(lines.map(Result::unwrap));
    write(&env, &long);
    for _ in 0..2 {
        let _ = env.run(["backup", "--no-status"]).code(0);
    }
    let mut wrong = Vec::new();
    for columns in [40, 80, 120] {
        for line in SCREENS {
            let args = line.replace("ID", &id(9));
            let args: Vec<_> = args.split(' ').map(str::to_owned).collect();
            let (text, _) = shown(&env, &args, columns);
            assert!(!text.trim().is_empty(), "{line}");
            let long = too_long(&text, columns).into_iter();
            wrong.extend(long.map(|long| format!("{line} at {columns}: {long}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_long_account_name_leaves_width_for_the_reason() {
    let env = TestEnv::new();
    let long = format!("{}@example.com", "a".repeat(48));
    let later = "2026-11-24T15:55:00Z";
    write_cooldown(
        &env,
        &[entry(&long, 40.0, later), entry("b@x.com", 100.0, later)],
    );
    let (text, status) = shown(&env, &["recommend".into(), "--explain".into()], COLUMNS);
    assert!(status.success(), "{text}");
    assert_eq!(text.trim_end().lines().count(), 4, "{text}");
}

#[test]
fn wide_characters_keep_the_columns_aligned() {
    let env = TestEnv::new();
    let later = "2026-11-24T15:55:00Z";
    let names = ["漢字@x.com", "abcd@x.com"];
    write_cooldown(&env, &names.map(|name| entry(name, 40.0, later)));
    for args in [&["cooldown", "--timeline"][..], &["recommend", "--explain"]] {
        let run = env.run(args).code(0);
        let rest = names.map(|name| {
            let (_, rest) = run.stdout.split_once(name).expect("the account");
            rest.len() - rest.trim_start_matches(' ').len()
        });
        assert_eq!(rest, [2, 2], "{run}");
    }
}

#[test]
fn piped_output_is_not_wrapped() {
    let env = world_of_two();
    let run = env.run(["recommend", "--explain"]).code(0);
    assert_eq!(run.stdout.lines().count(), 2, "one line per account: {run}");
    let run = env.run(["use", "nobody@example.com"]).code(1);
    let error = run.stderr.lines().next().unwrap_or_default();
    assert!(
        error.starts_with("error: ") && run.stderr.contains("\nhint: "),
        "{run}"
    );
}
