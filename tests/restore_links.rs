//! Restores of homes whose top-level files are links, as into dotfiles, or mount points, as in a container.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Mount;
use crate::support::sample::{FIRST, state_database};
use crate::support::sample::{backup, bob, put, rollout, rows, sample_home, text};
use crate::support::sign_in::write_auth;
use rusqlite::Connection;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;

/// Moves a file of the home into `dotfiles`, and leaves a link.
fn link(env: &TestEnv, name: &str) -> PathBuf {
    let (live, target) = (env.codex_home().join(name), env.path("dotfiles").join(name));
    fs::create_dir_all(env.path("dotfiles")).unwrap();
    fs::rename(&live, &target).unwrap();
    symlink(format!("../../dotfiles/{name}"), live).unwrap();
    target
}

/// Mounts a copy of the file over the file.
fn mount(env: &TestEnv, name: &str) -> Option<Mount> {
    let file = env.codex_home().join(name).canonicalize().unwrap();
    let copy = env
        .path("")
        .join(format!("mounted-{}", name.replace('/', "-")));
    fs::copy(&file, &copy).unwrap();
    Mount::bind(&copy, &file)
}

/// Restores the archive, and returns the JSON document.
fn restore(env: &TestEnv, archive: &str, args: &[&str]) -> Value {
    let all = [&["restore", archive, "--json"], args].concat();
    env.run(all).code(0).json()
}

#[test]
fn a_restore_writes_the_target_of_a_link_and_so_does_its_undo() {
    for name in [
        "config.toml",
        "hooks.json",
        "AGENTS.md",
        "history.jsonl",
        "notes.txt",
    ] {
        for args in [&[][..], &["--only", name]] {
            let env = TestEnv::new();
            sample_home(&env);
            let archived = format!("# {name}\n");
            put(&env, name, &archived);
            let archive = text(&backup(&env, &[]));
            let target = link(&env, name);
            fs::write(&target, "# mine\n").unwrap();
            let live = env.codex_home().join(name);
            let document = restore(&env, &archive, args);
            assert!(live.is_symlink(), "{name}: {document}");
            assert_eq!(fs::read_to_string(&target).unwrap(), archived);
            assert!(
                !document["notes"].to_string().contains("link"),
                "{document}"
            );
            let safety = document["safety_backup"].as_str().unwrap().to_owned();
            restore(&env, &safety, &[]);
            assert!(live.is_symlink());
            assert_eq!(fs::read_to_string(&target).unwrap(), "# mine\n");
        }
    }
}

#[test]
fn a_restored_setting_behind_a_link_decides_like_one_in_the_home() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let keyring = "cli_auth_credentials_store = \"keyring\"\n";
    put(&env, "config.toml", keyring);
    let archive = text(&backup(&env, &[]));
    fs::write(link(&env, "config.toml"), "model = \"other\"\n").unwrap();
    fs::remove_file(home.join("auth.json")).unwrap();
    let notes = restore(&env, &archive, &[])["notes"].to_string();
    assert_eq!(
        fs::read_to_string(home.join("config.toml")).unwrap(),
        keyring
    );
    assert!(notes.contains("the login was not restored"), "{notes}");
}

#[test]
fn a_link_whose_target_has_the_archived_content_is_left_alone() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let targets = ["config.toml", "AGENTS.md"].map(|name| link(&env, name));
    let ids = || {
        targets
            .clone()
            .map(|target| target.metadata().unwrap().ino())
    };
    let before = ids();
    fs::remove_file(home.join(rollout(FIRST))).unwrap();
    restore(&env, &archive, &[]);
    assert_eq!(ids(), before);
    assert!(home.join(rollout(FIRST)).is_file());
    assert!(home.join("config.toml").is_symlink() && home.join("AGENTS.md").is_symlink());
}

#[test]
fn a_link_that_a_restore_replaces_is_named() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let target = link(&env, "state_5.sqlite");
    fs::create_dir(home.join("mine")).unwrap();
    fs::rename(home.join("config.toml"), home.join("mine/config.toml")).unwrap();
    fs::write(home.join("mine/config.toml"), "model = \"other\"\n").unwrap();
    symlink("mine/config.toml", home.join("config.toml")).unwrap();
    let database = fs::read(&target).unwrap();
    let notes = restore(&env, &archive, &[])["notes"].to_string();
    assert!(
        notes.contains("state_5.sqlite was a link to ../../dotfiles/state_5.sqlite"),
        "{notes}"
    );
    assert!(
        notes.contains("config.toml was a link to mine/config.toml"),
        "{notes}"
    );
    assert!(!home.join("state_5.sqlite").is_symlink());
    assert_eq!(fs::read(&target).unwrap(), database);
}

