//! Tests of `status`, most of them with the real Codex and a mock backend.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::fake_codex::{FakeCodex, account_read, rate_limits_read};
use crate::support::faults::Mount;
use crate::support::mock_backend::{Account, ExtraLimit, MockBackend, Request, USAGE, Window};
use crate::support::pauses::EVENT_LIMIT;
use crate::support::processes;
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{
    SignIn, api_key_home, codex_env, read_refresh_token, signed_in_home, signed_out_home, unix_now,
    write_auth, write_auth_text,
};
use codex_manager_core::codex::process::find_holders;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A test environment with the real Codex on `PATH`, the real clock, and a mock backend.
struct World {
    env: TestEnv,
    backend: MockBackend,
}

impl World {
    /// Signs in. `None`, with a note on stdout, if the real Codex is not available.
    fn signed_in(sign_in: &SignIn) -> Option<Self> {
        let world = Self::signed_out()?;
        signed_in_home(&world.env.codex_home(), &world.backend, sign_in);
        Some(world)
    }

    fn signed_out() -> Option<Self> {
        let codex = RealCodex::get()?;
        let backend = MockBackend::start();
        let mut env = TestEnv::new();
        env.set("PATH", codex.search_path());
        env.unset("CODEX_MANAGER_NOW");
        for (name, value) in codex_env(&backend) {
            env.set(&name, value);
        }
        signed_out_home(&env.codex_home(), &backend);
        Some(Self { env, backend })
    }

    fn alice(&self, alter: impl FnOnce(&mut Account)) {
        self.backend.account("acct-alice").set(alter);
    }

    /// Runs `status --json`, and checks that no process uses the home afterwards.
    fn status(&self) -> Run {
        let run = self.env.run(["status", "--json"]);
        assert_eq!(find_holders(&self.env.codex_home(), &[]), [], "{run}");
        run
    }

    /// Returns the entry of the only account in `cooldown.json`.
    fn entry(&self) -> Value {
        entry(&self.env)
    }
}

/// Returns the entry of the only account in `cooldown.json`.
pub(crate) fn entry(env: &TestEnv) -> Value {
    let text = std::fs::read_to_string(env.manager_home().join("cooldown.json"));
    let document: Value = serde_json::from_str(&text.expect("cooldown.json")).expect("JSON");
    assert_eq!(document["accounts"].as_array().expect("accounts").len(), 1);
    document["accounts"][0].clone()
}

fn time(unix_seconds: i64) -> String {
    let at = chrono::DateTime::from_timestamp(unix_seconds, 0).expect("a time");
    at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn problem(run: &Run) -> String {
    run.json()["problem"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn status_shows_the_live_windows_and_records_them() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    let (soon, later) = (unix_now() + 7200, unix_now() + 3 * 86_400);
    world.alice(|alice| {
        alice.primary = Some(Window::five_hours(12.0).reset_at(soon));
        alice.secondary = Some(Window::weekly(91.0).reset_at(later));
    });
    let run = world.status().code(0);
    assert_eq!(run.stderr, "");
    let mut output = run.json();
    assert!(output["observed_at"].take().is_string());
    let window = |label: &str, minutes: u32, used: f64, at: i64| {
        json!({"limit_id": "codex", "label": label, "minutes": minutes,
               "used_percent": used, "resets_at": time(at)})
    };
    assert_eq!(
        output,
        json!({
            "schema": 1,
            "command": "status",
            "profile": null,
            "email": "alice@example.com",
            "account_id": "acct-alice",
            "plan": "plus",
            "windows": [
                window("5h", 300, 12.0, soon),
                window("weekly", 10_080, 91.0, later),
            ],
            "spend_cap": null,
            "reset_credits": null,
            "source": "live",
            "observed_at": null,
            "session_start_at": time(later - 7 * 86_400),
            "next_available_at": null,
            "store": "file",
            "problem": null,
        })
    );
    let entry = world.entry();
    assert_eq!(entry["email"], "alice@example.com");
    assert_eq!(entry["user_id"], "user-alice");
    assert_eq!(entry["login"], "ok");
    assert_eq!(entry["observation"]["source"], "live");
    assert_eq!(
        entry["last_used_at"],
        Value::Null,
        "a probe counted as a use"
    );
    assert_eq!(
        read_refresh_token(&world.env.codex_home()),
        "rt.acct-alice.f1.1"
    );
}

#[test]
fn any_number_of_windows_of_the_server_is_shown() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    let labels = |run: Run| -> Vec<String> {
        let output = run.code(0).json();
        let windows = output["windows"].as_array().expect("windows").clone();
        windows
            .iter()
            .map(|w| format!("{} {}", w["limit_id"], w["label"]).replace('"', ""))
            .collect()
    };
    world.alice(|alice| alice.primary = None);
    assert_eq!(labels(world.status()), ["codex weekly"]);
    world.alice(|alice| alice.secondary = None);
    assert_eq!(labels(world.status()), [] as [&str; 0]);
    world.alice(|alice| {
        alice.primary = Some(Window::weekly(3.0));
        alice.extra_limits = vec![ExtraLimit {
            limit_id: "codex_other".into(),
            limit_name: "Other".into(),
            primary: Some(Window::five_hours(1.0)),
            secondary: Some(Window::weekly(2.0)),
        }];
    });
    assert_eq!(
        labels(world.status()),
        ["codex weekly", "codex_other 5h", "codex_other weekly"]
    );
}

#[test]
fn an_exhausted_account_is_available_when_its_last_exhausted_window_resets() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    let later = unix_now() + 3 * 86_400;
    world.alice(|alice| {
        alice.primary = Some(Window::five_hours(100.0));
        alice.secondary = Some(Window::weekly(100.0).reset_at(later));
    });
    let output = world.status().code(0).json();
    assert_eq!(output["next_available_at"], time(later));
    assert_eq!(world.entry()["observation"]["usage_allowed"], false);
    let text = world.env.run(["status"]).code(0).stdout;
    assert!(
        text.contains("░░░░░░░░   0 % left, exhausted, resets "),
        "{text}"
    );
    assert!(text.contains("\navailable again "), "{text}");
}

