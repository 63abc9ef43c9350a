//! `vault drill`, the check of `doctor` about it, and the scheduled job.

use crate::support::env::TestEnv;
use crate::support::lab::Lab;
use crate::support::restic;
use crate::support::sample::sample_home;
use crate::vault::set_up;
use serde_json::Value;
use std::fs;

fn vault_env() -> Option<TestEnv> {
    restic::program()?;
    let mut env = TestEnv::new();
    sample_home(&env);
    set_up(&mut env);
    Some(env)
}

/// Returns status and message of a check of `doctor`.
fn doctor(env: &TestEnv, id: &str) -> (String, String) {
    let run = env.run(["doctor", "--json"]);
    let json = run.json();
    let mut checks = json["checks"].as_array().expect("checks").iter();
    let check = checks.find(|check| check["id"] == id);
    let check = check.unwrap_or_else(|| panic!("no {id}: {json}"));
    let text = |key: &str| check[key].as_str().expect("text").to_owned();
    (text("status"), text("message"))
}

#[test]
fn the_real_codex_lists_the_restored_conversations() {
    if restic::program().is_none() {
        return;
    }
    let Some(mut lab) = Lab::new() else { return };
    let ids: Vec<_> = ["first", "second"].iter().map(|p| lab.say(p)).collect();
    // By default Codex (0.169) lists only the conversations of the configured provider.
    let config = lab.world.codex_home().join("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    let (_, provider) = text
        .split_once("[model_providers.mock]")
        .expect("a provider");
    let provider = provider.split("\n\n").next().expect("its settings");
    let other = text.replace("model_provider = \"mock\"", "model_provider = \"other\"")
        + &format!("\n[model_providers.other]{provider}\n");
    fs::write(&config, other).expect("write");
    let ids = [ids, vec![lab.say("third")]].concat();
    set_up(&mut lab.world);
    let _ = lab.manager(["vault", "backup"]).code(0);
    let before = lab.world.tree("home/.codex");
    let drill = lab.manager(["vault", "drill", "--json"]).code(0).json();
    assert_eq!(drill["conversations"], ids.len(), "{drill}");
    crate::support::env::assert_same_tree(&before, &lab.world.tree("home/.codex"));
    let left = lab.world.tree("home/.codex-manager");
    let has_staging = left
        .0
        .keys()
        .any(|p| p.to_string_lossy().contains("staging"));
    assert!(!has_staging, "{left:?}");
    // The restored database points into the restored home, so Codex resumes the conversation there.
    let _ = lab
        .manager([
            "vault", "restore", "latest", "--to", "other", "--auth", "archive",
        ])
        .code(0);
    lab.resume(&lab.world.path("other"), &ids[2], "and more");
}

#[test]
fn doctor_reports_missing_old_and_failed_drills() {
    let Some(mut env) = vault_env() else { return };
    let (status, message) = doctor(&env, "vault.backup");
    assert_eq!(
        (&*status, &*message),
        ("warn", "this machine has made no snapshot")
    );
    let _ = env.run(["vault", "backup"]).code(0);
    assert_eq!(doctor(&env, "vault.backup").0, "ok");
    let (status, message) = doctor(&env, "vault.drill");
    assert_eq!(
        (&*status, &*message),
        ("warn", "no drill has restored a snapshot")
    );
    let _ = env.run(["vault", "drill"]).code(0);
    assert_eq!(doctor(&env, "vault.drill").0, "ok");
    env.set("CODEX_MANAGER_NOW", "2026-12-21T12:00:00Z");
    let (status, message) = doctor(&env, "vault.drill");
    assert_eq!(status, "warn");
    assert!(message.contains("31 d"), "{message}");
    assert_eq!(doctor(&env, "vault.backup").0, "warn");
    damage_data(&env);
    let run = env.run(["vault", "drill"]);
    assert_ne!(run.code, 0, "{run}");
    let (status, message) = doctor(&env, "vault.drill");
    assert_eq!(status, "fail");
    assert!(message.starts_with("the last drill failed"), "{message}");
}

/// Flips bits in every pack of the repository.
fn damage_data(env: &TestEnv) {
    use std::os::unix::fs::PermissionsExt;
    for file in walkdir::WalkDir::new(env.path("vault/data")) {
        let file = file.expect("list");
        if !file.file_type().is_file() {
            continue;
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).expect("writable");
        let mut bytes = fs::read(file.path()).expect("read");
        for byte in bytes.iter_mut().step_by(7) {
            *byte ^= 0xff;
        }
        fs::write(file.path(), bytes).expect("write");
    }
}

#[test]
fn the_scheduled_job_makes_a_snapshot_and_a_monthly_drill() {
    let Some(env) = vault_env() else { return };
    let run = env.run(["schedule", "install", "vault", "--dry-run", "--json"]);
    let json = run.code(0).json();
    let words: Vec<_> = json["runs"].as_array().expect("words").iter().collect();
    let words: Vec<_> = words.iter().filter_map(|word| word.as_str()).collect();
    let start = words.iter().position(|w| *w == "vault").expect("vault");
    // Only unattended runs write the log.
    let command: Vec<_> = words[start..]
        .iter()
        .filter(|w| **w != "--log")
        .copied()
        .collect();
    assert_eq!(
        command,
        ["vault", "backup", "--drill-if-older", "30d", "--quiet"]
    );
    let drilled = || -> Value {
        let state = fs::read_to_string(env.manager_home().join("vault/state.json"));
        let state: Value = serde_json::from_str(&state.expect("read")).expect("JSON");
        state["drill"]["snapshot"].clone()
    };
    let _ = env.run(&command).code(0);
    let first = drilled();
    assert!(first.is_string());
    let _ = env.run(&command).code(0);
    assert_eq!(drilled(), first, "the last drill is not older than 30 days");
}

#[test]
fn installing_the_job_without_a_stored_password_warns() {
    let Some(env) = vault_env() else { return };
    let run = env
        .run(["schedule", "install", "vault", "--dry-run"])
        .code(0);
    assert!(run.stderr.contains("do not have RESTIC_PASSWORD"), "{run}");
    assert!(
        run.stderr
            .contains("codex-manager vault init URL --password-file FILE"),
        "{run}"
    );
}
