//! The quota that `backup` reads from the real Codex, and its behaviour without an answer.

use crate::support::env::{Run, assert_same_tree};
use crate::support::lab::{Lab, rollout, rows};
use crate::support::mock_backend::Window;
use crate::support::sign_in::{
    SignIn, api_key_home, read_refresh_token, signed_out_home, unix_now, write_auth,
};
use chrono::{DateTime, FixedOffset, Utc};
use serde_json::Value;
use std::fs;

/// Offset of Kolkata from UTC in seconds: 5 h 30 min, without summer time.
const KOLKATA: i32 = 19_800;

fn at(unix_seconds: i64, offset: i32) -> DateTime<FixedOffset> {
    let zone = FixedOffset::east_opt(offset).expect("a zone");
    DateTime::<Utc>::from_timestamp(unix_seconds, 0)
        .expect("a time")
        .with_timezone(&zone)
}

fn rfc3339(at: DateTime<FixedOffset>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn file_name(at: DateTime<FixedOffset>, who: &str) -> String {
    format!("{}-{who}-codex.tar.gz", at.format("%Y-%m-%d-%H%M%S"))
}

fn sidecar(lab: &Lab, run: &Run) -> Value {
    let path = lab.path_in(&run.json()["metadata_path"]);
    let text = fs::read(path).expect("the sidecar");
    assert!(text.len() < 16 * 1024);
    serde_json::from_slice(&text).expect("JSON")
}

/// Returns the only account in the output of `cooldown`.
fn known(lab: &Lab) -> Value {
    let printed = lab.manager(["cooldown", "--json"]).code(0).json();
    let accounts = printed["accounts"].as_array().expect("accounts");
    assert_eq!(accounts.len(), 1, "{printed}");
    accounts[0].clone()
}

#[test]
fn an_archive_is_named_by_the_start_of_the_week_and_its_sidecar_has_quota_and_account() {
    let Some(mut lab) = Lab::new() else { return };
    lab.world.set("TZ", "Asia/Kolkata");
    let resets = unix_now() + 4 * 86_400 + 1_234;
    lab.backend.account("acct-alice").set(|alice| {
        alice.secondary = Some(Window::weekly(91.0).reset_at(resets));
    });
    let _ = lab.say("one");
    let before = unix_now();
    let run = lab.manager(["backup", "--json"]).code(0);
    let (reset, start) = (at(resets, KOLKATA), at(resets - 7 * 86_400, KOLKATA));
    let printed = run.json();
    assert_eq!(printed["archive"], file_name(start, "alice@example.com"));
    assert_eq!(printed["reset_at"], rfc3339(reset));
    assert_eq!(printed["next_available_at"], rfc3339(reset));
    assert_eq!(printed["session_start_at"], rfc3339(start));
    assert_eq!(printed["status_source"], "live");

    let facts = sidecar(&lab, &run);
    for (key, value) in [
        ("product", "codex"),
        ("email", "alice@example.com"),
        ("account_id", "acct-alice"),
        ("user_id", "user-alice"),
        ("plan", "plus"),
        ("mode", "full"),
        ("status_source", "live"),
    ] {
        assert_eq!(facts[key], value, "{key}");
    }
    assert_eq!(facts["reset_at"], rfc3339(reset));
    assert_eq!(
        facts["quota_end_detected_at"],
        Value::Null,
        "91 % is not exhausted"
    );
    assert_eq!(facts["windows"].as_array().expect("windows").len(), 2);
    let bytes = fs::read(lab.path_in(&printed["path"])).expect("the archive");
    assert_eq!(facts["archive_bytes"], bytes.len());
    let text = facts.to_string();
    assert!(
        !text.contains("rt.acct") && !text.contains("eyJ"),
        "a token in the sidecar"
    );

    // The backup has recorded the account with the time of its use.
    let alice = known(&lab);
    assert_eq!(alice["state"], "ready");
    assert_eq!(alice["source"], "live");
    let used = alice["last_used_at"].as_str().expect("a use");
    let used = DateTime::parse_from_rfc3339(used)
        .expect("a time")
        .timestamp();
    assert!(used >= before, "{used} before {before}");
    let named = lab.manager(["recommend", "--format", "{email}"]).code(0);
    assert_eq!(named.stdout.trim_end(), "alice@example.com");

    // A second archive of the same week gets a number, and the first one is not overwritten.
    let second = lab.manager(["backup", "--json"]).code(0).json();
    assert_eq!(second["archive"], file_name(start, "alice@example.com-2"));
    assert_eq!(
        fs::read(lab.path_in(&printed["path"])).expect("the archive"),
        bytes
    );
}

#[test]
fn an_exhausted_week_is_recorded_and_the_account_is_in_cooldown_until_its_reset() {
    let Some(lab) = Lab::new() else { return };
    let resets = unix_now() + 86_400;
    lab.backend.account("acct-alice").set(|alice| {
        alice.secondary = Some(Window::weekly(100.0).reset_at(resets));
    });
    let run = lab.manager(["backup", "--json"]).code(0);
    let facts = sidecar(&lab, &run);
    assert!(facts["quota_end_detected_at"].is_string(), "{facts}");
    let alice = known(&lab);
    assert_eq!(alice["state"], "cooldown");
    assert_eq!(alice["next_available_at"], rfc3339(at(resets, 0)));
}

#[test]
fn without_live_quota_an_archive_is_named_by_the_last_observation_if_there_is_one() {
    let Some(lab) = Lab::new() else { return };
    let resets = unix_now() + 86_400;
    lab.backend.account("acct-alice").set(|alice| {
        alice.secondary = Some(Window::weekly(40.0).reset_at(resets));
    });
    let start = at(resets - 7 * 86_400, 0);
    // The archive is also created without any observation or answer.
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_status = Some(503));
    let run = lab.manager(["backup", "--json"]).code(6);
    let printed = run.json();
    assert_eq!(printed["email"], "alice@example.com");
    assert_eq!(printed["session_start_at"], Value::Null);
    assert_eq!(printed["status_source"], "none");
    assert!(run.stderr.contains("no live quota"), "{run}");

    // An observation is used until it expires.
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_status = None);
    let _ = lab.manager(["status"]).code(0);
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_status = Some(503));
    let run = lab.manager(["backup", "--json"]).code(0);
    assert_eq!(
        run.json()["archive"],
        file_name(start, "alice@example.com"),
        "{run}"
    );
    assert!(run.stderr.contains("no live quota"), "{run}");
    assert!(run.stderr.contains("using the quota figures from"), "{run}");
}