#[test]
fn an_api_key_has_no_windows_and_starts_no_probe() {
    let Some(world) = World::signed_out() else {
        return;
    };
    api_key_home(&world.env.codex_home(), &world.backend);
    let output = world.status().code(0).json();
    assert_eq!(output["windows"], json!([]));
    assert_eq!(output["source"], Value::Null);
    assert!(
        output["email"]
            .as_str()
            .expect("a label")
            .starts_with("api-key-")
    );
    assert_eq!(world.backend.requests(), []);
    let text = world.env.run(["status"]).code(0).stdout;
    assert!(
        text.ends_with("an API key is billed by use and has no quota windows\n"),
        "{text}"
    );
    assert_eq!(world.entry()["kind"], "api-key");
}

#[test]
fn a_signed_out_home_starts_no_probe_and_writes_nothing() {
    let Some(world) = World::signed_out() else {
        return;
    };
    let before = world.env.tree("home");
    let run = world.status().code(6);
    assert_eq!(problem(&run), "not signed in");
    assert_eq!(run.json()["email"], Value::Null);
    assert_same_tree(&before, &world.env.tree("home"));
}

#[test]
fn a_login_that_only_codex_can_read_is_probed() {
    let Some(world) = World::signed_out() else {
        return;
    };
    write_auth_text(&world.env.codex_home(), "{}");
    let run = world.status().code(6);
    assert_eq!(problem(&run), "not signed in");

    // A login that this program cannot read, but Codex can.
    let fake = FakeCodex::new(&world.env.path("fake"));
    let path = fake.path();
    let args = [
        OsStr::new("--codex-bin"),
        path.as_os_str(),
        "--json".as_ref(),
        "status".as_ref(),
    ];
    let run = world.env.run(args).code(0);
    assert_eq!(run.json()["email"], "alice@example.com");
    assert_eq!(world.entry()["account_id"], "acct-alice");
}

#[test]
fn failures_of_the_server_are_distinguished() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    world.alice(|alice| alice.usage_status = Some(503));
    let run = world.status().code(6);
    assert!(problem(&run).starts_with("the server failed: "), "{run}");
    assert_eq!(run.json()["email"], "alice@example.com");

    world.alice(|alice| alice.usage_status = Some(429));
    let run = world.status().code(6);
    assert!(
        problem(&run).starts_with("the server received too many requests"),
        "{run}"
    );

    world.alice(|alice| {
        alice.usage_status = None;
        alice.force_401 = true;
    });
    let run = world.status().code(6);
    assert!(problem(&run).contains("401 Unauthorized"), "{run}");
}

