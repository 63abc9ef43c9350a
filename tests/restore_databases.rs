//! Restores of SQLite databases of the user and of Codex, with logs beside the live or the archived database.

use crate::support::env::TestEnv;
use crate::support::sample::{backup, put, sample_home, text};
use rusqlite::Connection;
use std::fs;
use std::path::Path;

const DATABASE: &str = "memories/m.sqlite";
const WAL: &str = "memories/m.sqlite-wal";

/// Returns a database in WAL mode with `count` rows that only the `-wal` has. Keep it open: closing it would move the
/// rows into the database file.
fn write_rows_to_wal(path: &Path, count: u32) -> Connection {
    let database = Connection::open(path).expect("open");
    let create =
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE IF NOT EXISTS t (n)";
    database.execute_batch(create).expect("create");
    for number in 0..count {
        database
            .execute("INSERT INTO t VALUES (?)", [number])
            .expect("insert");
    }
    database
}

fn count_rows(path: &Path) -> u32 {
    let database = Connection::open(path).expect("open");
    let rows = database.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
    rows.expect("count")
}

#[test]
fn the_old_wal_of_a_replaced_database_is_removed_and_its_rows_return_with_an_undo() {
    for path in ["memories/m.sqlite", "sqlite/codex-dev.db", "notes/data"] {
        for options in [&["--merge"][..], &["--only", path]] {
            let env = TestEnv::on_disk();
            sample_home(&env);
            let database = put(&env, path, "");
            drop(write_rows_to_wal(&database, 3));
            put(&env, "skills/notes", "a text");
            let archive = text(&backup(&env, &[]));
            let live = write_rows_to_wal(&database, 20);
            let name = format!("{path}-wal");
            let wal = fs::read(env.codex_home().join(&name)).expect("read");
            drop(live);
            let wal = put(&env, &name, wal);
            // Not beside a database.
            let kept = put(&env, "skills/notes-wal", "a text, too");
            put(&env, "skills/notes", "a longer text");

            let run = env.run([&["restore", &*archive, "--json"], options].concat());
            let restored = run.code(0).json();
            assert!(!wal.exists() && kept.exists(), "{path} {options:?}");
            assert_eq!(count_rows(&database), 3, "{path} {options:?}");
            assert_eq!(restored["removed"], serde_json::json!([]), "{path}");
            let safety = restored["safety_backup"].as_str().expect("an archive");
            let _ = env.run(["restore", safety, "--no-safety-backup"]).code(0);
            assert_eq!(count_rows(&database), 23, "{path} {options:?}");
        }
    }
}

#[test]
fn the_wal_of_a_lost_or_emptied_database_is_not_applied_to_the_restored_one() {
    for options in [&["--merge"][..], &["--only", DATABASE]] {
        for is_lost in [true, false] {
            let env = TestEnv::on_disk();
            sample_home(&env);
            let database = put(&env, DATABASE, "");
            drop(write_rows_to_wal(&database, 3));
            let archive = text(&backup(&env, &[]));

            let live = write_rows_to_wal(&database, 20);
            let wal = fs::read(env.codex_home().join(WAL)).expect("read");
            drop(live);
            put(&env, WAL, wal);
            if is_lost {
                fs::remove_file(&database).expect("remove");
            } else {
                fs::write(&database, "").expect("write");
            }

            let run = env.run([&["restore", &*archive], options].concat());
            let _ = run.code(0);
            assert_eq!(count_rows(&database), 3, "{options:?} {is_lost}");
        }
    }
}

#[test]
fn only_with_a_database_restores_the_rows_of_its_archived_wal() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let database = put(&env, DATABASE, "");
    let open = write_rows_to_wal(&database, 3);
    let archive = text(&backup(&env, &[]));
    drop(open);
    drop(write_rows_to_wal(&database, 20));

    let only = ["restore", &archive, "--only", DATABASE];
    let _ = env.run(only).code(0);
    assert_eq!(count_rows(&database), 3);

    let _ = env.run([&only[..], &["--to", "clone"]].concat()).code(0);
    assert_eq!(count_rows(&env.path("clone").join(DATABASE)), 3);
}

#[test]
fn the_wal_of_a_replaced_or_removed_database_is_removed_even_if_a_glob_excluded_it() {
    for was_archived in [true, false] {
        let env = TestEnv::on_disk();
        sample_home(&env);
        let database = env.codex_home().join(DATABASE);
        put(&env, "memories/a.md", "a memory");
        if was_archived {
            drop(write_rows_to_wal(&database, 3));
        }
        let archive = text(&backup(&env, &["--exclude", "*-wal"]));
        let open = write_rows_to_wal(&database, 20);
        let wal = fs::read(env.codex_home().join(WAL)).expect("read");
        drop(open);
        let wal = put(&env, WAL, wal);

        let _ = env.run(["restore", &archive]).code(0);
        assert_eq!(database.exists(), was_archived);
        assert!(!wal.exists(), "{was_archived}");
    }
}

#[test]
fn only_with_a_folder_does_not_restore_a_file_named_like_a_journal_of_it() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    put(&env, "skills/travel/SKILL.md", "archived");
    let journal = put(&env, "skills/travel-journal", "archived");
    let archive = text(&backup(&env, &[]));
    put(&env, "skills/travel/SKILL.md", "live");
    put(&env, "skills/travel-journal", "live, too");

    let _ = env
        .run(["restore", &archive, "--only", "skills/travel"])
        .code(0);
    assert_eq!(fs::read_to_string(journal).expect("read"), "live, too");
}

/// Archives of older versions have the log beside a database without an extension.
#[test]
fn only_with_a_file_as_large_as_a_database_restores_the_file_named_like_its_log() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    for (name, content) in [
        ("memories/data", "x".repeat(512)),
        ("memories/text", "x".into()),
    ] {
        put(&env, name, content);
        put(&env, format!("{name}-wal"), "archived");
    }
    let archive = text(&backup(&env, &[]));
    for (name, log) in [("memories/data", "archived"), ("memories/text", "live")] {
        put(&env, format!("{name}-wal"), "live");
        let _ = env.run(["restore", &archive, "--only", name]).code(0);
        let restored = env.codex_home().join(format!("{name}-wal"));
        assert_eq!(fs::read_to_string(restored).expect("read"), log);
    }
}

#[test]
fn a_database_with_new_rows_in_its_wal_does_not_count_as_unchanged() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let database = put(&env, DATABASE, "");
    drop(write_rows_to_wal(&database, 3));
    let archive = text(&backup(&env, &[]));
    let is_same = || {
        let args = ["restore", &archive, "--only", DATABASE, "--dry-run"];
        let run = env.run(args).code(0);
        format!("{run}").contains("with the same size and time")
    };
    assert!(is_same());
    let _open = write_rows_to_wal(&database, 20);
    assert!(!is_same());
}

#[test]
fn a_restore_is_not_stopped_by_a_rollback_journal_that_an_earlier_program_left() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let database = env.codex_home().join("state_5.sqlite");
    let connection = Connection::open(database).expect("open");
    let sql = "PRAGMA journal_mode=PERSIST; UPDATE threads SET title='live'";
    connection.execute_batch(sql).expect("update");
    connection.close().expect("close");
    let journal = env.codex_home().join("state_5.sqlite-journal");
    assert!(journal.metadata().expect("a journal").len() > 0);
    let _ = env.run(["restore", &archive]).code(0);
    assert!(!journal.exists());
}
