//! Data that a restore must not lose: unreadable files, files that no backup can save, and invalid
//! files.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::without_processes;
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{
    FIRST, backup, line, put, rollout, sample_home, state_database, text,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Creates a home with its database in a separate folder, and returns that folder.
fn home_with_databases_apart(env: &TestEnv) -> PathBuf {
    let home = sample_home(env);
    let folder = env.path("databases");
    fs::create_dir(&folder).expect("folder");
    let line = format!("sqlite_home = {:?}\n", text(&folder));
    put(env, "config.toml", line);
    fs::rename(home.join("state_5.sqlite"), folder.join("state_5.sqlite")).expect("move");
    folder
}

/// Returns the contents of the folder in which Codex keeps damaged databases.
fn kept_databases(env: &TestEnv) -> Vec<Vec<u8>> {
    let folder = env.codex_home().join("db-backups");
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders.flat_map(|f| fs::read_dir(f.path()).expect("list").flatten());
    files.map(|f| fs::read(f.path()).expect("read")).collect()
}

#[test]
fn a_folder_without_search_permission_stays_in_place() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    put(&env, "mine/notes.txt", "nowhere else");
    set_mode(&env.codex_home().join("mine"), 0o444);
    let _ = env.run_unprivileged(&["restore", &archive]).code(0);
    set_mode(&env.codex_home().join("mine"), 0o755);
    let read = |name: &str| fs::read_to_string(env.codex_home().join(name)).expect("read");
    assert_eq!(read("mine/notes.txt"), "nowhere else");
    assert_eq!(read("AGENTS.md"), "be brief\n");
}

#[test]
fn a_folder_named_like_a_staging_folder_stays_in_a_folder_of_the_home() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "sessions/.codex-manager-restore/mine", "nowhere else");
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", &archive]).code(0);
    let mine = env
        .codex_home()
        .join("sessions/.codex-manager-restore/mine");
    assert_eq!(fs::read_to_string(mine).expect("read"), "nowhere else");
}

#[test]
fn a_folder_at_the_path_of_an_outside_database_is_kept_completely() {
    let env = TestEnv::new();
    let folder = home_with_databases_apart(&env);
    let archive = text(&backup(&env, &[]));
    let place = folder.join("state_5.sqlite");
    // Two restores in one second.
    for kept_text in ["nowhere else", "nor this"] {
        fs::remove_file(&place).expect("remove");
        fs::create_dir_all(place.join("deep")).expect("folder");
        fs::write(place.join("deep/file"), kept_text).expect("file");
        let run = env.run(["restore", &archive]).code(0);
        assert!(run.stderr.contains("db-backups"), "{run}");
        assert!(place.is_file());
    }
    let read = |entry: Option<std::io::Result<fs::DirEntry>>| {
        let folder = entry.expect("list").expect("entry").path();
        fs::read_to_string(folder.join("state_5.sqlite/deep/file")).expect("read")
    };
    let mut folders = fs::read_dir(env.codex_home().join("db-backups")).expect("list");
    let mut kept_databases = [read(folders.next()), read(folders.next())];
    kept_databases.sort();
    assert_eq!(kept_databases, ["nor this", "nowhere else"]);
}

#[test]
fn a_damaged_database_outside_the_home_is_kept_before_it_is_replaced() {
    let contents: [&[u8]; 2] = [b"no database at all", b"SQLite format 3\0 and then nothing"];
    for damaged in contents {
        let env = TestEnv::new();
        let folder = home_with_databases_apart(&env);
        let archive = text(&backup(&env, &[]));
        fs::write(folder.join("state_5.sqlite"), damaged).expect("damage");
        let run = env.run(["restore", &archive]).code(0);
        assert!(run.stderr.contains("db-backups"), "{run}");
        assert_eq!(kept_databases(&env), [damaged], "{run}");
        assert_ne!(
            fs::read(folder.join("state_5.sqlite")).expect("read"),
            damaged
        );
    }
}

#[test]
fn a_damaged_database_is_kept_on_a_disk_without_hard_links() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let damaged = b"SQLite format 3\0 and then nothing";
    fs::write(home.join("state_5.sqlite"), damaged).expect("damage");
    let options = [
        "-e",
        "trace=link,linkat",
        "-e",
        "inject=link,linkat:error=EPERM",
    ];
    let (output, _) = traced(&env, &options.map(str::to_owned), &["restore", &archive]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(kept_databases(&env), [damaged]);
}

