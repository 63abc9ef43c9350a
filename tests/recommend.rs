//! `recommend` names one account and the reason.

use crate::cooldown::{entry, write_cooldown};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::profiles::{alice_and_bob, folder};
use crate::support::sample::bob;
use crate::support::sign_in::{SignIn, api_key_auth_json, auth_json, write_auth, write_auth_text};
use serde_json::{Value, json};

const LATER: &str = "2026-11-24T15:55:00Z";

fn used_at(mut account: Value, at: &str) -> Value {
    account["last_used_at"] = json!(at);
    account
}

/// Creates three accounts: one ready and used, one ready and never used, one in cooldown.
fn three() -> TestEnv {
    let env = TestEnv::new();
    write_cooldown(
        &env,
        &[
            used_at(entry("used@x.com", 10.0, LATER), "2026-11-19T12:00:00Z"),
            entry("never@x.com", 60.0, "2026-11-22T15:55:00Z"),
            entry("out@x.com", 100.0, LATER),
        ],
    );
    env
}

fn email(env: &TestEnv, args: &[&str]) -> String {
    let mut all = vec!["recommend", "--format", "{email}"];
    all.extend(args);
    env.run(all).code(0).stdout.trim_end().to_owned()
}

#[test]
fn the_least_recently_used_ready_account_is_recommended_unless_a_strategy_says_otherwise() {
    let env = three();
    assert_eq!(email(&env, &[]), "never@x.com");
    assert_eq!(email(&env, &["--strategy", "most-left"]), "used@x.com");
    assert_eq!(
        email(&env, &["--strategy", "expiring-first"]),
        "never@x.com"
    );
}

#[test]
fn the_strategy_stay_recommends_the_current_account_while_it_is_ready() {
    let env = three();
    write_auth(&env.codex_home(), &SignIn::new("acct-used", "used@x.com"));
    assert_eq!(email(&env, &["--strategy", "stay"]), "used@x.com");
    let reason = env.run(["recommend", "--strategy", "stay", "--format", "{reason}"]);
    assert!(reason.code(0).stdout.starts_with("ready, in use; 90 %"));
    let _ = env
        .run(["config", "set", "recommend.strategy", "stay"])
        .code(0);
    assert_eq!(email(&env, &[]), "used@x.com");
}

#[test]
fn the_json_lists_the_accounts_in_order_with_their_reasons() {
    let env = three();
    let document = env.run(["recommend", "--json"]).code(0).json();
    assert_eq!(document["strategy"], "lru");
    assert_eq!(document["recommended"], document["candidates"][0]);
    let candidates = document["candidates"].as_array().expect("candidates");
    let emails: Vec<_> = candidates.iter().map(|c| c["email"].clone()).collect();
    assert_eq!(emails, ["never@x.com", "used@x.com", "out@x.com"]);
    let mut keys: Vec<_> = document.as_object().expect("object").keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "candidates",
            "command",
            "folder_profile",
            "recommended",
            "schema",
            "strategy"
        ]
    );
    let mut keys: Vec<_> = candidates[0].as_object().expect("object").keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "account_id",
            "email",
            "last_used_at",
            "login",
            "next_available_at",
            "observed_at",
            "profile",
            "quota_end_detected_at",
            "reason",
            "reset_credits",
            "session_start_at",
            "source",
            "spend_cap",
            "state",
            "windows",
        ]
    );
}

