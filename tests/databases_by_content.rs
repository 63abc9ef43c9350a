//! Databases that other programs than the Codex CLI keep in a home, under names of their own: their content shows what
//! they are.

use crate::support::env::TestEnv;
use crate::support::pair::Pair;
use crate::support::restic;
use crate::support::sample::{backup, desktop_home_at, put, sample_home, text};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

const DESKTOP_DATABASE: &str = "sqlite/codex-dev.db";

/// Names at which a database lies, and how many pages its writer lets the `-wal` grow to.
const BUSY_DATABASES: [(&str, u32); 5] = [
    (DESKTOP_DATABASE, 3),
    ("notes.sqlite", 40),
    ("plugins/one/cache.sqlite3", 7),
    ("skills/mine/data", 0),
    ("index", 11),
];

/// A database with a writer that commits all the time.
struct BusyDatabase {
    name: &'static str,
    committed: AtomicU32,
}

impl BusyDatabase {
    /// Commits rows with rising numbers, of which 200 stay, until `is_done`.
    fn write(&self, path: &Path, pages: u32, is_done: &AtomicBool) {
        let mut connection = Connection::open(path).expect("open");
        let setup = format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA wal_autocheckpoint={pages};
             CREATE TABLE rows(n INTEGER PRIMARY KEY, text TEXT);
             CREATE INDEX texts ON rows(text);
             CREATE TABLE last(n INTEGER); INSERT INTO last VALUES(0);"
        );
        connection.execute_batch(&setup).expect("create");
        for number in 1_u32.. {
            if is_done.load(Ordering::SeqCst) {
                return;
            }
            let transaction = connection.transaction().expect("begin");
            let row = (number, format!("{:0300}", number.wrapping_mul(7919) % 1000));
            transaction
                .execute("INSERT INTO rows VALUES(?, ?)", row)
                .expect("insert");
            transaction
                .execute("DELETE FROM rows WHERE n <= ? - 200", [number])
                .expect("delete");
            transaction
                .execute("UPDATE last SET n = ?", [number])
                .expect("update");
            transaction.commit().expect("commit");
            self.committed.store(number, Ordering::SeqCst);
            if pages == 0 && number % 500 == 0 {
                let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            }
        }
    }

    /// Checks a restored copy: it is sound, and has every row that was committed before the backup.
    fn check_copy(&self, folder: &Path, committed_before: u32) {
        let connection = Connection::open(folder.join(self.name)).expect("open");
        let get = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, u32>(0))
                .expect(sql)
        };
        let sound: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("check");
        assert_eq!(sound, "ok", "{}", self.name);
        let last = get("SELECT n FROM last");
        assert!(
            last >= committed_before,
            "{}: {last} < {committed_before}",
            self.name
        );
        assert_eq!(get("SELECT max(n) FROM rows"), last, "{}", self.name);
        assert_eq!(
            get("SELECT count(*) FROM rows"),
            last.min(200),
            "{}",
            self.name
        );
        let wal = folder.join(format!("{}-wal", self.name));
        assert!(
            wal.metadata().is_ok_and(|meta| meta.len() == 0) || !wal.exists(),
            "{}",
            self.name
        );
    }
}

/// Runs `check` while each database has a writer.
fn with_busy_databases(env: &TestEnv, check: impl FnOnce(&[BusyDatabase])) {
    let databases = BUSY_DATABASES.map(|(name, _)| BusyDatabase {
        name,
        committed: AtomicU32::new(0),
    });
    let paths: Vec<PathBuf> = BUSY_DATABASES
        .iter()
        .map(|(name, _)| put(env, name, ""))
        .collect();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for ((database, path), (_, pages)) in databases.iter().zip(&paths).zip(BUSY_DATABASES) {
            let is_done = &is_done;
            scope.spawn(move || database.write(path, pages, is_done));
        }
        while databases
            .iter()
            .any(|database| database.committed.load(Ordering::SeqCst) == 0)
        {
            thread::yield_now();
        }
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&databases)));
        is_done.store(true, Ordering::SeqCst);
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn forty_archives_of_busy_databases_have_every_committed_row_and_none_is_malformed() {
    let env = TestEnv::new();
    sample_home(&env);
    with_busy_databases(&env, |databases| {
        for number in 0..40 {
            let before: Vec<_> = databases
                .iter()
                .map(|database| database.committed.load(Ordering::SeqCst))
                .collect();
            let archive = text(&backup(&env, &[]));
            let _ = env.run(["verify", &archive]).code(0);
            let to = format!("copy-{number}");
            let _ = env.run(["restore", &archive, "--to", &to]).code(0);
            for (database, before) in databases.iter().zip(before) {
                database.check_copy(&env.path(&to), before);
            }
        }
    });
}

