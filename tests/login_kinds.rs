//! Logins other than ChatGPT's and API keys, and the logins of Codex Desktop's workspaces.

use crate::support::env::TestEnv;
use crate::support::lab::Lab;
use crate::support::pair::{Pair, SKILL, actions};
use crate::support::profiles::{alice_and_bob, folder, live_login, write_age_key};
use crate::support::sample::{alice, backup, bob, put, sample_home, text};
use crate::support::sign_in::{
    SignIn, auth_json, read_auth, read_refresh_token, write_auth, write_auth_text,
};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Returns an auth.json of each kind, as Codex 0.169 reads it, with the beginning of its label.
fn logins() -> [(&'static str, Value); 5] {
    let key = json!({"api_key": "ABSK-secret", "region": "us-east-1"});
    let agent = json!({"agent_runtime_id": "runtime-secret", "agent_private_key": "secret",
        "account_id": "acct", "chatgpt_user_id": "user", "plan_type": "plus",
        "chatgpt_account_is_fedramp": false});
    [
        (
            "access-token-",
            json!({"auth_mode": "personalAccessToken", "personal_access_token": "at-secret"}),
        ),
        (
            "bedrock-key-",
            json!({"auth_mode": "bedrockApiKey", "bedrock_api_key": key}),
        ),
        (
            "agent-",
            json!({"auth_mode": "agentIdentity", "agent_identity": agent}),
        ),
        (
            "undecoded-token-",
            json!({"auth_mode": "chatgpt", "tokens": {"id_token": "secret", "access_token": "secret",
                "refresh_token": "rt-secret", "account_id": "acct"}}),
        ),
        ("api-key-", json!({"OPENAI_API_KEY": "sk-secret"})),
    ]
}

#[test]
fn each_kind_of_login_is_saved_switched_archived_and_restored() {
    for (beginning, login) in logins() {
        let env = alice_and_bob();
        sample_home(&env);
        let login = login.to_string();
        write_auth_text(&env.codex_home(), &login);
        let live = || fs::read_to_string(env.codex_home().join("auth.json")).expect("a login");
        let current = env.run(["current", "--json"]).code(0);
        let label = current.json()["email"]
            .as_str()
            .expect("a label")
            .to_owned();
        assert!(label.starts_with(beginning), "{label}");
        let archive = text(&backup(&env, &[]));
        assert!(archive.contains(&label), "{archive}");
        let listed = env.run(["list-backups", "--json"]).code(0);
        assert_eq!(listed.json()["backups"][0]["email"], label.as_str());

        let away = env.run(["use", "work", "--json"]).code(0);
        assert_eq!(
            away.json()["saved_back"]["profile"],
            label.as_str(),
            "{away}"
        );
        assert_ne!(live(), login);
        let back = env.run(["use", &label]).code(0);
        assert_eq!(live(), login);

        fs::remove_dir_all(env.codex_home()).expect("lose the home");
        fs::remove_dir_all(env.manager_home().join("profiles")).expect("lose the profiles");
        let restored = env.run(["restore", &label, "--json"]).code(0);
        assert_eq!(restored.json()["auth"], "restored");
        assert_eq!(live(), login);
        for printed in [current, listed, away, back, restored] {
            assert!(!format!("{printed}").contains("secret"), "{printed}");
        }
    }
}

#[test]
fn restore_names_a_login_that_it_does_not_recognize() {
    for (login, is_named) in [
        ("{\"auth_mode\":\"new\",\"key\":\"secret\"}", true),
        ("{\"OPENAI_API_KEY\":null,\"tokens\":null}", false),
        ("{}", false),
    ] {
        let env = TestEnv::new();
        sample_home(&env);
        write_auth_text(&env.codex_home(), login);
        let archive = text(&backup(&env, &[]));
        let run = env.run(["restore", &archive, "--yes"]).code(0);
        let names = format!("{run}").contains("has no login that codex-manager recognizes");
        assert_eq!(names, is_named, "{run}");
    }
}

/// Writes the files of Codex Desktop's workspaces, readable by everybody.
fn put_workspaces(env: &TestEnv) {
    let own = put(env, "account-sessions/1/auth.json", auth_json(&bob()));
    let list = put(env, "account-sessions.json", "{\"schemaVersion\":1}");
    for path in [own, list] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("a mode");
    }
}