#[test]
fn a_login_with_an_expired_refresh_token_is_reported_and_recorded_as_expired() {
    let Some(world) = World::signed_in(&SignIn::alice().ttl_seconds(-60)) else {
        return;
    };
    world.alice(|alice| alice.refresh_expired = true);
    let run = world.status().code(6);
    assert!(
        problem(&run).starts_with("the login has expired: "),
        "{run}"
    );
    assert_eq!(run.json()["email"], "alice@example.com");
    assert_eq!(world.entry()["login"], "expired");
}

#[test]
fn a_codex_that_cannot_start_is_reported_with_its_error_and_found_by_doctor() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    let _ = world.status().code(0);
    let database = world.env.codex_home().join("state_5.sqlite");
    let change = |statements: &str| {
        let connection = rusqlite::Connection::open(&database).expect("Codex's database");
        connection.execute_batch(statements).expect("changed");
        connection.close().expect("closed");
    };
    for (statements, cause, table) in [
        (
            "ALTER TABLE threads RENAME TO moved",
            "no such table: threads",
            "threads",
        ),
        (
            "ALTER TABLE moved RENAME TO threads;
             ALTER TABLE backfill_state RENAME TO moved",
            "no such table: backfill_state",
            "backfill_state",
        ),
        (
            "DROP TABLE moved; DROP TABLE _sqlx_migrations",
            "table threads already exists",
            "_sqlx_migrations",
        ),
    ] {
        change(statements);
        let problem = problem(&world.status().code(6));
        assert!(
            problem.contains("ended without an answer: failed to initialize"),
            "{problem}"
        );
        assert!(problem.contains(cause), "{problem}");
        assert!(!problem.contains("<unknown>"), "{problem}");

        let run = world.env.run(["doctor", "--json"]).code(5);
        let checks = run.json()["checks"].as_array().expect("checks").clone();
        let found = checks.iter().find(|c| c["id"] == "home.databases");
        let message = found.expect("the check")["message"].as_str().expect("text");
        assert!(
            message.starts_with(&format!("lacks the table {table}: ")),
            "{run}"
        );
    }
}

#[test]
fn offline_status_shows_the_newest_figure_with_its_age() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    let seen = world.status().code(0).json();
    let World { env, backend } = world;
    drop(backend);
    let run = env.run(["status", "--json"]).code(6);
    assert!(
        problem(&run).starts_with("cannot reach the server: "),
        "{run}"
    );
    let output = run.json();
    for key in ["windows", "source", "observed_at", "email", "plan"] {
        assert_eq!(output[key], seen[key], "{key}");
    }
    let text = env.run(["status"]).code(6);
    assert!(text.stdout.contains("source: live, recorded "), "{text}");
    assert!(
        text.stderr.starts_with("warning: no live figures: "),
        "{text}"
    );
    assert!(text.stderr.contains("\nhint: "), "{text}");
    let known = entry(&env)["observation"]["observed_at"].clone();
    let known = known.as_str().expect("a time");
    let seen = seen["observed_at"].as_str().expect("a time");
    assert_eq!(
        known[..19],
        seen[..19],
        "a recorded figure was recorded again"
    );
}

#[test]
fn a_silent_network_ends_at_the_time_limit_without_leftover_processes() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    world.alice(|alice| alice.blackhole = vec![USAGE]);
    let started = Instant::now();
    let run = world.status().code(6);
    assert!(
        started.elapsed() < Duration::from_secs(120),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(problem(&run), "no answer within 10 s");
}

#[test]
fn an_interrupted_status_leaves_no_processes() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    world.alice(|alice| alice.blackhole = vec![USAGE]);
    let mut command = world.env.command(["status"]);
    command.stderr(Stdio::null()).stdout(Stdio::null());
    let mut running = command.spawn().expect("status");
    let asked = |requests: &[Request]| requests.iter().any(|r| r.path.ends_with(USAGE));
    assert!(world.backend.wait_for(EVENT_LIMIT, asked));
    assert_ne!(find_holders(&world.env.codex_home(), &[]), []);
    let started = Instant::now();
    processes::signal("INT", running.id());
    let status = running.wait().expect("wait");
    assert_eq!(status.code(), Some(130));
    // Before the time limit of the answer.
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(find_holders(&world.env.codex_home(), &[]), []);
}