#[test]
fn a_database_shared_with_a_home_that_has_rows_only_in_the_wal_is_not_replaced() {
    let env = TestEnv::new();
    let folder = home_with_databases_apart(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    // A database that was not closed has rows in its WAL.
    let open = env.path("open.sqlite");
    fs::remove_file(folder.join("state_5.sqlite")).expect("remove");
    state_database(&open, &env.codex_home());
    let connection = rusqlite::Connection::open(&open).expect("open");
    connection
        .execute_batch(
            "PRAGMA wal_autocheckpoint=0;
             INSERT INTO threads VALUES('x', '/elsewhere/.codex/sessions/x.jsonl', 'theirs');",
        )
        .expect("row");
    for suffix in ["", "-wal"] {
        let to = folder.join(format!("state_5.sqlite{suffix}"));
        fs::copy(env.path(&format!("open.sqlite{suffix}")), to).expect("copy");
    }
    drop(connection);
    let before = env
        .tree("databases")
        .only(&["state_5.sqlite", "state_5.sqlite-wal"]);
    let run = env.run(["restore", &archive]).code(5);
    assert!(run.stderr.contains("another Codex home shares"), "{run}");
    let after = env
        .tree("databases")
        .only(&["state_5.sqlite", "state_5.sqlite-wal"]);
    assert_same_tree(&before, &after);
}

#[test]
fn a_merge_accepts_a_conversation_in_plain_and_compressed_form() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let plain = home.join(rollout(FIRST));
    let compressed = zstd::encode_all(&*fs::read(&plain).expect("read"), 1).unwrap();
    fs::write(plain.with_extension("jsonl.zst"), compressed).expect("write");
    let _ = env.run(["restore", &archive, "--merge"]).code(0);
    assert!(plain.exists());
}

#[test]
fn a_conversation_gets_its_row_from_the_newest_database_of_the_archive() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let titled = |name: &str, title: &str| {
        let connection = rusqlite::Connection::open(home.join(name)).expect("open");
        let set = "UPDATE threads SET title=?1";
        connection.execute(set, [title]).expect("titles");
    };
    state_database(&home.join("state_4.sqlite"), &home);
    titled("state_4.sqlite", "old");
    titled("state_5.sqlite", "new");
    let archive = text(&backup(&env, &[]));
    fs::remove_file(home.join("state_4.sqlite")).expect("remove");
    fs::remove_file(home.join(rollout(FIRST))).expect("remove");
    let connection = rusqlite::Connection::open(home.join("state_5.sqlite")).expect("open");
    let delete = "DELETE FROM threads WHERE id=?1";
    connection.execute(delete, [FIRST]).expect("no row");
    drop(connection);
    let _ = env.run(["restore", &archive, "--session", FIRST]).code(0);
    let connection = rusqlite::Connection::open(home.join("state_5.sqlite")).expect("open");
    let title = "SELECT title FROM threads WHERE id=?1";
    let title: String = connection
        .query_row(title, [FIRST], |row| row.get(0))
        .expect("a row");
    assert_eq!(title, "new");
}

#[test]
fn a_restore_that_cannot_list_the_mounts_replaces_nothing() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    let Some(run) = without_processes(&env, &["restore", &archive, "--yes"]) else {
        return;
    };
    assert_ne!(run.code, 0, "{run}");
    let text = fs::read_to_string(env.codex_home().join("AGENTS.md")).expect("read");
    assert_eq!(text, "changed");
}

#[test]
fn a_backup_names_top_level_entries_that_it_cannot_read() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    set_mode(&home, 0o444);
    let run = env.run_unprivileged(&["backup", "--no-status", "--json"]);
    set_mode(&home, 0o755);
    let run = run.code(6);
    let skipped = run.json()["skipped"].to_string();
    assert!(
        skipped.contains("sessions") && skipped.contains("AGENTS.md"),
        "{run}"
    );
}

#[test]
fn a_backup_reports_a_folder_of_databases_that_it_cannot_list() {
    let env = TestEnv::new();
    let folder = home_with_databases_apart(&env);
    set_mode(&folder, 0o000);
    let run = env.run_unprivileged(&["backup", "--no-status", "--json"]);
    set_mode(&folder, 0o755);
    let run = run.code(6);
    let skipped = run.json()["skipped"].to_string();
    assert!(skipped.contains(".codex-manager/sqlite"), "{run}");
}

#[test]
fn a_repacked_archive_with_outside_databases_is_restored() {
    let env = TestEnv::new();
    let _ = home_with_databases_apart(&env);
    let archive = backup(&env, &[]);
    let packed = fs::File::open(&archive).expect("open");
    let again = fs::File::create(env.path("again.tar.gz")).expect("create");
    let mut encoder = flate2::write::GzEncoder::new(again, flate2::Compression::fast());
    let mut decoder = flate2::read::MultiGzDecoder::new(packed);
    std::io::copy(&mut decoder, &mut encoder).expect("pack again");
    encoder.finish().expect("finish");
    let _ = env
        .run(["restore", "again.tar.gz", "--to", "clone"])
        .code(0);
    assert!(env.path("clone/state_5.sqlite").exists());
}