#[test]
fn the_recommendation_names_the_account_and_the_reason() {
    let env = three();
    insta::assert_snapshot!(env.run(["recommend"]).code(0), @r#"
exit 0
--- stdout
never@x.com
  ready, never used; 40 % of the weekly quota left (live, 1 h ago)
--- stderr
it has no saved login; sign in:
    codex-manager profile login NAME
"#);
    insta::assert_snapshot!(env.run(["recommend", "--explain"]).code(0), @r#"
exit 0
--- stdout
 1. never@x.com  ready, never used; 40 % of the weekly quota left (live, 1 h ago)
 2. used@x.com   ready, last used 1 d ago; 90 % of the weekly quota left (live, 1 h ago)
 3. out@x.com    weekly quota exhausted until Tue 24 Nov 15:55, in 4 d 3 h (live, 1 h ago)
--- stderr
"#);
}

#[test]
fn an_account_in_cooldown_is_recommended_except_with_ready_only() {
    let env = TestEnv::new();
    write_cooldown(
        &env,
        &[
            entry("late@x.com", 100.0, LATER),
            entry("soon@x.com", 100.0, "2026-11-21T12:00:00Z"),
        ],
    );
    assert_eq!(
        env.run([
            "recommend",
            "--format",
            "{label} {state} {next_in} {next_available_at}"
        ])
        .code(0)
        .stdout,
        "soon@x.com cooldown in 1 d 2026-11-21T12:00:00+00:00\n"
    );
    let run = env.run(["recommend", "--ready-only"]).code(5);
    assert!(run.stdout.is_empty(), "{run}");
    insta::assert_snapshot!(run.stderr, @r#"
error: no account is ready; next: soon@x.com, Sat 21 Nov 12:00, in 1 d

hint: list all accounts:
    codex-manager accounts
"#);
    let run = env.run(["recommend", "--ready-only", "--json"]).code(5);
    assert_eq!(run.stdout, "null\n");
}

#[test]
fn without_a_known_account_recommend_exits_with_5_and_null() {
    let env = TestEnv::new();
    let before = env.tree("");
    let run = env.run(["recommend"]).code(5);
    assert!(
        run.stdout.is_empty() && run.stderr.contains("codex-manager profile login NAME"),
        "{run}"
    );
    assert_eq!(env.run(["recommend", "--json"]).code(5).stdout, "null\n");
    assert_eq!(env.run(["recommend", "--explain"]).code(5).stdout, "");
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn the_live_account_is_recommended_without_recorded_figures() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::new("acct-a", "a@x.com"));
    assert_eq!(email(&env, &[]), "a@x.com");
    let _ = env.run(["recommend", "--ready-only"]).code(5);
}

#[test]
fn expired_and_moved_logins_are_never_recommended() {
    let env = TestEnv::new();
    let mut expired = entry("expired@x.com", 0.0, LATER);
    expired["login"] = json!("expired");
    let mut moved = entry("moved@x.com", 0.0, LATER);
    moved["login"] = json!("moved");
    write_cooldown(
        &env,
        &[
            expired.clone(),
            moved.clone(),
            entry("out@x.com", 100.0, LATER),
        ],
    );
    assert_eq!(email(&env, &[]), "out@x.com");
    let run = env.run(["recommend", "--explain"]).code(0);
    assert!(run.stdout.contains("its login has expired"), "{run}");
    write_cooldown(&env, &[expired, moved]);
    let run = env.run(["recommend"]).code(5);
    assert!(run.stdout.is_empty(), "{run}");
}

#[test]
fn a_login_older_than_the_newest_seen_is_expired_and_not_recommended() {
    let env = alice_and_bob();
    let file = folder(&env, "home").join("auth.json");
    let newest = std::fs::read(&file).expect("a login");
    let login = || {
        let list = env.run(["list", "--json"]).code(0).json();
        list["profiles"][0]["login"].clone()
    };
    std::fs::write(&file, auth_json(&bob().issued_at(1_794_000_000))).expect("write");
    assert_eq!(login(), "expired");
    let run = env.run(["recommend", "--explain"]).code(0);
    assert!(run.stdout.contains("home  never recommended"), "{run}");
    assert_eq!(email(&env, &[]), "alice@example.com");
    let _ = env.run(["use", "home"]).code(5);
    let _ = env.run(["profile", "rename", "home", "other"]).code(0);
    assert_eq!(email(&env, &[]), "alice@example.com");
    std::fs::write(folder(&env, "other").join("auth.json"), newest).expect("write");
    assert_eq!(login(), "ok");
}

#[test]
fn an_api_key_is_recommended_on_request_or_if_there_is_no_other_account() {
    let env = TestEnv::new();
    write_auth_text(&env.codex_home(), &api_key_auth_json("sk-test-key"));
    assert!(email(&env, &[]).starts_with("api-key-"));
    write_cooldown(&env, &[entry("out@x.com", 100.0, LATER)]);
    assert_eq!(email(&env, &[]), "out@x.com");
    assert!(email(&env, &["--include-api-key"]).starts_with("api-key-"));
}

#[test]
fn accounts_known_only_from_legacy_files_are_recommended() {
    let env = TestEnv::new();
    env.write("dumps/21apr_me@x.com_auth.json", "{}");
    let path = env.path("dumps/21apr_me@x.com_auth.json");
    std::fs::File::open(path)
        .and_then(|f| f.set_modified(std::time::SystemTime::UNIX_EPOCH))
        .expect("mtime");
    let _ = env.run(["normalize", "dumps"]).code(0);
    assert_eq!(email(&env, &["--ready-only"]), "me@x.com");
}

#[test]
fn a_template_is_filled_in_and_an_invalid_one_exits_with_4() {
    let env = TestEnv::new();
    let mut account = entry("a@x.com", 33.4, LATER);
    account["profile"] = json!("work");
    account["account_id"] = json!("acct-a");
    account["observation"]["windows"]
        .as_array_mut()
        .expect("windows")
        .push(json!({"limit_id": "codex", "minutes": 300, "used_percent": 12, "resets_at": LATER}));
    write_cooldown(&env, &[account]);
    let fill = |template: &str| env.run(["recommend", "--format", template]).code(0).stdout;
    assert_eq!(
        fill("{label}|{profile}|{account_id}|{state}|{login}|{next_in}|{next_available_at}"),
        "work|work|acct-a|ready|unknown|now|\n"
    );
    assert_eq!(fill("{weekly_left} {weekly_used} {5h_left}"), "67 33 88\n");
    assert_eq!(fill("{{{email}}}"), "{a@x.com}\n");
    assert!(fill("{reason}").starts_with("ready, never used"));
    for template in ["{nope}", "{email", "email}"] {
        let run = env.run(["recommend", "--format", template]).code(4);
        assert!(
            run.stdout.is_empty() && run.stderr.contains("--format"),
            "{run}"
        );
    }
}

#[test]
fn recommend_writes_nothing_and_reads_no_archives_and_no_rollouts() {
    use std::os::unix::fs::PermissionsExt;
    let env = three();
    // Unreadable folders with damaged files, at which a scan would fail.
    env.write(
        "home/.codex-manager/backups/2026-11-20-120000-x@y-codex.tar.gz",
        "damaged",
    );
    env.write("home/.codex/sessions/2026/11/20/rollout-x.jsonl", "damaged");
    for folder in ["home/.codex-manager/backups", "home/.codex/sessions"] {
        std::fs::set_permissions(env.path(folder), std::fs::Permissions::from_mode(0o0))
            .expect("chmod");
    }
    let before = env.tree("home");
    let run = env.run(["recommend", "--explain"]).code(0);
    assert!(run.stderr.is_empty(), "{run}");
    assert_same_tree(&before, &env.tree("home"));
    for folder in ["home/.codex-manager/backups", "home/.codex/sessions"] {
        std::fs::set_permissions(env.path(folder), std::fs::Permissions::from_mode(0o700))
            .expect("chmod");
    }
}

#[test]
fn an_account_without_a_login_is_recommended_only_if_no_other_is_ready() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::new("acct-a", "live@x.com"));
    let archived = |at| {
        let mut account = used_at(entry("archived@x.com", 50.0, LATER), at);
        account["login"] = json!("archived");
        account
    };
    // The least recently used account, with the most quota left and the earliest reset.
    let mut dead = entry("dead@x.com", 0.0, "2026-11-21T15:55:00Z");
    dead["login"] = json!("none");
    let live = used_at(entry("live@x.com", 91.0, LATER), "2026-11-20T11:59:00Z");
    write_cooldown(
        &env,
        &[dead.clone(), archived("2026-11-19T12:00:00Z"), live],
    );
    for strategy in ["lru", "expiring-first", "most-left"] {
        let args = ["--strategy", strategy];
        assert_eq!(email(&env, &args), "live@x.com");
        assert_eq!(
            email(&env, &["--ready-only", args[0], args[1]]),
            "live@x.com"
        );
        let all = env
            .run(["recommend", "--json", args[0], args[1]])
            .code(0)
            .json();
        let emails = all["candidates"].as_array().expect("a list").iter();
        let emails: Vec<_> = emails.map(|c| c["email"].clone()).collect();
        assert_eq!(emails, ["live@x.com", "archived@x.com", "dead@x.com"]);
    }
    write_cooldown(&env, &[dead]);
    std::fs::remove_file(env.codex_home().join("auth.json")).expect("remove");
    assert_eq!(email(&env, &["--ready-only"]), "dead@x.com");
}