#[test]
fn logins_of_workspaces_are_restored_privately_and_never_over_newer_ones() {
    let env = TestEnv::new();
    sample_home(&env);
    put_workspaces(&env);
    let archive = text(&backup(&env, &[]));
    let own = env.codex_home().join("account-sessions/1");
    write_auth(&own, &bob().generation(7));
    let renewed = read_refresh_token(&own);
    fs::remove_file(env.codex_home().join("account-sessions.json")).expect("remove");
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert_eq!(
        read_refresh_token(&own),
        renewed,
        "the archived one is spent"
    );

    let _ = env
        .run(["restore", &archive, "--to", &text(&env.path("new"))])
        .code(0);
    for home in [env.path("new"), env.codex_home()] {
        for name in ["account-sessions.json", "account-sessions/1/auth.json"] {
            let meta = home.join(name).metadata().expect("a login");
            assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}

#[test]
fn logins_of_workspaces_are_left_out_if_logins_are_skipped() {
    let env = TestEnv::new();
    sample_home(&env);
    put_workspaces(&env);
    let archive = text(&backup(&env, &[]));
    fs::remove_dir_all(env.codex_home()).expect("lose the home");
    let _ = env.run(["restore", &archive, "--auth", "skip"]).code(0);
    assert!(!env.codex_home().join("account-sessions.json").exists());
    assert!(
        !env.codex_home()
            .join("account-sessions/1/auth.json")
            .exists()
    );
}

#[test]
fn logins_of_workspaces_are_never_synced_or_exported() {
    for side in ["a", "cloud"] {
        let pair = Pair::new();
        pair.put(side, "account-sessions.json", "{}");
        pair.put(side, "account-sessions/1/auth.json", "{}");
        pair.put(side, SKILL, "x");
        let action = if side == "a" { "cloud" } else { "local" };
        assert_eq!(
            actions(&pair.apply("a")),
            [format!("copy-to-{action} {SKILL}")]
        );
    }
    let env = alice_and_bob();
    put_workspaces(&env);
    let file = text(&env.path("all.export"));
    let _ = env.run(["profile", "export", &file]).code(0);
    let exported = fs::read(&file).expect("an export");
    let exported = String::from_utf8_lossy(&exported);
    assert!(!exported.contains("account-sessions"));
}

#[test]
fn an_api_key_beside_tokens_is_the_login_that_codex_uses() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let mut login = read_auth(&lab.home());
    login["OPENAI_API_KEY"] = json!("sk-test-0000");
    login.as_object_mut().expect("fields").remove("auth_mode");
    let login = login.to_string();
    write_auth_text(&lab.home(), &login);
    let status = lab
        .codex
        .run(&lab.home(), &lab.backend, &["login", "status"]);
    assert!(format!("{status}").contains("API key"), "{status}");

    let current = lab.manager(["current", "--json"]).code(0);
    let label = text_of(&current.json()["email"]);
    assert!(label.starts_with("api-key-"), "{current}");
    let asked = lab.manager(["status", "--json"]).code(0).json();
    assert_eq!(text_of(&asked["email"]), label);
    let archived = lab.manager(["backup", "--no-status", "--json"]).code(0);
    assert_eq!(text_of(&archived.json()["email"]), label);
    let launched = lab.manager(["launch", "bob", "--dry-run"]).code(0);
    assert!(format!("{launched}").contains(&label), "{launched}");
    let away = lab.manager(["use", "bob", "--json"]).code(0);
    assert_eq!(text_of(&away.json()["saved_back"]["profile"]), label);
    let _ = lab.manager(["use", &label]).code(0);
    let live = fs::read_to_string(lab.home().join("auth.json"));
    assert_eq!(live.expect("a login"), login);
}

/// Returns the auth.json of an early Codex, with an API key beside the tokens of Alice.
pub(crate) fn key_beside_tokens() -> String {
    let mut login: Value = serde_json::from_str(&auth_json(&alice(0))).expect("JSON");
    login["OPENAI_API_KEY"] = json!("sk-test-0000");
    login.as_object_mut().expect("fields").remove("auth_mode");
    login.to_string()
}

/// Earlier versions took the tokens beside a key for the login.
#[test]
fn a_profile_with_an_api_key_beside_tokens_is_refused_until_it_is_saved_as_one_of_the_key() {
    let env = alice_and_bob();
    let _ = env.run(["use", "home"]).code(0);
    let login = key_beside_tokens();
    write_auth_text(&folder(&env, "work"), &login);
    let key = write_age_key(&env);
    let export = [
        "profile",
        "export",
        "out.age",
        "--with-logins",
        "--recipient",
        &key,
    ];
    let exported = env.run(export).code(6);
    let reason = "its auth.json has the login of api-key-";
    assert!(exported.stderr.contains(reason), "{exported}");

    let refused = env.run(["use", "work"]).code(5);
    let file = folder(&env, "work").join("auth.json");
    let hint = "profiles/work/auth.json";
    assert!(refused.stderr.contains(hint), "{refused}");
    let save = ["profile", "save", "key", "--from", &*text(&file)];
    let _ = env.run(save).code(0);
    let _ = env.run(["use", "key"]).code(0);
    assert_eq!(live_login(&env), login);
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
