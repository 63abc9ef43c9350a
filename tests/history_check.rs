//! `history check`, `repair` and `undo` on generated homes, one difference at a time.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::sign_in::{SignIn, write_auth};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

pub(crate) fn id(n: u32) -> String {
    format!("01a10000-0000-7000-8000-{n:012x}")
}

pub(crate) fn relative(n: u32) -> String {
    format!(
        "sessions/2026/01/02/rollout-2026-01-02T00-00-00-{}.jsonl",
        id(n)
    )
}

/// Three conversations that Codex lists, the second under a name.
pub(crate) struct Home {
    pub(crate) env: TestEnv,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self {
            env: TestEnv::new(),
        };
        for n in 1..=3 {
            home.put(&relative(n), &rollout(n, "acct-alice"));
        }
        let folder = home.path("");
        home.sql(
            "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL,
             created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, source TEXT NOT NULL,
             title TEXT NOT NULL, archived INTEGER NOT NULL DEFAULT 0, archived_at INTEGER,
             first_user_message TEXT NOT NULL DEFAULT '',
             history_mode TEXT NOT NULL DEFAULT 'legacy', name TEXT, created_at_ms INTEGER,
             updated_at_ms INTEGER, creator_account_id TEXT)",
        );
        for n in 1..=3 {
            home.sql(&format!(
                "INSERT INTO threads(id, rollout_path, created_at, updated_at, source, title,
                 first_user_message, history_mode)
                 VALUES('{}', '{}/{}', 1, 1, 'cli', 'question {n}', 'question {n}', 'paginated')",
                id(n),
                folder.display(),
                relative(n)
            ));
        }
        home.sql(&format!(
            "UPDATE threads SET name='named' WHERE id='{}'",
            id(2)
        ));
        home.put("session_index.jsonl", &line(2, "named"));
        write_auth(&folder, &SignIn::alice());
        home
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() {
            self.env.codex_home()
        } else {
            self.env.codex_home().join(relative)
        }
    }

    fn put(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn sql(&self, sql: &str) {
        let database = Connection::open(self.path("state_5.sqlite")).unwrap();
        database.execute_batch(sql).unwrap();
        database.close().unwrap();
    }

    pub(crate) fn row(&self, n: u32, column: &str) -> String {
        let database = Connection::open(self.path("state_5.sqlite")).unwrap();
        let sql = format!("SELECT CAST({column} AS TEXT) FROM threads WHERE lower(id)=?1");
        let value: Option<String> = database.query_row(&sql, [id(n)], |row| row.get(0)).unwrap();
        value.unwrap_or_default()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.env.run(["history"].iter().chain(args))
    }

    /// Runs `check`, and asserts that nothing changes.
    #[track_caller]
    fn check(&self, code: i32) -> Value {
        let before = self.env.tree("home");
        let document = self.run(&["check", "--json"]).code(code).json();
        assert_same_tree(&before, &self.env.tree("home"));
        document
    }

    /// Repairs and asserts that no difference remains. Undoes the repair byte by byte, and repairs again.
    #[track_caller]
    fn repair_undo_repair(&self) -> Value {
        let before = self.env.tree("home/.codex");
        let whole = self.env.tree("home");
        let planned = self.run(&["repair", "--dry-run", "--json"]).code(0).json();
        assert_same_tree(&whole, &self.env.tree("home"));
        let done = self.run(&["repair", "--json"]).code(0).json();
        assert_eq!(planned["changed"], done["changed"]);
        let _ = self.check(0);
        let again = self.run(&["repair", "--json"]).code(0).json();
        assert_eq!(again["changed"], serde_json::json!([]));
        let _ = self.run(&["undo"]).code(0);
        assert_same_tree(&before, &self.env.tree("home/.codex"));
        let _ = self.check(5);
        let _ = self.run(&["repair"]).code(0);
        let _ = self.check(0);
        done
    }
}

/// Creates a home with one difference of each kind.
pub(crate) fn home_with_all_differences() -> TestEnv {
    let home = Home::new();
    // 1 has no row, 2 a wrong path and no name, 3 two rollouts.
    home.sql(&format!("DELETE FROM threads WHERE id='{}'", id(1)));
    home.sql(&format!(
        "UPDATE threads SET name=NULL, rollout_path='/gone/x' WHERE id='{}'",
        id(2)
    ));
    let twice = format!(
        "archived_sessions/rollout-2026-01-02T00-00-00-{}.jsonl",
        id(3)
    );
    home.put(&twice, &rollout(3, "acct-alice"));
    // 4 is of another account, 5 a row without a file, 6 a damaged rollout.
    home.put(&relative(4), &rollout(4, "acct-bob"));
    home.sql(&format!(
        "INSERT INTO threads(id, rollout_path, created_at, updated_at, source, title)
         VALUES('{}', '/gone/y', 1, 1, 'cli', 'lost')",
        id(5)
    ));
    home.put(&relative(6), &"\0".repeat(9000));
    home.env
}

