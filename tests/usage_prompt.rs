//! The day's usage and the week's pace in prompts, read only from the index and the cache.

use crate::cooldown::{entry, write_cooldown};
use crate::shells::has;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::usage_lines::{at, context, conversation, count, store, sum};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

const FIELDS: &str = "[{today_tokens}|{today_cost}|{week_pace}]";

/// Creates one account with 1.1 million tokens of yesterday and 1.1 million of today.
fn world() -> (TestEnv, PathBuf) {
    let env = TestEnv::new();
    write_cooldown(&env, &[entry("a@x.com", 10.0, "2026-11-24T15:55:00Z")]);
    let a = [1_000_000, 0, 100_000, 0];
    let lines = [
        context(at(0), "gpt-5"),
        count(at(1), a, a, None),
        count(at(20 * 60), sum(a, a), a, None),
    ];
    let path = store(&env, &conversation(1), &lines);
    (env, path)
}

fn shown(env: &TestEnv) -> String {
    let run = env.run(["recommend", "--format", FIELDS]).code(0);
    assert_eq!(run.stderr, "", "{run}");
    run.stdout.trim_end().to_owned()
}

fn index_of(env: &TestEnv) -> PathBuf {
    let folder = env.path("home/.codex-manager/index");
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut found = entries.filter(|path| path.extension().is_some_and(|e| e == "sqlite"));
    found.next().unwrap()
}

#[test]
fn the_prompt_shows_the_usage_of_the_day_as_last_indexed() {
    let (env, path) = world();
    let before = env.tree("home");
    assert_eq!(shown(&env), "[||on pace]");
    assert_same_tree(&before, &env.tree("home"));
    let _ = env.run(["usage"]).code(0);
    // 1 M × 1.25 + 0.1 M × 10
    assert_eq!(shown(&env), "[1.10M|$2.25|on pace]");
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    let a = [1_000_000, 0, 100_000, 0];
    writeln!(file, "{}", count(at(21 * 60), sum(sum(a, a), a), a, None)).unwrap();
    let before = env.tree("home");
    assert_eq!(shown(&env), "[1.10M|$2.25|on pace]");
    assert_same_tree(&before, &env.tree("home"));
    let _ = env.run(["usage"]).code(0);
    assert_eq!(shown(&env), "[2.20M|$4.50|on pace]");
    // Prices that cannot be read hide only the cost.
    env.write("home/.codex-manager/prices.toml", "x");
    assert_eq!(shown(&env), "[2.20M||on pace]");
}

#[test]
fn the_day_of_the_prompt_begins_at_local_midnight() {
    let (mut env, _) = world();
    let _ = env.run(["usage"]).code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-21T03:00:00Z");
    assert_eq!(shown(&env), "[0|$0.00|on pace]");
    env.set("TZ", "America/New_York");
    assert_eq!(shown(&env), "[1.10M|$2.25|on pace]");
}

#[test]
fn with_a_damaged_or_older_index_the_prompt_shows_no_usage_and_no_error() {
    let (env, _) = world();
    let _ = env.run(["usage"]).code(0);
    let index = index_of(&env);
    let connection = rusqlite::Connection::open(&index).unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    assert_eq!(shown(&env), "[||on pace]");
    fs::write(&index, "x".repeat(5000)).unwrap();
    let before = env.tree("home");
    assert_eq!(shown(&env), "[||on pace]");
    assert_same_tree(&before, &env.tree("home"));
    fs::write(&index, "").unwrap();
    assert_eq!(shown(&env), "[||on pace]");
}

#[test]
fn a_prompt_does_not_wait_for_a_process_that_writes_the_index() {
    let (env, _) = world();
    let _ = env.run(["usage"]).code(0);
    let writer = rusqlite::Connection::open(index_of(&env)).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(shown(&env), "[||on pace]");
    drop(writer);
    assert_eq!(shown(&env), "[1.10M|$2.25|on pace]");
}

#[test]
fn the_weekly_pace_is_computed_from_recent_figures_and_explained_only_for_the_live_account() {
    let env = TestEnv::new();
    let pace = |env: &TestEnv, used: f64| {
        write_cooldown(env, &[entry("a@x.com", used, "2026-11-24T15:55:00Z")]);
        let run = env.run(["recommend", "--format", "{week_pace}"]).code(0);
        run.stdout.trim_end().to_owned()
    };
    assert_eq!(pace(&env, 10.0), "on pace");
    assert_eq!(pace(&env, 80.0), "exhausted on Sat");
    assert_eq!(pace(&env, 90.0), "exhausted today");
    assert_eq!(pace(&env, 100.0), "exhausted");
    let explained = env.run(["recommend", "--explain"]).code(0);
    assert!(!explained.stdout.contains("pace"), "{explained}");
    let _ = pace(&env, 80.0);
    // Only the live account keeps its pace.
    let explained = env.run(["recommend", "--explain"]).code(0);
    assert!(!explained.stdout.contains("pace"), "{explained}");
    write_auth(&env.codex_home(), &SignIn::new("acct-a", "a@x.com"));
    let explained = env.run(["recommend", "--explain"]).code(0);
    let hint = "at this pace, the weekly quota runs out on Sat 21 Nov";
    assert!(explained.stdout.contains(hint), "{explained}");
    let cooldown = env.run(["cooldown"]).code(0);
    assert!(
        cooldown.stderr.contains(&format!("a@x.com: {hint}")),
        "{cooldown}"
    );
    // The pace does not change the state of the account.
    let json = env.run(["recommend", "--json"]).code(0).json();
    assert_eq!(json["recommended"]["state"], "ready");
    assert!(!json.to_string().contains("pace"), "{json}");
    // Figures older than the time that they forecast, and those of a window that has ended.
    let mut env = env;
    for now in ["2026-11-21T12:00:00Z", "2026-11-25T12:00:00Z"] {
        env.set("CODEX_MANAGER_NOW", now);
        assert_eq!(pace(&env, 80.0), "", "{now}");
    }
}

#[test]
fn shell_prompts_show_the_dollar_sign_of_a_cost() {
    let (env, _) = world();
    let _ = env.run(["usage"]).code(0);
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_codex-manager"),
        env.path("bin/codex-manager"),
    )
    .unwrap();
    let format = "'{today_tokens} {today_cost} {week_pace}'";
    for (shell, args, script) in [
        (
            "bash",
            &["--noprofile", "--norc", "-c"][..],
            format!(
                "PS1=''; eval \"$(codex-manager hook bash --format {format})\"; for c in \"${{PROMPT_COMMAND[@]}}\"; do eval \"$c\"; done; \
                 printf %s \"${{PS1@P}}\""
            ),
        ),
        (
            "zsh",
            &["-fc"],
            format!(
                "PROMPT=''; eval \"$(codex-manager hook zsh --format {format})\"; \
                 for f in $precmd_functions; do $f; done; print -nP -- \"$PROMPT\""
            ),
        ),
        (
            "fish",
            &["--no-config", "-c"],
            format!(
                "function fish_prompt; end; codex-manager hook fish --format {format} | source; \
                 emit fish_prompt; fish_prompt"
            ),
        ),
    ] {
        if !has(shell) {
            continue;
        }
        let output = env
            .other_program(shell)
            .args(args)
            .arg(script)
            .current_dir(env.path("home"))
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert_eq!(shown, "[1.10M $2.25 on pace] ", "{shell}: {output:?}");
    }
}
