//! Tests of `profile import --from`: a fixture of the layout of each switcher, as its source writes it.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::profiles::{folder, owner, profile_login, shown};
use crate::support::sample::{alice, bob};
use crate::support::sign_in::{SignIn, api_key_auth_json, auth_json, write_auth};
use base64::Engine;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

fn import(env: &TestEnv, args: &[&str], code: i32) -> Value {
    let words = [&["profile", "import", "--json", "--from"], args].concat();
    env.run(words).code(code).json()
}

/// Returns the names in the switcher, the profiles and the homes with a live login.
fn rows(document: &Value) -> Vec<(&str, &str, Option<&str>)> {
    let rows = document["profiles"].as_array().expect("a list").iter();
    rows.map(|row| {
        (
            row["name"].as_str().expect("text"),
            row["profile"].as_str().expect("text"),
            row["live_home"].as_str(),
        )
    })
    .collect()
}

fn text(sign_in: &SignIn) -> String {
    auth_json(sign_in)
}

/// Writes the layout of codex-auth 0.3 (`src/registry/storage_write.zig`, `common.zig`): names of files are keys of
/// accounts, in base64 if they have other characters than names of files.
fn codex_auth(env: &TestEnv) {
    let key = "user-bob::acct-bob";
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
    let account = |key: &str, email: &str, alias: &str| {
        json!({"account_key": key, "chatgpt_account_id": "acct", "chatgpt_user_id": "user", "email": email,
            "alias": alias, "account_name": null, "plan": "plus", "auth_mode": "chatgpt", "created_at": 1,
            "last_used_at": null, "last_usage": null, "last_usage_at": null, "last_local_rollout": null})
    };
    let registry = json!({"schema_version": 4, "active_account_key": "acct-alice", "accounts": [
        account("acct-alice", "alice@example.com", ""), account(key, "bob@example.com", "client")]});
    let folder = "home/.codex/accounts";
    env.write(&format!("{folder}/registry.json"), registry.to_string());
    env.write(&format!("{folder}/acct-alice.auth.json"), text(&alice(0)));
    env.write(&format!("{folder}/{encoded}.auth.json"), text(&bob()));
    env.write(&format!("{folder}/auth.json.bak.20261101"), text(&bob()));
}

#[test]
fn the_accounts_of_codex_auth_become_profiles() {
    let env = TestEnv::new();
    codex_auth(&env);
    write_auth(&env.codex_home(), &alice(0));
    let before = env.tree("home/.codex");
    let planned = import(&env, &["codex-auth", "--dry-run"], 0);
    assert!(!env.manager_home().join("profiles").exists());
    let done = import(&env, &["codex-auth"], 0);
    assert_eq!(planned["profiles"], done["profiles"]);
    let live = "[ROOT]/home/.codex";
    assert_eq!(
        rows(&done),
        [("", "alice", Some(live)), ("client", "client", None)]
    );
    assert_eq!(profile_login(&env, "client"), text(&bob()));
    // The live home owns Alice's login; the profile has a copy.
    assert_eq!(
        (owner(&env, "alice"), owner(&env, "client")),
        ("live".into(), "profile".into())
    );
    assert_same_tree(&before, &env.tree("home/.codex"));
    let again = import(&env, &["codex-auth"], 0);
    let again = again["profiles"].as_array().unwrap();
    assert!(!again.is_empty());
    assert!(again.iter().all(|row| row["outcome"] == "unchanged"));
}

#[test]
fn codex_auth_is_imported_without_its_registry_and_a_damaged_login_is_reported() {
    let env = TestEnv::new();
    let folder = env.path("theirs").display().to_string();
    env.write("theirs/acct-bob.auth.json", text(&bob()));
    env.write("theirs/acct-carol.auth.json", "{\"tokens\":");
    let run = env
        .run(["profile", "import", "--from", "codex-auth", &folder])
        .code(6);
    assert!(run.stdout.contains("bob (bob@example.com): saved"), "{run}");
    assert!(run.stderr.contains("not a valid auth.json"), "{run}");
    assert!(
        run.stderr.contains("codex-auth still has these logins"),
        "{run}"
    );
    assert_eq!(shown(&env, "bob")["email"], "bob@example.com");
}

