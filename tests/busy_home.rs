//! Homes in use: the real Codex during a turn, its daemon, databases without a checkpoint, and writers
//! that are faster than Codex.

use crate::support::env::assert_same_tree;
use crate::support::lab::{Lab, messages, open, rollout, rollouts, rows};
use crate::support::pauses::{EVENT_LIMIT, vary, wait_until};
use crate::support::processes;
use codex_manager_core::codex::process::find_holders;
use rusqlite::Connection;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const CODEX_TIMEOUT: Duration = EVENT_LIMIT;

#[test]
fn a_restore_under_a_running_turn_is_refused_with_its_pid() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    let alice = lab.backend.account("acct-alice");
    alice.hold_turns();
    let args = ["exec", "resume", "--skip-git-repo-check", &id, "under way"];
    let turn = lab.codex.start(&home, &lab.backend, &args);
    assert!(alice.wait_for_held_turn(CODEX_TIMEOUT));
    let before = lab
        .world
        .tree("home/.codex")
        .only(&["sessions", "auth.json", "config.toml"]);

    let busy = lab.manager(["restore", "latest"]).code(3);
    let pid = format!(
        "codex (PID {}, codex process)",
        turn.native_pid().expect("a process")
    );
    assert!(busy.stderr.contains(&pid), "{busy}");
    assert!(busy.stderr.contains("nothing was changed"), "{busy}");
    let planned = lab.manager(["restore", "latest", "--dry-run"]).code(0);
    assert!(planned.stderr.contains(&pid), "{planned}");
    // A running Codex does not block `--to`.
    let _ = lab.manager(["restore", "latest", "--to", "there"]).code(0);
    let after = lab
        .world
        .tree("home/.codex")
        .only(&["sessions", "auth.json", "config.toml"]);
    assert_same_tree(&before, &after);

    alice.release_turns();
    let _ = turn.finish(CODEX_TIMEOUT).expect_success();
    assert_eq!(lab.user_messages(&home, &id), ["one", "under way"]);
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one"]);
}

/// A process that is killed on drop, even if the test fails.
struct KillOnDrop(Option<u32>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            processes::signal("KILL", pid);
            processes::wait_for_end(&[pid], CODEX_TIMEOUT);
        }
    }
}

#[test]
fn a_running_daemon_blocks_a_restore_until_it_is_stopped() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    let daemon = lab.codex.start_daemon(&home, &lab.backend);
    let pid = daemon.pid().expect("a daemon");
    // The exchange moves the updater's program, so it cannot be found by its path later.
    let _updater = KillOnDrop(daemon.updater_pid());

    let busy = lab.manager(["restore", "latest"]).code(3);
    let named = format!("codex (PID {pid}, background daemon)");
    assert!(busy.stderr.contains(&named), "{busy}");
    assert!(busy.stderr.contains("--stop-daemon"), "{busy}");
    assert!(processes::alive(pid));
    assert_eq!(messages(&rollout(&home, &id)), ["one", "later"]);
    // A backup only reads the home. The restore below uses another archive.
    let _ = lab
        .manager(["backup", "--mode", "sessions", "--no-status"])
        .code(0);

    // A zombie named codex does not count as a user of the home.
    let program = lab.world.path("codex");
    let copied = Command::new("cp").arg("/bin/true").arg(&program).status();
    assert!(copied.expect("run cp").success());
    let mut zombie = Command::new(&program)
        .env("CODEX_HOME", &home)
        .stdin(Stdio::null())
        .spawn()
        .expect("start it");
    assert_eq!(
        processes::wait_for_end(&[zombie.id()], CODEX_TIMEOUT),
        [0; 0]
    );

    let _ = lab.manager(["restore", "latest", "--stop-daemon"]).code(0);
    assert!(!processes::alive(pid));
    let updater = daemon.updater_pid();
    assert!(
        updater.is_none_or(processes::alive),
        "the updater was ended"
    );
    assert_eq!(messages(&rollout(&home, &id)), ["one"]);
    // Codex's own packages stay and need no copy.
    assert!(home.join("packages/app-server-daemon").is_dir());
    lab.resume(&home, &id, "two");
    // The updater runs, and does not block a restore.
    let _ = lab.manager(["restore", "latest", "--stop-daemon"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one"]);
    let _ = zombie.wait();
}

#[test]
fn the_rows_in_the_wal_of_a_killed_codex_are_archived_and_a_restore_leaves_no_wal() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let one = lab.say("one");
    let killed_turn = |prompt: &str| {
        let alice = lab.backend.account("acct-alice");
        alice.hold_turns();
        let turn = lab.codex.spawn_exec(&home, &lab.backend, &[prompt]);
        assert!(alice.wait_for_held_turn(CODEX_TIMEOUT));
        turn.kill();
        // The threads of a killed process close their files one after the other.
        wait_until("Codex ends", || find_holders(&home, &[]).is_empty());
        alice.release_turns();
    };
    killed_turn("killed");
    let wal = home.join("state_5.sqlite-wal");
    assert!(
        fs::metadata(&wal).is_ok_and(|m| m.len() > 0),
        "no WAL remains"
    );
    let live = rows(&home);
    assert_eq!(live.len(), 2);
    let with_concurrent_writers = lab.world.tree("home/.codex/state_5.sqlite-wal");
    let _ = lab.back_up();
    assert_same_tree(
        &with_concurrent_writers,
        &lab.world.tree("home/.codex/state_5.sqlite-wal"),
    );
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    let clone = lab.world.path("clone");
    let ids = |rows: Vec<(String, PathBuf)>| rows.into_iter().map(|r| r.0).collect::<Vec<_>>();
    assert!(!clone.join("state_5.sqlite-wal").exists());
    assert_eq!(ids(rows(&clone)), ids(live.clone()));

    killed_turn("killed after the backup");
    assert!(
        fs::metadata(&wal).is_ok_and(|m| m.len() > 0),
        "no WAL remains"
    );
    let _ = lab.manager(["restore", "latest"]).code(0);
    for suffix in ["-wal", "-shm"] {
        let stale = format!("state_5.sqlite{suffix}");
        assert!(!home.join(&stale).exists(), "{stale}");
    }
    assert_eq!(rows(&home), live);
    lab.resume(&home, &one, "two");
    assert_eq!(lab.user_messages(&home, &one), ["one", "two"]);
    assert_eq!(lab.listed_ids(&home).len(), 2);
}

