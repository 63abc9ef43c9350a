//! `storage vacuum`: frees space in Codex's databases, or changes nothing.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::folder_snapshot::FolderSnapshot;
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample_evenly};
use crate::support::lab::Lab;
use crate::support::sample::is_in_wal_mode;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

/// Years before any run of the tests.
const OLD: i64 = 1_500_000_000;
/// Later than any run of the tests.
const RECENT: i64 = 4_000_000_000;

fn database(env: &TestEnv, name: &str) -> PathBuf {
    env.codex_home().join(name)
}

/// Creates a home with free pages in two databases, and old log entries in one.
fn home() -> TestEnv {
    let env = TestEnv::new();
    fs::create_dir_all(env.codex_home()).unwrap();
    let logs = Connection::open(database(&env, "logs_2.sqlite")).unwrap();
    logs.execute_batch(
        "PRAGMA auto_vacuum=2; PRAGMA journal_mode=WAL;
         CREATE TABLE logs(id INTEGER PRIMARY KEY AUTOINCREMENT, ts INTEGER NOT NULL, body TEXT);
         CREATE INDEX idx_logs_ts ON logs(ts DESC);
         CREATE TABLE _sqlx_migrations(version BIGINT PRIMARY KEY);",
    )
    .unwrap();
    for (ts, count) in [(OLD, 300), (RECENT, 100)] {
        for _ in 0..count {
            let body = "a line of a log ".repeat(60);
            let _ = logs
                .execute("INSERT INTO logs(ts, body) VALUES(?1, ?2)", (ts, body))
                .unwrap();
        }
    }
    let _ = logs
        .execute("DELETE FROM logs WHERE id % 2 = 0", [])
        .unwrap();
    logs.close().unwrap();
    let state = Connection::open(database(&env, "state_5.sqlite")).unwrap();
    state
        .execute_batch(
            "CREATE TABLE threads(id TEXT PRIMARY KEY, title TEXT);
             INSERT INTO threads VALUES('a', 'first'), ('b', 'second');
             CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(200000)); DELETE FROM t;",
        )
        .unwrap();
    state.close().unwrap();
    env
}

/// Returns the rows of both databases. Does not change the files.
fn rows(home: &Path) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for (name, sql) in [
        (
            "logs_2.sqlite",
            "SELECT id || ' ' || ts || body FROM logs ORDER BY id",
        ),
        (
            "state_5.sqlite",
            "SELECT id || ' ' || title FROM threads ORDER BY id",
        ),
    ] {
        for suffix in ["", "-wal", "-journal"] {
            let name = format!("{name}{suffix}");
            let _ = fs::copy(home.join(&name), folder.path().join(&name));
        }
        let database = Connection::open(folder.path().join(name)).unwrap();
        let check: String = database
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
        let mut select = database.prepare(sql).unwrap();
        let texts = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.extend(texts.map(Result::unwrap));
    }
    rows
}

/// Returns the file names of the items of a report.
fn names(document: &Value) -> Vec<&str> {
    let items = document["items"].as_array().expect("items");
    let paths = items
        .iter()
        .map(|item| item["path"].as_str().expect("a path"));
    paths
        .map(|path| path.rsplit('/').next().unwrap_or_default())
        .collect()
}