#[test]
fn the_undo_of_a_restore_brings_its_links_back_if_their_targets_are_unchanged() {
    for is_target_changed in [false, true] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        fs::remove_file(home.join("AGENTS.md")).unwrap();
        let archive = text(&backup(&env, &[]));
        write_auth(&home, &bob());
        put(&env, "AGENTS.md", "mine");
        let database = Connection::open(home.join("state_5.sqlite")).unwrap();
        database.execute("DELETE FROM threads", []).unwrap();
        drop(database);
        let names = ["state_5.sqlite", "auth.json", "AGENTS.md", "config.toml"];
        let mut targets: Vec<_> = names[..3].iter().map(|name| link(&env, name)).collect();
        // Into the home.
        put(&env, "mine/config.toml", "model = \"other\"\n");
        fs::remove_file(home.join("config.toml")).unwrap();
        symlink("mine/config.toml", home.join("config.toml")).unwrap();
        targets.push(home.join("mine/config.toml"));
        let read = || targets.iter().map(|path| fs::read(path).unwrap());
        let before: Vec<_> = read().collect();

        let document = restore(&env, &archive, &["--yes"]);
        assert!(names[..2].iter().all(|name| !home.join(name).is_symlink()));
        assert!(!home.join("AGENTS.md").exists());
        assert_eq!(read().collect::<Vec<_>>(), before);
        if is_target_changed {
            let database = Connection::open(&targets[0]).unwrap();
            database.execute("CREATE TABLE changed(x)", []).unwrap();
            for target in &targets[1..] {
                let mut content = fs::read(target).unwrap();
                content.extend(b"\n");
                fs::write(target, content).unwrap();
            }
        }
        let safety = document["safety_backup"].as_str().unwrap().to_owned();
        let document = restore(&env, &safety, &["--yes", "--auth", "archive"]);
        for (name, content) in names.iter().zip(&before) {
            let live = home.join(name);
            assert_eq!(live.is_symlink(), !is_target_changed, "{name}: {document}");
            if !name.ends_with(".sqlite") {
                assert_eq!(&fs::read(&live).unwrap(), content, "{name}");
            }
            let is_named = document["notes"]
                .to_string()
                .contains(&format!("{name} is a link to"));
            assert_eq!(is_named, !is_target_changed, "{name}: {document}");
        }
        assert_eq!(rows(&home.join("state_5.sqlite")).len(), 0);
    }
}

#[test]
fn a_removed_link_to_a_file_keeps_its_target() {
    // In the order of the restore: the whole home, its entries, or each file.
    for exchange in ["whole", "entries", "files"] {
        for args in [&[][..], &["--merge"], &["--only", "box"]] {
            let env = TestEnv::new();
            let home = sample_home(&env);
            fs::remove_file(home.join("AGENTS.md")).unwrap();
            put(&env, "box/inner.md", "archived");
            let archive = text(&backup(&env, &[]));
            fs::remove_dir_all(home.join("box")).unwrap();
            for name in ["AGENTS.md", "box"] {
                put(&env, name, "mine");
            }
            let targets = ["AGENTS.md", "box"].map(|name| link(&env, name));
            let no_rights = ["--bounding-set", "-all", "--inh-caps", "-all"];
            if exchange == "entries" {
                fs::set_permissions(env.path("home"), Permissions::from_mode(0o555)).unwrap();
            } else if exchange == "files" {
                // A file of another user can be neither read nor linked.
                let theirs = put(&env, "theirs", "theirs");
                if chown(&theirs, Some(12_345), Some(12_345)).is_err() {
                    continue;
                }
                fs::set_permissions(theirs, Permissions::from_mode(0o600)).unwrap();
            }
            let program = env!("CARGO_BIN_EXE_codex-manager");
            let all = [
                &no_rights[..],
                &[program, "restore", &archive, "--yes"],
                args,
            ]
            .concat();
            let run = env.run_unprivileged_program("setpriv", &all).code(0);
            for target in targets {
                let content = fs::read_to_string(&target).unwrap();
                assert_eq!(content, "mine", "{exchange} {args:?}: {run}");
            }
            let inner = fs::read_to_string(home.join("box/inner.md")).unwrap();
            assert_eq!(inner, "archived", "{exchange} {args:?}");
            let is_kept = !args.is_empty();
            assert_eq!(home.join("AGENTS.md").is_symlink(), is_kept, "{exchange}");
            fs::set_permissions(env.path("home"), Permissions::from_mode(0o755)).unwrap();
        }
    }
}

