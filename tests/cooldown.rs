//! Tests of `cooldown`: observations and holds, and damage of `cooldown.json`.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sign_in::{SignIn, auth_json, write_auth};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Returns an entry of `cooldown.json` with a weekly window.
pub(crate) fn entry(email: &str, used: f64, resets_at: &str) -> Value {
    json!({
        "email": email,
        "observation": {
            "source": "live",
            "observed_at": "2026-11-20T11:00:00Z",
            "windows": [
                {"limit_id": "codex", "minutes": 10080, "used_percent": used, "resets_at": resets_at},
            ],
        },
    })
}

/// Writes `cooldown.json` with these entries.
pub(crate) fn write_cooldown(env: &TestEnv, accounts: &[Value]) {
    let document = json!({"schema": 1, "accounts": accounts});
    env.write("home/.codex-manager/cooldown.json", document.to_string());
}

fn accounts(env: &TestEnv) -> Vec<Value> {
    let document = env.run(["cooldown", "--json"]).code(0).json();
    document["accounts"].as_array().expect("accounts").clone()
}

fn account(env: &TestEnv, email: &str) -> Value {
    let found = accounts(env).into_iter().find(|a| a["email"] == email);
    found.unwrap_or_else(|| panic!("no account {email}"))
}

#[test]
fn the_json_keys_are_stable() {
    let env = TestEnv::new();
    write_cooldown(&env, &[entry("a@x.com", 91.0, "2026-11-23T07:08:00Z")]);
    let document = env.run(["cooldown", "--json"]).code(0).json();
    assert_eq!(
        document,
        json!({
            "schema": 1,
            "command": "cooldown",
            "now": "2026-11-20T12:00:00+00:00",
            "accounts": [{
                "email": "a@x.com",
                "account_id": null,
                "profile": null,
                "state": "ready",
                "login": "unknown",
                "next_available_at": null,
                "session_start_at": "2026-11-16T07:08:00+00:00",
                "quota_end_detected_at": null,
                "last_used_at": null,
                "observed_at": "2026-11-20T11:00:00+00:00",
                "source": "live",
                "windows": [{
                    "limit_id": "codex",
                    "label": "weekly",
                    "minutes": 10080,
                    "used_percent": 91.0,
                    "resets_at": "2026-11-23T07:08:00+00:00",
                }],
                "spend_cap": null,
                "reset_credits": null,
            }],
        })
    );
}