fn rollout(n: u32, account: &str) -> String {
    let id = id(n);
    format!(
        "{{\"timestamp\":\"2026-01-02T00:00:00Z\",\"ordinal\":0,\"type\":\"session_meta\",\"payload\":{{\"account_scoped\":true,\"creator_account_id\":\"{account}\",\"id\":\"{id}\",\"timestamp\":\"2026-01-02T00:00:00Z\",\"cwd\":\"/p\",\"source\":\"cli\",\"history_mode\":\"paginated\"}}}}\n\
         {{\"timestamp\":\"2026-01-02T00:00:0{n}Z\",\"ordinal\":1,\"type\":\"event_msg\",\"payload\":{{\"type\":\"user_message\",\"message\":\"question {n}\"}}}}\n"
    )
}

fn line(n: u32, name: &str) -> String {
    format!(
        "{{\"id\":\"{}\",\"thread_name\":\"{name}\",\"updated_at\":\"2026-01-02T00:00:00Z\"}}\n",
        id(n)
    )
}

#[test]
fn a_consistent_home_has_no_differences() {
    let home = Home::new();
    let document = home.check(0);
    assert_eq!(
        (&document["on_disk"], &document["listed"]),
        (&3.into(), &3.into())
    );
    for key in [
        "missing",
        "stale_path",
        "orphan_rows",
        "duplicates",
        "names_missing",
        "hidden",
    ] {
        assert_eq!(document[key], serde_json::json!([]), "{key}");
    }
    // Neither a missing line in the index nor a missing index is a difference.
    fs::remove_file(home.path("session_index.jsonl")).unwrap();
    let _ = home.check(0);
    insta::assert_snapshot!(home.run(&["repair"]).code(0), @r"
    exit 0
    --- stdout
    nothing to repair
    --- stderr
    ");
}

#[test]
fn a_conversation_without_a_row_gets_one_with_its_name() {
    let home = Home::new();
    home.sql(&format!("DELETE FROM threads WHERE id='{}'", id(2)));
    assert_eq!(home.check(5)["missing"][0]["id"], id(2));
    let _ = home.repair_undo_repair();
    assert_eq!(home.row(2, "name"), "named");
    assert_eq!(home.row(2, "title"), "question 2");
    assert_eq!(home.row(2, "creator_account_id"), "acct-alice");
    let recorded = PathBuf::from(home.row(2, "rollout_path"));
    assert_eq!(recorded, home.path(&relative(2)).canonicalize().unwrap());
}

#[test]
fn a_row_with_a_wrong_path_is_corrected() {
    let home = Home::new();
    home.sql("UPDATE threads SET rollout_path='/gone/home/'||substr(rollout_path, -80)");
    let document = home.check(5);
    assert_eq!(document["listed"], 0);
    assert_eq!(document["stale_path"].as_array().unwrap().len(), 3);
    assert_eq!(document["stale_path"][0]["foreign"], true);
    let _ = home.repair_undo_repair();
    // The other columns of the row stay.
    assert_eq!(home.row(2, "name"), "named");
}

#[test]
fn a_row_may_name_either_file_of_a_compressed_conversation() {
    let home = Home::new();
    for n in [1, 2] {
        let path = home.path(&relative(n));
        let bytes = zstd::encode_all(&*fs::read(&path).unwrap(), 1).unwrap();
        fs::write(path.with_extension("jsonl.zst"), bytes).unwrap();
        fs::remove_file(path).unwrap();
    }
    // Archiving records the compressed file. Codex also finds the plain file of a row that names the compressed one.
    for n in [1, 3] {
        home.sql(&format!(
            "UPDATE threads SET rollout_path=rollout_path||'.zst' WHERE id='{}'",
            id(n)
        ));
    }
    assert_eq!(home.check(0)["listed"], 3);
    let run = home.run(&["repair"]).code(0);
    assert!(run.stdout.contains("nothing to repair"), "{run}");
    // A restore keeps these rows too.
    let paths = || [1, 2, 3].map(|n| home.row(n, "rollout_path"));
    let before = paths();
    let _ = home.env.run(["backup", "--no-status"]).code(0);
    let _ = home.env.run(["restore", "latest", "--yes"]).code(0);
    assert_eq!(paths(), before);
}

#[test]
fn a_journal_of_a_killed_process_stays_until_a_repair_and_one_of_another_file_is_refused() {
    let home = Home::new();
    let database = home.path("state_5.sqlite");
    let journal = home.path("state_5.sqlite-journal");
    let killed = home.env.path("killed");
    fs::create_dir(&killed).unwrap();
    let writer = Connection::open(&database).unwrap();
    // The small cache makes SQLite write to the database before the commit.
    let half_done = "PRAGMA cache_size=1; BEGIN; UPDATE threads SET title='half', history_mode='x';
                     CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(99999));";
    writer.execute_batch(half_done).unwrap();
    for path in [&database, &journal] {
        fs::copy(path, killed.join(path.file_name().unwrap())).unwrap();
    }
    writer.close().unwrap();
    for path in [&database, &journal] {
        fs::copy(killed.join(path.file_name().unwrap()), path).unwrap();
    }

    let read_files = || [&database, &journal].map(|path| fs::read(path).unwrap());
    let files = read_files();
    let before = home.env.tree("home");
    let _ = home.check(0);
    let listed = home.env.run(["sessions", "--json"]).code(0);
    assert!(listed.stdout.contains("question 1") && !listed.stdout.contains("half"));
    let _ = home.env.run(["storage", "vacuum", "--dry-run"]).code(0);
    let _ = home.run(&["repair", "--dry-run"]).code(0);
    assert_same_tree(&before, &home.env.tree("home"));
    let _ = home.env.run(["backup", "--no-status"]).code(0);
    assert_eq!(read_files(), files);
    let _ = home
        .env
        .run(["restore", "latest", "--to", "restored"])
        .code(0);
    let restored = Connection::open(home.env.path("restored/state_5.sqlite")).unwrap();
    let title = restored.query_row("SELECT min(title) FROM threads", [], |row| row.get(0));
    assert_eq!(title, Ok("question 1".to_owned()));

    // SQLite would remove the file that a journal names, even if it is a stranger's journal.
    let named = home.env.write("named", "of the user");
    let mut bytes = fs::read(&journal).unwrap();
    let name = named.to_str().unwrap().as_bytes();
    let sum: u32 = name.iter().map(|byte| u32::from(*byte)).sum();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(name);
    bytes.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    bytes.extend(sum.to_be_bytes());
    bytes.extend([0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7]);
    fs::write(&journal, bytes).unwrap();
    let run = home.run(&["check"]).code(1);
    assert!(run.stderr.contains("names another file"), "{run}");
    assert!(named.exists());

    // A command that writes applies the journal.
    fs::copy(killed.join("state_5.sqlite-journal"), &journal).unwrap();
    home.put("session_index.jsonl", &line(3, "named"));
    let _ = home.run(&["repair"]).code(0);
    assert_eq!(home.row(3, "name"), "named");
    assert!(!journal.exists());
}

