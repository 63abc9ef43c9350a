//! A wrong clock, of this machine or of the disk, deletes nothing.

use crate::support::env::{Run, TestEnv};
use crate::support::pair::{Pair, SKILL};
use crate::support::sample::put;
use crate::vault::{backup, snapshots, vault_env};
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::io::clock::Clock;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Returns the time some days from now, by the clock that gives files their times.
fn in_days(days: i64) -> DateTime<Utc> {
    Clock::System.now() + TimeDelta::days(days)
}

fn set_clock(env: &mut TestEnv, at: DateTime<Utc>) {
    env.set("CODEX_MANAGER_NOW", at.to_rfc3339());
}

/// Sets the time at which the disk says that a file or folder was written.
fn written_at(path: &Path, at: DateTime<Utc>) {
    let file = File::open(path).expect("open");
    file.set_modified(SystemTime::from(at)).expect("set time");
}

fn id(n: u32) -> String {
    format!("01a10000-0000-7000-8000-{n:012}")
}

/// Creates a home with four conversations.
fn home() -> TestEnv {
    let mut env = TestEnv::new();
    for n in 1..=4 {
        let path = format!(
            "sessions/2026/10/01/rollout-2026-10-01T00-00-00-{}.jsonl",
            id(n)
        );
        let line = format!(
            r#"{{"type":"session_meta","payload":{{"id":"{}"}}}}"#,
            id(n)
        );
        put(&env, path, line + "\n");
    }
    env.unset("CODEX_MANAGER_NOW");
    env
}

/// Moves a conversation to the trash at that time.
fn trash_at(env: &mut TestEnv, n: u32, at: DateTime<Utc>) -> Run {
    set_clock(env, at);
    let run = env.run(["storage", "trash", &id(n), "--json"]).code(0);
    env.unset("CODEX_MANAGER_NOW");
    run
}

/// Returns the folder of a conversation in the trash.
fn entry(env: &TestEnv, n: u32) -> Option<PathBuf> {
    let entries = fs::read_dir(env.manager_home().join("trash/conversations")).expect("the trash");
    let mut entries = entries.map(|entry| entry.expect("an entry").path());
    entries.find(|path| path.to_string_lossy().ends_with(&id(n)))
}

/// Moves a conversation to the trash, as if that was at that time by the clock and by the disk.
fn trash_then(env: &mut TestEnv, n: u32, at: DateTime<Utc>) {
    let _ = trash_at(env, n, at);
    let entry = entry(env, n).expect("in the trash");
    written_at(&entry.join("conversation.json"), at);
}

#[test]
fn a_wrong_clock_deletes_nothing_in_the_trash() {
    let epoch = DateTime::UNIX_EPOCH + TimeDelta::minutes(10);
    for (first, second, says) in [
        (epoch, in_days(0), ""),
        (in_days(0), in_days(365), "the system clock shows"),
        (in_days(0), in_days(60), "the system clock shows"),
        (in_days(365), in_days(0), ""),
        (in_days(0), epoch, ""),
    ] {
        let mut env = home();
        let _ = trash_at(&mut env, 1, first);
        let run = trash_at(&mut env, 2, second);
        let both = entry(&env, 1).is_some() && entry(&env, 2).is_some();
        assert!(both, "{first} {second}: {run}");
        let is_warned = run.stderr.contains("nothing in the trash was deleted");
        assert_eq!(is_warned, !says.is_empty(), "{first} {second}: {run}");
        assert!(run.stderr.contains(says), "{first} {second}: {run}");
    }
}

#[test]
fn items_trashed_under_a_wrong_clock_stay_and_one_dated_in_the_future_keeps_the_others() {
    for wrong in [DateTime::UNIX_EPOCH, in_days(-4000)] {
        let mut env = home();
        trash_then(&mut env, 1, wrong);
        let _ = trash_at(&mut env, 2, in_days(0));
        assert!(entry(&env, 1).is_some(), "{wrong}");
    }
    // The clock was a year ahead once: until that time is over, no age is certain.
    let mut env = home();
    trash_then(&mut env, 1, in_days(-40));
    let _ = trash_at(&mut env, 2, in_days(365));
    let run = trash_at(&mut env, 3, in_days(0));
    assert!(run.stderr.contains("dated in the future"), "{run}");
    assert!(entry(&env, 1).is_some(), "{run}");
}

#[test]
fn conversations_in_the_trash_for_over_30_days_are_deleted_and_listed() {
    let mut env = home();
    trash_then(&mut env, 1, in_days(-50));
    trash_then(&mut env, 2, in_days(-31));
    trash_then(&mut env, 3, in_days(-29));
    let run = trash_at(&mut env, 4, in_days(0));
    let kept: Vec<_> = (1..=4).map(|n| entry(&env, n).is_some()).collect();
    assert_eq!(kept, [false, false, true, true], "{run}");
    assert!(
        run.stderr.contains("deleted permanently after 30 d"),
        "{run}"
    );
    let json = run.json();
    let items = json["items"].as_array().expect("items");
    let removed = items.iter().filter(|item| item["action"] == "remove");
    let removed: Vec<_> = removed.map(|item| item["session_id"].clone()).collect();
    assert_eq!(removed.len(), 2, "{json}");
    assert!(removed.contains(&id(1).into()) && removed.contains(&id(2).into()));
}