#[test]
fn snapshots_of_busy_databases_have_every_committed_row_and_none_is_malformed() {
    let mut env = TestEnv::new();
    if restic::program().is_none() {
        return;
    }
    sample_home(&env);
    crate::vault::set_up(&mut env);
    with_busy_databases(&env, |databases| {
        for number in 0..5 {
            let before: Vec<_> = databases
                .iter()
                .map(|database| database.committed.load(Ordering::SeqCst))
                .collect();
            let _ = env.run(["vault", "backup"]).code(0);
            let to = format!("copy-{number}");
            let _ = env.run(["vault", "restore", "latest", "--to", &to]).code(0);
            for (database, before) in databases.iter().zip(before) {
                database.check_copy(&env.path(&to), before);
            }
        }
    });
}

fn count(path: &Path, table: &str) -> u32 {
    let connection = Connection::open(path).expect("open");
    let sql = format!("SELECT count(*) FROM {table}");
    connection
        .query_row(&sql, [], |row| row.get(0))
        .expect("count")
}

#[test]
fn a_home_of_codex_desktop_is_archived_compared_and_restored() {
    let env = TestEnv::on_disk();
    let home = env.codex_home();
    let desktop = desktop_home_at(&home);
    let archive = text(&backup(&env, &[]));
    let _ = env.run(["verify", &archive]).code(0);
    let _ = env.run(["doctor"]);
    let unchanged = env.run(["diff", &archive, "--json"]).code(0).json();
    assert_eq!(unchanged["content"], json!([]), "{unchanged}");

    desktop
        .execute_batch(
            "DELETE FROM automations; INSERT INTO automations VALUES('weekly', 'Weekly', 'ACTIVE', 2);
             DELETE FROM inbox_items",
        )
        .expect("change");
    fs::remove_dir_all(home.join("automations")).expect("remove");
    put(
        &env,
        "automations/by-hand/automation.toml",
        "id = \"by-hand\"\n",
    );
    let changed = env.run(["diff", &archive, "--json"]).code(0).json();
    assert_eq!(
        changed["content"],
        json!([
            {"kind": "automation", "name": "by-hand", "change": "added"},
            {"kind": "automation", "name": "Nightly check (nightly)", "change": "removed"},
            {"kind": "automation", "name": "Weekly (weekly)", "change": "added"},
        ])
    );
    let wal = fs::read(home.join(format!("{DESKTOP_DATABASE}-wal"))).expect("read");
    drop(desktop);
    put(&env, format!("{DESKTOP_DATABASE}-wal"), wal);

    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert_eq!(count(&home.join(DESKTOP_DATABASE), "inbox_items"), 1);
    assert_eq!(count(&home.join("state_5.sqlite"), "projects"), 1);
    for path in [
        "automations/nightly/memory.md",
        "account-sessions/1/auth.json",
        ".codex-global-state.json",
        "projects/one/notes.md",
    ] {
        assert!(home.join(path).exists(), "{path}");
    }
    let _ = env.run(["verify", "--all"]).code(0);
}

#[test]
fn a_home_of_codex_desktop_goes_through_a_vault() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    let home = env.codex_home();
    let desktop = desktop_home_at(&home);
    crate::vault::set_up(&mut env);
    let _ = env.run(["vault", "backup"]).code(0);
    let _ = env.run(["vault", "drill", "--no-codex"]);
    drop(desktop);
    fs::remove_file(home.join(DESKTOP_DATABASE)).expect("remove");
    let _ = env
        .run(["vault", "restore", "latest", "--to", "copy"])
        .code(0);
    assert_eq!(
        count(&env.path("copy").join(DESKTOP_DATABASE), "automations"),
        1
    );
    let _ = env
        .run(["vault", "restore", "latest", "--only", DESKTOP_DATABASE])
        .code(0);
    assert_eq!(count(&home.join(DESKTOP_DATABASE), "automations"), 1);
}