#[test]
fn the_command_suggested_for_an_account_of_a_legacy_file_saves_its_login() {
    let env = TestEnv::new();
    let old = SignIn::new("acct-old", "old@example.com");
    let text = auth_json(&old);
    let dump = env.write("dumps/21apr_old@example.com_auth.json", text);
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_776_000_000);
    std::fs::File::open(dump)
        .and_then(|file| file.set_modified(modified))
        .expect("mtime");
    env.write("dumps/20apr_none@example.com_auth.json", "{}");
    let none = env.path("dumps/20apr_none@example.com_auth.json");
    std::fs::File::open(none)
        .and_then(|file| file.set_modified(modified))
        .expect("mtime");
    let _ = env.run(["normalize", "dumps"]).code(0);
    let run = env.run(["recommend"]).code(0);
    assert!(run.stdout.starts_with("old@example.com"), "{run}");
    // No archive has it, so `restore` would fail.
    assert!(!run.stderr.contains("codex-manager restore"), "{run}");
    let save = "codex-manager profile save NAME --from FILE";
    assert!(run.stderr.contains(save), "{run}");
    let explained = env.run(["recommend", "--explain"]).code(0).stdout;
    let line = |email: &str| {
        explained
            .lines()
            .find(|l| l.contains(email))
            .expect("a line")
    };
    let archived = "; login only in an archive or in an old login file";
    assert!(line("old@example.com").ends_with(archived), "{explained}");
    assert!(
        line("none@example.com").ends_with("; no saved login"),
        "{explained}"
    );

    let file = "dumps/21apr_old@example.com_auth.json";
    let _ = env.run(["profile", "save", "old", "--from", file]).code(0);
    let run = env.run(["recommend"]).code(0);
    assert!(run.stderr.contains("codex-manager use old"), "{run}");
    let _ = env.run(["use", "old"]).code(0);
}
