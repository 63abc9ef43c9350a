//! `vault restore`: parts of a snapshot, logins of other machines, snapshots of other programs.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{FIRST, alice, line, put, rollout};
use crate::support::sign_in::{auth_json, write_auth};
use crate::support::terminal::Terminal;
use crate::vault::{backup, record_arguments, run_restic, snapshots, vault_env};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Puts a restic on PATH that replaces the host name of snapshots by `laptop`.
fn pretend_other_machine(env: &TestEnv) {
    let script = "#!/bin/sh\nfirst=1; was=\nfor arg in \"$@\"; do\n\
         [ $first = 1 ] && { set --; first=0; }\n\
         [ \"$was\" = --host ] && was= && set -- \"$@\" laptop && continue\n\
         was=$arg; set -- \"$@\" \"$arg\"\ndone\nexec /usr/bin/restic \"$@\"\n";
    crate::support::write_program(&env.path("bin/restic"), script);
}

#[test]
fn the_login_of_another_machine_is_not_restored() {
    let Some(env) = vault_env() else { return };
    pretend_other_machine(&env);
    backup(&env);
    fs::remove_file(env.path("bin/restic")).unwrap();
    assert_eq!(snapshots(&env)[0]["host"], "laptop");
    let to = |name: &str, more: &[&str]| {
        let mut args = vec!["vault", "restore", "latest", "--json", "--to", name];
        args.extend(more);
        env.run(args).code(0)
    };
    let run = to("new", &[]);
    assert_eq!(run.json()["auth"], "skipped");
    assert!(!env.path("new/auth.json").exists());
    assert!(env.path("new").join(rollout(FIRST)).exists());
    assert!(run.stderr.contains("laptop may have renewed it"), "{run}");
    assert!(
        run.stderr.contains("codex-manager profile login NAME"),
        "{run}"
    );
    let run = to("with-login", &["--auth", "archive"]);
    assert_eq!(run.json()["auth"], "restored");
    assert!(env.path("with-login/auth.json").exists());
}

#[test]
fn the_login_of_another_machine_with_the_same_name_is_not_restored() {
    let Some(mut env) = vault_env() else { return };
    backup(&env);
    // A second manager home on the same host name, as in a container.
    let manager = env.path("other-manager");
    fs::create_dir(&manager).unwrap();
    let config = env.manager_home().join("config.toml");
    fs::copy(config, manager.join("config.toml")).unwrap();
    let usual = env.manager_home();
    env.set("CODEX_MANAGER_HOME", &manager);
    let args = ["vault", "restore", "latest", "--json", "--to"];
    let run = env.run([&args[..], &["new"]].concat()).code(0);
    assert_eq!(run.json()["auth"], "skipped");
    assert!(!env.path("new/auth.json").exists());
    assert!(
        run.stderr.contains("another machine or manager home"),
        "{run}"
    );
    // Its own snapshots do not change that.
    let other = backup(&env);
    env.set("CODEX_MANAGER_HOME", &usual);
    let id = other["snapshot"].as_str().unwrap();
    let named = ["vault", "restore", id, "--json", "--to", "named"];
    assert_eq!(env.run(named).code(0).json()["auth"], "skipped");
    // `latest` is the newest of this machine.
    let run = env.run([&args[..], &["own"]].concat()).code(0);
    assert_eq!(run.json()["auth"], "restored");
}

/// Returns the paths that restic downloaded since the last call.
fn downloaded(seen: &Path) -> Vec<String> {
    let text = fs::read_to_string(seen).unwrap();
    fs::write(seen, "").unwrap();
    let dumps = text.lines().filter(|line| line.starts_with("restic dump "));
    dumps
        .filter_map(|line| Some(line.split(' ').next_back()?.to_owned()))
        .collect()
}