/// Creates the database of cc-switch 3.8 and later (`src-tauri/src/database/schema.rs`).
fn cc_switch_database(env: &TestEnv) {
    let path = env.write("home/.cc-switch/cc-switch.db", "");
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS providers (
                id TEXT NOT NULL, app_type TEXT NOT NULL, name TEXT NOT NULL, settings_config TEXT NOT NULL,
                website_url TEXT, category TEXT, created_at INTEGER, sort_index INTEGER, notes TEXT, icon TEXT,
                icon_color TEXT, meta TEXT NOT NULL DEFAULT '{}', is_current BOOLEAN NOT NULL DEFAULT 0,
                in_failover_queue BOOLEAN NOT NULL DEFAULT 0, PRIMARY KEY (id, app_type))",
        )
        .unwrap();
    let login = |sign_in| json!({"auth": serde_json::from_str::<Value>(&text(sign_in)).unwrap(), "config": ""});
    let key = json!({"auth": {"OPENAI_API_KEY": "sk-of-a-proxy"}, "config": "model_provider = \"proxy\""});
    for (id, app, name, settings) in [
        ("1", "codex", "OpenAI Official", login(&alice(0))),
        ("2", "codex", "client", login(&bob())),
        ("3", "codex", "A proxy", key),
        ("4", "codex", "Nothing", json!({"auth": {}, "config": ""})),
        ("5", "claude", "Claude", json!({"env": {}})),
    ] {
        let sql = "INSERT INTO providers (id, app_type, name, settings_config) VALUES (?, ?, ?, ?)";
        database
            .execute(sql, params![id, app, name, settings.to_string()])
            .unwrap();
    }
}

#[test]
fn the_logins_of_cc_switch_become_profiles_and_keys_of_other_providers_do_not() {
    let env = TestEnv::new();
    cc_switch_database(&env);
    let before = env.tree("home/.cc-switch");
    let done = import(&env, &["cc-switch"], 0);
    // Its names may be no names of profiles.
    assert_eq!(
        rows(&done),
        [
            ("OpenAI Official", "alice", None),
            ("client", "client", None)
        ]
    );
    assert_eq!(shown(&env, "client")["account_id"], "acct-bob");
    assert_same_tree(&before, &env.tree("home/.cc-switch"));
}

/// The same account under two names, with an older login: both logins are kept, the newer one as that of the profile.
#[test]
fn two_logins_of_one_account_are_kept_in_one_profile() {
    let env = TestEnv::new();
    for (name, age) in [("a-new", 3), ("b-old", 0), ("c-newest", 5)] {
        let path = format!("home/.codex-switch/profiles/{name}/auth.json");
        env.write(&path, text(&alice(age)));
    }
    let done = import(&env, &["codex-switch"], 0);
    let outcomes = done["profiles"].as_array().unwrap().iter();
    let outcomes: Vec<_> = outcomes
        .map(|row| (&row["profile"], &row["outcome"]))
        .collect();
    let [name, created, kept, updated] =
        ["a-new", "created", "kept-newer", "updated"].map(Value::from);
    assert_eq!(
        outcomes,
        [(&name, &created), (&name, &kept), (&name, &updated)]
    );
    assert_eq!(profile_login(&env, "a-new"), text(&alice(5)));
    let history = folder(&env, "a-new").join("history");
    let files = std::fs::read_dir(history)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = files
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    kept.sort();
    let mut expected = [text(&alice(0)), text(&alice(3))];
    expected.sort();
    assert_eq!(kept, expected);
    assert_eq!(owner(&env, "a-new"), "profile");
}

/// Another Codex home has the login: the copy of the switcher does not become a second owner.
#[test]
fn a_login_that_is_live_in_another_home_stays_with_that_home() {
    let mut env = TestEnv::new();
    let other = env.path("other");
    env.set("CODEX_HOME", &other);
    write_auth(&other, &bob());
    let _ = env.run(["profile", "save", "client"]).code(0);
    env.unset("CODEX_HOME");
    write_auth(&env.codex_home(), &alice(0));
    env.write("home/.codex-switch/profiles/bob/auth.json", text(&bob()));
    let before = (
        env.tree("other"),
        env.tree("home/.codex"),
        env.tree("home/.codex-switch"),
    );
    let done = import(&env, &["codex-switch"], 0);
    assert_eq!(rows(&done), [("bob", "client", Some("[ROOT]/other"))]);
    assert_eq!(owner(&env, "client"), "live");
    let run = env.run(["use", "client"]).code(5);
    assert!(run.stderr.contains("[ROOT]/other"), "{run}");
    assert_same_tree(&before.0, &env.tree("other"));
    assert_same_tree(&before.1, &env.tree("home/.codex"));
    assert_same_tree(&before.2, &env.tree("home/.codex-switch"));
}

