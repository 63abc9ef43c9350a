//! The home of the Python codex-manager is read in place and never changed.

use crate::support::copy_tree;
use crate::support::env::{TestEnv, Tree, assert_same_tree};
use crate::support::hostile::{Entry, Parts};
use crate::support::sample::{FIRST, SECOND, rollout, rows, sample_home, state_database, text};
use std::fs;
use std::path::{Path, PathBuf};

const FLAT: &str = "2026-11-17-155500-alice.test@example.com-codex.tar.gz";
const LOGIN: &str = "auth/alice.test@example.com/latest.tar.gz";
const CONVERSATIONS: &str = "sessions/alice.test@example.com/backup-2026-11-17-155500-codex.tar.gz";

/// Creates an environment whose manager home is a copy of the fixture.
pub(crate) fn world() -> TestEnv {
    let env = TestEnv::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cm-home");
    copy_tree(&fixture, &env.manager_home());
    env
}

fn backups(env: &TestEnv) -> PathBuf {
    env.manager_home().join("backups")
}

/// Returns the files of the Python tool.
fn python_files(env: &TestEnv) -> Tree {
    let mut tree = env.tree("home/.codex-manager/backups");
    let ours = |p: &Path| p.to_string_lossy().starts_with("2026-11-20-120000");
    tree.0.retain(|path, _| !ours(path));
    tree
}

#[test]
fn python_archives_and_records_are_listed_without_a_problem() {
    let env = world();
    let before = env.tree("home/.codex-manager");
    let list = env.run(["list-backups", "--json"]).code(0).json();
    let mut rows: Vec<_> = list["backups"]
        .as_array()
        .expect("list")
        .iter()
        .map(|r| {
            assert!(r["problem"].is_null(), "{r}");
            let text = |key: &str| r[key].as_str().unwrap_or("-").to_owned();
            (text("archive"), text("mode"), text("email"))
        })
        .collect();
    rows.sort();
    let alice = "alice.test@example.com".to_owned();
    assert_eq!(
        rows,
        [
            ("-".into(), "full".into(), "bob@example.com".into()),
            (FLAT.into(), "full".into(), alice.clone()),
            (LOGIN.into(), "auth".into(), alice.clone()),
            (CONVERSATIONS.into(), "sessions".into(), alice),
        ]
    );
    assert_same_tree(&before, &env.tree("home/.codex-manager"));
}

#[test]
fn python_archives_are_verified_as_far_as_possible() {
    let env = world();
    let before = python_files(&env);
    let run = env.run(["verify", "--all", "--json"]).code(0).json();
    let archives = run["archives"].as_array().expect("list");
    assert_eq!(archives.len(), 3);
    for archive in archives {
        assert_eq!(archive["ok"], true, "{archive}");
        assert!(
            archive["notes"].to_string().contains("no digests"),
            "{archive}"
        );
    }
    let _ = env.run(["verify", "--all", "--repair"]).code(0);
    assert_same_tree(&before, &python_files(&env));
    // A flipped bit is still detected, by the checksum of gzip.
    let path = backups(&env).join(FLAT);
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).expect("write");
    let _ = env.run(["verify", FLAT]).code(5);
    let _ = env.run(["restore", FLAT]).code(5);
}

#[test]
fn python_archives_are_restored_and_no_python_file_changes() {
    let env = world();
    let before = python_files(&env);
    let home = env.codex_home();
    let run = env.run(["restore", FLAT]).code(0);
    assert!(run.stderr.contains("no digests"), "{run}");
    let login = fs::read_to_string(home.join("auth.json")).expect("read");
    assert!(login.contains("refresh_token"));
    assert!(home.join("sessions/2026/11/01").is_dir());
    let full = env.tree("home/.codex");
    fs::remove_dir_all(home.join("sessions")).expect("remove");
    let _ = env.run(["restore", CONVERSATIONS]).code(0);
    assert_same_tree(
        &full.only(&["sessions", "config.toml"]),
        &env.tree("home/.codex").only(&["sessions", "config.toml"]),
    );
    fs::remove_file(home.join("auth.json")).expect("remove");
    let _ = env.run(["restore", LOGIN]).code(0);
    assert_eq!(
        fs::read_to_string(home.join("auth.json")).expect("read"),
        login
    );
    let _ = env
        .run(["restore", "alice.test@example.com", "--to", "copy"])
        .code(0);
    assert_same_tree(&before, &python_files(&env));
    // A later backup into that home does not change the files of the Python tool either.
    let _ = env.run(["backup", "--no-status"]).code(0);
    let after = python_files(&env);
    for (path, context) in &before.0 {
        assert_eq!(after.0.get(path), Some(context), "{}", path.display());
    }
    let kept = fs::read(env.manager_home().join("cooldown.json.python-backup")).expect("read");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cm-home/cooldown.json");
    assert_eq!(kept, fs::read(fixture).expect("read"));
}