#[test]
fn only_the_selected_files_or_conversation_are_downloaded_and_restored() {
    let Some(env) = vault_env() else { return };
    backup(&env);
    let seen = record_arguments(&env);
    let file = put(&env, rollout(FIRST), "lost\n");
    let database = env.codex_home().join("state_5.sqlite");
    let rows = crate::support::sample::rows(&database);
    rusqlite::Connection::open(&database)
        .unwrap()
        .execute("DELETE FROM threads WHERE id = ?", [FIRST])
        .unwrap();
    put(&env, "config.toml", "changed");
    let args = [
        "vault",
        "restore",
        "latest",
        "--session",
        &FIRST[..8],
        "--json",
    ];
    let run = env.run([&args[..], &["--dry-run"]].concat()).code(0);
    assert_eq!(run.json()["dry_run"], true);
    assert_eq!(fs::read_to_string(&file).unwrap(), "lost\n");
    let (manifest, conversation) = (
        "/.codex-manager/manifest.json".to_owned(),
        format!("/{}", rollout(FIRST).display()),
    );
    // The first line of a conversation names the one that it continues.
    assert_eq!(downloaded(&seen), [&*manifest, &*conversation]);
    let _ = env.run(args).code(0);
    assert!(fs::read_to_string(&file).unwrap().len() > 5);
    let config = fs::read_to_string(env.codex_home().join("config.toml")).unwrap();
    assert_eq!(config, "changed");
    assert_eq!(crate::support::sample::rows(&database), rows);
    let session = downloaded(&seen);
    assert!(
        session.contains(&"/state_5.sqlite".to_owned()),
        "{session:?}"
    );
    assert!(!session.contains(&"/".to_owned()), "{session:?}");
    let only = ["vault", "restore", "latest", "--only", "config.toml"];
    let _ = env.run(only).code(0);
    assert_eq!(downloaded(&seen), [&*manifest, "/config.toml"]);
    let _ = env.run(["vault", "restore", "--dry-run"]).code(0);
    assert_eq!(downloaded(&seen), [&*manifest]);
    let full = env.path("home").display().to_string();
    let _ = env.run(["vault", "restore", "--to", &full]).code(5);
    assert_eq!(
        downloaded(&seen),
        [&*manifest],
        "refused before the download"
    );
    let left = env.tree("home/.codex-manager");
    assert!(
        left.0
            .keys()
            .all(|p| !p.to_string_lossy().contains("staging"))
    );
    for wanted in ["--only=no-such-file", "--session=no-such-name"] {
        let run = env.run(["vault", "restore", "latest", wanted]).code(1);
        let (_, name) = wanted.split_once('=').unwrap();
        assert!(run.stderr.contains("error: not in snapshot"), "{run}");
        assert!(run.stderr.contains(name), "{run}");
        assert!(run.stderr.contains("codex-manager vault ls"), "{run}");
    }
}

#[test]
fn folders_are_downloaded_without_the_rest() {
    let Some(env) = vault_env() else { return };
    let odd = put(&env, "skills/mine/[a]*? b.md", "odd\n");
    backup(&env);
    let seen = record_arguments(&env);
    fs::remove_file(&odd).unwrap();
    let only = ["--only", "skills/mine", "--only", "skills/mine/[a]*? b.md"];
    let args = [&["vault", "restore", "--yes"][..], &only].concat();
    let _ = env.run(args).code(0);
    assert_eq!(fs::read_to_string(&odd).unwrap(), "odd\n");
    assert_eq!(
        downloaded(&seen),
        ["/.codex-manager/manifest.json", "/skills/mine"]
    );
}

#[test]
fn a_plain_restic_backup_of_a_home_is_restored_without_its_databases() {
    let Some(env) = vault_env() else { return };
    let home = env.codex_home().display().to_string();
    let _ = run_restic(&env, &["backup", "--host", "nas", &home]).code(0);
    let listed = &snapshots(&env)[0];
    assert_eq!(
        (&listed["is_own"], &listed["email"]),
        (&false.into(), &Value::Null)
    );
    let id = listed["id"].as_str().unwrap().to_owned();
    let run = env
        .run(["vault", "restore", "latest", "--to", "new"])
        .code(1);
    assert!(
        run.stderr.contains("no snapshot in the vault: latest"),
        "{run}"
    );
    let run = env
        .run(["vault", "restore", &id[..8], "--to", "new", "--json"])
        .code(0);
    assert!(run.stderr.contains("only its files are restored"), "{run}");
    assert!(run.stderr.contains("state_5.sqlite"), "{run}");
    let (old, new) = (env.tree("home/.codex"), env.tree("new"));
    let names = ["config.toml", "history.jsonl", "skills/mine"];
    assert_same_tree(&old.only(&names), &new.only(&names));
    let path = rollout(FIRST);
    assert_eq!(old.0.get(&path), new.0.get(&path));
    assert!(!env.path("new/auth.json").exists() && !env.path("new/state_5.sqlite").exists());
    let only = ["--to", "part", "--only", "config.toml", "--session", FIRST];
    let _ = env
        .run([&["vault", "restore", &id[..8]][..], &only].concat())
        .code(0);
    let part = env.tree("part");
    assert_eq!(old.0.get(&path), part.0.get(&path));
    assert_same_tree(&old.only(&["config.toml"]), &part.only(&["config.toml"]));
    assert!(part.only(&["history.jsonl"]).0.is_empty(), "{part:?}");
}

