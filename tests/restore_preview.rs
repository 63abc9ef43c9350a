//! `restore` describes its plan: the archive, the question, the conversations, the undo.

use crate::prune::archives;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::{
    SECOND, alice, backup, put, rollout, sample_home, sample_home_at, set_time, text,
};
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::terminal::Terminal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_chosen_archive_is_named_with_account_and_age_before_the_start() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    let named = "2026-11-20-100000-alice@example.com-codex.tar.gz: full archive of alice@example.com, \
                 made Fri 20 Nov 10:00, 2 h ago\n";
    for args in [
        &["restore", "latest", "--dry-run"][..],
        &["restore", "alice@example.com", "--dry-run"],
        &["restore", "latest"],
    ] {
        let run = env.run(args).code(0);
        assert!(run.stderr.starts_with(named), "{run}");
    }
}

#[test]
fn latest_is_an_archive_of_another_home_only_if_this_home_has_none() {
    let mut env = TestEnv::new();
    let home_archives = archives(&mut env, &["2026-11-19T10:00:00Z"]);
    let chosen = |args: &[&str]| {
        let args = [args, &["--dry-run", "--json"]].concat();
        let run = env.run(args).code(0);
        (
            run.json()["archive"].as_str().unwrap().to_owned(),
            run.stderr,
        )
    };
    let other = env.path("other home");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    sample_home_at(&other);
    let other_archive = backup(&env, &["--codex-home", &text(&other)]);
    for argument in ["latest", "alice@example.com"] {
        let (archive, _) = chosen(&["restore", argument]);
        assert_eq!(archive, name(&home_archives[0]));
    }
    let _ = env.run(["restore", "latest~1"]).code(1);
    let since = env.run(["diff", "--json"]).code(0).json();
    let since = since["archive"].as_str().unwrap();
    assert!(name(&home_archives[0]).starts_with(since), "{since}");

    // The home was moved, so it has no archive.
    fs::remove_file(&home_archives[0]).unwrap();
    let (archive, stderr) = chosen(&["restore", "latest"]);
    assert_eq!(archive, name(&other_archive));
    assert!(stderr.contains(", from another home: "), "{stderr}");
    let mut terminal = Terminal::start(&mut env.command(["restore", "latest"]));
    terminal.wait_for("[y/N]", LIMIT);
    terminal.type_keys("n\n");
    assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
    let shown = terminal.text();
    let (_, question) = shown
        .split_once("restore 2 conversations")
        .expect("a question");
    let words: Vec<_> = question.split_whitespace().collect();
    let question = words.join(" ");
    assert!(question.contains("from another home: "), "{shown}");
}

#[test]
fn restore_asks_on_a_terminal_before_it_replaces_a_live_home() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-20T10:00:00Z"]);
    put(&env, "notes.txt", "changed");
    let before = env.tree("home/.codex");
    let mut terminal = Terminal::start(&mut env.command(["restore", "latest"]));
    terminal.wait_for("[y/N]", LIMIT);
    terminal.type_keys("n\n");
    assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
    let shown = terminal.text();
    let question = "restore 2 conversations into ~/.codex? [y/N]";
    assert!(shown.contains(question), "{shown}");
    assert!(!shown.contains(" file"), "{shown}");
    assert!(
        shown.contains("nothing was changed") && shown.contains("--dry-run"),
        "{shown}"
    );
    assert_same_tree(&before, &env.tree("home/.codex"));
    let mut terminal = Terminal::start(&mut env.command(["restore", "latest"]));
    terminal.wait_for("[y/N]", LIMIT);
    terminal.type_keys("y\n");
    assert!(terminal.end().success(), "{}", terminal.text());
    let notes = fs::read_to_string(env.codex_home().join("notes.txt")).unwrap();
    assert_eq!(notes, "2026-11-20T10:00:00Z");
    // --yes answers, and a single file is restored without a question.
    for args in [
        &["restore", "latest", "--yes"][..],
        &["restore", "latest", "--only", "notes.txt"],
    ] {
        let mut terminal = Terminal::start(&mut env.command(args));
        assert!(terminal.end().success(), "{}", terminal.text());
    }
}