#[test]
fn the_first_write_prints_how_to_return_to_the_python_tool() {
    let env = world();
    let hold = || {
        let args = ["cooldown", "--set", "bob@example.com", "--until", "+1d"];
        env.run(args).code(0).stderr
    };
    let context = hold();
    for part in [
        "whose commands cooldown and recommend now fail in this folder",
        "to go back, rename the original to cooldown.json",
        "cooldown.json.python-backup",
    ] {
        assert!(context.contains(part), "{context}");
    }
    assert!(!hold().contains("Python"), "the warning is printed once");
}

/// Writes the flat archive with this database and, optionally, another file. Returns its path.
fn with_database(env: &TestEnv, database: Vec<u8>, beside: Option<(&str, Vec<u8>)>) -> String {
    let path = backups(env).join(FLAT);
    let mut parts = Parts::of(&fs::read(&path).expect("read"));
    parts.entry("state_5.sqlite").content = database;
    if let Some((name, bytes)) = beside {
        // Before the database, because the order of entries is not defined.
        parts.entries.insert(0, Entry::file(name, bytes));
    }
    fs::write(&path, parts.pack()).expect("write");
    text(&path)
}

#[test]
fn rows_in_the_wal_of_a_python_archive_are_restored() {
    let env = world();
    let scratch = env.path("scratch");
    fs::create_dir(&scratch).expect("folder");
    let path = scratch.join("state_5.sqlite");
    state_database(&path, &scratch);
    let connection = rusqlite::Connection::open(&path).expect("open");
    connection
        .execute_batch(
            "PRAGMA wal_autocheckpoint=0; INSERT INTO threads VALUES('in-the-log', '/x', 'y')",
        )
        .expect("write");
    let database = fs::read(&path).expect("read");
    let log = fs::read(scratch.join("state_5.sqlite-wal")).expect("read");
    assert!(!log.is_empty());
    drop(connection);
    let archive = with_database(&env, database, Some(("state_5.sqlite-wal", log)));
    let _ = env.run(["verify", &archive]).code(0);
    let home = env.codex_home();
    let live = home.join("state_5.sqlite");
    for options in [&[][..], &["--only", "state_5.sqlite"]] {
        let _ = env.run([&["restore", &*archive], options].concat()).code(0);
        let ids: Vec<_> = rows(&live).into_iter().map(|r| r.0).collect();
        assert_eq!(ids, [FIRST, SECOND, "in-the-log"], "{options:?}");
        assert!(!home.join("state_5.sqlite-wal").exists());
        fs::remove_file(&live).expect("remove");
    }
}

#[test]
fn a_damaged_database_in_a_python_archive_is_refused() {
    let env = world();
    let scratch = env.path("scratch");
    fs::create_dir(&scratch).expect("folder");
    let path = scratch.join("state_5.sqlite");
    state_database(&path, &scratch);
    let mut torn = fs::read(&path).expect("read");
    torn[4096..8192].fill(0xAA);
    sample_home(&env);
    let before = env.tree("home/.codex");
    for database in [torn, b"hello".to_vec()] {
        let archive = with_database(&env, database, None);
        let run = env.run(["verify", &archive]).code(5);
        assert!(run.stdout.contains("state_5.sqlite"), "{run}");
        let run = env.run(["restore", &archive, "--yes"]).code(5);
        assert!(run.stderr.contains("state_5.sqlite"), "{run}");
        assert_same_tree(&before, &env.tree("home/.codex"));
    }
    assert!(env.codex_home().join(rollout(FIRST)).exists());
}