#[test]
fn no_database_of_a_home_of_codex_desktop_is_synced_whatever_its_name() {
    let pair = Pair::new();
    drop(desktop_home_at(&pair.home("a")));
    let database = pair.put("a", "skills/mine/data", "");
    let open = Connection::open(database).expect("open");
    open.execute_batch("CREATE TABLE t(n)").expect("create");
    drop(open);
    pair.put("a", "skills/mine/data-wal", "the rest of it");
    let run = pair.run("a", &["run", "--apply", "--json"]);
    let run = run.code(0);
    assert!(run.stdout.contains("a database"), "{run}");
    for entry in walkdir::WalkDir::new(pair.cloud()) {
        let path = entry.expect("entry").into_path();
        let name = path.display().to_string();
        let is_database = fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"));
        let is_login = name.contains("account-sessions");
        assert!(
            !is_database && !name.ends_with("-wal") && !is_login,
            "{name}"
        );
    }
}

/// Returns the names that a backup skipped.
fn skipped(made: &Value) -> Vec<&str> {
    let skipped = made["skipped"].as_array().expect("a list");
    skipped
        .iter()
        .filter_map(|note| note["path"].as_str())
        .collect()
}

#[test]
fn a_database_of_another_program_that_cannot_be_read_is_named_and_the_rest_is_archived() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    put(
        &env,
        "plugins/broken.db",
        [b"SQLite format 3\0".as_slice(), &[0xff; 4096]].concat(),
    );
    let locked = put(&env, "plugins/locked.db", "");
    let open = Connection::open(locked).expect("open");
    open.execute_batch("CREATE TABLE t(n); BEGIN EXCLUSIVE; INSERT INTO t VALUES(1)")
        .expect("lock");
    let made = env.run(["backup", "--no-status", "--json"]).code(6).json();
    assert_eq!(skipped(&made), ["plugins/broken.db", "plugins/locked.db"]);
    let _ = env.run(["verify"]).code(0);
    drop(open);

    // A full restore keeps both as they are, as the archive promises.
    let _ = env.run(["restore", "latest", "--yes"]).code(0);
    let broken = fs::read(env.codex_home().join("plugins/broken.db")).expect("read");
    assert_eq!(broken.len(), 4112);
}

#[test]
fn a_database_that_needs_functions_of_its_program_is_archived_with_the_rows_of_its_wal() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let path = put(&env, "plugins/own.db", "");
    let open = Connection::open(&path).expect("open");
    open.execute_batch(
        "CREATE TABLE t(n TEXT COLLATE NOCASE); CREATE INDEX i ON t(n); PRAGMA writable_schema=ON;
         UPDATE sqlite_master SET sql = replace(sql, 'NOCASE', 'own')",
    )
    .expect("create");
    drop(open);
    let open = Connection::open(&path).expect("open");
    open.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
         CREATE TABLE u(n); INSERT INTO u VALUES(1), (2)",
    )
    .expect("insert");
    let checked = open.query_row("PRAGMA integrity_check", [], |_| Ok(()));
    assert!(
        checked.is_err(),
        "the test needs a database that cannot be checked"
    );
    let archive = text(&backup(&env, &[]));
    let _ = env.run(["verify", &archive]).code(0);
    let _ = env.run(["restore", &archive, "--to", "copy"]).code(0);
    let names: Vec<_> = fs::read_dir(env.path("copy/plugins"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    assert_eq!(names, ["own.db"]);
    assert_eq!(count(&env.path("copy/plugins/own.db"), "u"), 2);
}

#[test]
fn a_text_with_the_name_of_a_database_is_a_text() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    for path in [
        "skills/a.db",
        "skills/a.db-wal",
        "skills/a.db-journal",
        "b.sqlite3",
    ] {
        put(&env, path, format!("the text of {path}"));
    }
    let archive = text(&backup(&env, &[]));
    let _ = env.run(["restore", &archive, "--to", "copy"]).code(0);
    for path in [
        "skills/a.db",
        "skills/a.db-wal",
        "skills/a.db-journal",
        "b.sqlite3",
    ] {
        let restored = fs::read_to_string(env.path("copy").join(path)).expect("read");
        assert_eq!(restored, format!("the text of {path}"));
    }
}
