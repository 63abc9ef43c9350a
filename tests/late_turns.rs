//! Turns of the real Codex (0.169) while a restore runs: no acknowledged message is lost, and no database is damaged.
//!
//! The restores are held at a sample of their calls, or at the calls of a range.

#![allow(
    clippy::print_stdout,
    reason = "the numbers of held calls are printed with --nocapture"
)]

use crate::support::conversations::state;
use crate::support::copy_tree;
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::injection::{Point, can_inject, points, run_stopped_at, sample_evenly};
use crate::support::lab::{Lab, rollouts};
use crate::support::mock_backend::ToolCall;
use crate::support::pauses::{poll, wait_until};
use crate::support::real_codex::RunningCodex;
use crate::support::sample::{backup, put, sample_home};
use crate::support::variables;
use rusqlite::{Connection, ErrorCode};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// The number of calls at which the restore is held, for each way of restoring.
const POINTS: usize = 4;

/// The time limit of a turn.
const LIMIT: Duration = Duration::from_secs(30);

/// The staging folder of a restore, which exists from its plan to its end.
const STAGING: &str = "home/..codex.codex-manager-restore";

/// The places where an acknowledged turn may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The turn is newer than the plan: the home, or a folder that the restore has kept and named.
    Kept,
    /// The turn is older than the plan: also the safety backup.
    KeptOrArchived,
}

/// The turn that Codex makes meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    New,
    /// A plain conversation that the archive has with fewer turns.
    Longer,
    /// A compressed conversation, equal in the archive.
    Compressed,
    /// A new conversation, which starts a subagent.
    Subagent,
    /// A new conversation whose Codex still runs when the restore continues.
    Running,
}

const TURNS: [Turn; 5] = [
    Turn::New,
    Turn::Longer,
    Turn::Compressed,
    Turn::Subagent,
    Turn::Running,
];