#[test]
fn a_merge_that_cannot_copy_the_live_database_changes_nothing_and_the_next_keeps_its_rows() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::remove_file(home.join(rollout(FIRST))).expect("remove");
    let connection = rusqlite::Connection::open(home.join("state_5.sqlite")).expect("open");
    let title = "UPDATE threads SET title='only here' WHERE id=?1";
    let delete = "DELETE FROM threads WHERE id=?1";
    connection.execute(delete, [FIRST]).expect("no row");
    let archive = text(&backup(&env, &[]));
    // A conversation that only the home has, with a name.
    let place = text(&home.join(rollout(FIRST)));
    let insert = "INSERT INTO threads VALUES(?1, ?2, 'a title')";
    connection.execute(insert, [FIRST, &place]).expect("a row");
    connection.execute(title, [FIRST]).expect("a title");
    connection.close().expect("close");
    put(&env, rollout(FIRST), "{}\n");
    let before = env.tree("home/.codex");
    let copy = env.path("home/..codex.codex-manager-restore/live.sqlite");
    let options = [
        "-P",
        copy.to_str().expect("text"),
        "-e",
        "trace=pwrite64",
        "-e",
        "inject=pwrite64:error=ENOSPC",
    ];
    let args = ["restore", &archive, "--merge"];
    let (output, _) = traced(&env, &options.map(str::to_owned), &args);
    assert!(!output.status.success(), "{output:?}");
    assert_same_tree(&before, &env.tree("home/.codex"));
    let _ = env.run(args).code(0);
    let connection = rusqlite::Connection::open(home.join("state_5.sqlite")).expect("open");
    let select = "SELECT title FROM threads WHERE id=?1";
    let title: String = connection
        .query_row(select, [FIRST], |row| row.get(0))
        .expect("a row");
    assert_eq!(title, "only here");
}

/// Runs statements in a database.
fn change(database: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(database).expect("open");
    connection.execute_batch(sql).expect("change");
    connection.close().expect("close");
}

#[test]
fn a_merge_keeps_the_name_and_the_pin_of_a_conversation_that_the_archive_continues() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let database = home.join("state_5.sqlite");
    change(
        &database,
        "ALTER TABLE threads ADD COLUMN name TEXT;
         ALTER TABLE threads ADD COLUMN is_pinned INTEGER NOT NULL DEFAULT 0;
         UPDATE threads SET title='continued'",
    );
    let shorter = fs::read_to_string(home.join(rollout(FIRST))).expect("read");
    put(&env, rollout(FIRST), shorter.clone() + &line(99));
    let archive = text(&backup(&env, &[]));
    put(&env, rollout(FIRST), &shorter);
    change(
        &database,
        "UPDATE threads SET title='older', name='renamed', is_pinned=1",
    );
    let _ = env.run(["restore", &archive, "--merge"]).code(0);
    let connection = rusqlite::Connection::open(&database).expect("open");
    let sql = "SELECT title || name || is_pinned FROM threads WHERE id=?1";
    let row: String = connection
        .query_row(sql, [FIRST], |row| row.get(0))
        .expect("a row");
    assert_eq!(row, "continuedrenamed1");
}

#[test]
fn a_merge_finds_the_live_databases_in_a_folder_that_the_archive_does_not_name() {
    for is_in_home in [false, true] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        let archive = text(&backup(&env, &[]));
        let parent = if is_in_home {
            home.clone()
        } else {
            env.path("")
        };
        let folder = parent.join("databases");
        fs::create_dir(&folder).expect("folder");
        let live = folder.join("state_5.sqlite");
        fs::rename(home.join("state_5.sqlite"), &live).expect("move");
        put(
            &env,
            "config.toml",
            format!("sqlite_home = {:?}\n", text(&folder)),
        );
        change(&live, "UPDATE threads SET title='renamed'");
        let _ = env.run(["restore", &archive, "--merge"]).code(0);
        let connection = rusqlite::Connection::open(home.join("state_5.sqlite")).expect("open");
        let sql = "SELECT count(*) FROM threads WHERE title='renamed'";
        let count: i64 = connection
            .query_row(sql, [], |row| row.get(0))
            .expect("a count");
        assert_eq!(count, 2, "{is_in_home}");
    }
}
