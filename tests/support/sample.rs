//! A sample Codex home with every kind of file.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes are the program's, not its tests'"
)]

use super::env::{TestEnv, Tree, assert_same_tree};
use super::sign_in::{SignIn, auth_json, write_auth};
use rusqlite::Connection;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The id of the first conversation.
pub(crate) const FIRST: &str = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";
/// The id of the second conversation.
pub(crate) const SECOND: &str = "01a1f790-0000-7000-8000-0000000000aa";

/// The time of the last renewal of Alice's login, in Unix seconds; before [`super::env::NOW`].
pub(crate) const RENEWED: i64 = 1_794_900_000;

/// Returns a login of Alice that is `days` newer than the one in the sample home.
pub(crate) fn alice(days: i64) -> SignIn {
    SignIn::alice()
        .issued_at(RENEWED + days * 86_400)
        .generation(u64::try_from(days + 1).expect("positive"))
}

/// Returns the sign-in of Bob.
pub(crate) fn bob() -> SignIn {
    SignIn::bob().issued_at(RENEWED)
}

/// Returns the path of a rollout, relative to the home.
pub(crate) fn rollout(id: &str) -> PathBuf {
    format!("sessions/2026/11/18/rollout-2026-11-18T10-00-00-{id}.jsonl").into()
}

/// Returns one line of a rollout.
pub(crate) fn line(n: usize) -> String {
    format!("{{\"timestamp\":\"2026-11-18T10:00:00Z\",\"type\":\"event_msg\",\"n\":{n}}}\n")
}

/// Sets a modification time with nanoseconds, so that a rounded time is detected.
pub(crate) fn set_time(path: &Path, secs: u64, nanos: u32) {
    let at = SystemTime::UNIX_EPOCH + Duration::new(secs, nanos);
    File::open(path)
        .and_then(|f| f.set_modified(at))
        .expect("set time");
}

/// Writes a file below the Codex home.
pub(crate) fn put(env: &TestEnv, relative: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
    put_at(&env.codex_home(), relative, text)
}

/// Writes a file below `home`.
pub(crate) fn put_at(home: &Path, relative: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
    let path = home.join(relative);
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(&path, text).expect("write");
    path
}

/// Creates a state database with a row for each of the two conversations.
pub(crate) fn state_database(path: &Path, home: &Path) {
    let connection = Connection::open(path).expect("open");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL;
             CREATE TABLE _sqlx_migrations(version BIGINT PRIMARY KEY);
             CREATE TABLE backfill_state(id INTEGER PRIMARY KEY);
             CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, title TEXT);",
        )
        .expect("schema");
    for id in [FIRST, SECOND] {
        let place = home.join(rollout(id)).display().to_string();
        connection
            .execute(
                "INSERT INTO threads VALUES(?1, ?2, 'a title')",
                [id, &place],
            )
            .expect("row");
    }
    connection.close().expect("close");
}

/// Returns true if the header of a database has WAL mode, which Codex does not set again after it has created a database.
pub(crate) fn is_in_wal_mode(path: &Path) -> bool {
    fs::read(path).expect("read")[18..20] == [2, 2]
}

/// Creates the sample home: Alice's login, two conversations, a database, settings, a skill, a legacy file.
pub(crate) fn sample_home(env: &TestEnv) -> PathBuf {
    let home = env.codex_home();
    sample_home_at(&home);
    home
}

