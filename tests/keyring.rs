//! Codex with a credential store other than auth.json: no command reports success after it changed a file that
//! Codex ignores.

use crate::support::env::TestEnv;
use crate::support::lab::Lab;
use crate::support::profiles::save_alice_and_bob;
use crate::support::sample::{backup, bob, sample_home, text};
use crate::support::sign_in::{auth_json, write_auth};
use crate::support::write_program;
use std::fs;

/// The expected behaviour of a command.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// Refuses with exit 5, changes nothing, and names the store and the setting to change.
    Refuses,
    /// Runs with this exit code, and names the store.
    NamesStore(i32),
    /// Runs normally, because the store does not matter.
    Works,
}

/// Creates a home whose Codex ignores Alice's auth.json, with two profiles and an archive.
fn world(store: &str) -> (TestEnv, String) {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    save_alice_and_bob(&env);
    let line = format!("cli_auth_credentials_store = \"{store}\"\n");
    env.write("home/.codex/config.toml", line);
    let login = format!(
        "#!/bin/sh\n[ \"$1\" = login ] || exit 1\n\
         umask 077; cat > \"$CODEX_HOME/auth.json\" <<'END'\n{}\nEND\n",
        auth_json(&bob())
    );
    write_program(&env.path("bin/codex"), &login);
    env.write("pass", "correct horse\n");
    (env, archive)
}