/// Runs `writers` concurrently with `work`, until `work` returns.
fn with_concurrent_writers(writers: &[&(dyn Fn(&AtomicBool) + Sync)], work: impl FnOnce()) {
    /// Stops the writers even if `work` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in writers {
            scope.spawn(|| writer(&stop));
        }
        let _stop = Stop(&stop);
        work();
    });
}

/// Unpacks an archive with the system's tar.
fn unpack(archive: &Path, into: &Path) {
    fs::create_dir(into).expect("a folder");
    let done = Command::new("tar")
        .arg("xzf")
        .arg(archive)
        .arg("-C")
        .arg(into)
        .status();
    assert!(done.expect("run tar").success());
}

#[test]
fn backups_during_constant_writes_are_complete_and_consistent() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let (database, file) = (home.join("state_5.sqlite"), rollout(&home, &id));
    let setup = Connection::open(&database).expect("open");
    setup
        .execute_batch("CREATE TABLE hammer(n INTEGER PRIMARY KEY, filler TEXT)")
        .expect("table");
    drop(setup);
    let grown = rollouts(&home).len();
    let (committed, written) = (AtomicU64::new(0), AtomicU64::new(0));
    let hammer = |stop: &AtomicBool| {
        let database = Connection::open(&database).expect("open");
        database
            .busy_timeout(CODEX_TIMEOUT)
            .expect("set the timeout");
        database
            .execute_batch("PRAGMA synchronous=NORMAL")
            .expect("pragma");
        let filler = "x".repeat(400);
        for n in 1_u64.. {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let row = rusqlite::params![i64::try_from(n).expect("in range"), filler];
            database
                .execute("INSERT INTO hammer VALUES(?1, ?2)", row)
                .expect("insert");
            committed.store(n, Ordering::Release);
            vary(Duration::from_millis(2));
        }
    };
    let grow = |stop: &AtomicBool| {
        let mut file = OpenOptions::new().append(true).open(&file).expect("open");
        let pad = "y".repeat(3_000);
        for n in 1_u64.. {
            let line = format!("{{\"type\":\"hammer\",\"n\":{n},\"pad\":\"{pad}\"}}\n");
            // Written in parts, so that a reader may see half a line.
            for part in line.as_bytes().chunks(1_300) {
                file.write_all(part).expect("write");
                vary(Duration::from_millis(1));
            }
            written.store(n, Ordering::Release);
            if stop.load(Ordering::Acquire) {
                return;
            }
        }
    };
    with_concurrent_writers(&[&hammer, &grow], || {
        for round in 0..20 {
            let rows_before = committed.load(Ordering::Acquire);
            let lines_before = written.load(Ordering::Acquire);
            let archive = lab.back_up();
            let there = lab.world.path(&format!("round-{round}"));
            unpack(&archive, &there);

            let copy = open(&there.join("state_5.sqlite"));
            let sound: String = copy
                .query_row("PRAGMA integrity_check", [], |row| row.get(0))
                .expect("check");
            assert_eq!(sound, "ok");
            let (last, count): (u64, u64) = copy
                .query_row(
                    "SELECT coalesce(max(n), 0), count(*) FROM hammer",
                    [],
                    |row| {
                        Ok((
                            row.get::<_, i64>(0)?.unsigned_abs(),
                            row.get::<_, i64>(1)?.unsigned_abs(),
                        ))
                    },
                )
                .expect("rows");
            assert_eq!(last, count, "a gap");
            assert!(last >= rows_before, "{last} of {rows_before} rows");

            let bytes = fs::read(rollout(&there, &id)).expect("the rollout");
            assert_eq!(bytes.last(), Some(&b'\n'));
            let text = String::from_utf8(bytes).expect("text");
            let lines: Vec<serde_json::Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).expect("a whole line"))
                .collect();
            let last = lines.last().expect("lines")["n"].as_u64().unwrap_or(0);
            assert!(last >= lines_before, "{last} of {lines_before} lines");
            fs::remove_dir_all(&there).expect("remove");
        }
    });
    assert!(
        committed.load(Ordering::Acquire) > 100,
        "too few commits happened during the backups"
    );
    assert_eq!(rollouts(&home).len(), grown);
    let run = lab.manager(["verify", "--all", "--json"]).code(0).json();
    assert_eq!(run["archives"].as_array().expect("archives").len(), 20);

    let _ = lab.manager(["restore", "latest"]).code(0);
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two"]);
}