#[test]
fn rows_that_point_to_another_home_are_corrected_in_this_home_only() {
    let home = Home::new();
    let other = home.env.path("other");
    let theirs = other.join(relative(1));
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::copy(home.path(&relative(1)), &theirs).unwrap();
    home.sql(&format!(
        "UPDATE threads SET rollout_path='{}' WHERE id='{}'",
        theirs.display(),
        id(1)
    ));
    assert_eq!(home.check(5)["stale_path"][0]["foreign"], true);
    let before = home.env.tree("other");
    let _ = home.repair_undo_repair();
    assert_same_tree(&before, &home.env.tree("other"));
}

#[test]
fn a_manually_archived_conversation_is_recorded_as_archived() {
    let home = Home::new();
    let name = format!("rollout-2026-01-02T00-00-00-{}.jsonl", id(3));
    fs::create_dir_all(home.path("archived_sessions")).unwrap();
    let archived = home.path("archived_sessions").join(name);
    fs::rename(home.path(&relative(3)), archived).unwrap();
    assert_eq!(home.check(5)["stale_path"][0]["archived"], true);
    let _ = home.repair_undo_repair();
    assert_eq!(home.row(3, "archived"), "1");
    assert_eq!(home.row(3, "archived_at"), "1");
}

#[test]
fn a_name_that_is_only_in_the_index_is_restored() {
    let home = Home::new();
    home.sql("UPDATE threads SET name=NULL");
    // Derived names that a rebuild wrote (the first message or the id) are not restored.
    home.put(
        "session_index.jsonl",
        &format!(
            "{}{}{}",
            line(2, "named"),
            line(1, "question 1"),
            line(3, &id(3))
        ),
    );
    let document = home.check(5);
    assert_eq!(document["names_missing"].as_array().unwrap().len(), 1);
    let _ = home.repair_undo_repair();
    assert_eq!(
        (home.row(1, "name"), home.row(2, "name")),
        (String::new(), "named".into())
    );
}

