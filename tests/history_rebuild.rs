//! `history rebuild`: golden homes, unusual input, and files that must not change.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::run_limited;
use crate::support::injection::{can_inject, run_stopped_at};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

const ID: &str = "01a10000-0000-7000-8000-000000000001";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/history")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn prepare(case: &Path) -> TestEnv {
    let env = TestEnv::new();
    copy(&case.join("home"), &env.codex_home());
    if let Ok(sql) = fs::read_to_string(case.join("state.sql")) {
        let database = Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
        database.execute_batch(&sql).unwrap();
        database.close().unwrap();
    }
    env
}

fn rebuild(env: &TestEnv, args: &str) -> Run {
    let words = ["history", "rebuild", "--json", "--yes"];
    env.run(words.into_iter().chain(args.split_whitespace()))
}

fn read(env: &TestEnv, name: &str) -> String {
    fs::read_to_string(env.codex_home().join(name)).unwrap_or_default()
}

#[track_caller]
fn assert_golden(case: &Path) {
    let env = prepare(case);
    let name = case.file_name().unwrap().display();
    let args = fs::read_to_string(case.join("args")).unwrap();
    let before = env.tree("home");
    let planned = rebuild(&env, &format!("{args} --dry-run")).code(0);
    assert_same_tree(&before, &env.tree("home"));
    let run = rebuild(&env, &args).code(0);
    for file in ["session_index.jsonl", "history.jsonl"] {
        let expected = fs::read_to_string(case.join("expected").join(file));
        let untouched = || fs::read_to_string(case.join("home").join(file)).unwrap_or_default();
        let expected = expected.unwrap_or_else(|_| untouched());
        assert_eq!(read(&env, file), expected, "{name}: {file}");
    }
    let report: Value =
        serde_json::from_slice(&fs::read(case.join("expected/report.json")).unwrap()).unwrap();
    for document in [planned.json(), run.json()] {
        for (key, value) in report.as_object().unwrap() {
            assert_eq!(&document[key], value, "{name}: {key}\n{run}");
        }
    }
    if let Ok(warning) = fs::read_to_string(case.join("expected/warning")) {
        assert!(run.stderr.contains(warning.trim()), "{name}: {run}");
    }
    // A second rebuild writes nothing and makes no copy.
    let before = env.tree("home");
    let again = rebuild(&env, &args).code(0).json();
    for file in again["files"].as_array().unwrap() {
        assert_eq!(file["written"], false, "{name}");
    }
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn every_golden_home_is_rebuilt_to_its_expected_files() {
    let mut cases: Vec<_> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() >= 15, "{cases:?}");
    for case in cases {
        assert_golden(&case);
    }
}

#[test]
fn a_locked_file_is_unlocked_before_it_is_replaced_where_open_files_cannot_be_replaced() {
    let case = fixtures().join("history-limit");
    let mut env = prepare(&case);
    env.set(crate::files_in_use::SWITCH, "1");
    let args = fs::read_to_string(case.join("args")).unwrap();
    let _ = rebuild(&env, &args).code(0);
    let expected = fs::read_to_string(case.join("expected/history.jsonl")).unwrap();
    assert_eq!(read(&env, "history.jsonl"), expected);
}

#[test]
fn the_previous_files_are_copied_unless_the_flag_no_backup_is_given() {
    let env = prepare(&fixtures().join("limit"));
    let before = read(&env, "session_index.jsonl");
    let run = rebuild(&env, "").code(0).json();
    let copy = env
        .codex_home()
        .join("session_index.jsonl.bak.20261120T120000Z");
    assert_eq!(fs::read_to_string(copy).unwrap(), before);
    let printed = run["files"][0]["backup"].as_str().unwrap();
    assert!(printed.ends_with("session_index.jsonl.bak.20261120T120000Z"));

    let env = prepare(&fixtures().join("limit"));
    let _ = rebuild(&env, "--no-backup").code(0);
    let copies = env.tree("home/.codex").0.into_keys();
    assert_eq!(
        copies
            .filter(|path| path.to_string_lossy().contains(".bak."))
            .count(),
        0
    );
}

#[test]
fn a_negative_limit_is_a_usage_error() {
    let env = prepare(&fixtures().join("limit"));
    let before = env.tree("home");
    let run = rebuild(&env, "--max-threads -1").code(4);
    let error = "{\"error\":{\"causes\":[],\"exit_code\":4,\"hints\":[\"0 means all conversations; \
                 nothing was changed\"],\"message\":\"--max-threads is negative: -1\"},\"schema\":1}\n";
    assert_eq!((&*run.stdout, &*run.stderr), ("", error));
    assert_same_tree(&before, &env.tree("home"));
}