#[test]
fn a_newer_login_survives_a_restore_and_newer_lines_survive_only_with_merge() {
    let Some(env) = vault_env() else { return };
    backup(&env);
    write_auth(&env.codex_home(), &alice(3));
    let grown = env.codex_home().join(rollout(FIRST));
    let longer = fs::read_to_string(&grown).unwrap() + &line(40);
    fs::write(&grown, &longer).unwrap();
    let new = put(&env, "skills/mine/new.md", "later\n");
    put(&env, "config.toml", "changed");
    let args = ["vault", "restore", "latest", "--merge", "--json"];
    let run = env.run(args).code(0).json();
    assert_eq!(run["auth"], "kept-newer", "{run}");
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(
        text(&env.codex_home().join("auth.json")),
        auth_json(&alice(3))
    );
    assert_eq!(text(&grown), longer);
    assert_eq!(text(&new), "later\n");
    assert_ne!(text(&env.codex_home().join("config.toml")), "changed");
    let run = env.run(["vault", "restore", "latest", "--json"]).code(0);
    assert_eq!(run.json()["auth"], "kept-newer");
    assert_ne!(text(&grown), longer);
    assert!(!new.exists());
}

#[test]
fn a_home_that_codex_uses_is_refused_before_the_download() {
    let Some(env) = vault_env() else { return };
    backup(&env);
    let seen = record_arguments(&env);
    let database = env.codex_home().join("state_5.sqlite");
    let open = rusqlite::Connection::open(database).unwrap();
    open.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = env.tree("home/.codex");
    let run = env.run(["vault", "restore", "latest"]).code(3);
    assert!(run.stderr.contains("the Codex home is in use by"), "{run}");
    assert!(!run.stderr.contains("--stop-daemon"), "{run}");
    assert_same_tree(&before, &env.tree("home/.codex"));
    assert_eq!(downloaded(&seen), ["/.codex-manager/manifest.json"]);
    // No daemon runs, so stopping it would not free the home.
    let run = env.run(["vault", "restore", "latest", "--stop-daemon"]);
    assert!(run.code(3).stderr.contains("the Codex home is in use by"));
    let is_manifest = |path: &String| path == "/.codex-manager/manifest.json";
    assert!(downloaded(&seen).iter().all(is_manifest));
    drop(open);
    let run = env.run(["vault", "restore", "latest"]).code(0);
    let id = snapshots(&env)[0]["id"].as_str().unwrap()[..8].to_owned();
    let named =
        format!("{id}: full snapshot of alice@example.com, made Fri 20 Nov 12:00, just now\n");
    assert!(run.stderr.contains(&named), "{run}");
}

#[test]
fn the_newest_snapshot_is_restored_into_the_home_only_with_consent() {
    let Some(env) = vault_env() else { return };
    let notes = put(&env, "notes.txt", "saved");
    let id = backup(&env)["snapshot"].as_str().unwrap()[..8].to_owned();
    put(&env, "notes.txt", "changed");
    for more in [&[][..], &["--only", "notes.txt"]] {
        let run = env.run([&["vault", "restore"][..], more].concat()).code(5);
        assert!(run.stderr.contains("not confirmed"), "{run}");
        assert!(run.stderr.contains("--yes"), "{run}");
        assert_eq!(fs::read_to_string(&notes).unwrap(), "changed");
    }
    let start = |args: &[&str]| Terminal::start(&mut env.command(args));
    let only = ["vault", "restore", "--only", "notes.txt"];
    let mut terminal = start(&only);
    terminal.wait_for(&format!("restore {id}, the newest snapshot? [y/N]"), LIMIT);
    terminal.type_keys("n\n");
    assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
    assert_eq!(fs::read_to_string(&notes).unwrap(), "changed");
    let mut terminal = start(&only);
    terminal.wait_for("[y/N]", LIMIT);
    terminal.type_keys("y\n");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert_eq!(fs::read_to_string(&notes).unwrap(), "saved");
}