#[test]
fn a_login_that_is_renewed_during_the_probe_is_kept() {
    let Some(world) = World::signed_in(&SignIn::alice().ttl_seconds(-60)) else {
        return;
    };
    let output = world.status().code(0).json();
    assert_eq!(output["windows"].as_array().expect("windows").len(), 2);
    assert_eq!(
        read_refresh_token(&world.env.codex_home()),
        "rt.acct-alice.f1.2"
    );
    world.status().code(0).json();
    assert_eq!(world.backend.refreshes().len(), 1);
    assert_eq!(world.backend.reused_tokens(), [] as [&str; 0]);
}

#[test]
fn a_hard_linked_login_is_not_probed() {
    let Some(world) = World::signed_in(&SignIn::alice().ttl_seconds(-60)) else {
        return;
    };
    let auth = world.env.codex_home().join("auth.json");
    std::fs::hard_link(&auth, world.env.path("home/copy.json")).expect("a hard link");
    let run = world.status().code(6);
    assert!(problem(&run).contains("second hard link"), "{run}");
    assert_eq!(world.backend.requests(), []);
    assert_eq!(
        read_refresh_token(&world.env.codex_home()),
        "rt.acct-alice.f1.1"
    );
    let run = world.env.run(["status"]).code(6);
    assert!(
        run.stderr
            .contains("hint: make it a separate file:\n    cp -p "),
        "{run}"
    );
}

#[test]
fn i3_a_login_that_codex_could_not_store_is_not_probed() {
    let Some(world) = World::signed_in(&SignIn::alice().ttl_seconds(-60)) else {
        return;
    };
    let disk = world.env.path("disk");
    let Some(_mount) = Mount::tmpfs(&disk, 48 << 10) else {
        return;
    };
    // Codex 0.169 stores a renewed login beside the target of the link.
    let (auth, store) = (
        world.env.codex_home().join("auth.json"),
        disk.join("auth.json"),
    );
    std::fs::copy(&auth, &store).expect("copy");
    std::fs::remove_file(&auth).expect("remove");
    std::os::unix::fs::symlink(&store, &auth).expect("link");

    let filler = disk.join("filler");
    std::fs::write(&filler, vec![1; 24 << 20]).expect("fill the disk");
    let run = world.status().code(6);
    assert!(
        problem(&run).contains("not enough free disk space"),
        "{run}"
    );
    for args in [&["current", "--refresh"][..], &["backup"]] {
        let run = world.env.run(args);
        assert!(run.stderr.contains("not enough free disk space"), "{run}");
    }

    std::fs::remove_file(&filler).expect("remove");
    let remount = |mode| {
        let mut mount = Command::new("mount");
        mount.args(["-o", mode]).arg(&disk);
        assert!(mount.status().expect("mount").success());
    };
    remount("remount,ro");
    let run = world.env.run(["status"]).code(6);
    assert!(run.stderr.contains("is not writable"), "{run}");
    assert!(run.stderr.contains("hint: make it writable"), "{run}");
    assert_eq!(world.backend.requests(), []);

    remount("remount,rw");
    let _ = world.status().code(0);
    assert!(
        std::fs::read_to_string(&store)
            .expect("read")
            .contains("rt.acct-alice.f1.2")
    );
}