#[test]
fn commands_that_use_auth_json_refuse_or_report_a_credential_store_other_than_file() {
    use Expected::{NamesStore, Refuses, Works};
    for store in ["keyring", "auto", "ephemeral"] {
        let table: &[(&[&str], Expected)] = &[
            (&["use", "home"], Refuses),
            (&["use", "home", "--dry-run"], Refuses),
            (&["use", "-"], Refuses),
            (&["recommend", "--use"], Refuses),
            (&["profile", "save", "new"], Refuses),
            (&["profile", "save", "work", "--from", "ARCHIVE"], Works),
            (
                &[
                    "profile",
                    "export",
                    "out",
                    "--with-logins",
                    "--passphrase-file",
                    "pass",
                ],
                Refuses,
            ),
            (&["profile", "export", "out"], Works),
            (&["profile", "list"], Works),
            (&["list"], Works),
            (&["profile", "login", "client"], NamesStore(6)),
            (&["status", "--dry-run"], NamesStore(6)),
            (&["current"], NamesStore(5)),
            (&["backup", "--no-status"], NamesStore(0)),
            (&["restore", "ARCHIVE", "--dry-run"], Works),
            (&["doctor"], NamesStore(0)),
        ];
        let mut wrong = Vec::new();
        for (args, does) in table {
            let (env, archive) = world(store);
            let before = env.tree("");
            let args: Vec<&str> = args
                .iter()
                .map(|arg| {
                    if *arg == "ARCHIVE" {
                        archive.as_str()
                    } else {
                        arg
                    }
                })
                .collect();
            let run = env.run(&args);
            let output = format!("{}{}", run.stdout, run.stderr);
            let named = format!("cli_auth_credentials_store = \"{store}\"");
            match does {
                Refuses => {
                    let line = "set cli_auth_credentials_store = \"file\" in";
                    let output = run.code == 5 && output.contains(&named) && output.contains(line);
                    let diff = before.diff(&env.tree(""));
                    if !output || !diff.is_empty() {
                        wrong.push(format!("{args:?} {run}\n{diff}"));
                    }
                }
                NamesStore(code) if run.code != *code || !output.contains(&named) => {
                    wrong.push(format!("{args:?} {run}"));
                }
                Works if run.code != 0 => wrong.push(format!("{args:?} {run}")),
                NamesStore(_) | Works => {}
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

#[test]
fn a_launch_is_refused_if_the_arguments_of_codex_select_another_credential_store() {
    let (env, _) = world("file");
    let before = env.tree("");
    for args in [
        &["-c", "cli_auth_credentials_store=keyring"][..],
        &[
            "exec",
            "--config",
            "cli_auth_credentials_store = \"auto\"",
            "hi",
        ],
        &["-ccli_auth_credentials_store='ephemeral'"],
    ] {
        for flags in [
            &["home"][..],
            &["home", "--isolated"],
            &["work", "--dry-run"],
        ] {
            let run = env
                .run([&["launch"][..], flags, &["--"], args].concat())
                .code(5);
            assert!(
                run.stderr.contains("(cli_auth_credentials_store = "),
                "{run}"
            );
        }
    }
    let diff = before.diff(&env.tree(""));
    assert!(diff.is_empty(), "{diff}");
    let args = [
        "launch",
        "home",
        "--",
        "-c",
        "cli_auth_credentials_store=file",
    ];
    let run = env.run(args);
    assert!(!run.stderr.contains("cli_auth_credentials"), "{run}");
}

#[test]
fn an_auth_json_that_codex_ignores_is_not_shown_as_live() {
    for store in ["keyring", "auto", "ephemeral"] {
        let (env, _) = world(store);
        // Without Codex, the account in the store is unknown.
        fs::remove_file(env.path("bin/codex")).expect("remove");
        for args in [
            &["list", "--json"][..],
            &["profile", "list", "--json"],
            &["profile", "show", "work", "--json"],
            &["status", "--all", "--json"],
        ] {
            let text = env.run(args).json().to_string();
            assert!(
                text.contains("\"current\":false"),
                "{store} {args:?}: {text}"
            );
            assert!(
                !text.contains("\"current\":true"),
                "{store} {args:?}: {text}"
            );
        }
        for args in [
            &["list"][..],
            &["cooldown"],
            &["recommend"],
            &["recommend", "--explain"],
            &["status", "--all"],
        ] {
            let run = env.run(args);
            assert!(!run.stdout.contains("current"), "{store} {args:?}: {run}");
            assert!(
                !run.stderr.contains("current account"),
                "{store} {args:?}: {run}"
            );
            // A hint must not name `use`, which refuses such a home.
            assert!(
                !run.stderr.contains("codex-manager use"),
                "{store} {args:?}: {run}"
            );
        }
        let run = env.run(["status"]).code(6);
        assert!(
            !run.stdout.contains("alice@example.com") || store == "auto",
            "{run}"
        );
        assert!(!run.stderr.contains("codex-manager use"), "{store}: {run}");
        let run = env.run(["status", "--account", "work"]).code(6);
        assert!(!run.stderr.contains("is signed in"), "{store}: {run}");
    }
}

#[test]
fn a_restore_keeps_the_login_of_a_keyring_home_and_reports_it() {
    let (env, archive) = world("keyring");
    // A restore of a single file keeps the live config.toml, and with it the store.
    let live = fs::read(env.codex_home().join("auth.json")).expect("read");
    let output = env
        .run(["restore", &archive, "--only", "auth.json", "--yes"])
        .stderr;
    assert_eq!(
        fs::read(env.codex_home().join("auth.json")).expect("read"),
        live
    );
    assert!(
        output.contains("cli_auth_credentials_store = \"keyring\""),
        "{output}"
    );
}

const BACKUP_IF_OLDER: [&str; 5] = ["backup", "--no-status", "--if-older", "1d", "--json"];

/// Codex deletes auth.json when it stores a login in the keyring, and only a query of Codex names the account.
#[test]
fn a_recent_archive_of_a_keyring_home_is_up_to_date_whichever_account_it_has() {
    let (env, _) = world("keyring");
    fs::remove_file(env.codex_home().join("auth.json")).expect("remove");
    let run = env.run(BACKUP_IF_OLDER).code(0);
    assert_eq!(run.json()["up_to_date"], true, "{run}");
}

/// With `auto` an auth.json names the account.
#[test]
fn a_recent_archive_is_not_up_to_date_if_the_store_is_auto_and_auth_json_has_another_account() {
    let (env, _) = world("auto");
    write_auth(&env.codex_home(), &bob());
    let run = env.run(BACKUP_IF_OLDER).code(0);
    assert_eq!(run.json()["up_to_date"], false, "{run}");
}

#[test]
fn the_messages_about_the_store_auto_are_true_of_the_real_codex() {
    let Some(lab) = Lab::new() else { return };
    let config = lab.home().join("config.toml");
    let text = fs::read_to_string(&config).expect("config.toml");
    let text = text.replace("_store = \"file\"", "_store = \"auto\"");
    fs::write(&config, text).expect("write");
    // Without a keyring, Codex uses auth.json.
    let status = lab
        .codex
        .run(&lab.home(), &lab.backend, &["login", "status"]);
    assert!(
        format!("{status}").contains("Logged in using ChatGPT"),
        "{status}"
    );
    for args in [
        &["use", "bob"][..],
        &["current"],
        &["doctor"],
        &["status", "--dry-run"],
    ] {
        let run = lab.manager(args);
        let output = format!("{run}")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let is_true = output.contains("reads auth.json only if it finds no login in a keyring");
        // `use` names an unknown account here.
        assert!(is_true || args[0] == "use", "{run}");
        assert!(!output.contains("does not store"), "{run}");
    }
}