#[test]
fn the_rebuild_report_counts_omitted_entries_and_suggests_the_next_step() {
    let env = prepare(&fixtures().join("limit"));
    let run = env
        .run(["history", "rebuild", "--max-threads", "2", "--yes"])
        .code(0);
    insta::assert_snapshot!(run, @r"
    exit 0
    --- stdout
    2 conversations, from Codex's database and the conversations on disk
    2 prompts
    older conversations left out by --max-threads 2 (0 for all): 3
    damaged lines skipped: 2
    prompts to remove from history.jsonl, because their conversation is on disk but does not record them, or is left out: 1
    prompts to remove from history.jsonl, because --max-threads leaves out their conversation: 1
    written: [ROOT]/home/.codex/session_index.jsonl
      copy of the previous file: [ROOT]/home/.codex/session_index.jsonl.bak.20261120T120000Z
    written: [ROOT]/home/.codex/history.jsonl
      copy of the previous file: [ROOT]/home/.codex/history.jsonl.bak.20261120T120000Z
    --- stderr
    restart Codex to see the new list
    ");
}

#[test]
fn a_rebuild_changes_neither_rollouts_nor_the_database() {
    let env = prepare(&fixtures().join("database"));
    let before = env.tree("home/.codex");
    let _ = rebuild(&env, "").code(0);
    let tops = ["sessions", "archived_sessions", "state_5.sqlite"];
    assert_same_tree(&before.only(&tops), &env.tree("home/.codex").only(&tops));
    assert!(!env.codex_home().join("state_5.sqlite-shm").exists());
}

/// Gives the conversation a name that is only in the WAL, as a killed Codex leaves it.
fn leave_name_in_wal(env: &TestEnv, with_index: bool) {
    let writer = Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    writer
        .execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             UPDATE threads SET name='only in the log' WHERE id='{ID}';"
        ))
        .unwrap();
    // A copy of the files that the writer has open.
    let names = ["state_5.sqlite", "state_5.sqlite-wal", "state_5.sqlite-shm"];
    let bytes = names.map(|name| fs::read(env.codex_home().join(name)).unwrap());
    drop(writer);
    for (name, bytes) in names.iter().zip(bytes) {
        fs::write(env.codex_home().join(name), bytes).unwrap();
    }
    if !with_index {
        fs::remove_file(env.codex_home().join("state_5.sqlite-shm")).unwrap();
    }
}

#[test]
fn a_rebuild_reads_rows_in_the_wal_and_its_dry_run_writes_nothing() {
    for with_index in [true, false] {
        let env = prepare(&fixtures().join("limit"));
        leave_name_in_wal(&env, with_index);
        let before = env.tree("home");
        let _ = rebuild(&env, "--dry-run").code(0);
        assert_same_tree(&before, &env.tree("home"));
        let _ = rebuild(&env, "").code(0);
        assert!(read(&env, "session_index.jsonl").contains("only in the log"));
    }
}

#[test]
fn a_wal_that_is_removed_during_its_copy_is_no_error() {
    if !can_inject() {
        return;
    }
    let env = prepare(&fixtures().join("limit"));
    leave_name_in_wal(&env, false);
    let database = env.codex_home().join("state_5.sqlite");
    // SQLite moves the rows and removes the WAL when the last process closes the database.
    let close = || {
        let writer = Connection::open(&database).unwrap();
        writer.execute_batch("PRAGMA wal_checkpoint;").unwrap();
    };
    let args = ["history", "rebuild", "--json", "--dry-run"];
    // Its first folder is the one for the copy.
    let output = run_stopped_at(&env, &args, ("mkdir", 1), close).expect("the call is reached");
    assert!(!database.with_extension("sqlite-wal").exists());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plan["source"], "database", "{plan}");
}

#[test]
fn with_an_unusable_database_the_rollouts_are_the_source() {
    let env = prepare(&fixtures().join("limit"));
    let mut garbage = b"SQLite format 3\0".to_vec();
    garbage.extend([0xAA; 8192]);
    fs::write(env.codex_home().join("state_5.sqlite"), garbage).unwrap();
    let run = rebuild(&env, "").code(0);
    assert_eq!(run.json()["source"], "rollouts");
    assert_eq!(run.json()["refreshed"], 5);
    assert!(run.stderr.contains("the database is damaged"), "{run}");
    // Names in the index stay.
    assert!(read(&env, "session_index.jsonl").contains("named in the index"));
}