#[test]
fn a_token_in_the_environment_is_not_mistaken_for_the_homes_login() {
    let Some(mut world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    world.env.set("CODEX_ACCESS_TOKEN", "at-somebody-else");
    let run = world.status().code(0);
    assert_eq!(run.json()["source"], "live");
    assert!(run.stderr.contains("CODEX_ACCESS_TOKEN is set"), "{run}");
}

/// Codex 0.169 knows the first two, 0.171 all of them. It does not start if others are missing.
#[test]
fn a_workload_identity_in_the_environment_is_not_mistaken_for_the_homes_login() {
    let Some(mut world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    for name in [
        "OPENAI_FEDERATION_RULE_ID",
        "OPENAI_IDENTITY_TOKEN_FILE",
        "OPENAI_IDENTITY_TOKEN_SOURCE",
        "OPENAI_SPIFFE_AUDIENCE",
        "OPENAI_SPIFFE_ID",
    ] {
        world.env.set(name, "of-a-workload");
        let run = world.status().code(0);
        assert_eq!(run.json()["source"], "live", "{run}");
        assert!(run.stderr.contains(&format!("{name} is set")), "{run}");
        world.env.set(name, "");
        let run = world.status().code(0);
        assert_eq!(run.json()["source"], "live", "{run}");
        world.env.unset(name);
    }
}

#[test]
fn in_keyring_mode_auth_json_is_not_taken_for_the_login() {
    let Some(world) = World::signed_in(&SignIn::alice()) else {
        return;
    };
    let path = world.env.codex_home().join("config.toml");
    let text = std::fs::read_to_string(&path).expect("config.toml");
    let text = text.replace("\"file\"", "\"keyring\"");
    world.env.write("home/.codex/config.toml", text);
    let run = world.status().code(6);
    let output = run.json();
    assert_eq!(output["store"], "keyring");
    assert_eq!(output["email"], Value::Null, "{run}");
    assert!(run.stderr.contains("cli_auth_credentials_store"), "{run}");
}

#[test]
fn dry_run_starts_no_probe_and_writes_nothing() {
    let Some(world) = World::signed_in(&SignIn::alice().ttl_seconds(-60)) else {
        return;
    };
    let before = world.env.tree("home");
    let output = world
        .env
        .run(["status", "--dry-run", "--json"])
        .code(6)
        .json();
    assert_eq!(output["email"], "alice@example.com");
    assert_same_tree(&before, &world.env.tree("home"));
    assert_eq!(world.backend.requests(), []);
}

/// Creates a test environment with a fake Codex that reports these windows of limit `codex`, and one window of
/// another limit.
pub(crate) fn with_fake(primary: &Value, secondary: &Value) -> (TestEnv, FakeCodex) {
    let mut env = TestEnv::new();
    let fake = with_fake_in(&mut env, primary, secondary);
    std::fs::create_dir_all(env.codex_home()).expect("home");
    write_auth(&env.codex_home(), &SignIn::alice());
    (env, fake)
}

/// Like [`with_fake`], in an environment whose home is signed in as Alice.
pub(crate) fn with_fake_in(env: &mut TestEnv, primary: &Value, secondary: &Value) -> FakeCodex {
    let mut answer = rate_limits_read("acct-alice", 0, 0);
    for limit in ["/rateLimits", "/rateLimitsByLimitId/codex"] {
        let limit = answer.pointer_mut(limit).expect("a limit");
        limit["primary"] = primary.clone();
        limit["secondary"] = secondary.clone();
    }
    answer["rateLimitsByLimitId"]["codex_other"] =
        json!({"limitId": "codex_other", "primary": window(0.5, 1440, "2026-11-20T12:30:00Z")});
    let fake = FakeCodex::new(&env.path("bin")).answer("account/rateLimits/read", &answer);
    env.set("PATH", format!("{}:/usr/bin:/bin", fake.dir().display()));
    fake
}

/// Returns a window in the JSON of app-server.
pub(crate) fn window(used: f64, minutes: u32, resets_at: &str) -> Value {
    let at = chrono::DateTime::parse_from_rfc3339(resets_at).expect("a time");
    json!({"usedPercent": used, "windowDurationMins": minutes, "resetsAt": at.timestamp()})
}

#[test]
fn each_window_is_shown_as_a_bar_with_reset_and_source() {
    let (env, _fake) = with_fake(
        &window(100.0, 300, "2026-11-20T15:55:00Z"),
        &window(91.0, 10_080, "2026-11-24T15:55:00Z"),
    );
    insta::assert_snapshot!(env.run(["status", "--timezone", "Asia/Kolkata"]), @"
    exit 0
    --- stdout
    alice@example.com (plus, acct-alice)
    5h              ░░░░░░░░   0 % left, exhausted, resets Fri 20 Nov 21:25, in 3 h 55 min
    weekly          █░░░░░░░   9 % left, resets Tue 24 Nov 21:25, in 4 d 3 h
    codex_other 1d  ████████ 99.5 % left, resets Fri 20 Nov 18:00, in 30 min
    available again Fri 20 Nov 21:25, in 3 h 55 min
    source: live, recorded Fri 20 Nov 17:30, just now
    --- stderr
    ");
}

#[test]
fn a_recorded_window_counts_as_unused_after_its_reset() {
    let (mut env, fake) = with_fake(
        &window(100.0, 300, "2026-11-20T15:55:00Z"),
        &window(91.0, 10_080, "2026-11-24T15:55:00Z"),
    );
    let _ = env.run(["status"]).code(0);
    let _fake = fake.error(
        "account/rateLimits/read",
        -32603,
        "error sending request for url (x)",
    );
    env.set("CODEX_MANAGER_NOW", "2026-11-20T17:00:00Z");
    insta::assert_snapshot!(env.run(["status"]), @"
    exit 6
    --- stdout
    alice@example.com (plus, acct-alice)
    5h              ████████ 100 % left, reset Fri 20 Nov 15:55, 1 h 5 min ago; before: 0 % left
    weekly          █░░░░░░░   9 % left, resets Tue 24 Nov 15:55, in 3 d 22 h
    codex_other 1d  ████████ 100 % left, reset Fri 20 Nov 12:30, 4 h 30 min ago; before: 99.5 % left
    source: live, recorded Fri 20 Nov 12:00, 5 h ago
    --- stderr
    warning: no live figures: cannot reach the server: error sending request for url (x)
    hint: try again later, or use pasted /status text: --status-file FILE
    ");
    env.set("CODEX_MANAGER_NOW", "2026-11-24T15:55:00Z");
    let current = env.run(["current"]).code(0).stdout;
    assert!(
        current.contains("100 % left, reset Tue 24 Nov 15:55"),
        "{current}"
    );
    assert_eq!(env.run(["status"]).code(6).stdout, current);
    assert_eq!(env.run(["status", "--dry-run"]).code(0).stdout, current);
}

#[test]
fn figures_without_a_reset_stay_known() {
    let env = without_codex();
    let _ = env
        .run_with_input(["status", "--status-file", "-"], "5h limit: 50% left\n")
        .code(0);
    for args in [
        &["status", "--if-older", "1h"][..],
        &["status", "--dry-run"],
        &["current"],
    ] {
        let run = env.run(args).code(0);
        assert!(run.stdout.contains("50 % left"), "{args:?}: {run}");
    }
}

#[test]
fn without_codex_status_warns_and_shows_the_account_with_an_unknown_quota() {
    let run = without_codex().run(["status"]).code(6);
    insta::assert_snapshot!(run, @"
    exit 6
    --- stdout
    alice@example.com (plus, acct-alice)
    quota unknown
    --- stderr
    warning: no live figures: not found on PATH: codex
    hint: install Codex, or name it with --codex-bin FILE
    ");
}

#[test]
fn an_invalid_login_is_reported_and_unchanged() {
    let env = TestEnv::new();
    env.write("home/.codex/auth.json", [0; 16]);
    let before = env.tree("home");
    let run = env.run(["status"]).code(6);
    insta::assert_snapshot!(run, @"
    exit 6
    --- stdout
    the live account is unknown
    quota unknown
    --- stderr
    warning: no live figures: auth.json is filled with NUL bytes: [ROOT]/home/.codex/auth.json
    hint: sign in again:
        codex login
    ");
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn figures_of_another_account_are_not_recorded() {
    let mut env = TestEnv::new();
    let fake = FakeCodex::new(&env.path("bin")).answer(
        "account/read",
        &account_read("bob@example.com", "acct-bob", "pro"),
    );
    env.set("PATH", format!("{}:/usr/bin:/bin", fake.dir().display()));
    std::fs::create_dir_all(env.codex_home()).expect("home");
    write_auth(&env.codex_home(), &SignIn::alice());
    let run = env.run(["status", "--json"]).code(6);
    assert_eq!(
        problem(&run),
        "Codex answered for bob@example.com (acct-bob), \
         but auth.json is the login of alice@example.com (acct-alice)"
    );
    assert_eq!(run.json()["email"], "alice@example.com");
    assert_eq!(run.json()["windows"], json!([]));
    assert_eq!(entry(&env)["observation"], Value::Null);
}

/// Creates a test environment in which Alice is signed in, without a Codex program.
pub(crate) fn without_codex() -> TestEnv {
    let mut env = TestEnv::new();
    let bin = env.path("bin");
    env.set("PATH", bin);
    std::fs::create_dir_all(env.codex_home()).expect("home");
    write_auth(&env.codex_home(), &SignIn::alice());
    env
}