#[test]
fn the_table_shows_the_state_the_weekly_quota_and_the_login_of_each_account() {
    let env = TestEnv::new();
    write_auth(
        &env.codex_home(),
        &SignIn::new("acct-a", "alice@example.com"),
    );
    let mut alice = entry("alice@example.com", 40.0, "2026-11-23T07:08:00Z");
    alice["last_used_at"] = json!("2026-11-20T10:30:00Z");
    alice["observation"]["windows"]
        .as_array_mut()
        .expect("windows")
        .insert(0, json!({"limit_id": "codex", "minutes": 300, "used_percent": 12, "resets_at": "2026-11-20T14:00:00Z"}));
    let mut bob = entry("bob@example.com", 100.0, "2026-11-24T15:55:00Z");
    bob["login"] = json!("expired");
    let held = json!({"email": "carol@example.com", "profile": "client", "held_until": "2026-11-21T00:00:00Z", "held_since": "2026-11-20T09:00:00Z"});
    let passed = entry(
        "a.much.longer.name.than.that@subdomain.example.com",
        100.0,
        "2026-11-19T00:00:00Z",
    );
    let carols = auth_json(&SignIn::new("acct-c", "carol@example.com"));
    env.write("home/.codex-manager/profiles/client/auth.json", carols);
    write_cooldown(&env, &[alice, bob, held, passed]);
    insta::assert_snapshot!(env.run(["cooldown"]).code(0), @r#"
exit 0
--- stdout
   PROFILE  ACCOUNT                                             STATE      WEEKLY LEFT     NEXT      AT                5H LEFT  NOTE                         LOGIN    SEEN           LAST USED
            a.much.longer.name.than.that@subdomain.example.com  ready      ████████ 100 %                                       window has reset                      live, 1 h ago
*           alice@example.com                                   ready      █████░░░  60 %  2 d 19 h  Mon 23 Nov 07:08     88 %                                        live, 1 h ago  1 h 30 min ago
   client   carol@example.com                                   held back                  12 h      Sat 21 Nov 00:00           set 3 h ago, no figures yet
!           bob@example.com                                     cooldown   ░░░░░░░░   0 %  4 d 3 h   Tue 24 Nov 15:55                                        expired  live, 1 h ago
--- stderr
! no usable saved login; sign in:
    codex-manager profile login NAME
"#);
}

#[test]
fn the_timeline_shows_the_next_eight_days() {
    let env = TestEnv::new();
    write_cooldown(
        &env,
        &[
            entry("a@x.com", 10.0, "2026-11-24T15:55:00Z"),
            entry("b@x.com", 100.0, "2026-11-22T12:00:00Z"),
            entry("c@x.com", 100.0, "2026-11-27T11:00:00Z"),
            json!({"email": "a.much.longer.name.than.that@subdomain.example.com"}),
        ],
    );
    insta::assert_snapshot!(env.run(["cooldown", "--timeline"]).code(0), @r#"
exit 0
--- stdout
                             Sat   Sun   Mon   Tue   Wed   Thu   Fri   Sat
a@x.com                    ────────────────────────┤·······················
a.much.longe….example.com  ????????????????????????????????????????????????
b@x.com                    ████████████····································
c@x.com                    ██████████████████████████████████████████······
                       █ cooldown  ─ window running  ┤ reset  · ready  ? unknown
--- stderr
"#);
}

#[test]
fn times_are_printed_in_the_given_time_zone() {
    let env = TestEnv::new();
    let mut seen = entry("a@x.com", 100.0, "2026-11-24T15:55:00+00:00");
    seen["quota_end"] =
        json!({"detected_at": "2026-11-20T11:00:00Z", "resets_at": "2026-11-24T15:58:00Z"});
    write_cooldown(&env, &[seen]);
    let document = env
        .run(["cooldown", "--json", "--timezone", "America/New_York"])
        .code(0)
        .json();
    let account = &document["accounts"][0];
    assert_eq!(document["now"], "2026-11-20T07:00:00-05:00");
    assert_eq!(account["next_available_at"], "2026-11-24T10:55:00-05:00");
    assert_eq!(
        account["windows"][0]["resets_at"],
        "2026-11-24T10:55:00-05:00"
    );
    assert_eq!(
        account["quota_end_detected_at"],
        "2026-11-20T06:00:00-05:00"
    );
}

#[test]
fn without_data_the_list_is_empty_and_nothing_is_written() {
    let env = TestEnv::new();
    let before = env.tree("");
    let run = env.run(["cooldown"]).code(0);
    assert!(
        run.stdout.is_empty() && run.stderr.contains("codex-manager profile login NAME"),
        "{run}"
    );
    assert_eq!(accounts(&env), [] as [Value; 0]);
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn a_login_that_is_live_or_in_a_profile_is_shown_as_ok() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::new("acct-a", "A@x.com"));
    let bobs = auth_json(&SignIn::new("acct-b", "b@x.com"));
    env.write("home/.codex-manager/profiles/work/auth.json", bobs);
    write_cooldown(
        &env,
        &[
            json!({"email": "a@x.com"}),
            json!({"email": "b@x.com", "profile": "work"}),
            json!({"email": "c@x.com", "profile": "gone", "login": "ok"}),
            json!({"email": "d@x.com", "login": "archived"}),
        ],
    );
    let login = |email: &str| account(&env, email)["login"].clone();
    assert_eq!(login("A@x.com"), "ok");
    assert_eq!(login("b@x.com"), "ok");
    assert_eq!(login("c@x.com"), "unknown");
    assert_eq!(login("d@x.com"), "archived");
}

#[test]
fn a_hold_outranks_an_earlier_observation_until_it_is_cleared() {
    let mut env = TestEnv::new();
    write_cooldown(
        &env,
        &[
            entry("a@x.com", 10.0, "2026-11-24T15:55:00Z"),
            json!({"email": "b@x.com"}),
        ],
    );
    let run = env
        .run(["cooldown", "--set", "A@", "--until", "tue 15:55"])
        .code(0);
    assert!(
        run.stderr
            .contains("a@x.com is held back until Tue 24 Nov 15:55"),
        "{run}"
    );
    // Only the changed account is printed.
    assert!(run.stdout.contains("a@x.com"), "{run}");
    assert!(!run.stdout.contains("b@x.com"), "{run}");
    let held = account(&env, "a@x.com");
    assert_eq!(held["state"], "cooldown");
    assert_eq!(held["source"], "manual");
    assert_eq!(held["observed_at"], "2026-11-20T12:00:00+00:00");
    assert_eq!(held["next_available_at"], "2026-11-24T15:55:00+00:00");
    env.set("CODEX_MANAGER_NOW", "2026-11-21T12:00:00Z");
    let run = env.run(["cooldown", "--clear", "a@x.com"]).code(0);
    assert!(
        run.stderr.contains("a@x.com is no longer held back"),
        "{run}"
    );
    let free = account(&env, "a@x.com");
    assert_eq!(
        (&free["state"], &free["source"]),
        (&json!("ready"), &json!("live"))
    );
}

#[test]
fn until_accepts_several_formats_and_only_future_times() {
    let env = TestEnv::new();
    write_cooldown(&env, &[json!({"email": "a@x.com"})]);
    for (text, expected) in [
        ("2026-11-24T15:55:00+05:30", "2026-11-24T10:25:00+00:00"),
        ("2026-11-24 15:55", "2026-11-24T15:55:00+00:00"),
        ("11:00", "2026-11-21T11:00:00+00:00"),
        ("+3d", "2026-11-23T12:00:00+00:00"),
        ("3d 4h", "2026-11-23T16:00:00+00:00"),
        // The minute of now has passed, and a day of today ends with it.
        ("12:00", "2026-11-21T12:00:00+00:00"),
        ("20 Nov", "2026-11-21T00:00:00+00:00"),
        ("2026-11-20", "2026-11-21T00:00:00+00:00"),
        ("today", "2026-11-21T00:00:00+00:00"),
    ] {
        let _ = env
            .run(["cooldown", "--set", "a@x.com", "--until", text])
            .code(0);
        assert_eq!(
            account(&env, "a@x.com")["next_available_at"],
            expected,
            "{text}"
        );
    }
    let before = env.tree("home");
    for text in [
        "yesterday",
        "25:99",
        "2026-11-19 15:55",
        "2026-11-20T12:00:00Z",
        "",
    ] {
        let run = env
            .run(["cooldown", "--set", "a@x.com", "--until", text])
            .code(4);
        assert!(run.stderr.contains("--until"), "{run}");
    }
    let _ = env.run(["cooldown", "--set", "a@x.com"]).code(4);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn an_unknown_or_ambiguous_account_exits_with_1_and_lists_the_choices() {
    let env = TestEnv::new();
    write_cooldown(
        &env,
        &[
            json!({"email": "alice@x.com", "profile": "work"}),
            json!({"email": "alice@y.com"}),
            json!({"email": "bob@x.com"}),
        ],
    );
    let before = env.tree("home");
    let run = env.run(["cooldown", "--clear", "alice"]).code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: "alice" matches 2 accounts

hint: the accounts are: alice@y.com, work (alice@x.com)
"#);
    let run = env
        .run(["cooldown", "--set", "nobody", "--until", "+1d"])
        .code(1);
    insta::assert_snapshot!(run.stderr, @r#"
error: no account or profile named "nobody"

hint: the accounts are: alice@y.com, bob@x.com, work (alice@x.com)
"#);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn the_live_account_can_be_held_before_its_first_observation() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::new("acct-a", "a@x.com"));
    let _ = env
        .run(["cooldown", "--set", "a@x.com", "--until", "+1d"])
        .code(0);
    let held = account(&env, "a@x.com");
    assert_eq!(held["state"], "cooldown");
    assert_eq!(held["account_id"], "acct-a");
}

#[test]
fn i10_eight_concurrent_updates_are_all_kept() {
    let env = TestEnv::new();
    let known: Vec<_> = (0..8)
        .map(|i| json!({"email": format!("a{i}@x.com")}))
        .collect();
    write_cooldown(&env, &known);
    let children: Vec<_> = (0..8)
        .map(|i| {
            let name = format!("a{i}@x.com");
            env.command(["cooldown", "-q", "--set", &name, "--until", "+1d"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("start")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    let states: Vec<_> = accounts(&env).iter().map(|a| a["state"].clone()).collect();
    assert_eq!(states, vec![json!("cooldown"); 8]);
}

#[test]
fn i11_dry_run_writes_nothing() {
    let env = TestEnv::new();
    write_cooldown(&env, &[json!({"email": "a@x.com"})]);
    let before = env.tree("home");
    let run = env
        .run([
            "cooldown",
            "--set",
            "a@x.com",
            "--until",
            "+1d",
            "--dry-run",
            "--json",
        ])
        .code(0);
    assert_eq!(run.json()["accounts"][0]["state"], "cooldown");
    let _ = env
        .run(["cooldown", "--clear", "a@x.com", "--dry-run"])
        .code(0);
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn i13_a_damaged_cooldown_file_is_a_warning_and_is_copied_before_a_write() {
    for damage in [
        "{\"schema\":1,\"accounts\":[{",
        "[]",
        "null",
        "",
        "\0\0\0\0",
        "{\"schema\":1,\"accounts\":5}",
    ] {
        let env = TestEnv::new();
        write_auth(&env.codex_home(), &SignIn::new("acct-a", "a@x.com"));
        let path = env.write("home/.codex-manager/cooldown.json", damage);
        let before = env.tree("home");
        for command in ["cooldown", "recommend"] {
            let run = env.run([command]).code(0);
            assert!(run.stderr.contains("damaged"), "{run}");
        }
        assert_same_tree(&before, &env.tree("home"));
        let run = env
            .run(["cooldown", "--set", "a@x.com", "--until", "+1d"])
            .code(0);
        assert!(run.stderr.contains("cooldown.json.damaged"), "{run}");
        let kept = path.with_file_name("cooldown.json.damaged");
        assert_eq!(fs::read_to_string(kept).expect("read"), damage);
        assert_eq!(account(&env, "a@x.com")["state"], "cooldown");
    }
}

#[test]
fn i13_a_newer_schema_is_refused_and_left_untouched() {
    let env = TestEnv::new();
    env.write(
        "home/.codex-manager/cooldown.json",
        "{\"schema\":2,\"accounts\":{}}",
    );
    let before = env.tree("home");
    for args in [
        vec!["cooldown"],
        vec!["recommend"],
        vec![
            "cooldown",
            "--set",
            "a@x.com",
            "--until",
            "+1d",
            "--dry-run",
        ],
    ] {
        let run = env.run(&args).code(5);
        assert!(
            run.stdout.is_empty() && run.stderr.contains("newer codex-manager"),
            "{run}"
        );
    }
    assert_same_tree(&before, &env.tree("home"));
    let _ = env
        .run(["cooldown", "--set", "a@x.com", "--until", "+1d"])
        .code(5);
    let text = fs::read_to_string(env.manager_home().join("cooldown.json")).expect("read");
    assert_eq!(text, "{\"schema\":2,\"accounts\":{}}");
}

#[test]
fn a_deleted_cooldown_file_is_rebuilt_from_inventory_and_sidecars() {
    let mut env = TestEnv::new();
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    let path = env.write("dumps/27nov_a@x.com_auth.json", "{}");
    let mtime = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_168_800);
    fs::File::open(path)
        .and_then(|f| f.set_modified(mtime))
        .expect("mtime");
    let _ = env.run(["normalize", "dumps", "--write-metadata"]).code(0);
    let known = accounts(&env);
    assert_eq!(known[0]["state"], "cooldown");
    fs::remove_file(env.manager_home().join("cooldown.json")).expect("remove");
    assert_eq!(accounts(&env), known, "from the inventory");
    fs::remove_file(env.manager_home().join("inventory.json")).expect("remove");
    assert_eq!(accounts(&env), known, "from the sidecar");
}

#[test]
fn a_deleted_cooldown_file_is_rebuilt_from_the_profiles() {
    let env = TestEnv::new();
    let login = auth_json(&SignIn::new("acct-a", "a@x.com"));
    env.write("home/.codex-manager/profiles/work/auth.json", login);
    env.write(
        "home/.codex-manager/profiles/old/profile.json",
        json!({"schema": 1, "identity": {"email": "b@x.com"}, "owner": "moved"}).to_string(),
    );
    let work = account(&env, "a@x.com");
    assert_eq!(
        (&work["profile"], &work["login"]),
        (&json!("work"), &json!("ok"))
    );
    assert_eq!(account(&env, "b@x.com")["login"], "moved");
}

const PYTHON: &str = include_str!("../fixtures/python-manager/cooldown.json");

#[test]
fn the_python_tools_file_is_read_in_place_and_copied_before_the_first_write() {
    let env = TestEnv::new();
    let path = env.write("home/.codex-manager/cooldown.json", PYTHON);
    let before = env.tree("home");
    let alice = account(&env, "alice.test@example.com");
    assert_eq!(alice["state"], "ready");
    assert_eq!(alice["source"], "python");
    assert_eq!(alice["observed_at"], "2026-11-20T06:04:59+00:00");
    assert_eq!(alice["last_used_at"], "2026-11-20T06:04:59+00:00");
    assert_eq!(alice["session_start_at"], "2026-11-17T15:55:00+00:00");
    assert_eq!(alice["windows"][0]["used_percent"], 60.0);
    assert_eq!(accounts(&env).len(), 2);
    let best = env
        .run(["recommend", "--format", "{email} {weekly_left}"])
        .code(0);
    assert_eq!(best.stdout, "bob@example.com 40\n");
    assert_same_tree(&before, &env.tree("home"));

    env.write("home/.codex-manager/cooldown.json.python-backup", "taken");
    let run = env
        .run(["cooldown", "--set", "bob", "--until", "+1d"])
        .code(0);
    assert!(
        run.stderr.contains("cooldown.json.python-backup-2"),
        "{run}"
    );
    let kept = path.with_file_name("cooldown.json.python-backup-2");
    assert_eq!(fs::read_to_string(kept).expect("read"), PYTHON);
    assert_eq!(account(&env, "bob@example.com")["state"], "cooldown");
    assert_eq!(account(&env, "alice.test@example.com"), alice);
}

#[test]
fn invalid_entries_of_the_python_tool_are_skipped_with_a_warning() {
    let env = TestEnv::new();
    env.write(
        "home/.codex-manager/cooldown.json",
        r#"{"a@x.com":5,"b@x.com":{"quota_percent_left":0,"updated_at":"2026-11-20T06:00:00+00:00",
            "reset_at":"2026-11-24T15:55:00+00:00"},"c@x.com":{"reset_at":"2026-11-27T12:00:00+00:00",
            "quota_text":"Status check failed: RuntimeError"},"d@x.com":{"is_expired":true}}"#,
    );
    let run = env.run(["cooldown"]).code(0);
    assert!(run.stderr.contains("\"a@x.com\""), "{run}");
    assert_eq!(account(&env, "b@x.com")["state"], "cooldown");
    assert_eq!(
        account(&env, "c@x.com")["state"],
        "unknown",
        "a reset time was recorded"
    );
    assert_eq!(account(&env, "d@x.com")["login"], "expired");
}

#[test]
fn a_read_only_manager_home_can_be_read() {
    let env = TestEnv::new();
    write_cooldown(&env, &[entry("a@x.com", 10.0, "2026-11-24T15:55:00Z")]);
    let home = env.manager_home();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o500)).expect("chmod");
    let before = env.tree("home");
    let _ = env.run_unprivileged(&["cooldown"]).code(0);
    let _ = env.run_unprivileged(&["recommend"]).code(0);
    assert_same_tree(&before, &env.tree("home"));
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("chmod");
}