/// A home with a longer and a compressed conversation, its archive, and a copy of both homes.
struct Scene {
    lab: Lab,
    longer: String,
    compressed: String,
    archive: String,
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let (longer, compressed) = (lab.say("one"), lab.say("packed"));
        let args = ["storage", "shrink", "--session", &compressed];
        let _ = lab.manager(args).code(0);
        let archive = lab.back_up().display().to_string();
        lab.resume(&lab.home(), &longer, "two");
        lab.say("only here");
        put(&lab.world, "AGENTS.md", "changed");
        copy_tree(&lab.world.path("home"), &lab.world.path("template"));
        Some(Self {
            lab,
            longer,
            compressed,
            archive,
        })
    }

    fn reset(&self) {
        fs::remove_dir_all(self.lab.world.path("home")).expect("remove");
        copy_tree(
            &self.lab.world.path("template"),
            &self.lab.world.path("home"),
        );
    }

    fn start(&self, turn: Turn, prompt: &str) -> RunningCodex {
        let home = self.lab.home();
        if turn == Turn::Subagent {
            let message = format!("help with {prompt}");
            let spawn = json!({"task_name": "helper", "message": message, "fork_turns": "none"});
            let calls = [("spawn_agent", spawn), ("wait_agent", json!({}))];
            let calls = calls.map(|(name, arguments)| ToolCall {
                namespace: "collaboration",
                name,
                arguments,
            });
            self.lab.backend.call_tools(&calls);
        }
        let resume = |id| vec!["exec", "resume", "--skip-git-repo-check", id, prompt];
        let args = match turn {
            Turn::New | Turn::Subagent | Turn::Running => {
                vec!["exec", "--skip-git-repo-check", prompt]
            }
            Turn::Longer => resume(&self.longer),
            Turn::Compressed => resume(&self.compressed),
        };
        self.lab.codex.start(&home, &self.lab.backend, &args)
    }

    /// Runs the restore, held after `point` while Codex makes a turn. Returns its output and, if Codex has
    /// acknowledged the turn, where it may be; `None` if the restore ended before the point.
    fn restore_held(
        &self,
        args: &[&str],
        point: &Point,
        turn: Turn,
        prompt: &str,
    ) -> Option<(Output, Option<Place>)> {
        const LIMIT_IF_LOCKED: Duration = Duration::from_secs(2);
        let mut running = None;
        let mut is_acknowledged = false;
        let mut is_planned = false;
        let at = (point.call.as_str(), point.number);
        let output = run_stopped_at(&self.lab.world, args, at, || {
            is_planned = self.lab.world.path(STAGING).exists();
            let is_locked = is_database_locked(&self.lab.home());
            let limit = if is_locked { LIMIT_IF_LOCKED } else { LIMIT };
            let codex = self.start(turn, prompt);
            if turn == Turn::Running {
                wait_for_open_database(codex.pid());
                running = Some(codex);
            } else {
                is_acknowledged = is_acknowledged_by(codex, limit);
            }
        })?;
        self.lab.backend.call_tools(&[]);
        if let Some(codex) = running {
            is_acknowledged = is_acknowledged_by(codex, LIMIT);
        }
        let place = if is_planned {
            Some(Place::Kept)
        } else {
            // Without a safety backup, a restore removes what the user has seen in its plan.
            let is_archived = !args.contains(&"--no-safety-backup");
            is_archived.then_some(Place::KeptOrArchived)
        };
        Some((output, place.filter(|_| is_acknowledged)))
    }

    /// Unpacks the archive with this name without its extension.
    fn unpack(&self, name: &str, folder: &Path) {
        let backups = self.lab.world.manager_home().join("backups");
        let found = fs::read_dir(backups).expect("list").flatten();
        let mut found = found.map(|entry| entry.path()).filter(|path| {
            let file = path.file_name().expect("a name").to_string_lossy();
            file.starts_with(name) && file.ends_with(".tar.gz")
        });
        let mut tar = Command::new("tar");
        tar.arg("-xzf").arg(found.next().expect("an archive"));
        let status = tar.arg("-C").arg(folder).status();
        assert!(status.expect("tar").success());
    }

    /// Returns the texts of all rollouts in the home, in the folders that `output` names, and for a turn before the
    /// plan in the safety backup.
    fn accounted(&self, output: &Output, place: Place) -> String {
        let printed = [&output.stdout[..], &output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        let undo = printed.split_once("undo with:\n    codex-manager restore ");
        let undo = undo.and_then(|(_, name)| name.split_whitespace().next());
        let safety = tempfile::tempdir().unwrap();
        if let Some(name) = undo.filter(|_| place == Place::KeptOrArchived) {
            self.unpack(name, safety.path());
        }
        let printed = printed.replace('\n', "");
        let entries = fs::read_dir(self.lab.world.path("home")).expect("list");
        let kept = entries.flatten().map(|e| e.path()).filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy();
            name.contains(".kept-") && printed.contains(&*name)
        });
        let kept = kept.map(|path| path.join("new"));
        let kept = kept.chain([self.lab.home(), safety.path().to_path_buf()]);
        let homes: Vec<PathBuf> = kept.collect();
        let files = homes.iter().flat_map(|home| rollouts(home));
        files.map(|path| rollout_text(&path)).collect()
    }
}

/// Returns true if a process has locked one of Codex's databases. Codex (0.169) waits for the end of the lock without a
/// time limit.
fn is_database_locked(home: &Path) -> bool {
    let locks = fs::read_to_string("/proc/locks").expect("the locks");
    let files = fs::read_dir(home).expect("list").flatten();
    let is_database = |path: PathBuf| path.extension().is_some_and(|end| end == "sqlite");
    let mut inodes = files
        .filter(|file| is_database(file.path()))
        .map(|file| format!(":{} ", file.ino()));
    let locks = locks.lines().filter(|lock| lock.contains(" WRITE "));
    inodes.any(|inode| locks.clone().any(|lock| lock.contains(&inode)))
}

/// Returns true if Codex ends with success. Ends one that waits for a lock of the held restore.
fn is_acknowledged_by(codex: RunningCodex, limit: Duration) -> bool {
    if poll(limit, || (!codex.is_running()).then_some(())).is_none() {
        codex.kill();
        return false;
    }
    codex.finish(LIMIT).status.success()
}

/// Waits until Codex has its first database open, or has ended.
fn wait_for_open_database(pid: u32) {
    let is_open = || {
        let folder = format!("/proc/{pid}/fd");
        let Ok(entries) = fs::read_dir(folder) else {
            return true;
        };
        let mut files = entries
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        files.any(|path| path.extension().is_some_and(|e| e == "sqlite"))
    };
    wait_until("Codex opens a database", is_open);
}

