//! Tests of `notify` with a script in place of `notify-send`: what is shown, and that it is shown once.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::profiles::alice_and_bob;
use crate::support::write_program;
use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};
use std::fs;

const NOW: &str = "2026-11-20T12:00:00Z";

/// Writes a program that records its last two arguments.
fn notifier(env: &TestEnv, name: &str) {
    let script = "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\nprintf '%s: %s\\n' \"$1\" \"$2\" >> \"$HOME/shown\"\n";
    write_program(&env.path("bin").join(name), script);
}

/// Creates two accounts, a Codex home without a backup, and a notifier.
fn world() -> TestEnv {
    let env = alice_and_bob();
    notifier(&env, "notify-send");
    env
}

/// Records the weekly quota of an account that is left, with its reset.
fn observe(env: &TestEnv, account: &str, left: u32, resets: &str) {
    let text = format!("  Weekly limit:  [██] {left}% left (resets {resets})\n");
    let file = env.write("pasted.txt", text);
    let args = [
        "status",
        account,
        "--status-file",
        file.to_str().expect("UTF-8"),
    ];
    let _ = env.run(args).code(0);
}

/// Returns the shown notices, and forgets them.
fn shown(env: &TestEnv) -> Vec<String> {
    let path = env.path("home/shown");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines()
        .map(|line| line.trim_start_matches("codex-manager: ").to_owned())
        .collect()
}

fn notify(env: &TestEnv) -> Vec<String> {
    let _ = env.run(["notify", "--quiet"]).code(0);
    shown(env)
}

fn write_losses(env: &TestEnv, ids: &[&str]) {
    let home = env.codex_home().display().to_string();
    let losses: Vec<_> = ids
        .iter()
        .map(|id| {
            json!({"home": home, "session_id": id, "title": "a title", "lost_messages": 2, "snapshots": []})
        })
        .collect();
    let record = json!({"schema": 1, "checked_at": NOW, "losses": losses, "accepted_in": {}});
    env.write("home/.codex-manager/losses.json", record.to_string());
}

const OLD: &str = "there is no backup of the Codex home; create one: codex-manager backup";
const USED: &str =
    "work has used 85 % of its weekly quota; it resets Mon 23 Nov 07:08, in 2 d 19 h";
const USED_UP: &str =
    "home has used 100 % of its weekly quota; it resets Sat 21 Nov 10:00, in 22 h";
const LOST: &str =
    "1 conversation lost messages that copies still have; list them: codex-manager history losses";

#[test]
fn each_notice_is_shown_once_in_100_runs() {
    let mut env = world();
    observe(&env, "work", 15, "07:08 on 23 Nov");
    observe(&env, "home", 0, "10:00 on 21 Nov");
    write_losses(&env, &["a"]);
    let mut now = DateTime::parse_from_rfc3339(NOW).unwrap();
    let mut all = Vec::new();
    for run in 0..100 {
        all.extend(notify(&env).into_iter().map(|text| (run, text)));
        now += TimeDelta::minutes(30);
        env.set("CODEX_MANAGER_NOW", now.to_rfc3339());
        if run == 10 {
            // The server reports the same reset a little later.
            observe(&env, "work", 14, "07:11 on 23 Nov");
        }
    }
    let at = |run: usize, text: &str| (run, text.to_owned());
    let expected = [
        at(0, USED_UP),
        at(0, USED),
        at(0, OLD),
        at(0, LOST),
        at(44, "home is ready again"),
    ];
    assert_eq!(all, expected);
}

#[test]
fn without_a_manager_home_notify_shows_only_that_the_codex_home_has_no_backup() {
    let env = TestEnv::new();
    notifier(&env, "notify-send");
    assert_eq!(notify(&env), [""; 0]);
    fs::create_dir(env.codex_home()).expect("folder");
    assert_eq!(notify(&env), [OLD]);
}

