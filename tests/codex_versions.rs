//! Homes of seven versions of the real Codex through the commands that read or change one. Each test compares what
//! happens with its column in `docs/codex-versions.md`; `UPDATE_DOCS=1 cargo test codex_versions` writes the columns.

#![allow(
    clippy::print_stdout,
    reason = "the time of each command is shown when a test fails, or with --nocapture"
)]

use crate::old_codex::start_conversation;
use crate::support::lab::{Lab, messages, rollout, rollouts};
use crate::support::launched::{launches, turns};
use crate::support::pauses::wait_until;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{fs, thread};

const YES: &str = "yes";

/// A home of one version, with a conversation of Alice.
struct Home {
    lab: Lab,
    version: &'static str,
    id: String,
}

impl Home {
    fn of(version: &'static str) -> Option<Self> {
        let lab = Lab::of_version(version)?;
        // Codex up to 0.60 takes no `--skip-git-repo-check` after `resume`, and 0.150 wants more than a folder `.git`.
        fs::create_dir(lab.world.path(".git")).expect("folder");
        let id = start_conversation(&lab, "count the apples");
        Some(Self { lab, version, id })
    }

    fn rollout(&self) -> PathBuf {
        rollout(&self.lab.home(), &self.id)
    }

    /// Runs a turn without the manager. Asserts that it continues the conversation.
    #[track_caller]
    fn continue_in_codex(&self, prompt: &str) {
        let args = ["resume", &self.id, prompt];
        let done = self
            .lab
            .codex
            .exec(&self.lab.home(), &self.lab.backend, &args);
        let _ = done.expect_success();
        self.assert_said(prompt);
    }

    #[track_caller]
    fn assert_said(&self, prompt: &str) {
        let said = messages(&self.rollout());
        assert_eq!(said.last().map(String::as_str), Some(prompt), "{said:?}");
    }

    /// Returns the tables of the state database, or `None` for a Codex without one.
    fn database(&self) -> Option<rusqlite::Connection> {
        let path = self.lab.home().join("state_5.sqlite");
        let database = rusqlite::Connection::open(path.exists().then_some(path)?);
        Some(database.expect("open"))
    }

    fn is_listed(&self) -> bool {
        let database = self.database().expect("a database");
        let sql = "SELECT count(*) FROM threads WHERE id = ?1";
        let rows: i64 = database
            .query_row(sql, [&self.id], |row| row.get(0))
            .expect("a count");
        rows == 1
    }

    fn backup_and_restore(&self) -> [String; 2] {
        let archive = self.lab.back_up();
        let _ = self.lab.manager([Path::new("verify"), &archive]).code(0);
        let home = self.lab.home();
        let read = |name: &str| fs::read(home.join(name)).expect("read");
        let before = ["auth.json", "config.toml"].map(read);
        let conversations: Vec<_> = contents(&home);
        let is_listed = self.database().is_some();
        fs::remove_dir_all(&home).expect("remove");
        let archive = archive.to_str().expect("text");
        let _ = self.lab.manager(["restore", archive, "--yes"]).code(0);
        assert_eq!(before, ["auth.json", "config.toml"].map(read));
        assert_eq!(conversations, contents(&home));
        assert!(!is_listed || self.is_listed());
        self.continue_in_codex("again, after the restore");
        let count = rollouts(&home).len();
        assert_eq!(count, conversations.len());
        [YES; 2].map(str::to_owned)
    }

    fn readers(&self) -> [String; 4] {
        let listed = self.lab.manager(["sessions", "--json"]).code(0).json();
        assert_eq!(listed["sessions"][0]["id"], *self.id, "{listed}");
        assert_eq!(listed["sessions"][0]["title"], "count the apples");
        let found = self
            .lab
            .manager(["find", "apples", "--json"])
            .code(0)
            .json();
        assert_eq!(found["hits"][0]["session_id"], *self.id, "{found}");
        let shown = self.lab.manager(["show", &self.id]).code(0);
        assert!(shown.stdout.contains("count the apples"), "{shown}");
        let used = self.lab.manager(["usage", "--json"]).code(0).json();
        let tokens = used["totals"]["total_tokens"].as_u64();
        assert!(tokens.is_some_and(|tokens| tokens > 0), "{used}");
        [YES; 4].map(str::to_owned)
    }

