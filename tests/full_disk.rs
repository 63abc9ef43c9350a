//! I3: writes onto a full disk.

use crate::support::env::{TestEnv, Tree, assert_same_tree};
use crate::support::faults::{Dice, Mount, run_limited};
use crate::support::sample::{
    FIRST, alice, backup, comparable, put, put_at, rollout, rows, sample_home, sample_home_at,
    state_database, text,
};
use crate::support::sign_in::write_auth;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn noise(bytes: usize) -> Vec<u8> {
    Dice::seeded(0).bytes(bytes)
}

/// Returns the home and the manager home, without lock files.
fn home_and_manager_home(env: &TestEnv) -> Tree {
    let mut tree = comparable(&env.tree(""));
    tree.0.retain(|path, text| {
        path.extension().is_none_or(|e| e != "lock")
            && path.file_name().is_none_or(|n| n != ".lock")
            && !text.starts_with("folder")
    });
    tree
}

#[test]
fn i3_a_backup_onto_a_full_disk_changes_nothing() {
    let env = TestEnv::new();
    let Some(_mount) = Mount::tmpfs(&env.manager_home(), 4096) else {
        return;
    };
    sample_home(&env);
    let good = text(&backup(&env, &[]));
    put(&env, "sessions/big.bin", noise(8 << 20));
    let before = home_and_manager_home(&env);
    let mut codes = Vec::new();
    // From far too little to nearly enough space, so that each size fails at another write.
    for kib in [
        0, 3000, 3400, 3600, 3700, 3800, 3900, 3950, 3980, 3990, 4000,
    ] {
        let filler = env.manager_home().join("filler");
        // A disk that becomes full earlier serves as well.
        let _ = fs::write(&filler, vec![1; kib << 10]);
        let full = env.run(["backup", "--no-status"]);
        assert_eq!(full.code, 1, "{kib}: {full}");
        assert!(
            full.stderr.contains(".codex-manager/") || full.stderr.contains(".codex-manager\n"),
            "the error names no path: {full}"
        );
        assert!(full.stderr.contains("hint: "), "{full}");
        codes.push(full.code);
        fs::remove_file(&filler).expect("remove");
        assert_same_tree(&before, &home_and_manager_home(&env));
    }
    let _ = env.run(["verify", &good]).code(0);
    fs::remove_file(env.codex_home().join("sessions/big.bin")).expect("remove");
    // At some sizes a small home fits; then it is complete.
    for kib in (3800..4060).step_by(20) {
        let filler = env.manager_home().join("filler");
        let written = fs::write(&filler, vec![1; kib << 10]);
        let run = env.run(["backup", "--no-status"]);
        let _ = fs::remove_file(&filler);
        assert!(run.code <= 1, "{kib} {written:?}: {run}");
        let _ = env.run(["verify", "--all"]).code(0);
    }
}

#[test]
fn i3_a_restore_onto_a_full_disk_changes_nothing() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "sessions/big.bin", noise(3 << 20));
    let archive = text(&backup(&env, &[]));
    fs::remove_dir_all(env.codex_home()).expect("remove");
    let Some(_mount) = Mount::tmpfs(&env.codex_home(), 4096) else {
        return;
    };
    sample_home_at(&env.codex_home());
    write_auth(&env.codex_home(), &alice(2));
    put(&env, "only-here.txt", "mine");
    for kib in [0, 500, 900, 2000, 3000, 3800, 3960, 4000] {
        let filler = env.codex_home().join("filler");
        let _ = fs::write(&filler, vec![1; kib << 10]);
        let before = home_and_manager_home(&env);
        let full = env.run(["restore", &archive, "--no-safety-backup"]);
        if full.code == 0 {
            // There was enough space.
            let _ = fs::remove_file(env.codex_home().join("sessions/big.bin"));
            put(&env, "only-here.txt", "mine");
            continue;
        }
        assert_eq!(full.code, 1, "{kib}: {full}");
        assert!(full.stderr.contains(".codex"), "{full}");
        assert!(full.stderr.contains("hint: free some disk space"), "{full}");
        assert_same_tree(&before, &home_and_manager_home(&env));
    }
}

#[test]
fn i3_a_restore_onto_a_full_disk_changes_nothing_in_a_home_that_syncs() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "sessions/big.bin", noise(8 << 20));
    let archive = text(&backup(&env, &[]));
    fs::remove_dir_all(env.codex_home()).expect("remove");
    let Some(_mount) = Mount::tmpfs(&env.codex_home(), 4096) else {
        return;
    };
    sample_home_at(&env.codex_home());
    write_auth(&env.codex_home(), &alice(2));
    let cloud = env.path("cloud");
    fs::create_dir(&cloud).expect("folder");
    let _ = env.run(["sync", "init", "--cloud", &text(&cloud)]).code(0);
    let _ = env.run(["sync", "run", "--apply"]).code(0);
    let before = home_and_manager_home(&env);
    let _ = env.run(["restore", &archive, "--no-safety-backup"]).code(1);
    assert_same_tree(&before, &home_and_manager_home(&env));
}