#[test]
fn a_pasted_status_or_a_given_reset_time_replaces_the_query_of_codex() {
    let Some(lab) = Lab::new() else { return };
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_status = Some(503));
    let resets = unix_now() / 60 * 60 + 2 * 86_400;
    let reset = at(resets, 0);
    let text = format!(
        "Email: alice@example.com\nQuota: 40% left (resets {})\n",
        reset.format("%H:%M on %d %b")
    );
    lab.world.write("status.txt", &text);
    let run = lab
        .manager(["backup", "--json", "--status-file", "status.txt"])
        .code(0);
    let start = at(resets - 7 * 86_400, 0);
    assert_eq!(
        run.json()["archive"],
        file_name(start, "alice@example.com"),
        "{run}"
    );
    let piped = lab
        .world
        .run_with_input(["backup", "--json", "--status-file", "-"], &text);
    assert_eq!(
        piped.code(0).json()["archive"],
        file_name(start, "alice@example.com-2")
    );

    // Text of another account is refused, and no archive is created.
    let other = text.replace("alice", "bob");
    let before = lab.world.tree("home/.codex-manager/backups");
    let _ = lab
        .world
        .run_with_input(["backup", "--status-file", "-"], &other)
        .code(5);
    assert_same_tree(&before, &lab.world.tree("home/.codex-manager/backups"));

    let by_hand = rfc3339(at(resets + 3_600, 0));
    let run = lab
        .manager(["backup", "--json", "--reset-at", &by_hand])
        .code(0);
    assert_eq!(run.json()["reset_at"], by_hand, "{run}");
}

#[test]
fn a_backup_with_a_revoked_login_is_named_by_its_account() {
    let Some(lab) = Lab::new() else { return };
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.revoked = true);
    let spent = SignIn::alice()
        .issued_at(unix_now() - 1_000)
        .ttl_seconds(990);
    write_auth(&lab.home(), &spent);
    let run = lab.manager(["backup", "--json"]).code(6);
    assert_eq!(run.json()["email"], "alice@example.com");
    assert!(
        run.json()["archive"]
            .as_str()
            .expect("a name")
            .contains("alice@example.com")
    );
    assert_eq!(read_refresh_token(&lab.home()), spent.refresh_token());
}