#[test]
fn the_databases_become_smaller_and_keep_their_rows() {
    let env = home();
    let before = rows(&env.codex_home());
    let tree = env.tree("home");
    let planned = env
        .run(["storage", "vacuum", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_same_tree(&tree, &env.tree("home"));
    assert_eq!(names(&planned), ["state_5.sqlite", "logs_2.sqlite"]);
    let sizes = ["logs_2.sqlite", "state_5.sqlite"]
        .map(|name| database(&env, name).metadata().unwrap().len());

    let done = env.run(["storage", "vacuum", "--json"]).code(0).json();
    assert_eq!(rows(&env.codex_home()), before);
    let after = ["logs_2.sqlite", "state_5.sqlite"]
        .map(|name| database(&env, name).metadata().unwrap().len());
    for name in ["logs_2.sqlite", "state_5.sqlite"] {
        assert!(is_in_wal_mode(&database(&env, name)), "{name}");
        assert!(!database(&env, &format!("{name}-wal")).exists(), "{name}");
    }
    assert_eq!(done["before_bytes"], sizes.iter().sum::<u64>());
    assert_eq!(done["after_bytes"], after.iter().sum::<u64>());
    assert!(
        after[0] * 3 < sizes[0] * 2 && after[1] * 5 < sizes[1],
        "{sizes:?} {after:?}"
    );
    let estimate = planned["after_bytes"].as_u64().unwrap();
    // The estimate counts empty pages only, not partly empty ones.
    assert!(after.iter().sum::<u64>() <= estimate, "{planned} {done}");

    let run = env.run(["storage", "vacuum"]).code(0);
    assert!(run.stdout.contains("no unused space"), "{run}");
    let _ = env.run(["doctor"]);
}

#[test]
fn old_log_entries_are_deleted_on_request() {
    let mut env = home();
    env.unset("CODEX_MANAGER_NOW");
    let before = rows(&env.codex_home());
    let done = env
        .run(["storage", "vacuum", "--keep-logs", "7d", "--json"])
        .code(0)
        .json();
    let deleted: u64 = done["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["deleted_rows"].as_u64().unwrap())
        .sum();
    assert_eq!(deleted, 150);
    let recent = RECENT.to_string();
    let expected: Vec<_> = before
        .iter()
        .filter(|row| row.contains(&recent) || row.len() < 20)
        .cloned()
        .collect();
    assert_eq!(rows(&env.codex_home()), expected);
    let _ = env.run(["storage", "vacuum", "--keep-logs", "x"]).code(4);
}

#[test]
fn nothing_changes_while_a_process_has_a_database_open() {
    let env = home();
    let open = fs::File::open(database(&env, "logs_2.sqlite")).unwrap();
    let before = env.tree("home/.codex");
    let run = env.run(["storage", "vacuum"]).code(3);
    assert!(run.stderr.contains("in use by"), "{run}");
    assert_same_tree(&before, &env.tree("home/.codex"));
    drop(open);
    let _ = env.run(["storage", "vacuum"]).code(0);
}

#[test]
fn a_damaged_database_is_reported_and_left_alone() {
    let env = home();
    let path = database(&env, "memories_1.sqlite");
    let mut bytes = fs::read(database(&env, "state_5.sqlite")).unwrap();
    bytes[100..300].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let run = env.run(["storage", "vacuum"]).code(6);
    assert!(run.stderr.contains("memories_1.sqlite"), "{run}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_folder_of_databases_that_cannot_be_listed_is_reported_and_the_rest_is_rewritten() {
    let env = home();
    let folder = env.codex_home().join("sqlite");
    fs::create_dir(&folder).unwrap();
    fs::rename(
        database(&env, "logs_2.sqlite"),
        folder.join("logs_2.sqlite"),
    )
    .unwrap();
    let set_mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(0o000);
    let run = env
        .run_unprivileged(&["storage", "vacuum", "--json"])
        .code(6);
    set_mode(0o755);
    assert!(run.stderr.contains("home/.codex/sqlite"), "{run}");
    assert_eq!(names(&run.json()), ["state_5.sqlite"]);
}

/// The number of points that the test tries per kind of fault.
const POINTS: usize = 12;

#[test]
fn i2_i3_a_vacuum_that_fails_anywhere_loses_no_row() {
    if !can_inject() {
        return;
    }
    let env = home();
    let expected = rows(&env.codex_home());
    let mut dice = Dice::new();
    let args = &["storage", "vacuum"];
    let kept = FolderSnapshot::take(&env.path("home"));
    let all = points(&env, args);
    let mut tried = 0;
    for fault in [
        Fault::Killed,
        Fault::FromThenOn("ENOSPC"),
        Fault::Once("EIO"),
        Fault::Interrupted,
    ] {
        for point in sample_evenly(POINTS, &all, &mut dice) {
            kept.restore();
            let context = format!("{point:?} {fault:?}");
            let Some(output) = run_with_fault(&env, args, &point, fault) else {
                continue;
            };
            tried += 1;
            // The next command finishes or undoes the killed one.
            let _ = env.run(["storage"]).code(0);
            assert_eq!(rows(&env.codex_home()), expected, "{context}\n{output:?}");
            let was_killed = output.status.signal().is_some();
            let run = env.run(args);
            assert_eq!(run.code, 0, "{context}\n{run}");
            assert_eq!(rows(&env.codex_home()), expected, "{context}");
            let left = env.tree("home").0.into_keys().filter(|path| {
                let name = path.to_string_lossy();
                // An error during the removal of the replaced files leaves these, which only take up space.
                let may_stay = !was_killed && name.contains("codex-manager-journal.old-");
                let is_temporary =
                    name.contains("codex-manager-journal") || name.contains("codex-manager-tmp");
                is_temporary && !may_stay
            });
            let left: Vec<_> = left.collect();
            assert_eq!(
                left,
                Vec::<PathBuf>::new(),
                "{context} killed: {was_killed}"
            );
        }
    }
    println!("{args:?}: {} points, {tried} faults tried", all.len());
    assert!(tried > POINTS, "{tried}");
}

#[test]
fn codex_works_with_the_rewritten_databases() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let ids = [lab.say("first"), lab.say("second")];
    let listed = lab.listed_ids(&home);
    for name in ["logs_2.sqlite", "state_5.sqlite"] {
        let database = Connection::open(home.join(name)).unwrap();
        let sql = "CREATE TABLE big(x); INSERT INTO big VALUES(zeroblob(3000000)); DROP TABLE big;";
        database.execute_batch(sql).unwrap();
    }
    let done = lab
        .manager(["storage", "vacuum", "--keep-logs", "0s", "--json"])
        .code(0)
        .json();
    let gain = done["before_bytes"].as_u64().unwrap() - done["after_bytes"].as_u64().unwrap();
    assert!(gain > 5_000_000, "{done}");
    assert_eq!(lab.listed_ids(&home), listed);
    for id in &ids {
        lab.resume(&home, id, "more");
    }
    let third = lab.say("third");
    assert!(lab.listed_ids(&home).contains(&third));
    let _ = lab.manager(["history", "check"]).code(0);
}
