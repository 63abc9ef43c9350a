//! An update of the Codex program since the last archive.

use crate::launch::codex;
use crate::support::env::TestEnv;
use crate::support::profiles::alice_and_bob;
use crate::support::terminal::Terminal;
use crate::support::write_program;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Installs a program as npm does: a link to a script in a package of this version.
fn install(env: &TestEnv, version: &str) {
    let package = env.path("npm/node_modules/@openai/codex");
    fs::create_dir_all(package.join("bin")).unwrap();
    let text = format!("{{\"name\": \"@openai/codex\", \"version\": \"{version}\"}}");
    fs::write(package.join("package.json"), text).unwrap();
    let link = env.path("bin/codex");
    if !package.join("bin/codex.js").exists() {
        codex(env, "echo started");
        fs::rename(&link, package.join("bin/codex.js")).unwrap();
        std::os::unix::fs::symlink(package.join("bin/codex.js"), &link).unwrap();
    }
}

fn archives(env: &TestEnv) -> usize {
    let list = env.run(["list-backups", "--json"]).code(0).json();
    list["backups"].as_array().unwrap().len()
}

#[test]
fn backup_if_codex_changed_runs_only_after_an_update_of_codex() {
    let mut env = alice_and_bob();
    let args = ["backup", "--no-status", "--if-codex-changed", "--json"];
    install(&env, "0.169.0");
    assert_eq!(env.run(args).code(0).json()["up_to_date"], false);
    assert_eq!(env.run(args).code(0).json()["up_to_date"], true);
    install(&env, "0.170.0");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    assert_eq!(env.run(args).code(0).json()["up_to_date"], false);
    assert_eq!(archives(&env), 2);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T16:00:00Z");
    let both = [&args[..], &["--if-older", "2h"]].concat();
    assert_eq!(env.run(both).code(0).json()["up_to_date"], false, "too old");
    fs::remove_file(env.path("bin/codex")).unwrap();
    let missing = env.run(args).code(1);
    assert!(missing.stderr.contains("--if-codex-changed"), "{missing}");
}

#[test]
fn a_scheduled_backup_archives_once_a_day_and_after_an_update_of_codex() {
    let mut env = alice_and_bob();
    install(&env, "0.169.0");
    let install_job = ["schedule", "install", "backup", "--if-codex-changed"];
    let options = ["--dry-run", "--scheduler", "systemd", "--json"];
    let job = env.run([install_job, options].concat()).code(0).json();
    assert_eq!(job["when"], serde_json::json!({ "every": 3600 }));
    let words = job["runs"].as_array().unwrap().iter();
    let words: Vec<_> = words.map(|word| word.as_str().unwrap()).collect();
    let run = |env: &mut TestEnv, now: &str, archived: usize| {
        env.set("CODEX_MANAGER_NOW", now);
        let _ = env.run([&words[1..], &["--no-status"]].concat()).code(0);
        assert_eq!(archives(env), archived, "{now}");
    };
    run(&mut env, "2026-11-20T09:00:00Z", 1);
    run(&mut env, "2026-11-20T10:00:00Z", 1);
    install(&env, "0.170.0");
    run(&mut env, "2026-11-20T11:00:00Z", 2);
    run(&mut env, "2026-11-20T12:00:00Z", 2);
    run(&mut env, "2026-11-20T23:00:00Z", 2);
    run(&mut env, "2026-11-21T10:00:00Z", 2);
    // A little early.
    run(&mut env, "2026-11-21T10:50:00Z", 3);
    fs::remove_file(env.path("bin/codex")).unwrap();
    run(&mut env, "2026-11-21T12:00:00Z", 3);
    run(&mut env, "2026-11-22T12:00:00Z", 4);
    let other = ["schedule", "install", "status", "--if-codex-changed"];
    let _ = env.run(other).code(4);
}

#[test]
fn a_replaced_binary_without_a_version_counts_as_an_update_of_codex() {
    let mut env = alice_and_bob();
    let args = ["backup", "--no-status", "--if-codex-changed", "--json"];
    write_program(&env.path("bin/codex"), "#!/bin/sh\n");
    assert_eq!(env.run(args).code(0).json()["up_to_date"], false);
    assert_eq!(env.run(args).code(0).json()["up_to_date"], true);
    write_program(&env.path("bin/codex"), "#!/bin/sh\n# newer\n");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    assert_eq!(env.run(args).code(0).json()["up_to_date"], false);
}

#[test]
fn launch_backs_up_before_a_new_codex_starts_if_configured() {
    let mut env = alice_and_bob();
    install(&env, "0.169.0");
    let _ = env.run(["launch", "home"]).code(0);
    assert_eq!(archives(&env), 0, "nothing to compare with");
    let _ = env.run(["backup", "--no-status"]).code(0);
    install(&env, "0.170.0");
    let asked = env.run(["launch", "home"]).code(0);
    assert_eq!(archives(&env), 1, "no question without a terminal");
    assert_eq!(asked.stdout, "started\n");
    let _ = env
        .run(["config", "set", "backup.before_new_codex", "auto"])
        .code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let archived = env.run(["launch", "home"]).code(0);
    assert_eq!(archived.stdout, "started\n", "stdout is Codex's");
    assert!(
        archived.stderr.contains("archived the Codex home"),
        "{archived}"
    );
    assert_eq!(archives(&env), 2);
    let _ = env.run(["launch", "home"]).code(0);
    assert_eq!(archives(&env), 2);
}

#[test]
fn launch_asks_on_a_terminal_before_a_new_codex_starts() {
    let env = alice_and_bob();
    install(&env, "0.169.0");
    let _ = env.run(["backup", "--no-status"]).code(0);
    install(&env, "0.170.0");
    for (answer, expected, text) in [("n\r", 1, "do not ask again"), ("y\r", 2, "archived")] {
        let mut terminal = Terminal::start(&mut env.command(["launch", "home"]));
        terminal.wait_for("[y/N]", LIMIT);
        let screen = terminal.text();
        assert!(
            screen.contains("Codex is 0.170.0; the last archive was made with 0.169.0"),
            "{screen}"
        );
        terminal.type_keys(answer);
        terminal.wait_for(text, LIMIT);
        assert_eq!(terminal.end().code(), Some(0));
        assert_eq!(archives(&env), expected);
    }
}

#[test]
fn doctor_warns_of_a_new_codex_without_an_archive_from_before() {
    let mut env = alice_and_bob();
    install(&env, "0.169.0");
    let _ = env.run(["backup", "--no-status"]).code(0);
    let check = |env: &TestEnv| {
        let json = env.run(["doctor", "--json"]).json();
        let checks = json["checks"].as_array().unwrap().clone();
        checks
            .into_iter()
            .find(|check| check["id"] == "archives.codex")
    };
    assert_eq!(check(&env), None);
    install(&env, "0.170.0");
    let found = check(&env).expect("a warning");
    assert_eq!(found["status"], "warn");
    assert_eq!(found["fix"], "codex-manager backup --if-codex-changed");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let _ = env
        .run(["backup", "--no-status", "--if-codex-changed"])
        .code(0);
    assert_eq!(check(&env), None);
}
