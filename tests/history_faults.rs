//! I2, I3: `history repair`, `undo` and `rebuild`, killed at each call that changes the disk, or
//! with a full disk from that call on.

use crate::history_check::{Home, id};
use crate::support::copy_tree;
use crate::support::env::Tree;
use crate::support::faults::Dice;
use crate::support::injection::{
    Fault, Point, can_inject, points, run_ends_before_call, run_with_fault, sample_evenly,
};
use crate::support::lab::conversation_rows;
use rusqlite::Connection;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

/// The number of points of each command that are tested for each kind of failure.
const POINTS: usize = 14;

const NAMES: [&str; 3] = ["state_5.sqlite", "state_5.sqlite-wal", "state_5.sqlite-shm"];

/// Creates a home whose rows have wrong paths, and whose second name is only in the write-ahead log.
fn damaged_home() -> Home {
    let home = Home::new();
    let database = home.path(NAMES[0]);
    let writer = Connection::open(&database).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA wal_checkpoint;
             UPDATE threads SET rollout_path='x', name=iif(name IS NULL, NULL, 'in the log');",
        )
        .unwrap();
    // Reproduces the state after a killed Codex: a copy of the files that the writer has open.
    let bytes = NAMES.map(|name| fs::read(home.path(name)).unwrap());
    drop(writer);
    for (name, bytes) in NAMES.iter().zip(bytes) {
        fs::write(home.path(name), bytes).unwrap();
    }
    home
}

/// Returns the path of the first row and the name of the second.
fn state(home: &Home) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let _ = fs::copy(home.path(name), folder.path().join(name));
    }
    let database = Connection::open(folder.path().join(NAMES[0])).unwrap();
    let check: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let text = |n: u32, column: &str| -> String {
        let sql = format!("SELECT {column} FROM threads WHERE id=?1");
        database.query_row(&sql, [id(n)], |row| row.get(0)).unwrap()
    };
    (text(1, "rollout_path") == "x", text(2, "name"))
}

fn rows(home: &Home) -> Vec<String> {
    conversation_rows(&home.env.codex_home())
}

fn databases(home: &Home) -> Tree {
    home.env.tree("home/.codex").only(&NAMES)
}

/// Returns every point with each kind of fault.
fn all_faults(home: &Home, args: &[&str]) -> Vec<(Point, Fault)> {
    let points = points(&home.env, args);
    let mut dice = Dice::new();
    let mut chosen = Vec::new();
    for way in [Fault::Killed, Fault::FromThenOn("ENOSPC")] {
        let some = sample_evenly(POINTS, &points, &mut dice);
        chosen.extend(some.into_iter().map(|point| (point, way)));
    }
    // A commit whose flush fails may be complete.
    let flushes = points.into_iter().filter(|p| p.call.contains("sync"));
    chosen.extend(flushes.map(|point| (point, Fault::FromThenOn("ENOSPC"))));
    chosen
}

/// Returns the temporary folders and files that a completed command must not leave.
fn stray_files(home: &Home) -> Vec<String> {
    let tree = home.env.tree("home").0;
    let names = tree.into_keys().map(|path| path.display().to_string());
    names
        .filter(|name| name.contains("codex-manager-tmp-") || name.contains(".undoing"))
        .collect()
}

/// Copies the home and the manager home, so that each try starts from the same state.
struct Snapshot(tempfile::TempDir);

impl Snapshot {
    fn of(home: &Home) -> Self {
        let kept = Self(tempfile::tempdir().unwrap());
        copy(&home.env.path("home"), kept.0.path());
        kept
    }

    fn restore(&self, home: &Home) {
        let place = home.env.path("home");
        fs::remove_dir_all(&place).unwrap();
        copy(self.0.path(), &place);
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    copy_tree(&from.join("."), to);
}

#[test]
fn i2_i3_a_repair_that_fails_anywhere_leaves_the_old_or_the_new_state_and_can_be_undone() {
    if !can_inject() {
        return;
    }
    let home = damaged_home();
    let kept = Snapshot::of(&home);
    let before = databases(&home);
    let rows_before = rows(&home);
    let args = ["history", "repair"];
    let tries = all_faults(&home, &args);
    for (point, fault) in tries {
        kept.restore(&home);
        let context = format!("{point:?} {fault:?}");
        let Some(output) = run_with_fault(&home.env, &args, &point, fault) else {
            continue;
        };
        let was_killed = output.status.signal().is_some();
        let has_snapshot = snapshots(&home) > 0;
        if !was_killed && !output.status.success() && !has_snapshot {
            let after = databases(&home).0.into_keys();
            let before = before.0.keys();
            assert!(
                after.eq(before.cloned()),
                "{context}: a write-ahead log remains"
            );
        }
        let found = home.env.run(["history", "check"]);
        let (is_broken, name) = state(&home);
        assert_eq!(name, "in the log", "{context}");
        assert_eq!(
            found.code,
            if is_broken { 5 } else { 0 },
            "{context}: {found}"
        );
        let undo = home.env.run(["history", "undo"]);
        if is_broken && undo.code == 1 {
            assert!(undo.stderr.contains("no snapshot"), "{context}: {undo}");
        } else {
            assert_eq!(undo.code, 0, "{context}: {output:?}\n{undo}");
            assert_eq!(rows(&home), rows_before, "{context}");
            assert!(!home.path(NAMES[1]).exists(), "{context}");
        }
        // The next repair completes and leaves nothing of the failed one.
        let _ = home.env.run(args).code(0);
        let _ = home.env.run(["history", "check"]).code(0);
        assert_eq!(stray_files(&home), Vec::<String>::new(), "{context}");
    }
}

fn snapshots(home: &Home) -> usize {
    let folder = home.env.manager_home().join("history");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().join("snapshot.json").exists())
        .count()
}