#[test]
fn a_locked_database_is_reported_and_the_rollouts_are_the_source() {
    let env = prepare(&fixtures().join("limit"));
    let holder = Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    holder
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA locking_mode=EXCLUSIVE;
             CREATE TABLE held(x); INSERT INTO held VALUES(1);",
        )
        .unwrap();
    let run = rebuild(&env, "--dry-run").code(0);
    assert_eq!(run.json()["source"], "rollouts", "{run}");
    assert!(run.stderr.contains("warning:"), "{run}");
}

#[test]
fn zeros_and_invalid_utf8_are_counted_and_skipped() {
    let env = prepare(&fixtures().join("one-id-twice"));
    let day = env.codex_home().join("sessions/2026/01/02");
    fs::write(
        day.join("rollout-2026-01-02T00-00-01-zeros.jsonl"),
        vec![0; 100_000],
    )
    .unwrap();
    fs::write(day.join("rollout-2026-01-02T00-00-01-empty.jsonl"), "").unwrap();
    let rollout = day.join(format!("rollout-2026-01-02T00-00-00-{ID}.jsonl"));
    let mut file = fs::OpenOptions::new().append(true).open(rollout).unwrap();
    let invalid = b"{\"timestamp\":\"2026-01-02T00:00:09Z\",\"type\":\"compacted\",\"payload\":\"\xff\xfe\"}\n";
    file.write_all(invalid).unwrap();
    file.write_all(&[0; 5000]).unwrap();
    let document = rebuild(&env, "").code(0).json();
    assert_eq!(document["without_id"], 2);
    assert_eq!(document["bad_lines"], 2);
    assert_eq!(document["history_entries"], 3);
}