#[test]
fn the_plan_counts_files_that_differ_in_size_or_time() {
    let env = TestEnv::new();
    sample_home(&env);
    put(&env, "notes.txt", "one");
    let archive = text(&backup(&env, &[]));
    let planned = |unchanged: usize| {
        let args = ["restore", &archive, "--dry-run", "-v"];
        let run = env.run(args).code(0);
        let differing = match 12 - unchanged {
            0 => "all have the same size and time".to_owned(),
            1 => "1 differs in size or time".to_owned(),
            count => format!("{count} differ in size or time"),
        };
        let line =
            format!("  besides the login: 12 files ({differing}) replaced, 0 added, 0 removed\n");
        assert!(run.stdout.contains(&line), "{run}");
        let json = env.run([&args[..], &["--json"]].concat()).code(0).json();
        assert_eq!(json["unchanged"], 2, "{json}");
    };
    planned(12);
    put(&env, "notes.txt", "two");
    planned(11);
    let database = env.codex_home().join("state_5.sqlite");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.execute("DELETE FROM threads", []).unwrap();
    // The change is in the log of the database.
    planned(10);
    drop(connection);
    let document = |more: &[&str]| {
        let args = [&["restore", &archive, "--yes", "--json"], more].concat();
        let json = env.run(args).code(0).json();
        ["files", "bytes", "unchanged", "removed", "auth", "notes"].map(|key| json[key].clone())
    };
    for more in [&["--merge"][..], &[]] {
        let plan = document(&[more, &["--dry-run"]].concat());
        assert_eq!(plan, document(more));
    }
    planned(12);
}

#[test]
fn restore_asks_on_a_terminal_even_if_only_contents_or_the_login_differ() {
    let env = TestEnv::new();
    sample_home(&env);
    let notes = put(&env, "notes.txt", "one");
    set_time(&notes, 1_790_000_000, 5);
    let archive = text(&backup(&env, &[]));
    write_auth(&env.codex_home(), &alice(1));
    put(&env, "notes.txt", "two");
    set_time(&notes, 1_790_000_000, 5);
    let before = env.tree("home/.codex");
    let files = "replace 12 files (all have the same size and time) in ~/.codex";
    let asked = "restore 2 conversations into ~/.codex? [y/N]";
    let with_login =
        "restore 2 conversations and the login into ~/.codex, use the login of the archive? [y/N]";
    for (more, asked) in [(&[][..], asked), (&["--auth", "archive"], with_login)] {
        let args = [&["restore", &*archive, "-v"], more].concat();
        let mut terminal = Terminal::start(&mut env.command(&args));
        terminal.wait_for("[y/N]", LIMIT);
        terminal.type_keys("n\n");
        assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
        // The terminal wraps the question.
        let words: Vec<_> = terminal
            .text()
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let shown = words.join(" ");
        assert!(shown.contains(asked) && shown.contains(files), "{shown}");
        assert_same_tree(&before, &env.tree("home/.codex"));
    }
}