#[test]
fn ids_in_another_case_are_the_same_conversation() {
    let home = Home::new();
    home.sql("UPDATE threads SET id=upper(id), name=NULL, rollout_path='x'");
    assert_eq!(home.check(5)["orphan_rows"], serde_json::json!([]));
    let _ = home.repair_undo_repair();
    assert_eq!(home.row(2, "name"), "named");
}

#[test]
fn unrepairable_differences_are_reported_and_left_alone() {
    let home = Home::new();
    fs::remove_file(home.path(&relative(1))).unwrap();
    fs::write(home.path(&relative(2)), vec![0; 9000]).unwrap();
    let copy = relative(3).replace("/02/", "/03/");
    home.put(&copy, &rollout(3, "acct-alice"));
    home.put(&format!("{}.zst", relative(3)), "no zstd, and never read");
    let document = home.check(5);
    assert_eq!(document["orphan_rows"].as_array().unwrap().len(), 2);
    assert_eq!(document["damaged"].as_array().unwrap().len(), 1);
    let paths = document["duplicates"][0]["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 3);
    assert_eq!(
        paths[0].as_str().unwrap(),
        format!("[ROOT]/home/.codex/{}", relative(3))
    );
    let before = home.env.tree("home/.codex");
    let run = home.run(&["repair"]).code(6);
    assert_same_tree(&before, &home.env.tree("home/.codex"));
    insta::assert_snapshot!(run, @r"
    exit 6
    --- stdout
    nothing to repair
    --- stderr
    4 findings that repair cannot fix; list them with:
        codex-manager history check
    ");
    insta::assert_snapshot!(home.run(&["check"]).code(5), @r"
    exit 5
    --- stdout
    1 conversation on disk, 1 listed by Codex

    2 listed, but without a file
      01a10000-0000-7000-8000-000000000001  question 1
      01a10000-0000-7000-8000-000000000002  named

    1 in more than one file; Codex uses the first
      01a10000-0000-7000-8000-000000000003  question 3
        sessions/2026/01/02/rollout-2026-01-02T00-00-00-….jsonl
        sessions/2026/01/03/rollout-2026-01-02T00-00-00-….jsonl
        sessions/2026/01/02/rollout-2026-01-02T00-00-00-….jsonl.zst

    1 damaged
      in sessions/2026/01/02: its first lines do not name a conversation
        rollout-2026-01-02T00-00-00-01a10000-0000-7000-8000-000000000002.jsonl
    --- stderr
    restore a lost conversation:
        codex-manager restore --session 01a10000-0000-7000-8000-000000000001
    remove such rows:
        codex-manager history repair --drop-missing
    ");
}

#[test]
fn conversations_of_another_account_are_listed_as_hidden_not_as_differences() {
    let home = Home::new();
    home.put(&relative(3), &rollout(3, "acct-bob"));
    let document = home.check(0);
    assert_eq!(document["hidden"][0]["account_id"], "acct-bob");
    assert_eq!(document["hidden"].as_array().unwrap().len(), 1);
    for n in 4..10 {
        home.put(&relative(n), &rollout(n, "acct-bob"));
    }
    let shown = home.run(&["check"]).stdout;
    let more = "\n  … 2 more:\n    codex-manager history check --all\n";
    assert!(shown.contains(more), "{shown}");
}

#[test]
fn an_unknown_schema_is_refused_without_any_change() {
    let home = Home::new();
    home.sql(&format!(
        "DELETE FROM threads WHERE id='{}'; UPDATE threads SET rollout_path='x';",
        id(2)
    ));
    home.sql(
        "CREATE TABLE wanted AS SELECT * FROM threads; DROP TABLE threads;
         CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL,
         from_the_future TEXT NOT NULL);
         INSERT INTO threads SELECT id, rollout_path, 'y' FROM wanted; DROP TABLE wanted;",
    );
    let run = home.run(&["repair"]).code(1);
    assert!(run.stderr.contains("from_the_future"), "{run}");
    assert_eq!(home.row(1, "rollout_path"), "x");
}

#[test]
fn a_missing_database_needs_codex_and_nothing_changes_without_it() {
    let home = Home::new();
    fs::remove_file(home.path("state_5.sqlite")).unwrap();
    assert_eq!(home.check(5)["missing"].as_array().unwrap().len(), 3);
    let before = home.env.tree("home/.codex");
    let run = home.run(&["repair"]).code(1);
    assert!(run.stderr.contains("only Codex can recreate it"), "{run}");
    assert_same_tree(&before, &home.env.tree("home/.codex"));
}

#[test]
fn a_locked_database_is_an_error_not_a_missing_one() {
    let home = Home::new();
    let holder = Connection::open(home.path("state_5.sqlite")).unwrap();
    holder
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA locking_mode=EXCLUSIVE;
             CREATE TABLE held(x); INSERT INTO held VALUES(1);",
        )
        .unwrap();
    // Both commands wait for SQLite's time limit, so they run concurrently.
    std::thread::scope(|scope| {
        for verb in ["check", "repair"] {
            let home = &home;
            scope.spawn(move || {
                let run = home.run(&[verb]).code(1);
                assert!(run.stderr.contains("database is locked"), "{run}");
            });
        }
    });
}

#[test]
fn a_repair_is_refused_while_a_process_uses_the_home() {
    let home = Home::new();
    home.sql("UPDATE threads SET rollout_path='x'");
    let before = home.env.tree("home/.codex");
    let held = fs::File::open(home.path(&relative(1))).unwrap();
    let mut reader = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(held)
        .spawn()
        .unwrap();
    let run = home.run(&["repair"]).code(3);
    let undo = home.run(&["undo"]);
    drop(reader.stdin.take());
    let _ = reader.wait();
    assert!(
        run.stderr.contains(&format!("PID {}", reader.id())),
        "{run}"
    );
    assert!(run.stderr.contains("nothing was changed"), "{run}");
    assert_eq!(undo.code, 1, "{undo}");
    assert_same_tree(&before, &home.env.tree("home/.codex"));
}

#[test]
fn an_undo_keeps_the_replaced_state_and_verifies_the_snapshot() {
    let home = Home::new();
    home.sql("UPDATE threads SET rollout_path='x'");
    let broken = home.env.tree("home/.codex");
    let _ = home.run(&["repair"]).code(0);
    home.sql(&format!(
        "UPDATE threads SET title='later' WHERE id='{}'",
        id(1)
    ));
    let later = home.env.tree("home/.codex");
    let undone = home.run(&["undo", "--json"]).code(0).json();
    assert_same_tree(&broken, &home.env.tree("home/.codex"));
    // No repair is left to undo, but the state before the undo can be restored by name.
    let _ = home.run(&["undo"]).code(1);
    let kept = PathBuf::from(undone["kept"].as_str().unwrap());
    let name = kept.file_name().unwrap().to_str().unwrap().to_owned();
    let folder = home.env.manager_home().join("history").join(&name);
    let _ = home.run(&["undo", "--snapshot", &name]).code(0);
    assert_same_tree(&later, &home.env.tree("home/.codex"));
    // A damaged snapshot is refused without any change.
    fs::write(folder.join("0"), "not what was kept").unwrap();
    let run = home.run(&["undo", "--snapshot", &name]).code(5);
    assert!(run.stderr.contains("the snapshot is damaged"), "{run}");
    assert_same_tree(&later, &home.env.tree("home/.codex"));
}

#[test]
fn a_missing_home_is_an_error() {
    let env = TestEnv::new();
    for verb in ["check", "repair", "undo", "rebuild"] {
        let run = env.run(["history", verb]).code(1);
        assert!(run.stderr.contains("no Codex home"), "{run}");
    }
}

#[test]
fn a_repair_that_fails_between_the_two_databases_can_be_undone() {
    let home = Home::new();
    home.sql("UPDATE threads SET rollout_path='x'");
    // A projection that is longer than its rollout, and that another table forbids to drop.
    let name = "thread_history_1.sqlite";
    let database = Connection::open(home.path(name)).unwrap();
    let id = id(1);
    let sql = format!(
        "CREATE TABLE thread_history_projection_state(thread_id TEXT PRIMARY KEY,
         next_rollout_byte_offset INTEGER);
         CREATE TABLE thread_turns(thread_id TEXT);
         CREATE TABLE others(of TEXT REFERENCES thread_history_projection_state(thread_id));
         INSERT INTO thread_history_projection_state VALUES('{id}', 100000);
         INSERT INTO others VALUES('{id}')"
    );
    database.execute_batch(&sql).unwrap();
    database.close().unwrap();
    let before = home.env.tree("home/.codex");
    let repair = home.run(&["repair"]).code(1);
    for part in [
        "the previous state is kept as",
        "FOREIGN KEY",
        "codex-manager history undo",
    ] {
        assert!(repair.stderr.contains(part), "{repair}");
    }
    assert_ne!(home.row(1, "rollout_path"), "x");
    let _ = home.run(&["undo"]).code(0);
    assert_same_tree(&before, &home.env.tree("home/.codex"));
}