#[test]
fn i3_without_space_for_the_safety_backup_nothing_is_restored() {
    let env = TestEnv::new();
    let Some(_mount) = Mount::tmpfs(&env.manager_home(), 2048) else {
        return;
    };
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "sessions/big.bin", noise(6 << 20));
    for kib in [0, 1700, 1900, 1960, 1990, 2020] {
        let filler = env.manager_home().join("filler");
        let _ = fs::write(&filler, vec![1; kib << 10]);
        let before = home_and_manager_home(&env);
        let full = env.run(["restore", &archive]).code(1);
        assert!(full.stderr.contains(".codex-manager"), "{full}");
        assert!(full.stderr.contains("hint: "), "{full}");
        assert_same_tree(&before, &home_and_manager_home(&env));
        let _ = fs::remove_file(&filler);
    }
    let _ = env.run(["restore", &archive, "--no-safety-backup"]).code(0);
}

/// The space on every disk that a restore stages on is checked before anything is written.
#[test]
fn a_restore_is_refused_if_a_linked_disk_lacks_space_and_a_part_that_fits_is_restored() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let Some(_disk) = Mount::tmpfs(&env.path("disk"), 1024) else {
        return;
    };
    put(&env, "skills/big.bin", noise(3 << 20));
    let archive = text(&backup(&env, &[]));
    // The link now leads to a disk that is too small.
    fs::remove_dir_all(home.join("skills")).expect("remove");
    fs::create_dir(env.path("disk/skills")).expect("folder");
    symlink(env.path("disk/skills"), home.join("skills")).expect("link");
    let before = home_and_manager_home(&env);
    let full = env.run(["restore", &archive, "--no-safety-backup"]).code(1);
    assert!(full.stderr.contains("not enough disk space"), "{full}");
    assert!(
        full.stderr.contains("/disk"),
        "the error names no path: {full}"
    );
    assert_same_tree(&before, &home_and_manager_home(&env));
    // A part that fits is not refused.
    let args = ["restore", &archive, "--only", "skills/mine", "--yes"];
    let _ = env.run(args).code(0);
    assert!(home.join("skills/mine/SKILL.md").exists());
}

/// Moves the databases of the sample home onto a disk of `kib` KiB. `None` if mounting is not
/// permitted.
fn databases_on_a_disk(env: &TestEnv, kib: u64) -> Option<Mount> {
    let mount = Mount::tmpfs(&env.path("disk"), kib)?;
    let home = sample_home(env);
    fs::remove_file(home.join("state_5.sqlite")).expect("remove");
    let place = env.path("disk/databases");
    fs::create_dir(&place).expect("folder");
    put(
        env,
        "config.toml",
        format!("sqlite_home = \"{}\"\n", place.display()),
    );
    state_database(&place.join("state_5.sqlite"), &home);
    Some(mount)
}

#[test]
fn a_restore_is_refused_if_the_disk_of_databases_outside_the_home_lacks_space() {
    let env = TestEnv::new();
    let Some(_disk) = databases_on_a_disk(&env, 4096) else {
        return;
    };
    let database = env.path("disk/databases/state_5.sqlite");
    let connection = rusqlite::Connection::open(&database).expect("open");
    connection
        .execute(
            "INSERT INTO threads VALUES('x', '', hex(randomblob(1000000)))",
            [],
        )
        .expect("row");
    connection.close().expect("close");
    let archive = text(&backup(&env, &[]));
    fs::write(env.path("disk/filler"), vec![1; 1 << 20]).expect("fill the disk");
    let before = home_and_manager_home(&env);
    let full = env.run(["restore", &archive, "--no-safety-backup"]).code(1);
    assert!(full.stderr.contains("not enough disk space"), "{full}");
    assert!(
        full.stderr.contains("/disk"),
        "the error names no path: {full}"
    );
    assert_same_tree(&before, &home_and_manager_home(&env));
    fs::remove_file(env.path("disk/filler")).expect("remove");
    let done = env.run(["restore", &archive, "--json"]).code(0).json();
    assert_eq!(rows(&database).len(), 3, "{done}");
}