#[test]
fn an_expired_base_stays_in_the_trash_as_long_as_its_fork() {
    let mut env = home();
    let name = format!("rollout-2026-10-01T00-00-00-{}.jsonl", id(2));
    let fork = format!("sessions/2026/10/01/{name}");
    let line = format!(
        r#"{{"type":"session_meta","payload":{{"id":"{}","history_base":{{"thread_id":"{}"}}}}}}"#,
        id(2),
        id(1)
    );
    let _ = put(&env, &fork, format!("{line}\n"));
    set_clock(&mut env, in_days(-50));
    let _ = env.run(["storage", "trash", &id(1), &id(2)]).code(0);
    for n in [1, 2] {
        let entry = entry(&env, n).expect("in the trash");
        written_at(&entry.join("conversation.json"), in_days(-50));
    }
    // The fork returns in another way, as from an archive.
    let _ = put(&env, &fork, format!("{line}\n"));
    let run = trash_at(&mut env, 2, in_days(0));
    let command = format!("codex-manager storage undelete {}", id(1));
    assert!(run.stderr.contains(&command), "{run}");
    assert!(entry(&env, 1).is_some() && entry(&env, 2).is_some());
    let _ = env.run(["storage", "undelete", &id(2)]).code(0);
    assert!(entry(&env, 1).is_none() && entry(&env, 2).is_none());
}

#[test]
fn a_clock_that_is_ahead_removes_sync_snapshots_by_number_but_not_by_age() {
    let mut pair = Pair::new();
    pair.configure("b", "[backup]\nretention_days = 30\nmax_backups = 3\n");
    pair.0.unset("CODEX_MANAGER_NOW");
    for text in ["one", "two and", "three and more"] {
        pair.put("b", SKILL, text);
        pair.apply("b");
    }
    let snapshots = |pair: &Pair| {
        let entries = fs::read_dir(pair.0.path("backups-b")).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("b-")).count()
    };
    assert_eq!(snapshots(&pair), 2);
    set_clock(&mut pair.0, in_days(60));
    pair.put("b", SKILL, "four, and still more");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert_eq!(snapshots(&pair), 3, "{run}");
    assert!(run.stderr.contains("the system clock shows"), "{run}");
    // The number does not depend on the clock.
    pair.put("b", SKILL, "five, and then much more");
    let run = pair.run("b", &["run", "--apply"]).code(0);
    assert_eq!(snapshots(&pair), 3, "{run}");
}

#[test]
fn a_wrong_clock_deletes_no_entries_of_the_log_database() {
    let mut env = TestEnv::new();
    fs::create_dir_all(env.codex_home()).unwrap();
    let path = env.codex_home().join("logs_2.sqlite");
    let logs = rusqlite::Connection::open(&path).unwrap();
    logs.execute_batch("CREATE TABLE logs(id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, body TEXT)")
        .unwrap();
    for _ in 0..50 {
        let now = in_days(-1).timestamp();
        let _ = logs
            .execute(
                "INSERT INTO logs(ts, body) VALUES(?1, zeroblob(4000))",
                [now],
            )
            .unwrap();
    }
    logs.close().unwrap();
    let before = fs::read(&path).unwrap();
    let vacuum = ["storage", "vacuum", "--keep-logs", "7d"];
    for wrong in [in_days(365), in_days(30)] {
        set_clock(&mut env, wrong);
        let run = env.run(vacuum).code(5);
        assert!(run.stderr.contains("the system clock shows"), "{run}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    env.unset("CODEX_MANAGER_NOW");
    let run = env.run(vacuum).code(0);
    assert!(run.stdout.contains("no unused space"), "{run}");
}

#[test]
fn vault_forget_by_age_is_refused_under_a_wrong_clock() {
    let Some(mut env) = vault_env() else { return };
    env.unset("CODEX_MANAGER_NOW");
    // The first one is more than a second older than the last one.
    let began = Instant::now();
    let mut made = 0;
    while made < 2 || began.elapsed() < Duration::from_secs(3) {
        put(&env, "notes.txt", format!("{made}"));
        backup(&env);
        made += 1;
    }
    let forget = ["vault", "forget", "--keep-within", "1s", "--yes"];
    set_clock(&mut env, in_days(365));
    let run = env.run(forget).code(5);
    assert!(run.stderr.contains("the system clock shows"), "{run}");
    assert_eq!(snapshots(&env).len(), made);
}