    /// Launches Codex as `account`. Returns what became of the conversation.
    fn launch(&self, account: &str, options: &[&str]) -> String {
        let prompt = format!("{account} {options:?}");
        let before = launches(&self.lab).len();
        let exec = ["--", "exec", "--skip-git-repo-check", &prompt];
        let args = [&["launch", account], options, &exec].concat();
        let backend = self.lab.backend.account(&format!("acct-{account}"));
        // The answer comes when the conversation is bound. Without an account in its rollout, it is bound only while
        // Codex has it open.
        backend.hold_turns();
        let run = thread::scope(|scope| {
            let running = scope.spawn(|| self.lab.manager(args));
            wait_until("the conversation is bound", || {
                let launches = launches(&self.lab);
                let is_bound = |launch: &serde_json::Value| launch["session_id"].is_string();
                let is_new_bound =
                    launches.len() > before && launches.first().is_some_and(is_bound);
                running.is_finished() || is_new_bound
            });
            backend.release_turns();
            running.join().expect("a run")
        });
        assert_eq!(run.code, 0, "{run}");
        let row = launches(&self.lab).remove(0);
        assert_eq!(turns(&self.lab).last(), Some(&format!("acct-{account}")));
        assert_eq!(row["state"], "bound", "{row}");
        let id = row["session_id"].as_str().expect("an id");
        assert_eq!(messages(&rollout(&self.lab.home(), id)), [prompt]);
        YES.to_owned()
    }

    fn resume(&self) -> String {
        // Codex up to 0.60 takes no `--skip-git-repo-check` after `resume`, and is content with a folder `.git`.
        let exec = match self.version {
            "0.42.0" | "0.60.1" => vec!["--", "exec", "once more"],
            _ => vec!["--", "exec", "--skip-git-repo-check", "once more"],
        };
        let named = ["--profile", "alice"];
        let plain = self
            .lab
            .manager([&["resume", &self.id], &exec[..]].concat());
        let cell = if plain.code == 0 {
            YES
        } else {
            let args = [&["resume", &self.id], &named[..], &exec].concat();
            let _ = self.lab.manager(args).code(0);
            "yes, with `--profile`"
        };
        assert_eq!(
            turns(&self.lab).last().map(String::as_str),
            Some("acct-alice")
        );
        self.assert_said("once more");
        cell.to_owned()
    }

    fn use_account(&self) -> String {
        for account in ["bob", "alice"] {
            let _ = self.lab.manager(["use", account]).code(0);
            start_conversation(&self.lab, account);
            assert_eq!(turns(&self.lab).last(), Some(&format!("acct-{account}")));
        }
        YES.to_owned()
    }

    fn status(&self) -> String {
        let run = self.lab.manager(["status", "--json"]);
        if run.code == 6 && run.stderr.contains("app-server ended without an answer") {
            return "no: Codex has no app-server".to_owned();
        }
        let windows = run.json()["windows"].as_array().map(Vec::len);
        assert!(windows.is_some_and(|count| count > 0), "{run}");
        YES.to_owned()
    }

    fn history(&self) -> [String; 3] {
        let Some(database) = self.database() else {
            let checked = self.lab.manager(["history", "check"]).code(5);
            assert!(checked.stdout.contains("no state database"), "{checked}");
            let repaired = self.lab.manager(["history", "repair"]).code(5);
            assert!(repaired.stderr.contains("keeps no list"), "{repaired}");
            let _ = self.lab.manager(["history", "undo"]).code(1);
            return ["no: Codex keeps no list"; 3].map(str::to_owned);
        };
        let _ = self.lab.manager(["history", "check"]).code(0);
        let forget = "DELETE FROM threads WHERE id = ?1";
        assert_eq!(database.execute(forget, [&self.id]), Ok(1));
        drop(database);
        let _ = self.lab.manager(["history", "check"]).code(5);
        let _ = self.lab.manager(["history", "repair", "--yes"]).code(0);
        assert!(self.is_listed());
        let _ = self.lab.manager(["history", "check"]).code(0);
        let _ = self.lab.manager(["history", "undo", "--yes"]).code(0);
        assert!(!self.is_listed());
        let _ = self.lab.manager(["history", "repair", "--yes"]).code(0);
        self.continue_in_codex("after the repair");
        [YES; 3].map(str::to_owned)
    }