#[test]
fn a_condition_that_recurs_is_shown_again() {
    let mut env = world();
    write_losses(&env, &["a"]);
    assert_eq!(notify(&env), [OLD, LOST]);
    let _ = env.run(["backup", "--no-status"]).code(0);
    write_losses(&env, &[]);
    // A backup of six days is recent enough.
    env.set("CODEX_MANAGER_NOW", "2026-11-26T12:00:00Z");
    assert_eq!(notify(&env), [""; 0]);
    write_losses(&env, &["a", "b"]);
    assert_eq!(
        notify(&env),
        [LOST.replace("1 conversation", "2 conversations")]
    );
    // Of two lost conversations one is new.
    write_losses(&env, &["b", "c"]);
    assert_eq!(notify(&env).len(), 1);
    write_losses(&env, &["c"]);
    assert_eq!(notify(&env), [""; 0]);
    env.set("CODEX_MANAGER_NOW", "2026-11-27T12:00:01Z");
    assert_eq!(
        notify(&env),
        ["the newest backup is 7 d old; create one: codex-manager backup"]
    );
    let _ = env
        .run(["config", "set", "notify.backup_days", "8"])
        .code(0);
    assert_eq!(notify(&env), [""; 0]);
}

#[test]
fn without_the_notice_of_backups_an_unreadable_vault_state_is_no_failure() {
    let env = world();
    fs::create_dir_all(env.manager_home().join("vault/state.json")).unwrap();
    let run = env.run(["notify"]).code(1);
    assert!(run.stderr.contains("state.json"), "{run}");
    let _ = env
        .run(["config", "set", "notify.backup_days", "0"])
        .code(0);
    assert_eq!(notify(&env), [""; 0]);
}

#[test]
fn the_next_window_is_a_new_notice() {
    let mut env = world();
    let _ = env.run(["backup", "--no-status"]).code(0);
    observe(&env, "work", 15, "07:08 on 23 Nov");
    assert_eq!(notify(&env), [USED]);
    // No run saw the beginning of the next window.
    env.set("CODEX_MANAGER_NOW", "2026-11-24T12:00:00Z");
    observe(&env, "work", 10, "07:08 on 30 Nov");
    let next = "work has used 90 % of its weekly quota; it resets Mon 30 Nov 07:08, in 5 d 19 h";
    assert_eq!(notify(&env), [next]);
    observe(&env, "work", 5, "07:08 on 30 Nov");
    assert_eq!(notify(&env), [""; 0]);
}