#[test]
fn a_mounted_file_with_the_archived_content_stays_and_the_rest_is_restored() {
    for names in [
        &["config.toml"][..],
        &["AGENTS.md", "history.jsonl"],
        &["notes.txt"],
    ] {
        for is_linked in [false, true] {
            let env = TestEnv::new();
            let home = sample_home(&env);
            let archive = text(&backup(&env, &[]));
            if is_linked {
                for name in names {
                    link(&env, name);
                }
            }
            let mounts: Option<Vec<_>> = names.iter().map(|name| mount(&env, name)).collect();
            let Some(_mounts) = mounts else {
                return;
            };
            fs::remove_file(home.join(rollout(FIRST))).unwrap();
            restore(&env, &archive, &[]);
            assert!(home.join(rollout(FIRST)).is_file());
            fs::remove_file(home.join(rollout(FIRST))).unwrap();
            let only = rollout(FIRST);
            restore(&env, &archive, &["--only", only.to_str().unwrap()]);
            assert!(home.join(only).is_file());
        }
    }
}

#[test]
fn a_mounted_file_that_differs_is_refused_before_a_change() {
    let names = ["config.toml", "history.jsonl", "state_5.sqlite"];
    for (name, is_linked) in names.into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let archive = text(&backup(&env, &[]));
        if name.ends_with(".sqlite") {
            fs::remove_file(home.join(name)).unwrap();
            state_database(&home.join(name), &env.path("other"));
        } else {
            put(&env, name, "{}\n");
        }
        if is_linked {
            link(&env, name);
        }
        let Some(_mount) = mount(&env, name) else {
            return;
        };
        let before = env.tree("home");
        for args in [&[][..], &["--dry-run"], &["--only", name]] {
            let run = env.run([&["restore", &archive], args].concat()).code(5);
            assert!(run.stderr.contains("is a mount point"), "{run}");
            assert!(run.stderr.contains("hint: unmount it"), "{run}");
            assert_same_tree(&before, &env.tree("home"));
        }
    }
}

#[test]
fn a_mounted_login_stays_and_is_never_exchanged() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let Some(mounted) = mount(&env, "auth.json") else {
        return;
    };
    fs::remove_file(home.join(rollout(FIRST))).unwrap();
    restore(&env, &archive, &[]);
    assert!(home.join(rollout(FIRST)).is_file());
    drop(mounted);
    write_auth(&home, &bob());
    let Some(_mounted) = mount(&env, "auth.json") else {
        return;
    };
    let login = fs::read_to_string(home.join("auth.json")).unwrap();
    let before = env.tree("home/.codex");
    let count_archives = || {
        fs::read_dir(env.manager_home().join("backups"))
            .unwrap()
            .count()
    };
    let archives = count_archives();
    for args in [
        &["restore", &archive, "--yes"][..],
        &["restore", &archive, "--dry-run", "--yes"],
    ] {
        let run = env.run(args).code(5);
        assert!(run.stderr.contains("is a mount point"), "{run}");
        assert!(run.stderr.contains("--auth skip"), "{run}");
        assert_same_tree(&before, &env.tree("home/.codex"));
        assert_eq!(fs::read_to_string(home.join("auth.json")).unwrap(), login);
    }
    assert_eq!(count_archives(), archives);
    restore(&env, &archive, &["--auth", "skip"]);
    assert_eq!(fs::read_to_string(home.join("auth.json")).unwrap(), login);
}

#[test]
fn a_mounted_database_whose_rows_change_is_refused_without_a_safety_backup() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    fs::remove_file(home.join(rollout(FIRST))).unwrap();
    let database = Connection::open(home.join("state_5.sqlite")).unwrap();
    database.execute("DELETE FROM threads", []).unwrap();
    drop(database);
    let Some(_mount) = mount(&env, "state_5.sqlite") else {
        return;
    };
    let count_archives = || {
        fs::read_dir(env.manager_home().join("backups"))
            .unwrap()
            .count()
    };
    let archives = count_archives();
    let run = env.run(["restore", &archive, "--session", FIRST]).code(5);
    assert!(run.stderr.contains("is a mount point"), "{run}");
    assert_eq!(count_archives(), archives);
}