pub(crate) fn rollout_text(path: &Path) -> String {
    if path.extension().is_some_and(|e| e == "zst") {
        let done = Command::new("zstd").args(["-qdc"]).arg(path).output();
        return String::from_utf8_lossy(&done.expect("zstd").stdout).into_owned();
    }
    fs::read_to_string(path).expect("read")
}

pub(crate) fn assert_databases_whole(home: &Path, context: &str) {
    let copied = tempfile::tempdir().unwrap();
    copy_tree(home, &copied.path().join("home"));
    for entry in fs::read_dir(copied.path().join("home"))
        .expect("list")
        .flatten()
    {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "sqlite") {
            let database = Connection::open(&path).unwrap();
            let check = database.query_row("PRAGMA integrity_check", [], |row| row.get(0));
            let check: String =
                check.unwrap_or_else(|e| panic!("{context} {}: {e}", path.display()));
            assert_eq!(check, "ok", "{context}: {}", path.display());
        }
    }
}

/// Chooses the calls at which a restore is held, with their places among all calls.
fn chosen(all: &[Point]) -> Vec<(usize, Point)> {
    let numbered = |point: &Point| all.iter().position(|p| p == point).expect("of all");
    let range: Option<String> = variables::value("CODEX_MANAGER_HELD_CALLS");
    let points = match range.as_ref().and_then(|text| text.split_once("..")) {
        Some((from, to)) => {
            let [from, to]: [usize; 2] = [from, to].map(|end| end.parse().expect("a number"));
            all[from.min(all.len())..to.min(all.len())].to_vec()
        }
        None => sample_evenly(POINTS, all, &mut Dice::new()),
    };
    points.into_iter().map(|p| (numbered(&p), p)).collect()
}

/// Holds the restore with these options at the chosen calls.
fn hold(options: &[&str], offset: usize) {
    if !can_inject() {
        return;
    }
    let Some(scene) = Scene::new() else { return };
    let args = [&["restore", &*scene.archive, "--yes"], options].concat();
    let mut all = points(&scene.lab.world, &args);
    // These write staged files, and messages before the plan.
    all.retain(|point| !["write", "pwrite64"].contains(&&*point.call));
    let chosen = chosen(&all);
    let pass: Option<usize> = variables::value("CODEX_MANAGER_HELD_PASS");
    let mut counts = [0; 4];
    for (n, (place, point)) in chosen.iter().enumerate() {
        scene.reset();
        let kind = pass.map_or(n, |pass| place + pass);
        let turn = TURNS[(kind + offset) % TURNS.len()];
        let context = format!(
            "{turn:?} at {} {}, {place} of {options:?}",
            point.call, point.number
        );
        println!("{context}");
        hold_once(&scene, &args, (turn, *place, point), &context, &mut counts);
    }
    let [missed, done, undone, acknowledged] = counts;
    let summary = format!(
        "{options:?}: {} of {} calls; {missed} missed, {done} done, {undone} undone; {acknowledged} turns acknowledged",
        chosen.len(),
        all.len(),
    );
    println!("{summary}");
    assert!(acknowledged > 0, "{summary}");
}

/// Holds one restore while Codex makes a turn. Counts missed calls, restores that were done or undone, and
/// acknowledged turns.
#[track_caller]
fn hold_once(
    scene: &Scene,
    args: &[&str],
    (turn, place, point): (Turn, usize, &Point),
    context: &str,
    counts: &mut [usize; 4],
) {
    let prompt = format!("held at call {place}.");
    let Some((output, acknowledged)) = scene.restore_held(args, point, turn, &prompt) else {
        counts[0] += 1;
        return;
    };
    let code = output.status.code();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        matches!(code, Some(0 | 1 | 3 | 5)),
        "{context}: {code:?} {message}"
    );
    if let Some(place) = acknowledged {
        let found = scene.accounted(&output, place);
        assert!(found.contains(&prompt), "{context}: {code:?} {message}");
        let is_helped = found.contains(&format!("help with {prompt}"));
        assert!(
            is_helped || turn != Turn::Subagent,
            "{context}: {code:?} {message}"
        );
    }
    assert_databases_whole(&scene.lab.home(), context);
    counts[if code == Some(0) { 1 } else { 2 }] += 1;
    counts[3] += usize::from(acknowledged.is_some());
    // What was kept blocks no command.
    let again = scene.lab.manager(["restore", &scene.archive, "--yes"]);
    let _ = again.code(0);
}

