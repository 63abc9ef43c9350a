//! `demo` runs all steps and does not touch the user's homes.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::tables::shown;

#[test]
fn demo_runs_every_step_and_removes_its_folder() {
    let mut env = TestEnv::new();
    // The steps depend on the file times of the sample, which come from the real clock.
    env.unset("CODEX_MANAGER_NOW");
    env.write("home/.codex/auth.json", "the user's own");
    let before = env.tree("");
    let run = env.run(["demo"]).code(0);
    for verb in [
        "normalize",
        "cooldown",
        "recommend",
        "backup",
        "restore",
        "verify",
        "profile save personal",
        "use personal",
        "sync run --apply",
        "find flaky test",
    ] {
        assert!(
            run.stdout.contains(&format!("$ codex-manager {verb}")),
            "{verb}\n{run}"
        );
    }
    assert!(
        run.stdout.contains("All conversations are restored"),
        "{run}"
    );
    assert!(run.stdout.contains("The second machine has all"), "{run}");
    for line in [
        "\n6 → cloud folder (",
        "\n0 → cloud folder, 6 ← cloud folder (",
    ] {
        assert!(run.stdout.contains(line), "{run}");
    }
    // The search finds the conversation in the synced home.
    let (_, search) = run.stdout.split_once("$ codex-manager find").unwrap();
    assert!(search.contains("fix the flaky test"), "{search}");
    let next = run.stdout.lines().rev().take(3);
    assert!(
        next.clone()
            .all(|line| line.starts_with("  codex-manager ")),
        "{run}"
    );
    assert_same_tree(&before, &env.tree(""));
    // The last command works as printed, and says what is missing.
    let last = run.stdout.lines().next_back().unwrap().trim();
    let home = env.path("home").display().to_string();
    let words = last.replace('~', &home);
    let first = env.run(words.split(' ').skip(1)).code(0);
    assert!(first.stderr.contains("codex-manager sync "), "{first}");
}

#[test]
fn lines_of_demo_fit_a_narrow_terminal_except_commands_and_paths() {
    let mut env = TestEnv::new();
    env.unset("CODEX_MANAGER_NOW");
    let text = shown(&env, &["demo"], 40);
    let is_path =
        |word: &str| word.starts_with('/') || word.trim_end_matches(':').ends_with(".tar.gz");
    let is_whole = |line: &str| {
        let is_command = line.starts_with("$ ") || line.starts_with("codex-manager ");
        line.chars().count() <= 40 || is_command || is_path(line.trim())
    };
    let broken: Vec<_> = text.lines().filter(|line| !is_whole(line)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn demo_as_json_is_one_document() {
    let mut env = TestEnv::new();
    env.unset("CODEX_MANAGER_NOW");
    let run = env.run(["demo", "--json"]).code(0);
    let json = run.json();
    assert_eq!(json["home_is_as_before"], true);
    assert_eq!(json["second_home_is_equal"], true);
    assert_eq!(json["steps"].as_array().map(Vec::len), Some(14));
    assert_eq!(run.stderr, "");
}

#[test]
fn demo_keeps_its_folder_on_request() {
    let mut env = TestEnv::new();
    env.unset("CODEX_MANAGER_NOW");
    let run = env.run(["demo", "--keep"]).code(0);
    let kept: Vec<_> = std::fs::read_dir(env.path("tmp")).unwrap().collect();
    assert_eq!(kept.len(), 1, "{run}");
    assert!(run.stderr.contains("kept the folder of the demo:"), "{run}");
}