/// Versions before 3.8 have `config.json` (`app_config.rs`, `provider.rs`).
#[test]
fn the_logins_of_an_older_cc_switch_become_profiles() {
    let env = TestEnv::new();
    let login: Value = serde_json::from_str(&text(&bob())).unwrap();
    let provider =
        json!({"id": "x", "name": "client", "settingsConfig": {"auth": login, "config": ""}});
    let config = json!({"version": 2, "claude": {"providers": {}, "current": ""},
        "codex": {"providers": {"x": provider}, "current": "x"}});
    env.write("home/.cc-switch/config.json", config.to_string());
    assert_eq!(
        rows(&import(&env, &["cc-switch"], 0)),
        [("client", "client", None)]
    );
    env.write("home/.cc-switch/config.json", "{");
    let run = env
        .run(["profile", "import", "--from", "cc-switch"])
        .code(1);
    assert!(run.stderr.contains("config.json"), "{run}");
}

/// The layout of caam (`internal/authfile/authfile.go`, `internal/profile/profile.go`): copies in the vault, and homes
/// of isolated profiles, in which Codex runs.
#[test]
fn the_profiles_of_caam_become_profiles_and_its_isolated_homes_own_their_logins() {
    let mut env = TestEnv::new();
    let folder = "home/.local/share/caam";
    let meta = json!({"tool": "codex", "profile": "work", "backed_up_at": "2026-11-01T00:00:00Z", "files": 1});
    env.write(
        &format!("{folder}/vault/codex/work/auth.json"),
        text(&alice(0)),
    );
    env.write(
        &format!("{folder}/vault/codex/work/meta.json"),
        meta.to_string(),
    );
    env.write(
        &format!("{folder}/vault/codex/_original/auth.json"),
        text(&SignIn::new("acct-old", "old@x.com")),
    );
    env.write(&format!("{folder}/vault/claude/me/.credentials.json"), "{}");
    env.write(
        &format!("{folder}/profiles/codex/client/codex_home/auth.json"),
        text(&bob()),
    );
    env.write(&format!("{folder}/profiles/codex/empty/profile.json"), "{}");
    let before = env.tree(folder);
    let done = import(&env, &["caam"], 0);
    let home = format!("[ROOT]/{folder}/profiles/codex/client/codex_home");
    assert_eq!(
        rows(&done),
        [("client", "client", Some(&*home)), ("work", "work", None)]
    );
    assert_eq!(
        (owner(&env, "client"), owner(&env, "work")),
        ("live".into(), "profile".into())
    );
    // A login that is live elsewhere is not used here too.
    let run = env.run(["use", "client"]).code(5);
    assert!(run.stderr.contains("codex_home"), "{run}");
    assert_same_tree(&before, &env.tree(folder));
    // The variable of caam names another folder.
    env.set("CAAM_HOME", env.path("elsewhere"));
    env.write(
        "elsewhere/data/vault/codex/other/auth.json",
        text(&SignIn::new("acct-c", "c@x.com")),
    );
    assert_eq!(
        rows(&import(&env, &["caam"], 0)),
        [("other", "other", None)]
    );
}

/// The layout of codex-switch (`src/auth.rs`, `src/profile.rs`).
#[test]
fn the_profiles_of_codex_switch_become_profiles() {
    let env = TestEnv::new();
    env.write(
        "home/.codex-switch/profiles/work/auth.json",
        text(&alice(0)),
    );
    env.write(
        "home/.codex-switch/profiles/key/auth.json",
        api_key_auth_json("sk-mine"),
    );
    env.write("home/.codex-switch/current", "work");
    // A newer login of the same account is already saved.
    write_auth(&env.codex_home(), &alice(3));
    let _ = env.run(["profile", "save", "mine"]).code(0);
    let done = import(&env, &["codex-switch"], 0);
    let live = "[ROOT]/home/.codex";
    assert_eq!(
        rows(&done),
        [("key", "key", None), ("work", "mine", Some(live))]
    );
    assert_eq!(done["profiles"][1]["outcome"], "kept-newer");
    assert_eq!(profile_login(&env, "mine"), text(&alice(3)));
}

#[test]
fn a_switcher_without_logins_is_an_error() {
    let env = TestEnv::new();
    for switcher in ["codex-auth", "cc-switch", "caam", "codex-switch"] {
        let run = env.run(["profile", "import", "--from", switcher]).code(1);
        assert!(run.stderr.contains("hint: name its folder"), "{run}");
    }
    let _ = env.run(["profile", "import"]).code(4);
    assert!(!env.manager_home().join("profiles").exists());
}