#[test]
fn a_line_of_a_gigabyte_is_skipped_in_bounded_memory() {
    let env = prepare(&fixtures().join("one-id-twice"));
    let day = env.codex_home().join("sessions/2026/01/02");
    let rollout = day.join(format!("rollout-2026-01-02T00-00-00-{ID}.jsonl"));
    let mut file = fs::OpenOptions::new().append(true).open(&rollout).unwrap();
    file.write_all(
        b"{\"timestamp\":\"2026-01-02T00:00:08Z\",\"type\":\"response_item\",\"payload\":\"",
    )
    .unwrap();
    let len = file.metadata().unwrap().len();
    // A sparse file: zeros without disk blocks.
    file.set_len(len + (1 << 30)).unwrap();
    file.write_all(b"\"}\n").unwrap();
    let late = "{\"timestamp\":\"2026-01-02T00:00:09Z\",\"type\":\"event_msg\",\"payload\":{\"type\":\"user_message\",\"message\":\"behind it\"}}\n";
    file.write_all(late.as_bytes()).unwrap();
    // 600 MB of address space, including the stack of each thread.
    let args = ["history", "rebuild", "--json", "--yes"];
    let output = run_limited(&env, "ulimit -v 614400", &args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(read(&env, "history.jsonl").contains("behind it"));
    assert!(read(&env, "session_index.jsonl").contains("2026-01-02T00:00:09Z"));
}

#[test]
fn a_compressed_rollout_is_read_unless_a_plain_copy_exists() {
    let env = prepare(&fixtures().join("limit"));
    fs::remove_file(env.codex_home().join("state_5.sqlite")).unwrap();
    let day = env.codex_home().join("sessions/2026/01/02");
    let plain = |n: u32| {
        day.join(format!(
            "rollout-2026-01-02T00-00-00-01a10000-0000-7000-8000-{n:012x}.jsonl"
        ))
    };
    let compress = |text: &[u8], to: PathBuf| {
        let bytes = zstd::encode_all(text, 1).unwrap();
        fs::write(to, bytes).unwrap();
    };
    let zst = |path: &Path| PathBuf::from(format!("{}.zst", path.display()));
    compress(&fs::read(plain(4)).unwrap(), zst(&plain(4)));
    fs::remove_file(plain(4)).unwrap();
    compress(&fs::read(plain(3)).unwrap(), zst(&plain(5)));
    // Truncated, beside a plain copy.
    let cut = fs::read(zst(&plain(4))).unwrap();
    fs::write(zst(&plain(1)), &cut[..cut.len() / 2]).unwrap();
    let document = rebuild(&env, "").code(0).json();
    assert_eq!(document["refreshed"], 5);
    let history = read(&env, "history.jsonl");
    assert_eq!(history.matches("question 4").count(), 1);
    assert_eq!(history.matches("question 3").count(), 1);
    assert_eq!(history.matches("question 5").count(), 1);
}

#[test]
fn lines_that_codex_appends_during_a_rebuild_are_preserved() {
    use codex_manager_core::history::rebuild::{RebuildOptions, RebuildTarget, apply, plan};
    use codex_manager_core::io::progress::Silent;
    let env = prepare(&fixtures().join("rollouts-alone"));
    let home = env.codex_home();
    fs::write(home.join("session_index.jsonl"), "").unwrap();
    let options = RebuildOptions {
        only: RebuildTarget::Both,
        max_threads: None,
        include_orphans: false,
        max_bytes: None,
    };
    let mut planned = plan(&home, None, options, &Silent).unwrap();
    let line = format!(
        "{{\"id\":\"{ID}\",\"thread_name\":\"new\",\"updated_at\":\"2026-01-03T00:00:00Z\"}}\n"
    );
    fs::write(home.join("session_index.jsonl"), &line).unwrap();
    let now = chrono::DateTime::from_timestamp(1_767_312_000, 0).unwrap();
    let _ = apply(&home, &mut planned, true, now).unwrap();
    let index = read(&env, "session_index.jsonl");
    assert!(
        index.lines().count() == 5 && index.ends_with(&line),
        "{index}"
    );
}

#[test]
fn a_rebuild_waits_for_the_lock_of_codex() {
    let env = prepare(&fixtures().join("limit"));
    let lock = fs::File::create(env.codex_home().join("session_index.jsonl.lock")).unwrap();
    lock.lock().unwrap();
    let child = env
        .command(["history", "rebuild", "--only", "session-index"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let printed = BufReader::new(child.stderr.take().unwrap()).lines();
    let waits =
        |line: std::io::Result<String>| line.unwrap().contains("waiting for another process");
    assert!(printed.into_iter().any(waits), "it did not wait");
    // The rebuild must not write before it gets the lock.
    let before = read(&env, "session_index.jsonl");
    assert!(before.contains("broken"));
    drop(lock);
    assert!(child.wait().unwrap().success());
    assert!(!read(&env, "session_index.jsonl").contains("broken"));
}

/// Creates a home with conversations of one prompt each, all of them in `history.jsonl`.
pub(crate) fn home_of(conversations: u32) -> TestEnv {
    let env = TestEnv::new();
    let mut history = String::new();
    for n in 1..=conversations {
        say(&env, n, Some(&format!("question {n}")));
        history += &history_line(n);
    }
    fs::write(env.codex_home().join("history.jsonl"), history).unwrap();
    env
}

fn id_of(n: u32) -> String {
    format!("01a10000-0000-7000-8000-{n:012x}")
}

fn history_line(n: u32) -> String {
    let id = id_of(n);
    let ts = 1_767_312_000 + n;
    format!("{{\"session_id\":\"{id}\",\"ts\":{ts},\"text\":\"question {n}\"}}\n")
}

/// Writes the rollout of a conversation. Without a prompt it lacks the event of the user's message.
fn say(env: &TestEnv, n: u32, prompt: Option<&str>) {
    let (id, day) = (id_of(n), env.codex_home().join("sessions/2026/01/02"));
    fs::create_dir_all(&day).unwrap();
    let at = chrono::DateTime::from_timestamp(1_767_312_000 + i64::from(n), 0).unwrap();
    let at = at.format("%Y-%m-%dT%H:%M:%SZ");
    let mut text = format!(
        "{{\"timestamp\":\"{at}\",\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\",\"timestamp\":\"{at}\",\"cwd\":\"/w\"}}}}\n"
    );
    if let Some(prompt) = prompt {
        text.extend([format!(
            "{{\"timestamp\":\"{at}\",\"type\":\"event_msg\",\"payload\":{{\"type\":\"user_message\",\"message\":\"{prompt}\"}}}}\n"
        )]);
    }
    let name = format!("rollout-2026-01-02T00-00-00-{id}.jsonl");
    fs::write(day.join(name), text).unwrap();
}

const LISTS: [&str; 2] = ["session_index.jsonl", "history.jsonl"];

#[test]
fn a_rebuild_that_removes_prompts_is_refused_without_consent() {
    let env = home_of(130);
    let before = env.tree("home");
    let run = env.run(["history", "rebuild"]).code(5);
    insta::assert_snapshot!(run, @r"
    exit 5
    --- stdout
    100 conversations, from the conversations on disk
    100 prompts
    older conversations left out by --max-threads 100 (0 for all): 30
    prompts to remove from history.jsonl, because --max-threads leaves out their conversation: 30
    --- stderr
    error: removing 30 prompts from history.jsonl needs confirmation

    hint: confirm with --yes, or rebuild only the names with --only session-index; nothing was changed
    ");
    assert_same_tree(&before, &env.tree("home"));
    // A rebuild that removes nothing asks no question.
    let _ = env
        .run(["history", "rebuild", "--only", "session-index"])
        .code(0);
    let _ = env
        .run(["history", "rebuild", "--max-threads", "0"])
        .code(0);
    assert_eq!(read(&env, "history.jsonl").lines().count(), 130);
}

#[test]
#[cfg(unix)]
fn a_rebuild_asks_on_a_terminal_before_it_removes_prompts() {
    use crate::support::terminal::Terminal;
    use std::time::Duration;
    let env = home_of(103);
    let before = env.tree("home");
    for (answer, code) in [("n\n", 5), ("y\n", 0)] {
        let mut terminal = Terminal::start(&mut env.command(["history", "rebuild"]));
        let question = "remove 3 prompts from history.jsonl? [y/N]";
        terminal.wait_for(question, Duration::from_secs(60));
        assert_same_tree(&before, &env.tree("home"));
        terminal.type_keys(answer);
        assert_eq!(terminal.end().code(), Some(code));
    }
    assert_eq!(read(&env, "history.jsonl").lines().count(), 100);
}

#[test]
fn prompts_of_conversations_on_disk_are_distinguished_from_those_of_lost_ones() {
    let env = home_of(1);
    // On disk: without the event, and archived. Not on disk: the last one.
    say(&env, 2, None);
    let archived = env.codex_home().join("archived_sessions");
    fs::create_dir(&archived).unwrap();
    say(&env, 3, Some("question 3"));
    let name = format!("rollout-2026-01-02T00-00-00-{}.jsonl", id_of(3));
    let from = env.codex_home().join("sessions/2026/01/02").join(&name);
    fs::rename(from, archived.join(name)).unwrap();
    let history: String = (1..=4).map(history_line).collect();
    fs::write(env.codex_home().join("history.jsonl"), history).unwrap();
    let run = env.run(["history", "rebuild", "--dry-run"]).code(0);
    insta::assert_snapshot!(run, @r"
    exit 0
    --- stdout
    2 conversations, from the conversations on disk
    1 prompt
    prompts to remove from history.jsonl, because their conversation is not on disk: 1
    prompts to remove from history.jsonl, because their conversation is on disk but does not record them, or is left out: 2
    would be written: [ROOT]/home/.codex/session_index.jsonl
    would be written: [ROOT]/home/.codex/history.jsonl
    --- stderr
    nothing was written (--dry-run)
    ");
    let document = rebuild(&env, "").code(0).json();
    assert_eq!(document["history_dropped"], 3);
    assert_eq!(document["history_unrecorded"], 2);
    assert_eq!(read(&env, "history.jsonl"), history_line(1));
}

#[test]
fn rows_without_a_file_are_counted_apart_from_conversations_on_disk() {
    let env = prepare(&fixtures().join("limit"));
    let day = env.codex_home().join("sessions/2026/01/02");
    fs::remove_file(day.join(format!("rollout-2026-01-02T00-00-00-{ID}.jsonl"))).unwrap();
    let check = env.run(["history", "check", "--json"]).code(5).json();
    let document = rebuild(&env, "--max-threads 0 --dry-run").code(0).json();
    assert_eq!(document["without_file"], 1);
    let on_disk = document["refreshed"].as_u64().unwrap() - 1;
    assert_eq!(check["on_disk"], on_disk);
    let run = env.run(["history", "rebuild", "--dry-run"]).code(0);
    let line = "of them only in Codex's database, without a file in sessions/: 1";
    assert!(run.stdout.contains(line), "{run}");
}