#[test]
fn i15_a_turn_during_an_exact_restore_is_never_lost() {
    hold(&[], 0);
}

#[test]
fn a_turn_during_a_merging_restore_is_never_lost() {
    hold(&["--merge"], 1);
}

#[test]
fn a_turn_during_a_restore_without_a_safety_backup_is_never_lost() {
    hold(&["--no-safety-backup"], 2);
}

#[test]
fn a_turn_during_a_restore_of_conversations_is_never_lost() {
    hold(&["--only", "sessions"], 3);
}

/// Behaves as a connection of Codex: opens the database by its path, tries for at most 5 s, and opens it again. Reads
/// it for the first time when `go` has a value. Returns the number of attempts.
fn write_as_codex(path: &Path, opened: &mpsc::Sender<()>, go: &mpsc::Receiver<()>) -> usize {
    for attempt in 1..=3 {
        let connection = Connection::open(path).unwrap();
        if attempt == 1 {
            opened.send(()).unwrap();
            go.recv().unwrap();
        }
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        let sql = "INSERT INTO threads(id, rollout_path) VALUES('late', '/late')";
        match connection.execute(sql, []) {
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
            done => {
                done.unwrap();
                return attempt;
            }
        }
    }
    panic!("always locked");
}

/// SQLite opens the log of a database when it first reads it. A restore that is exchanged or undone before would have
/// the connection write the log of another database.
#[test]
fn a_database_opened_during_a_restore_is_never_combined_with_the_log_of_another() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    let path = home.join("state_5.sqlite");
    fs::remove_file(&path).expect("remove");
    let wal = |database: &Connection| database.pragma_update(None, "journal_mode", "WAL");
    wal(&state(&env)).unwrap();
    let archive = backup(&env, &[]).display().to_string();
    {
        let live = state(&env);
        let sql = "INSERT INTO threads(id, rollout_path, title) VALUES(?1, '/x', ?2)";
        for n in 0..500 {
            live.execute(sql, [format!("id {n}"), "title ".repeat(50)])
                .unwrap();
        }
    }
    let args = ["restore", &*archive, "--yes"];
    let template = env.path("template");
    copy_tree(&env.path("home"), &template);
    let mut tried = 0;
    for number in 1.. {
        fs::remove_dir_all(env.path("home")).expect("remove");
        copy_tree(&template, &env.path("home"));
        let (opened, is_opened) = mpsc::channel();
        let (go, is_going) = mpsc::channel();
        let (database, live) = (path.clone(), path.clone());
        let mut writer = None;
        let end = Arc::new(AtomicBool::new(false));
        let has_ended = Arc::clone(&end);
        let output = run_stopped_at(&env, &args, ("renameat2", number), || {
            writer = Some(std::thread::spawn(move || {
                write_as_codex(&database, &opened, &is_going)
            }));
            is_opened.recv().unwrap();
            // From now on the restore continues, and the connection reads for the first time when the restore has
            // replaced the database, or has ended.
            std::thread::spawn(move || {
                let inode = || fs::metadata(&live).map(|meta| meta.ino()).ok();
                let before = inode();
                wait_until("the database is replaced", || {
                    has_ended.load(Ordering::Acquire) || inode() != before
                });
                let _ = go.send(());
            });
        });
        end.store(true, Ordering::Release);
        let Some(output) = output else { break };
        tried += 1;
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        let attempts = writer.expect("held").join().unwrap();
        let context = format!("call {number}, {attempts} attempts: {message}");
        assert_eq!(output.status.code(), Some(3), "{context}");
        assert_databases_whole(&home, &context);
        let live = state(&env);
        let rows: i64 = live
            .query_row("SELECT count(*) FROM threads", [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 501, "{context}");
    }
    assert!(tried >= 3, "{tried}");
}
