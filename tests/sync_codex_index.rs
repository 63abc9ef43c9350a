//! Updates of the local Codex index by a sync, also after a killed run.

use crate::support::injection::{can_inject, kill_numbers, run_ends_before_call};
use crate::support::pair::{Pair, RUN_OF_B, actions};
use crate::sync_shutdown::a_codex;
use rusqlite::{Connection, OptionalExtension};
use std::fs;
use std::path::PathBuf;

const KILLS: usize = 14;

fn id(n: u8) -> String {
    format!("01a1f78b-4d30-7ef3-b0ee-5caab8d3b45{n}")
}

fn name(n: u8) -> String {
    format!("rollout-2026-11-18T10-00-00-{}.jsonl", id(n))
}

fn path(n: u8) -> String {
    format!("sessions/2026/11/18/{}", name(n))
}

/// Returns the first lines of a conversation, followed by `more`.
fn text(n: u8, more: &str) -> String {
    let id = id(n);
    format!(
        "{{\"timestamp\":\"2026-11-18T10:00:00Z\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\
         \"timestamp\":\"2026-11-18T10:00:00Z\",\"cwd\":\"/w\",\"originator\":\"codex_exec\",\"cli_version\":\
         \"0.169.0\",\"source\":\"exec\",\"model_provider\":\"openai\",\"history_mode\":\"paginated\"}}}}\n{more}"
    )
}

/// The index of a machine's Codex, with its projection of some conversations.
struct Index(PathBuf);