#[test]
fn side_files_of_databases_are_not_counted_as_removed() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    for suffix in ["-wal", "-shm"] {
        put(&env, format!("state_5.sqlite{suffix}"), "");
    }
    let run = env.run(["restore", &archive, "--dry-run", "-v"]).code(0);
    assert!(
        run.stdout.contains(" added, 0 files removed") || run.stdout.contains(", 0 removed"),
        "{run}"
    );
    assert!(
        !run.stdout.contains("-wal") && !run.stdout.contains("-shm"),
        "{run}"
    );
    let json = env
        .run(["restore", &archive, "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(json["removed"], json!([]));
}

#[test]
fn a_dry_run_with_the_archive_of_another_account_shows_the_plan() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    fs::remove_file(env.codex_home().join(rollout(SECOND))).unwrap();
    write_auth(&env.codex_home(), &SignIn::bob());
    let before = env.tree("");
    let run = env.run(["diff", &archive]).code(0);
    assert!(run.stdout.contains("removed"), "{run}");
    let run = env.run(["restore", &archive, "--dry-run"]).code(0);
    assert!(run.stderr.contains("warning: the archive is of "), "{run}");
    assert!(
        run.stderr.contains("but bob@example.com is signed in; ") && run.stderr.contains("--yes"),
        "{run}"
    );
    assert!(run.stdout.contains("would restore "), "{run}");
    assert_same_tree(&before, &env.tree(""));
    // Accounts with a profile have its name.
    let _ = env.run(["profile", "save", "home"]).code(0);
    let before = env.tree("");
    let run = env.run(["restore", &archive]).code(5);
    let message = "the archive is of alice@example.com, but home is signed in";
    assert!(run.stderr.contains(message), "{run}");
    let _ = env.run(["restore", &archive]).code(5);
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn the_restore_of_a_lost_conversation_can_be_undone() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let lost = env.codex_home().join(rollout(SECOND));
    fs::remove_file(&lost).unwrap();
    let run = env.run(["restore", &archive, "--session", SECOND]).code(0);
    assert!(lost.exists());
    let (_, undo) = run
        .stderr
        .split_once("undo with:\n    codex-manager ")
        .expect("a command");
    let undo = undo.lines().next().unwrap();
    let _ = env.run(undo.split(' ')).code(0);
    assert!(!lost.exists());
}

#[test]
fn list_backups_explains_the_dates_in_names_once_and_marks_partial_archives() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    put(&env, "notes.txt", "changed");
    let _ = env.run(["restore", "latest"]).code(0);
    let run = env.run(["list-backups"]).code(0);
    assert!(run.stdout.contains("  safety  "), "{run}");
    assert_eq!(
        run.stderr.matches("start of the weekly window").count(),
        1,
        "{run}"
    );
    let document = env.run(["list-backups", "--json"]).code(0).json();
    let partial = document["backups"].as_array().unwrap().iter();
    let partial: Vec<_> = partial
        .map(|b| (b["label"].clone(), b["partial"].clone()))
        .collect();
    assert_eq!(
        partial,
        [
            (json!("safety"), json!(true)),
            (Value::Null, json!(false)),
            (Value::Null, json!(false))
        ]
    );
}

#[test]
fn the_safety_backup_of_a_part_of_the_home_is_labelled_partial() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-20T10:00:00Z"]);
    put(&env, "notes.txt", "changed");
    let only = ["restore", "latest", "--only", "notes.txt"];
    let safety = env.run([&only[..], &["--json"]].concat()).code(0).json();
    let safety = safety["safety_backup"].as_str().unwrap();
    for args in [
        &["list-backups"][..],
        &["prune", "--keep-last", "9", "--dry-run"],
    ] {
        let run = env.run(args).code(0);
        assert!(run.stdout.contains("  safety (partial)  "), "{run}");
    }
    let run = env.run(["restore", safety, "--dry-run"]).code(0);
    assert!(
        run.stderr.contains(": safety (partial) archive of "),
        "{run}"
    );
}

#[test]
fn list_backups_has_the_start_of_the_window_after_the_time_of_the_backup() {
    let env = TestEnv::new();
    sample_home(&env);
    backup(&env, &["--reset-at", "2026-11-24T15:55:00Z"]);
    let run = env.run(["list-backups"]).code(0);
    let head = run.stdout.lines().next().unwrap();
    let head: Vec<_> = head.split_whitespace().collect();
    assert_eq!(head[..4], ["#", "CREATED", "WINDOW", "KIND"], "{run}");
    let times = "  Fri 20 Nov 12:00  Tue 17 Nov 15:55  full ";
    assert!(run.stdout.contains(times), "{run}");
}