#[test]
fn backup_refuses_the_label_safety() {
    let env = crate::support::env::TestEnv::new();
    crate::support::sample::sample_home(&env);
    let args = ["backup", "--no-status", "--label", "safety"];
    let run = env.run(args).code(4);
    assert!(run.stderr.contains("--label safety"), "{run}");
    assert!(!env.manager_home().join("backups").exists());
}

#[test]
fn api_key_and_signed_out_homes_are_archived_under_their_own_labels() {
    let Some(lab) = Lab::empty() else { return };
    api_key_home(&lab.home(), &lab.backend);
    let id = lab.say("by key");
    let run = lab.manager(["backup", "--json"]).code(0);
    let name = run.json()["archive"].as_str().expect("a name").to_owned();
    let digits = name
        .split("-api-key-")
        .nth(1)
        .and_then(|rest| rest.get(..6));
    assert!(
        digits.is_some_and(|d| d.chars().all(|c| c.is_ascii_hexdigit())),
        "{name}"
    );
    assert!(
        !format!("{run}{}", sidecar(&lab, &run)).contains("sk-test"),
        "the key is shown"
    );
    assert_eq!(run.json()["session_start_at"], Value::Null);
    fs::remove_dir_all(lab.home()).expect("lose the home");
    let _ = lab.manager(["restore", "latest"]).code(0);
    lab.resume(&lab.home(), &id, "again by key");

    fs::remove_dir_all(lab.home()).expect("lose the home");
    signed_out_home(&lab.home(), &lab.backend);
    let run = lab.manager(["backup", "--json"]).code(0);
    let printed = run.json();
    assert!(
        printed["archive"]
            .as_str()
            .expect("a name")
            .contains("-signed-out-codex"),
        "{run}"
    );
    assert_eq!(printed["email"], Value::Null);
    let before = lab.world.tree("home/.codex");
    let path = lab.path_in(&printed["path"]);
    let done = lab.manager(["restore".as_ref(), path.as_os_str(), "--json".as_ref()]);
    assert_eq!(done.code(0).json()["auth"], "skipped");
    let names = |tree: &crate::support::env::Tree| tree.only(&["config.toml", "auth.json"]);
    assert_same_tree(&names(&before), &names(&lab.world.tree("home/.codex")));
}

#[test]
fn a_dry_run_does_not_ask_codex_and_writes_nothing() {
    let Some(lab) = Lab::new() else { return };
    let _ = lab.say("one");
    let (home, seen) = (lab.world.tree("home"), lab.backend.requests().len());
    let _ = lab.manager(["backup", "--dry-run", "--json"]).code(0);
    assert_same_tree(&home, &lab.world.tree("home"));
    assert_eq!(lab.backend.requests().len(), seen);
    let _ = lab.manager(["backup"]).code(0);
    let home = lab.world.tree("home");
    let _ = lab.manager(["restore", "latest", "--dry-run"]).code(0);
    let _ = lab.manager(["verify", "--dry-run"]).code(0);
    assert_same_tree(&home, &lab.world.tree("home"));
}

#[test]
fn files_that_codex_recreates_are_excluded_and_listed() {
    let Some(lab) = Lab::new() else { return };
    for path in [
        "packages/app-server-daemon/current",
        "db-backups/sqlite-1-1/state_5.sqlite",
        "shell_snapshots/a.sh",
        ".tmp/x",
        "tmp/x",
    ] {
        lab.world.write(&format!("home/.codex/{path}"), "x");
    }
    lab.world
        .write("home/.codex/skills/mine/tmp/x.lock", "mine");
    let id = lab.say("one");
    let printed = lab
        .manager(["backup", "--no-status", "--json"])
        .code(0)
        .json();
    let left: Vec<&str> = printed["excluded"]
        .as_array()
        .expect("excluded")
        .iter()
        .map(|e| e["path"].as_str().expect("a path"))
        .collect();
    for path in [
        "packages",
        "db-backups",
        "shell_snapshots",
        ".tmp",
        "tmp",
        "skills/.system",
        "thread-writer-locks",
    ] {
        assert!(left.contains(&path), "{path}: {left:?}");
    }
    let clone = lab.world.path("clone");
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    assert!(clone.join("skills/mine/tmp/x.lock").exists());
    assert!(!clone.join("skills/.system").exists());
    assert_eq!(rows(&clone), [(id.clone(), rollout(&clone, &id))]);
}