impl Index {
    /// Creates an index with a row for each of these conversations.
    fn of(pair: &Pair, machine: &str, known: &[u8]) -> Self {
        let index = Self(pair.home(machine));
        index.state(
            // The schema of Codex.
            "PRAGMA journal_mode=WAL; CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL,
             created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, source TEXT NOT NULL,
             title TEXT NOT NULL, archived INTEGER NOT NULL DEFAULT 0, archived_at INTEGER,
             first_user_message TEXT NOT NULL DEFAULT '', cwd TEXT NOT NULL DEFAULT '',
             history_mode TEXT NOT NULL DEFAULT 'legacy', name TEXT, created_at_ms INTEGER,
             updated_at_ms INTEGER, creator_account_id TEXT)",
        );
        index.projection(
            "PRAGMA journal_mode=WAL; CREATE TABLE projected(thread_id TEXT, offset INTEGER)",
        );
        for n in known {
            let (id, path) = (id(*n), index.0.join(path(*n)));
            index.state(&format!(
                "INSERT INTO threads(id, rollout_path, created_at, updated_at, source, title, history_mode)
                 VALUES('{id}', '{}', 1, 1, 'exec', 'title', 'paginated')",
                path.display()
            ));
            index.projection(&format!("INSERT INTO projected VALUES('{id}', 1)"));
        }
        index
    }

    fn state(&self, sql: &str) {
        let database = Connection::open(self.0.join("state_5.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
    }

    fn projection(&self, sql: &str) {
        let database = Connection::open(self.0.join("thread_history_1.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
    }

    fn is_projected(&self, n: u8) -> bool {
        let database = Connection::open(self.0.join("thread_history_1.sqlite")).unwrap();
        let sql = "SELECT 1 FROM projected WHERE thread_id=?1";
        let row = database.query_row(sql, [id(n)], |_| Ok(()));
        row.optional().unwrap().is_some()
    }

    /// Returns the number of listed conversations.
    fn rows(&self) -> usize {
        let database = Connection::open(self.0.join("state_5.sqlite")).unwrap();
        let sql = "SELECT count(*) FROM threads";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// Returns the listed name of a conversation.
    fn name(&self, n: u8) -> Option<String> {
        let database = Connection::open(self.0.join("state_5.sqlite")).unwrap();
        let sql = "SELECT name FROM threads WHERE id=?1";
        database.query_row(sql, [id(n)], |row| row.get(0)).unwrap()
    }

    /// Returns the path of a conversation below the home, and whether it is archived.
    fn row(&self, n: u8) -> Option<(String, bool)> {
        let database = Connection::open(self.0.join("state_5.sqlite")).unwrap();
        let sql = "SELECT rollout_path, archived FROM threads WHERE id=?1";
        let row = database.query_row(sql, [id(n)], |row| Ok((row.get(0)?, row.get(1)?)));
        let (path, archived): (String, bool) = row.optional().unwrap()?;
        let home = fs::canonicalize(&self.0).unwrap();
        let path = PathBuf::from(path);
        let below = path.strip_prefix(&self.0).or(path.strip_prefix(&home));
        Some((below.unwrap().to_string_lossy().into_owned(), archived))
    }
}

const NAMES: &str = "session_index.jsonl";

/// Returns a line of the index of names.
fn named(n: u8, name: &str, minute: u8) -> String {
    let id = id(n);
    format!(
        "{{\"id\":\"{id}\",\"thread_name\":\"{name}\",\"updated_at\":\"2026-11-20T06:{minute:02}:00Z\"}}\n"
    )
}

#[test]
fn a_later_name_is_indexed_on_the_other_machine() {
    let pair = Pair::new();
    pair.sync(&[
        (&path(1), &text(1, "")),
        (&path(2), &text(2, "")),
        (&path(3), &text(3, "")),
    ]);
    let index = Index::of(&pair, "b", &[1, 2, 3]);
    // The second conversation was renamed locally, and later than on the other machine; the third has no
    // name.
    let here = named(2, "mine", 3);
    pair.put("b", NAMES, &here);
    index.state(&format!(
        "UPDATE threads SET name='mine' WHERE id='{}'",
        id(2)
    ));
    let there = [
        named(1, "one", 1),
        named(2, "theirs", 2),
        named(3, "title", 2),
    ]
    .concat();
    pair.put("a", NAMES, &there);
    pair.apply("a");
    let output = pair.run("b", &["run", "--apply"]).code(0);
    assert!(
        output.stderr.contains("renamed in Codex's lists: 1"),
        "{output}"
    );
    assert_eq!(index.name(1).as_deref(), Some("one"));
    assert_eq!(index.name(2).as_deref(), Some("mine"));
    assert_eq!(index.name(3), None);
    // A further name, given later.
    pair.put("a", NAMES, &(there + &named(1, "other", 9)));
    pair.apply("a");
    pair.apply("b");
    assert_eq!(index.name(1).as_deref(), Some("other"));
    assert_eq!(index.name(2).as_deref(), Some("mine"));
}

#[test]
fn the_next_run_indexes_files_of_a_killed_run() {
    if !can_inject() {
        return;
    }
    for call in ["rename", "renameat2", "fsync", "unlink"] {
        for number in kill_numbers(KILLS) {
            let pair = Pair::new();
            pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
            pair.sync(&[(&path(1), &text(1, "")), (&path(2), &text(2, ""))]);
            let index = Index::of(&pair, "b", &[1, 2]);
            // The first conversation is archived, the second one diverges, the third one is new.
            let archived = format!("archived_sessions/{}", name(1));
            let target = pair.put("a", &archived, "");
            fs::rename(pair.home("a").join(path(1)), target).unwrap();
            pair.put("a", &path(2), &text(2, "{\"n\":\"a\"}\n"));
            pair.put("b", &path(2), &text(2, "{\"n\":\"over there\"}\n"));
            pair.put("a", &path(3), &text(3, "{\"n\":3}\n"));
            pair.put("a", NAMES, &named(2, "two", 1));
            pair.apply("a");
            let ended = run_ends_before_call(&pair.0, &RUN_OF_B, call, number);
            pair.apply("b");
            let label = format!("{call} {number}");
            assert_eq!(index.row(1), Some((archived, true)), "{label}");
            assert_eq!(
                pair.text("b", &path(2)),
                text(2, "{\"n\":\"a\"}\n"),
                "{label}"
            );
            assert_eq!(index.name(2).as_deref(), Some("two"), "{label}");
            assert!(!index.is_projected(2), "{label}");
            assert!(index.is_projected(1), "{label}");
            assert_eq!(index.row(3), Some((path(3), false)), "{label}");
            assert_eq!(actions(&pair.apply("b")), Vec::<String>::new(), "{label}");
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_failed_index_update_is_repeated_by_the_next_run() {
    let pair = Pair::new();
    pair.sync(&[(&path(1), &text(1, ""))]);
    let index = Index::of(&pair, "b", &[1]);
    pair.put("a", &path(2), &text(2, ""));
    pair.apply("a");
    index
        .state("ALTER TABLE threads RENAME TO hidden; CREATE VIEW threads AS SELECT * FROM hidden");
    let refused = pair.run("b", &["run", "--apply"]).code(1);
    assert!(
        refused.stderr.contains("index could not be updated"),
        "{refused}"
    );
    assert_eq!(pair.text("b", &path(2)), text(2, ""));
    assert_eq!(index.row(2), None);
    // Other files are still synced.
    pair.put("a", "skills/mine/SKILL.md", "mine");
    pair.apply("a");
    let _ = pair.run("b", &["run", "--apply"]).code(1);
    assert_eq!(pair.text("b", "skills/mine/SKILL.md"), "mine");
    index.state("DROP VIEW threads; ALTER TABLE hidden RENAME TO threads");
    // An unreadable record of pending updates is not an empty one.
    let mut replicas = fs::read_dir(pair.0.path("manager-b/sync")).unwrap();
    let record = replicas.find_map(|folder| {
        let record = folder.unwrap().path().join("arrived.jsonl");
        record.is_file().then_some(record)
    });
    let record = record.expect("a record");
    let aside = record.with_extension("aside");
    fs::rename(&record, &aside).unwrap();
    fs::create_dir(&record).unwrap();
    let unreadable = pair.run("b", &["run", "--apply"]).code(1);
    assert!(unreadable.stderr.contains("arrived.jsonl"), "{unreadable}");
    fs::remove_dir(&record).unwrap();
    fs::rename(&aside, &record).unwrap();
    let output = pair.run("b", &["run", "--apply"]).code(0);
    assert!(
        output.stderr.contains("added to Codex's index: 1"),
        "{output}"
    );
    assert_eq!(index.row(2), Some((path(2), false)));
    let quiet = pair.run("b", &["run", "--apply"]).code(0);
    assert!(!quiet.stderr.contains("index"), "{quiet}");
}

#[test]
fn the_next_run_indexes_files_of_a_killed_resolve() {
    if !can_inject() {
        return;
    }
    for (call, number) in (1..=6).map(|n| ("fsync", n)).chain([("unlink", 1)]) {
        let pair = Pair::new();
        pair.configure("b", "[conflict]\npolicy = \"prefer_cloud\"\n");
        pair.sync(&[(&path(1), &text(1, ""))]);
        pair.put("a", &path(1), &text(1, "{\"n\":\"a\"}\n"));
        pair.put("b", &path(1), &text(1, "{\"n\":\"over there\"}\n"));
        pair.apply("a");
        pair.apply("b");
        let index = Index::of(&pair, "b", &[1]);
        let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
        let what = id(1);
        let args = [&args[..], &["resolve", &what, "--keep", "both"]].concat();
        let _ = run_ends_before_call(&pair.0, &args, call, number);
        pair.apply("b");
        let folder = pair.home("b").join("sessions/2026/11/18");
        let files = fs::read_dir(folder).unwrap();
        let files = files.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("rollout-")
        });
        assert_eq!(index.rows(), files.count(), "{call} {number}");
    }
}

#[test]
fn folders_are_mapped_only_while_the_index_is_not_in_use() {
    let pair = Pair::new();
    pair.sync(&[(&path(1), &text(1, ""))]);
    let index = Index::of(&pair, "b", &[1]);
    pair.configure(
        "b",
        "[process_detection]\ngrace_period_seconds = 0\n[[paths.map]]\nfrom = \"/w\"\nto = \"/mapped\"\n",
    );
    index.state("UPDATE threads SET cwd='/w'");
    let cwd = || -> String {
        let database = Connection::open(index.0.join("state_5.sqlite")).unwrap();
        let sql = "SELECT cwd FROM threads";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let mut codex = a_codex(&pair, "b", "echo; read line");
    let json = pair.apply("b");
    assert_eq!(actions(&json), [""; 0], "{json}");
    assert_eq!(cwd(), "/w");
    codex.kill().unwrap();
    codex.wait().unwrap();
    pair.apply("b");
    assert_eq!(cwd(), "/mapped");
}
