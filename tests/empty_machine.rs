//! A machine without Codex, login and accounts: each command suggests the next step to a sign-in.

use crate::support::env::TestEnv;
use crate::support::sign_in::{SignIn, write_auth};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// The commands that a new user tries first.
const COMMANDS: [&str; 33] = [
    "accounts",
    "backup",
    "find word",
    "history check",
    "recommend",
    "recommend --use",
    "doctor",
    "status",
    "status --all",
    "use",
    "use work",
    "launch",
    "resume",
    "resume --last",
    "list",
    "cooldown",
    "restore latest",
    "restore work",
    "verify",
    "verify latest",
    "verify 1",
    "list-backups",
    "current",
    "sessions",
    "find",
    "show",
    "export",
    "sessions --pick",
    "show work",
    "export work",
    "launches",
    "restore",
    "cooldown --clear work",
];

/// Commands that fail without a login.
const USELESS: [&str; 6] = [
    "codex-manager profile save NAME",
    "codex-manager list",
    "codex-manager resume",
    "codex-manager normalize",
    "codex-manager history check",
    "codex-manager launch",
];

#[track_caller]
fn assert_leads_to_sign_in(env: &TestEnv, first: &str) {
    for command in COMMANDS {
        let run = env.run(command.split(' '));
        let text = format!("{}{}", run.stdout, run.stderr).replace(['\n', '\r'], " ");
        let words: Vec<_> = text.split_whitespace().collect();
        let text = words.join(" ");
        let leads = ["codex login", "codex-manager profile login NAME"];
        assert!(
            leads.iter().any(|lead| text.contains(lead)),
            "{command}: {run}"
        );
        assert!(text.contains(first), "{command}: {run}");
        assert!(!text.contains("codex-manager backup"), "{command}: {run}");
        for useless in USELESS {
            assert!(!text.contains(useless), "{command}: {run}");
        }
    }
}

#[test]
fn without_codex_each_command_suggests_to_install_codex_and_sign_in() {
    let env = TestEnv::new();
    assert_leads_to_sign_in(&env, "install Codex");
}

#[test]
fn without_archives_commands_suggest_a_restore_from_a_path_and_a_vault() {
    let env = TestEnv::new();
    for args in [
        &["restore", "latest"][..],
        &["verify"],
        &["diff"],
        &["list-backups"],
    ] {
        let run = env.run(args);
        for command in ["restore PATH", "vault init URL"] {
            assert!(run.stderr.contains(command), "{args:?}: {run}");
        }
    }
}

#[test]
fn with_codex_each_command_suggests_a_sign_in() {
    let env = TestEnv::new();
    let codex = env.write("bin/codex", "#!/bin/sh\nexit 1\n");
    fs::set_permissions(codex, fs::Permissions::from_mode(0o755)).unwrap();
    assert_leads_to_sign_in(&env, "sign");
}

#[test]
fn with_a_live_login_the_first_step_is_to_save_it() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::alice());
    for command in ["list", "launch", "use"] {
        let run = env.run([command]);
        let text = format!("{}{}", run.stdout, run.stderr);
        assert!(text.contains("codex-manager profile save NAME"), "{run}");
    }
}