/// Creates the sample home at a path.
pub(crate) fn sample_home_at(home: &Path) {
    write_auth(home, &alice(0));
    put_at(home, "config.toml", "model = \"gpt-5\"\n");
    put_at(
        home,
        "installation_id",
        "11111111-2222-3333-4444-555555555555",
    );
    put_at(home, "version.json", "{\"latest_version\":\"0.169.0\"}\n");
    put_at(
        home,
        "history.jsonl",
        "{\"text\":\"one\"}\n{\"text\":\"two\"}\n",
    );
    put_at(
        home,
        "session_index.jsonl",
        format!("{{\"id\":\"{FIRST}\",\"thread_name\":\"a name\"}}\n"),
    );
    for (id, lines) in [(FIRST, 20), (SECOND, 5)] {
        let text: String = (0..lines).map(line).collect();
        let path = put_at(home, rollout(id), text);
        set_time(&path, 1_795_000_000, 123_456_789);
    }
    put_at(home, "rules/default.rules", "allow ls\n");
    put_at(home, "skills/mine/SKILL.md", "# mine\n");
    put_at(home, "skills/mine/yarn.lock", "# the user's own\n");
    put_at(home, "AGENTS.md", "be brief\n");
    put_at(home, "notes.txt", "the user's\n");
    let legacy = put_at(
        home,
        "21apr_old@example.com_auth.json",
        auth_json(&SignIn::new("acct-old", "old@example.com").issued_at(RENEWED)),
    );
    set_time(&legacy, 1_776_169_500, 0);
    state_database(&home.join("state_5.sqlite"), home);
    // Codex leaves its lock files.
    for lock in ["auth.lock", "auth.json.lock"] {
        put_at(home, lock, "");
    }
}

/// Creates the sample home with what Codex Desktop adds to it. Returns its open database: only the `-wal` has the rows.
pub(crate) fn desktop_home_at(home: &Path) -> Connection {
    sample_home_at(home);
    for (path, content) in [
        ("automations/nightly/automation.toml", "id = \"nightly\"\n"),
        ("automations/nightly/memory.md", "# seen\n"),
        ("account-sessions.json", "{\"schemaVersion\":1}"),
        (
            ".codex-global-state.json",
            "{\"active-workspace-roots\":[]}",
        ),
        ("projects/one/notes.md", "a project\n"),
    ] {
        put_at(home, path, content);
    }
    put_at(home, "account-sessions/1/auth.json", auth_json(&bob()));
    Connection::open(home.join("state_5.sqlite"))
        .and_then(|state| {
            state.execute_batch(
                "CREATE TABLE projects(id TEXT PRIMARY KEY, name TEXT);
                 INSERT INTO projects VALUES('p1', 'One');",
            )
        })
        .expect("projects");

    let database = put_at(home, "sqlite/codex-dev.db", "");
    let connection = Connection::open(database).expect("open");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             CREATE TABLE automations(id TEXT PRIMARY KEY, name TEXT NOT NULL, status TEXT, next_run_at INTEGER);
             CREATE TABLE automation_runs(thread_id TEXT PRIMARY KEY, automation_id TEXT NOT NULL);
             CREATE TABLE inbox_items(id TEXT PRIMARY KEY, title TEXT);
             CREATE TABLE local_thread_catalog(host_id TEXT, thread_id TEXT, display_title TEXT);
             INSERT INTO automations VALUES('nightly', 'Nightly check', 'ACTIVE', 1);
             INSERT INTO inbox_items VALUES('i1', 'done');",
        )
        .expect("schema");
    connection
}

/// Creates a backup and returns the path of the archive.
#[track_caller]
pub(crate) fn backup(env: &TestEnv, args: &[&str]) -> PathBuf {
    let mut all = vec!["backup", "--no-status", "--json"];
    all.extend(args);
    let document = env.run(all).code(0).json();
    env.manager_home()
        .join("backups")
        .join(document["archive"].as_str().expect("archive"))
}

/// Returns a path as text, for arguments.
pub(crate) fn text(path: &Path) -> String {
    path.to_str().expect("text").to_owned()
}

/// Returns the tree with only the kind and mode of databases, because a snapshot of a database has the
/// same rows but other bytes. Compare contents with [`rows`].
pub(crate) fn comparable(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for (path, text) in &mut tree.0 {
        if path.extension().is_some_and(|e| e == "sqlite") {
            *text = text.split(' ').take(2).collect::<Vec<_>>().join(" ");
        }
    }
    tree
}

/// Returns the rows of a state database. Creates no files beside it.
pub(crate) fn rows(path: &Path) -> Vec<(String, String)> {
    let uri = format!("file:{}?immutable=1", path.display());
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri, flags).expect("open");
    let mut statement = connection
        .prepare("SELECT id, rollout_path FROM threads ORDER BY id")
        .expect("a table");
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

/// Asserts that two trees are equal, except for the bytes of databases.
#[track_caller]
pub(crate) fn assert_same_home(before: &Tree, after: &Tree) {
    assert_same_tree(&comparable(before), &comparable(after));
}