#[test]
fn a_banked_reset_that_is_about_to_expire_is_shown_once() {
    let mut env = world();
    observe(&env, "work", 80, "07:08 on 23 Nov");
    let path = env.manager_home().join("cooldown.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let accounts = document["accounts"].as_array_mut().expect("accounts");
    let work = accounts
        .iter_mut()
        .find(|account| account["profile"] == "work");
    work.expect("work")["observation"]["reset_credits"] =
        json!({"available": 2, "expires_at": ["2026-11-24T09:00:00Z", "2026-11-26T09:00:00Z"]});
    fs::write(&path, document.to_string()).unwrap();
    // More than three days before it.
    assert_eq!(notify(&env), [OLD]);
    env.set("CODEX_MANAGER_NOW", "2026-11-21T12:00:00Z");
    let first = "a banked reset of work expires Tue 24 Nov 09:00, in 2 d 21 h";
    assert_eq!(notify(&env), [first]);
    assert_eq!(notify(&env), [""; 0]);
    env.set("CODEX_MANAGER_NOW", "2026-11-24T12:00:00Z");
    assert_eq!(
        notify(&env),
        ["a banked reset of work expires Thu 26 Nov 09:00, in 1 d 21 h"]
    );
}

/// Figures from the terminal are rounded, and an answer of the server may lack the times of banked resets.
#[test]
fn figures_that_alternate_repeat_no_notice() {
    let env = world();
    let _ = env.run(["backup", "--no-status"]).code(0);
    let path = env.manager_home().join("cooldown.json");
    let know_resets = |expires_at: &[&str]| {
        let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let accounts = document["accounts"].as_array_mut().expect("accounts");
        let mut accounts = accounts.iter_mut();
        let work = accounts.find(|account| account["profile"] == "work");
        work.expect("work")["observation"]["reset_credits"] =
            json!({"available": 1, "expires_at": expires_at});
        fs::write(&path, document.to_string()).unwrap();
    };
    observe(&env, "work", 15, "07:08 on 23 Nov");
    know_resets(&["2026-11-22T09:00:00Z"]);
    let expires = "a banked reset of work expires Sun 22 Nov 09:00, in 1 d 21 h";
    assert_eq!(notify(&env), [USED, expires]);
    for _ in 0..3 {
        observe(&env, "work", 21, "07:08 on 23 Nov");
        know_resets(&[]);
        assert_eq!(notify(&env), [""; 0]);
        observe(&env, "work", 15, "07:09 on 23 Nov");
        know_resets(&["2026-11-22T09:00:00Z"]);
        assert_eq!(notify(&env), [""; 0]);
    }
}

#[test]
fn a_dry_run_prints_the_notices_and_shows_nothing() {
    let env = world();
    observe(&env, "work", 15, "07:08 on 23 Nov");
    let before = env.tree("home");
    for _ in 0..2 {
        let run = env.run(["notify", "--dry-run"]).code(0);
        assert_eq!(run.stdout, format!("{USED}\n{OLD}\n"));
    }
    let json = env.run(["notify", "--dry-run", "--json"]).code(0).json();
    assert_eq!(json["notices"][0]["kind"], "quota-used");
    assert_eq!(json["notices"][0]["account"], "work");
    assert_eq!(json["notices"][1]["kind"], "old-backup");
    assert_same_tree(&before, &env.tree("home"));
    assert_eq!(notify(&env), [USED, OLD]);
}

#[test]
fn a_notification_that_fails_is_shown_by_a_later_run() {
    let env = world();
    write_program(
        &env.path("bin/notify-send"),
        "#!/bin/sh\necho no display >&2\nexit 1\n",
    );
    let run: Run = env.run(["notify"]).code(1);
    assert!(run.stderr.contains("no display"), "{run}");
    assert!(run.stdout.is_empty(), "{run}");
    fs::remove_file(env.path("bin/notify-send")).unwrap();
    let run = env.run(["notify"]).code(1);
    assert!(run.stderr.contains("not found: notify-send"), "{run}");
    notifier(&env, "notify-send");
    assert_eq!(notify(&env), [OLD]);
    assert_eq!(notify(&env), [""; 0]);
}

#[test]
fn a_configured_command_shows_the_notices() {
    let env = world();
    let program = env.path("bin/tell my phone");
    notifier(&env, "tell my phone");
    let command = format!("\"{}\" --urgent", program.display());
    let _ = env
        .run(["config", "set", "notify.command", &command])
        .code(0);
    fs::remove_file(env.path("bin/notify-send")).unwrap();
    assert_eq!(notify(&env), [OLD]);
}

#[test]
fn two_runs_at_once_show_a_notice_once() {
    let env = world();
    let runs: Vec<_> = (0..4)
        .map(|_| env.command(["notify"]).spawn().unwrap())
        .collect();
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    assert_eq!(shown(&env), [OLD]);
}

#[test]
fn the_job_runs_notify_every_ten_minutes() {
    let env = world();
    let run = env
        .run(["schedule", "install", "notify", "--dry-run", "--json"])
        .code(0);
    let json = run.json();
    assert_eq!(json["when"], json!({"every": 600}));
    let words = json["runs"].as_array().unwrap();
    let words: Vec<_> = words
        .iter()
        .skip(1)
        .filter_map(|word| word.as_str())
        .collect();
    assert_eq!(words, ["notify", "--quiet", "--log"]);
    let _ = env.run(&words).code(0);
    assert_eq!(shown(&env), [OLD]);
}