#[test]
fn i2_i3_an_undo_that_fails_anywhere_is_completed_or_has_no_effect() {
    if !can_inject() {
        return;
    }
    let home = damaged_home();
    let before = rows(&home);
    let _ = home.env.run(["history", "repair"]).code(0);
    let kept = Snapshot::of(&home);
    let args = ["history", "undo"];
    let tries = all_faults(&home, &args);
    for (point, fault) in tries {
        kept.restore(&home);
        let context = format!("{point:?} {fault:?}");
        if run_with_fault(&home.env, &args, &point, fault).is_none() {
            continue;
        }
        let found = home.env.run(["history", "check"]);
        let (is_broken, name) = state(&home);
        assert_eq!(name, "in the log", "{context}: {found}");
        assert_eq!(
            found.code,
            if is_broken { 5 } else { 0 },
            "{context}: {found}"
        );
        if !is_broken {
            let _ = home.env.run(args).code(0);
        }
        assert_eq!(rows(&home), before, "{context}");
        assert_eq!(stray_files(&home), Vec::<String>::new(), "{context}");
    }
}

#[test]
fn i2_i3_a_rebuild_that_fails_anywhere_leaves_each_file_old_or_new() {
    if !can_inject() {
        return;
    }
    let home = damaged_home();
    fs::write(home.path("history.jsonl"), "not a line\n").unwrap();
    let kept = Snapshot::of(&home);
    let names = ["session_index.jsonl", "history.jsonl"];
    let read = |home: &Home| names.map(|name| fs::read_to_string(home.path(name)).unwrap());
    let old = read(&home);
    let args = ["history", "rebuild", "--yes"];
    let tries = all_faults(&home, &args);
    let new = read(&home);
    assert!(old[0] != new[0] && old[1] != new[1]);
    for (point, fault) in tries {
        kept.restore(&home);
        let context = format!("{point:?} {fault:?}");
        let Some(output) = run_with_fault(&home.env, &args, &point, fault) else {
            continue;
        };
        let found = read(&home);
        for i in 0..2 {
            assert!(
                found[i] == old[i] || found[i] == new[i],
                "{context}: {found:?}"
            );
            let copies = home.env.tree("home/.codex").0.into_keys();
            let copies = copies.filter(|path| {
                let name = path.to_string_lossy();
                name.starts_with(names[i]) && name.contains(".bak.")
            });
            let is_reported = output.status.signal().is_none();
            assert!(
                !is_reported || found[i] == new[i] || copies.count() == 0,
                "{context}"
            );
        }
        let _ = home.env.run(args).code(0);
        assert_eq!(read(&home), new, "{context}");
        let again = home.env.run(args).code(0);
        assert!(!again.stdout.contains("written"), "{context}: {again}");
        assert_eq!(stray_files(&home), Vec::<String>::new(), "{context}");
    }
}

#[test]
fn i2_a_database_that_codex_changes_after_a_killed_undo_stays_sound() {
    if !can_inject() {
        return;
    }
    let home = damaged_home();
    let before = rows(&home);
    let _ = home.env.run(["history", "repair"]).code(0);
    // A Codex that was killed leaves rows in the log of the repaired database.
    let writer = Connection::open(home.path(NAMES[0])).unwrap();
    writer
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; UPDATE threads SET title='log';",
        )
        .unwrap();
    let bytes = NAMES.map(|name| fs::read(home.path(name)).unwrap());
    drop(writer);
    for (name, bytes) in NAMES.iter().zip(bytes) {
        fs::write(home.path(name), bytes).unwrap();
    }
    let kept = Snapshot::of(&home);
    let mut kept_since = 0;
    for number in 1.. {
        kept.restore(&home);
        let ended = run_ends_before_call(&home.env, &["history", "undo"], "renameat2", number);
        home.env.tick();
        // Codex is started before the next command.
        let codex = Connection::open(home.path(NAMES[0])).unwrap();
        codex
            .execute_batch("UPDATE threads SET title='since'")
            .unwrap();
        codex.close().unwrap();
        let context = format!("killed at renameat2 {number}");
        let run = home.env.run(["recommend"]);
        assert!(!run.stderr.contains("cannot finish"), "{context}: {run}");
        // Includes an integrity check.
        let _ = state(&home);
        let is_since = |rows: &[String]| rows.iter().any(|row| row.contains("since"));
        if !is_since(&rows(&home)) {
            assert_eq!(rows(&home), before, "{context}");
            assert!(run.stderr.contains("kept in"), "{context}: {run}");
            kept_since += 1;
        }
        if ended {
            break;
        }
    }
    assert!(kept_since > 0, "no kill happened between two files");
}