/// A full disk proves nothing about a database that is copied to it.
#[test]
fn a_restore_of_a_conversation_onto_a_full_database_disk_fails_and_leaves_the_home_unchanged() {
    let env = TestEnv::new();
    let Some(_disk) = databases_on_a_disk(&env, 256) else {
        return;
    };
    let home = env.codex_home();
    let archive = text(&backup(&env, &[]));
    // The conversation was archived later, so the restore has to change its row.
    let archived = home.join("archived_sessions");
    fs::create_dir(&archived).expect("folder");
    let name = rollout(FIRST);
    let moved = archived.join(name.file_name().expect("name"));
    fs::rename(home.join(&name), &moved).expect("move");
    let filler = env.path("disk/filler");
    let _ = fs::write(&filler, vec![1; 1 << 20]);
    let before = home_and_manager_home(&env);
    let args = ["restore", &archive, "--session", FIRST, "--yes"];
    let full = env.run(args).code(1);
    assert!(full.stderr.contains("hint: free some disk space"), "{full}");
    let mut after = home_and_manager_home(&env);
    for folder in [
        "home/.codex-manager/backups",
        "home/.codex-manager/inventory.json",
    ] {
        after
            .0
            .retain(|path, _| !path.starts_with(folder) || before.0.contains_key(path));
    }
    assert_same_tree(&before, &after);
    fs::remove_file(&filler).expect("remove");
    let _ = env.run(args).code(0);
    let place = env.path("disk/databases/state_5.sqlite");
    let expected = home.join(&name).display().to_string();
    assert!(rows(&place).contains(&(FIRST.to_owned(), expected)));
}

#[test]
fn i3_a_command_that_exceeds_the_file_size_limit_changes_nothing() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "skills/big.bin", noise(2 << 20));
    let big = text(&backup(&env, &[]));
    let before = home_and_manager_home(&env);
    for args in [
        &["backup", "--no-status"][..],
        &["restore", &big, "--no-safety-backup"],
    ] {
        put_at(&env.codex_home(), "AGENTS.md", "be brief\n");
        for trap in ["", "trap '' XFSZ; "] {
            // With or without the signal, the write fails and the error is reported.
            let output = run_limited(&env, &format!("{trap}ulimit -f 1000"), args);
            assert_eq!(output.status.code(), Some(1), "{trap} {args:?}: {output:?}");
            assert!(
                String::from_utf8_lossy(&output.stderr).contains("ulimit -f"),
                "{trap} {output:?}"
            );
        }
        let mut after = home_and_manager_home(&env);
        let mut expected = before.clone();
        for tree in [&mut after, &mut expected] {
            tree.0.remove(Path::new("home/.codex/AGENTS.md"));
            // Records about archives and accounts advance with each backup.
            tree.0
                .remove(Path::new("home/.codex-manager/inventory.json"));
            tree.0
                .remove(Path::new("home/.codex-manager/cooldown.json"));
        }
        assert_same_tree(&expected, &after);
        let _ = env.run(["verify", &archive, &big]).code(0);
        let _ = env.run(["backup", "--no-status", "--mode", "auth"]).code(0);
        for path in env.tree("").0.keys() {
            let path = path.display().to_string();
            assert!(
                !path.contains("codex-manager-tmp-") && !path.contains("staging-"),
                "{path}"
            );
            assert!(!path.contains("codex-manager-restore"), "{path}");
        }
        // Resets to the initial state, without the archive of the login.
        for entry in fs::read_dir(env.manager_home().join("backups"))
            .expect("list")
            .flatten()
        {
            let relative = entry
                .path()
                .strip_prefix(env.path(""))
                .expect("a path below")
                .to_path_buf();
            if !before.0.contains_key(&relative) {
                fs::remove_file(entry.path()).expect("remove");
            }
        }
    }
}

#[test]
fn holes_of_sparse_files_need_disk_space_only_when_they_are_restored() {
    let env = TestEnv::new();
    sample_home(&env);
    let size = 64 << 20;
    let sparse = put(&env, "skills/sparse.bin", "");
    let file = fs::File::options().write(true).open(&sparse).expect("open");
    file.set_len(size).expect("a hole");
    let Some(_mount) = Mount::tmpfs(&env.manager_home(), 4096) else {
        return;
    };
    let Some(_other) = Mount::tmpfs(&env.path("other"), 4096) else {
        return;
    };
    let archive = text(&backup(&env, &[]));
    // A restored file has no holes.
    let there = env.path("other/there");
    let full = env.run(["restore", &archive, "--to", &text(&there)]);
    let full = full.code(1);
    assert!(full.stderr.contains("not enough disk space"), "{full}");
    // Data without holes is refused before anything is written.
    put(&env, "skills/sparse.bin", noise(64 << 20));
    let full = env.run(["backup", "--no-status"]).code(1);
    assert!(full.stderr.contains("not enough disk space"), "{full}");
}