#[test]
fn a_conversation_that_moves_constantly_is_archived_exactly_once() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    // Many folders to walk, so that moves happen during the walk.
    for day in 1..=28 {
        for n in 0..20 {
            let name = format!(
                "home/.codex/sessions/2026/10/{day:02}/rollout-2026-10-{day:02}T00-00-{n:02}-01a1f000-0000-7000-8000-0000000{day:02}0{n:02}.jsonl"
            );
            lab.world.write(&name, "{}\n");
        }
    }
    let (active, archived) = (rollout(&home, &id), home.join("archived_sessions"));
    fs::create_dir_all(&archived).expect("a folder");
    let parked = archived.join(active.file_name().expect("a name"));
    let mover = |stop: &AtomicBool| {
        while !stop.load(Ordering::Acquire) {
            for (from, to) in [(&active, &parked), (&parked, &active)] {
                fs::rename(from, to).expect("move");
                vary(Duration::from_millis(40));
            }
        }
    };
    with_concurrent_writers(&[&mover], || {
        for _ in 0..12 {
            let done = lab
                .manager(["backup", "--no-status", "--json"])
                .code(0)
                .json();
            assert_eq!(done["skipped"], serde_json::json!([]));
            let listed = Command::new("tar")
                .arg("tzf")
                .arg(lab.path_in(&done["path"]))
                .output();
            let listed = String::from_utf8(listed.expect("run tar").stdout).expect("text");
            let copies: Vec<_> = listed.lines().filter(|line| line.contains(&id)).collect();
            assert_eq!(copies.len(), 1, "{copies:?}");
        }
    });
}

#[test]
fn a_conversation_archived_by_codex_during_backups_is_restored_complete_with_a_correct_row() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let mover = |stop: &AtomicBool| {
        while !stop.load(Ordering::Acquire) {
            for word in ["archive", "unarchive"] {
                let _ = lab
                    .codex
                    .run(&home, &lab.backend, &[word, &id])
                    .expect_success();
            }
        }
    };
    let mut archives = Vec::new();
    with_concurrent_writers(&[&mover], || {
        for _ in 0..6 {
            archives.push(lab.back_up());
        }
    });
    for (n, archive) in archives.iter().enumerate() {
        let clone = lab.world.path(&format!("clone-{n}"));
        let args = [
            "restore".as_ref(),
            archive.as_os_str(),
            "--to".as_ref(),
            clone.as_os_str(),
        ];
        let _ = lab.manager(args).code(0);
        assert_eq!(rows(&clone), [(id.clone(), rollout(&clone, &id))]);
        assert_eq!(messages(&rollout(&clone, &id)), ["one"]);
    }
    // Row and file disagree if the move happened between their captures.
    let file = rollout(&home, &id);
    let parked = home
        .join("archived_sessions")
        .join(file.file_name().expect("a name"));
    fs::create_dir_all(home.join("archived_sessions")).expect("a folder");
    fs::rename(&file, &parked).expect("move");
    let _ = lab.back_up();
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(rows(&home), [(id.clone(), parked)]);
    let _ = lab
        .codex
        .run(&home, &lab.backend, &["unarchive", &id])
        .expect_success();
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two"]);
}