    /// Runs all commands. Returns each with its cell.
    fn column(&self) -> Vec<(&'static str, String)> {
        let mut cells = Vec::new();
        let mut began = Instant::now();
        let mut add = |names: &[&'static str], found: &[String]| {
            println!(
                "{} {names:?}: {found:?} in {:?}",
                self.version,
                began.elapsed()
            );
            began = Instant::now();
            cells.extend(names.iter().copied().zip(found.iter().cloned()));
        };
        add(&["backup", "restore"], &self.backup_and_restore());
        add(&["sessions", "find", "show", "usage"], &self.readers());
        add(&["status"], &[self.status()]);
        add(&["launch"], &[self.launch("bob", &[])]);
        add(
            &["launch --isolated"],
            &[self.launch("alice", &["--isolated"])],
        );
        add(&["resume"], &[self.resume()]);
        add(&["use"], &[self.use_account()]);
        let names = ["history check", "history repair", "history undo"];
        add(&names, &self.history());
        cells
    }
}

/// Returns the path and the bytes of each rollout.
fn contents(home: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = rollouts(home).into_iter();
    files
        .map(|path| (path.clone(), fs::read(&path).expect("read")))
        .collect()
}

/// The rows of the page's table, each with its cells.
struct Page {
    text: String,
    rows: Vec<Vec<String>>,
}

impl Page {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codex-versions.md")
    }

    fn read() -> Self {
        let text = fs::read_to_string(Self::path()).expect("read the page");
        let lines = text.lines().filter(|line| line.starts_with('|'));
        let cells = |line: &str| {
            let line = line.trim_matches('|');
            line.split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let rows = lines.map(cells).collect();
        Self { text, rows }
    }

    /// Returns the index of a version's column.
    fn column(&self, version: &str) -> usize {
        let found = self.rows[0].iter().position(|cell| cell == version);
        found.unwrap_or_else(|| panic!("no column for {version}"))
    }

    fn cell(&mut self, command: &str, column: usize) -> &mut String {
        let name = format!("`{command}`");
        let row = self.rows.iter_mut().find(|row| row[0] == name);
        &mut row.unwrap_or_else(|| panic!("no row for {command}"))[column]
    }

    fn write(&self) {
        let mut rows = self.rows.iter();
        let render = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let lines = self.text.split_inclusive('\n');
        let text = lines.map(|line| {
            let is_row = line.starts_with('|');
            let row = is_row.then(|| render(rows.next().expect("a row")));
            row.unwrap_or_else(|| line.to_owned())
        });
        fs::write(Self::path(), text.collect::<String>()).expect("write the page");
    }
}

/// Compares what the commands do in a home of this version with the page.
fn check(version: &'static str) {
    static PAGE: Mutex<()> = Mutex::new(());
    let Some(home) = Home::of(version) else {
        return;
    };
    let found = home.column();
    let _one = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut page = Page::read();
    let column = page.column(version);
    assert_eq!(page.rows.len(), found.len() + 2, "other rows than commands");
    let mut stale = Vec::new();
    for (command, cell) in found {
        let written = page.cell(command, column);
        if *written != cell {
            stale.push(format!("{command}: {written:?} is {cell:?}"));
            *written = cell;
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        page.write();
    } else {
        assert!(
            stale.is_empty(),
            "docs/codex-versions.md: {version}: {stale:#?}"
        );
    }
}

#[test]
fn a_home_of_codex_0_42_works_as_documented() {
    check("0.42.0");
}

#[test]
fn a_home_of_codex_0_60_works_as_documented() {
    check("0.60.1");
}

#[test]
fn a_home_of_codex_0_98_works_as_documented() {
    check("0.98.0");
}

#[test]
fn a_home_of_codex_0_130_works_as_documented() {
    check("0.130.0");
}

#[test]
fn a_home_of_codex_0_150_works_as_documented() {
    check("0.150.0");
}

#[test]
fn a_home_of_codex_0_169_works_as_documented() {
    check("0.169.0");
}

#[test]
fn a_home_of_codex_0_171_works_as_documented() {
    check("0.171.0");
}
