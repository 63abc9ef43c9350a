//! `storage trash` and `undelete`: the choice of conversations, and their complete return.

use crate::support::copy_tree;
use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::folder_snapshot::FolderSnapshot;
use crate::support::held_lock::HeldLock;
use crate::support::injection::{
    Fault, can_inject, points, run_stopped_at, run_with_fault, sample_evenly,
};
use crate::support::lab::{Lab, conversation_rows, rollouts};
use crate::support::pauses::{EVENT_LIMIT, wait_until};
use crate::support::sample::{put, set_time};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn id(n: u32) -> String {
    format!("01a10000-0000-7000-8000-{n:012}")
}

/// Creates a home with five conversations: 1 is named, 2 is archived, 3 has no turn, 4 is a fork of 1,
/// and 5 is a subagent of 2, with turns but no message of the user.
fn home() -> TestEnv {
    let env = TestEnv::new();
    fs::create_dir_all(env.codex_home()).unwrap();
    let database = Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, title TEXT NOT NULL,
                 name TEXT, first_user_message TEXT NOT NULL, cwd TEXT NOT NULL,
                 archived INTEGER NOT NULL, updated_at INTEGER NOT NULL, model TEXT);
             CREATE TABLE thread_spawn_edges(parent_thread_id TEXT NOT NULL,
                 child_thread_id TEXT NOT NULL PRIMARY KEY, status TEXT NOT NULL);
             CREATE TABLE tools(thread_id TEXT REFERENCES threads(id) ON DELETE CASCADE, n INTEGER);",
        )
        .unwrap();
    for n in 1..=5 {
        let name = format!("rollout-2026-10-01T00-00-00-{}.jsonl", id(n));
        let path = match n {
            2 => format!("archived_sessions/{name}"),
            _ => format!("sessions/2026/10/01/{name}"),
        };
        let mut payload = json!({"id": id(n), "cwd": "/one"});
        if n == 4 {
            payload["history_base"] = json!({"thread_id": id(1)});
        }
        let mut text = format!("{}\n", json!({"type": "session_meta", "payload": payload}));
        if n != 3 {
            text += "{\"type\":\"turn_context\",\"payload\":{\"turn_id\":\"1\"}}\n";
        }
        let path = put(&env, path, text);
        set_time(&path, 1_790_000_000 + u64::from(n) * 86_400, 1);
        let _ = database
            .execute(
                "INSERT INTO threads VALUES(?1, ?2, ?3, NULL, ?4, ?5, ?6, 1790000000, NULL)",
                (
                    id(n),
                    path.to_str(),
                    format!("title {n}"),
                    if matches!(n, 3 | 5) { "" } else { "hello" },
                    if n == 5 { "/two" } else { "/one" },
                    n == 2,
                ),
            )
            .unwrap();
        let _ = database
            .execute("INSERT INTO tools VALUES(?1, ?2)", (id(n), n))
            .unwrap();
    }
    let _ = database
        .execute(
            "INSERT INTO thread_spawn_edges VALUES(?1, ?2, 'open')",
            (id(2), id(5)),
        )
        .unwrap();
    database.close().unwrap();
    let line = |n: u32, name: &str| {
        format!(
            "{}\n",
            json!({"id": id(n), "thread_name": name, "updated_at": "2026-10-01T00:00:00Z"})
        )
    };
    put(
        &env,
        "session_index.jsonl",
        line(1, "old") + &line(2, "two") + &line(1, "the first"),
    );
    env
}

/// Returns the rows of all tables, sorted.
fn rows(home: &Path) -> Vec<String> {
    let database = Connection::open(home.join("state_5.sqlite")).unwrap();
    let mut all = Vec::new();
    for sql in [
        "SELECT id || rollout_path || title || coalesce(name, '-') || first_user_message || cwd ||
         archived || updated_at || coalesce(model, '-') FROM threads",
        "SELECT thread_id || n FROM tools",
        "SELECT parent_thread_id || child_thread_id || status FROM thread_spawn_edges",
    ] {
        let mut select = database.prepare(sql).unwrap();
        let texts = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        all.extend(texts.map(Result::unwrap));
    }
    all.sort();
    all
}

/// Returns the lines of the index, sorted, because `undelete` appends the removed lines.
fn names(home: &Path) -> Vec<String> {
    let text = fs::read_to_string(home.join("session_index.jsonl")).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn ids(document: &Value) -> Vec<String> {
    let items = document["items"].as_array().expect("items").iter();
    items
        .map(|item| item["session_id"].as_str().expect("an id").to_owned())
        .collect()
}

#[test]
fn undelete_brings_back_the_files_rows_names_and_times_of_a_conversation() {
    let env = home();
    let home = env.codex_home();
    let state = || {
        (
            rows(&home),
            names(&home),
            env.tree("home/.codex")
                .only(&["sessions", "archived_sessions"]),
        )
    };
    let time = |n| {
        rollouts(&home)
            .iter()
            .find(|path| path.to_string_lossy().contains(&id(n)))
            .map(|path| path.metadata().unwrap().modified().unwrap())
    };
    let before = state();
    let times: Vec<_> = (1..=5).map(time).collect();
    let run = env
        .run(["storage", "trash", &id(2), &id(3), "--json"])
        .code(0);
    assert_eq!(ids(&run.json()), [id(2), id(3)]);
    assert_eq!(rollouts(&home).len(), 3);
    assert!(!rows(&home).iter().any(|row| row.contains("title 2")));
    // Rows of other tables that refer to the conversation stay for its return.
    assert_eq!(rows(&home).len(), before.0.len() - 2);
    assert!(!names(&home).join("\n").contains(&id(2)));
    let listed = env.run(["storage", "undelete", "--json"]).code(0).json();
    assert_eq!(ids(&listed), [id(2), id(3)]);
    assert_eq!(listed["items"][0]["title"], "title 2");

    let _ = env.run(["storage", "undelete", &id(2), &id(3)]).code(0);
    let after = state();
    assert_eq!((&after.0, &after.1), (&before.0, &before.1));
    assert_same_tree(&before.2, &after.2);
    assert_eq!((1..=5).map(time).collect::<Vec<_>>(), times);
    let run = env.run(["storage", "undelete", &id(9)]).code(1);
    assert!(run.stderr.contains("not in the trash"), "{run}");
}

#[test]
fn trash_shows_titles_and_the_command_that_undoes_it() {
    let env = home();
    let run = env.run(["storage", "trash", &id(3)]).code(0);
    let row = run.stdout.lines().nth(1).unwrap_or_default();
    assert!(row.starts_with("01a10000-0000  "), "{run}");
    assert!(row.ends_with("title 3"), "{run}");
    let (_, undo) = run
        .stderr
        .split_once("undo with:\n    codex-manager ")
        .unwrap();
    let undo: Vec<_> = undo.split_whitespace().collect();
    let back = env.run(undo).code(0);
    assert!(
        back.stdout.contains("1 conversation brought back"),
        "{back}"
    );
}

#[test]
fn trash_says_that_sync_brings_conversations_back_unless_it_propagates_deletions() {
    let env = home();
    let cloud = env.path("cloud");
    env.run(["sync", "init", "--cloud", cloud.to_str().unwrap()])
        .code(0);
    let note = "sync brings back what another machine has";
    let run = env.run(["storage", "trash", &id(3)]).code(0);
    assert!(run.stderr.contains(note), "{run}");

    let config = env.manager_home().join("sync.toml");
    let text = fs::read_to_string(&config).unwrap();
    let propagating = text.replace("\"never\"", "\"propagate\"");
    assert_ne!(propagating, text);
    fs::write(&config, propagating).unwrap();
    let run = env.run(["storage", "trash", &id(5)]).code(0);
    assert!(!run.stderr.contains(note), "{run}");
}

#[test]
fn trash_filters_select_conversations_and_a_filter_or_id_is_required() {
    let env = home();
    let before = env.tree("home");
    let chosen = |args: &[&str]| -> Vec<String> {
        let args = [&["storage", "trash", "--dry-run", "--json"], args].concat();
        ids(&env.run(args).code(0).json())
    };
    assert_eq!(chosen(&["--no-turns"]), [id(3)]);
    assert_eq!(chosen(&["--subagents-of", &id(2)]), [id(5)]);
    assert_eq!(chosen(&["--project", "/two"]), [id(5)]);
    assert_eq!(
        chosen(&["--older-than", "1d", "--project", "/two"]),
        [id(5)]
    );
    assert_eq!(chosen(&["--older-than", "900d"]), Vec::<String>::new());
    assert_same_tree(&before, &env.tree("home"));
    let _ = env.run(["storage", "trash"]).code(4);
    let _ = env.run(["storage", "trash", "ffff"]).code(1);
    let _ = env.run(["storage", "trash", "01a1"]).code(1);
    let _ = env.run(["storage", "trash", "--older-than", "x"]).code(4);
}

#[test]
fn the_no_turns_filter_leaves_out_a_conversation_with_one_message_too_long_to_read() {
    let env = home();
    let mut rollouts = rollouts(&env.codex_home()).into_iter();
    let own = rollouts.find(|path| path.to_string_lossy().contains(&id(3)));
    let rollout = own.expect("the rollout without turns");
    let message = json!({"type": "user_message", "message": "x".repeat(17 << 20)});
    let line =
        json!({"timestamp": "2026-10-01T00:00:00.000Z", "type": "event_msg", "payload": message});
    let text = fs::read_to_string(&rollout).unwrap();
    fs::write(&rollout, format!("{text}{line}\n")).unwrap();
    let run = env.run(["storage", "trash", "--no-turns", "--dry-run", "--json"]);
    assert!(!run.stdout.contains(&id(3)), "{run}");
}

#[test]
fn a_parent_whose_history_a_fork_needs_is_trashed_only_with_the_fork() {
    let env = home();
    let before = env.tree("home/.codex");
    let run = env.run(["storage", "trash", &id(1)]).code(5);
    assert!(run.stderr.contains(&id(4)), "{run}");
    assert_same_tree(&before, &env.tree("home/.codex"));
    let run = env
        .run(["storage", "trash", &id(1), &id(4), "--json"])
        .code(0);
    assert_eq!(ids(&run.json()), [id(1), id(4)]);
    let _ = env.run(["storage", "trash", &id(5), "--json"]).code(0);
}

#[test]
fn a_filter_leaves_out_a_conversation_whose_history_a_newer_fork_needs() {
    let mut env = home();
    // Conversation 1 is from 2026-09-22 and its fork, 4, from 2026-09-25.
    env.set("CODEX_MANAGER_NOW", "2026-10-24T20:00:00Z");
    let run = env.run(["storage", "trash", "--older-than", "30d", "--json"]);
    let run = run.code(0);
    assert_eq!(ids(&run.json()), [id(2), id(3)]);
    let note = format!("{} stays, because {} begins", id(1), id(4));
    assert!(run.stderr.contains(&note), "{run}");
}

#[test]
fn a_conversation_in_use_is_skipped() {
    let env = home();
    let lock = put(&env, format!("thread-writer-locks/{}.lock", id(3)), "");
    let lock = HeldLock::exclusive(&lock);
    let before = rows(&env.codex_home());
    let run = env.run(["storage", "trash", "--no-turns"]).code(6);
    assert!(run.stderr.contains("open"), "{run}");
    assert_eq!(rows(&env.codex_home()), before);
    drop(lock);
    let _ = env.run(["storage", "trash", "--no-turns"]).code(0);
}

#[test]
fn trash_and_undelete_can_be_repeated_after_a_partial_failure() {
    let env = home();
    let before = rows(&env.codex_home());
    for (command, action) in [("trash", "trash"), ("undelete", "undelete")] {
        let lock = put(&env, format!("thread-writer-locks/{}.lock", id(3)), "");
        let lock = HeldLock::exclusive(&lock);
        let named = [id(2), id(3), id(5)];
        let args = [&["storage".to_owned(), command.to_owned()], &named[..]].concat();
        let actions = |run: &Run| -> Vec<_> {
            let items = run.json()["items"].as_array().unwrap().clone();
            let action = |item: &Value| item["action"].as_str().unwrap().to_owned();
            items.iter().map(action).collect()
        };
        let json = [&args[..], &["--json".to_owned()]].concat();
        let partial = env.run(&json).code(6);
        assert_eq!(actions(&partial), [action, "skip", action], "{partial}");
        drop(lock);
        let rest = env.run(&json).code(0);
        assert!(actions(&rest).contains(&action.to_owned()), "{rest}");
        assert!(rest.stderr.contains("already"), "{rest}");
        let again = env.run(&args).code(0);
        assert!(again.stderr.contains(&id(3)), "{again}");
        if command == "trash" {
            assert_eq!(rows(&env.codex_home()).len(), before.len() - 3);
        }
    }
    assert_eq!(rows(&env.codex_home()), before);
}

#[test]
fn undelete_does_not_overwrite_a_recreated_conversation() {
    let env = home();
    let path = rollouts(&env.codex_home())
        .into_iter()
        .find(|path| path.to_string_lossy().contains(&id(3)));
    let path = path.expect("a rollout");
    let _ = env.run(["storage", "trash", &id(3)]).code(0);
    fs::write(&path, "another\n").unwrap();
    let _ = env
        .run(["storage", "undelete", &id(3), "--dry-run"])
        .code(2);
    let _ = env.run(["storage", "undelete", &id(3)]).code(2);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another\n");
    // The same if Codex has archived it since.
    let archived = env.codex_home().join("archived_sessions");
    fs::create_dir_all(&archived).unwrap();
    let archived = archived.join(path.file_name().unwrap());
    fs::rename(&path, &archived).unwrap();
    let _ = env.run(["storage", "undelete", &id(3)]).code(2);
    assert!(!path.exists());
    fs::remove_file(&archived).unwrap();
    let _ = env.run(["storage", "undelete", &id(3)]).code(0);
}

#[test]
fn the_trash_is_emptied_only_with_yes() {
    let env = home();
    let listed = |env: &TestEnv| ids(&env.run(["storage", "undelete", "--json"]).code(0).json());
    for n in [5, 2] {
        let _ = env.run(["storage", "trash", &id(n)]).code(0);
    }
    assert_eq!(listed(&env).len(), 2);
    let _ = env.run(["storage", "trash", "--empty-trash"]).code(5);
    assert_eq!(listed(&env).len(), 2);
    let _ = env
        .run(["storage", "trash", "--empty-trash", "--yes"])
        .code(0);
    assert_eq!(listed(&env), Vec::<String>::new());
}

#[test]
fn a_fork_comes_back_with_its_base() {
    let env = home();
    let before = (rows(&env.codex_home()), names(&env.codex_home()));
    let _ = env.run(["storage", "trash", &id(1), &id(4)]).code(0);
    let undelete = ["storage", "undelete", &id(4), "title 4", "--json"];
    let planned = env.run([&undelete[..], &["--dry-run"]].concat()).code(0);
    assert_eq!(ids(&planned.json()), [id(1), id(4)]);
    let run = env.run(undelete).code(0);
    assert_eq!(ids(&run.json()), [id(1), id(4)]);
    assert!(run.stderr.contains(&id(1)), "{run}");
    assert_eq!((rows(&env.codex_home()), names(&env.codex_home())), before);
}

#[test]
fn emptying_the_trash_keeps_the_base_of_a_fork_in_the_home() {
    let env = home();
    let is_fork = |path: &PathBuf| path.to_string_lossy().contains(&id(4));
    let fork = rollouts(&env.codex_home()).into_iter().find(is_fork);
    let fork = fork.expect("the fork");
    let text = fs::read(&fork).unwrap();
    let _ = env.run(["storage", "trash", &id(1), &id(4)]).code(0);
    // The fork returns in another way, as from an archive.
    fs::write(&fork, text).unwrap();
    let run = env
        .run(["storage", "trash", "--empty-trash", "--yes", "--json"])
        .code(0);
    assert_eq!(ids(&run.json()), [id(4)]);
    let command = format!("codex-manager storage undelete {}", id(1));
    assert!(run.stderr.contains(&command), "{run}");
    let _ = env.run(["storage", "undelete", &id(1)]).code(0);
    assert_eq!(rollouts(&env.codex_home()).len(), 5);
}

#[test]
fn folders_that_cannot_be_listed_are_named() {
    let env = home();
    let folder = env.codex_home().join("sessions/2026/10/01");
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    let runs = [
        &["storage", "trash", "--no-turns"][..],
        &["storage", "expand"],
    ]
    .map(|args| env.run_unprivileged(args));
    mode(0o700);
    for run in runs {
        let run = run.code(6);
        assert!(
            run.stderr
                .contains("sessions/2026/10/01: Permission denied"),
            "{run}"
        );
    }
}

/// The number of points that the test tries per command and kind of fault.
const POINTS: usize = 12;

#[test]
fn i2_i3_a_move_that_fails_anywhere_is_finished_or_undone() {
    if !can_inject() {
        return;
    }
    let env = home();
    let home = env.codex_home();
    let whole = (rows(&home), names(&home));
    let mut dice = Dice::new();
    for (command, chosen) in [("trash", &[2][..]), ("undelete", &[2]), ("trash", &[2, 3])] {
        let chosen: Vec<String> = chosen.iter().map(|&n| id(n)).collect();
        let with_ids = |command: &'static str, ids: &[String]| {
            let words = ["storage", command].map(str::to_owned);
            words.into_iter().chain(ids.iter().cloned()).collect()
        };
        if command == "undelete" {
            let trash: Vec<String> = with_ids("trash", &chosen);
            let _ = env.run(trash).code(0);
        }
        let kept = FolderSnapshot::take(&env.path("home"));
        let args: Vec<String> = with_ids(command, &chosen);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let all = points(&env, &args);
        let mut tried = 0;
        for fault in [
            Fault::Killed,
            Fault::FromThenOn("ENOSPC"),
            Fault::Once("EIO"),
        ] {
            for point in sample_evenly(POINTS, &all, &mut dice) {
                kept.restore();
                let context = format!("{args:?} {point:?} {fault:?}");
                let Some(output) = run_with_fault(&env, &args, &point, fault) else {
                    continue;
                };
                tried += 1;
                // The next command finishes or undoes the killed one.
                let listed = env.run(["storage", "undelete", "--json"]);
                assert_eq!(listed.code, 0, "{context}\n{output:?}\n{listed}");
                let trashed = ids(&listed.json());
                let is_finished = listed.stderr.contains("was finished");
                assert!(!is_finished || !trashed.is_empty(), "{context}\n{listed}");
                let live = rollouts(&home).len();
                assert!(trashed.iter().all(|id| chosen.contains(id)), "{context}");
                assert!(
                    live == 5 || live + trashed.len() == 5,
                    "{context}: lost\n{output:?}"
                );
                if !trashed.is_empty() {
                    let undelete: Vec<String> = with_ids("undelete", &trashed);
                    let run = env.run(undelete);
                    assert_eq!(run.code, 0, "{context}\n{run}");
                }
                assert_eq!((rows(&home), names(&home)), whole, "{context}\n{output:?}");
                assert_eq!(rollouts(&home).len(), 5, "{context}");
                let left = env.tree("home").0.into_keys();
                let left: Vec<PathBuf> = left
                    .filter(|p| p.to_string_lossy().contains(".pending"))
                    .collect();
                assert_eq!(left, Vec::<PathBuf>::new(), "{context}");
            }
        }
        kept.restore();
        if command == "undelete" {
            let _ = env.run(args).code(0);
        }
        println!("{command}: {} points, {tried} faults tried", all.len());
        assert!(tried > POINTS, "{tried}");
    }
}

/// Codex continues the conversation after the kill, before the next command.
#[test]
fn i2_a_turn_between_a_killed_move_and_its_recovery_is_kept() {
    if !can_inject() {
        return;
    }
    let env = home();
    let conversation = id(3);
    let path = format!("sessions/2026/10/01/rollout-2026-10-01T00-00-00-{conversation}.jsonl");
    let path = env.codex_home().join(path);
    let args = ["storage", "trash", &conversation];
    let kept = FolderSnapshot::take(&env.path("home"));
    let mut continued = 0;
    for point in points(&env, &args) {
        kept.restore();
        let killed = run_with_fault(&env, &args, &point, Fault::Killed);
        if killed.is_none() || !path.exists() {
            continue;
        }
        let turn = "{\"type\":\"turn_context\",\"payload\":{\"turn_id\":\"later\"}}\n";
        let text = fs::read_to_string(&path).unwrap() + turn;
        fs::write(&path, &text).unwrap();
        let _ = env.run(["storage", "undelete", "--json"]).code(0);
        assert_eq!(fs::read_to_string(&path).ok(), Some(text), "{point:?}");
        continued += 1;
    }
    assert!(continued > 10, "{continued}");
}

#[test]
fn codex_lists_and_resumes_undeleted_conversations_and_a_loaded_one_is_not_trashed() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let ids = ["first", "second", "third"].map(|prompt| lab.say(prompt));
    let ask = |method: &str, params: Value| {
        let answer = lab
            .codex
            .app_server_request(&home, &lab.backend, method, params);
        answer.unwrap_or_else(|e| panic!("{method}: {e}"))
    };
    ask(
        "thread/name/set",
        json!({"threadId": ids[0], "name": "a name"}),
    );
    ask("thread/archive", json!({"threadId": ids[1]}));
    let listed = || {
        let mut all = Vec::new();
        for archived in [false, true] {
            let answer = ask(
                "thread/list",
                json!({"sourceKinds": ["exec"], "archived": archived}),
            );
            for thread in answer["data"].as_array().expect("threads") {
                let keys = ["id", "name", "createdAt", "updatedAt", "preview"];
                all.push(keys.map(|key| thread[key].to_string()).join(" "));
            }
        }
        all.sort();
        all
    };
    let shown = || ids.clone().map(|id| lab.user_messages(&home, &id));
    let before = (listed(), shown(), conversation_rows(&home));
    for id in &ids {
        let _ = lab.manager(["storage", "trash", id]).code(0);
    }
    assert_eq!(listed(), Vec::<String>::new());
    let _ = lab.manager(["history", "check"]).code(0);
    let fourth = lab.say("fourth");
    let _ = lab.manager(["storage", "trash", &fourth]).code(0);
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let _ = lab
        .manager([&["storage", "undelete"], &all[..]].concat())
        .code(0);
    assert_eq!((listed(), shown(), conversation_rows(&home)), before);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, &ids[0], "more");
    lab.resume(&home, &ids[2], "more");
    // Codex locks a conversation that it has loaded.
    let mut server = lab.codex.app_server(&home, &lab.backend);
    server
        .request("thread/resume", json!({"threadId": ids[0]}))
        .expect("resume");
    let _ = lab.manager(["storage", "trash", &ids[0]]).code(6);
    assert!(listed().iter().any(|row| row.contains(&ids[0])));
}

#[test]
fn changes_by_codex_between_choice_and_move_are_detected() {
    if !can_inject() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let [deleted, archived, continued] = ["a", "b", "c"].map(|prompt| lab.say(prompt));
    lab.close_databases();
    let args = [
        "storage", "trash", &deleted, &archived, &continued, "--json",
    ];
    // `trash` creates its folder after it has chosen the conversations.
    let meanwhile = || {
        for (method, id) in [("thread/delete", &deleted), ("thread/archive", &archived)] {
            let mut server = lab.codex.app_server(&home, &lab.backend);
            let done = server.request(method, json!({"threadId": id}));
            assert!(done.is_ok(), "{method}: {done:?}");
        }
        lab.resume(&home, &continued, "more");
    };
    let output =
        run_stopped_at(&lab.world, &args, ("mkdir", 1), meanwhile).expect("the call is reached");
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for item in report["items"].as_array().expect("items") {
        assert_eq!(item["action"], "skip", "{report}");
        let reason = item["reason"].as_str().expect("a reason");
        assert!(reason.contains("changed in the meantime"), "{report}");
    }
    assert_eq!(lab.listed_ids(&home), std::slice::from_ref(&continued));
    assert_eq!(lab.user_messages(&home, &continued), ["c", "more"]);
    assert_eq!(lab.user_messages(&home, &archived), ["b"]);
    assert_eq!(rollouts(&home).len(), 2);
}

#[test]
fn undelete_refuses_conversations_of_another_home_but_accepts_a_link_to_their_home() {
    let env = home();
    let _ = env.run(["storage", "trash", &id(3)]).code(0);
    let other = env.path("home/other");
    copy_tree(&env.codex_home(), &other);
    let other = other.to_str().expect("UTF-8");
    let before = env.tree("home");
    let run = env
        .run(["--codex-home", other, "storage", "undelete", &id(3)])
        .code(5);
    assert!(run.stderr.contains("--codex-home"), "{run}");
    assert_same_tree(&before, &env.tree("home"));
    fs::remove_dir_all(other).unwrap();
    // The home is found under another name.
    std::os::unix::fs::symlink(env.codex_home(), other).unwrap();
    let _ = env
        .run(["--codex-home", other, "storage", "undelete", &id(3)])
        .code(0);
}

#[test]
fn undelete_takes_the_entry_of_its_home_if_another_home_trashed_the_same_conversation_later() {
    let mut env = home();
    let other = env.path("home/other");
    copy_tree(&env.codex_home(), &other);
    let other = other.to_str().expect("UTF-8");
    let _ = env.run(["storage", "trash", &id(3)]).code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:01:00Z");
    let _ = env
        .run(["--codex-home", other, "storage", "trash", &id(3)])
        .code(0);
    let _ = env.run(["storage", "undelete", &id(3)]).code(0);
    assert_eq!(rollouts(&env.codex_home()).len(), 5);
    assert_eq!(rollouts(Path::new(other)).len(), 4);
}

#[test]
fn an_entry_that_names_files_outside_of_the_home_is_ignored() {
    for (from, to) in [
        (".codex/sessions/", ".codex/../x/"),
        ("rollout-", "../rollout-"),
    ] {
        let env = home();
        let _ = env.run(["storage", "trash", &id(3)]).code(0);
        let trash = env.manager_home().join("trash/conversations");
        let found = fs::read_dir(&trash)
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        let entry = found.filter(|path| path.is_dir()).last().expect("an entry");
        let document = entry.join("conversation.json");
        let text = fs::read_to_string(&document).unwrap();
        let (head, files) = text.split_once("\"files\"").expect("files");
        fs::write(
            &document,
            format!("{head}\"files\"{}", files.replace(from, to)),
        )
        .unwrap();
        let before = env.tree("home");
        let _ = env.run(["storage", "undelete", &id(3)]).code(1);
        // A recovery ignores the entry too.
        fs::rename(&entry, trash.join(".pending-entry")).unwrap();
        let _ = env.run(["storage"]).code(0);
        fs::rename(trash.join(".pending-entry"), &entry).unwrap();
        assert_same_tree(&before, &env.tree("home"));
    }
}

#[test]
fn undelete_accepts_ids_and_names_and_refuses_ambiguous_ones() {
    let env = home();
    let _ = env.run(["storage", "trash", &id(2), &id(3)]).code(0);
    let run = env.run(["storage", "undelete", "01a1"]).code(1);
    assert!(run.stderr.contains("matches several"), "{run}");
    let _ = env.run(["storage", "undelete", "title 2"]).code(0);
    assert_eq!(rollouts(&env.codex_home()).len(), 4);
}

#[test]
fn undelete_skips_a_conversation_with_a_taken_path_and_brings_back_the_others() {
    let env = home();
    let _ = env.run(["storage", "trash", &id(3), &id(5)]).code(0);
    let path = format!(
        "sessions/2026/10/01/rollout-2026-10-01T00-00-00-{}.jsonl",
        id(3)
    );
    put(&env, path, "another\n");
    let run = env
        .run(["storage", "undelete", &id(3), &id(5), "--json"])
        .code(6);
    let report = run.json();
    assert_eq!(report["items"][0]["action"], "skip", "{report}");
    assert_eq!(report["items"][1]["action"], "undelete", "{report}");
    assert_eq!(rollouts(&env.codex_home()).len(), 5);
}

#[test]
fn two_concurrent_commands_move_each_conversation_once() {
    let env = home();
    let before = (rows(&env.codex_home()), names(&env.codex_home()));
    let all: Vec<String> = (1..=5).map(id).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for command in ["trash", "undelete"] {
        let args = [&["storage", command], &all[..]].concat();
        let runs = std::thread::scope(|scope| {
            let threads = [0, 1].map(|_| scope.spawn(|| env.run(&args)));
            threads.map(|thread| thread.join().unwrap())
        });
        // The later command finds only some of the conversations that it has chosen, or none.
        assert!(
            runs.iter().all(|run| [0, 1, 2, 6].contains(&run.code)),
            "{} {}",
            runs[0],
            runs[1]
        );
        let listed = env.run(["storage", "undelete", "--json"]).code(0).json();
        let expected = if command == "trash" { 5 } else { 0 };
        assert_eq!(ids(&listed).len(), expected, "{} {}", runs[0], runs[1]);
        assert_eq!(rollouts(&env.codex_home()).len(), 5 - expected);
    }
    assert_eq!((rows(&env.codex_home()), names(&env.codex_home())), before);
}

#[test]
fn a_conversation_of_two_homes_can_be_trashed_in_one_second() {
    let env = home();
    let other = env.path("home/.other");
    copy_tree(&env.codex_home(), &other);
    let _ = env.run(["storage", "trash", &id(3)]).code(0);
    let home = ["--codex-home", other.to_str().expect("a path")];
    let third = id(3);
    let trash = [&home[..], &["storage", "trash", &third]].concat();
    let _ = env.run(trash).code(0);
    let folder = env.manager_home().join("trash/conversations");
    let entries = fs::read_dir(folder).expect("the trash").flatten();
    assert_eq!(entries.filter(|entry| entry.path().is_dir()).count(), 2);
}

#[test]
fn the_no_turns_filter_leaves_out_conversations_with_a_name_or_a_command_of_the_user() {
    let Some(lab) = Lab::new() else { return };
    let mut server = lab.codex.app_server(&lab.home(), &lab.backend);
    let mut ask = |method: &str, params: Value| {
        let answer = server.request(method, params);
        answer.unwrap_or_else(|e| panic!("{method}: {e}"))
    };
    let [empty, named, with_command] = [(); 3].map(|()| {
        let answer = ask("thread/start", json!({"cwd": lab.home()}));
        answer["thread"]["id"].as_str().expect("an id").to_owned()
    });
    // Codex writes the rollout of an empty conversation when it gets a name.
    for (id, name) in [(&named, "kept on purpose"), (&empty, "x")] {
        ask("thread/name/set", json!({"threadId": id, "name": name}));
    }
    let command = json!({"threadId": with_command, "command": "echo hello"});
    ask("thread/shellCommand", command);
    wait_until("the command ended", || {
        let mut rollouts = rollouts(&lab.home()).into_iter();
        let own = rollouts.find(|path| path.to_string_lossy().contains(&with_command));
        let text = own.and_then(|path| fs::read_to_string(path).ok());
        text.is_some_and(|text| text.contains("task_complete"))
    });
    server.close(EVENT_LIMIT).expect("the server ends");
    let database = Connection::open(lab.home().join("state_5.sqlite")).unwrap();
    database
        .execute("UPDATE threads SET name=NULL WHERE id=?1", [&empty])
        .unwrap();
    database.close().unwrap();
    let args = ["storage", "trash", "--no-turns", "--dry-run", "--json"];
    assert_eq!(ids(&lab.manager(args).code(0).json()), [empty]);
}

#[test]
fn emptying_the_trash_keeps_a_version_with_turns_that_the_home_lacks() {
    let mut env = home();
    let first = id(1);
    let entry_folder = |env: &TestEnv| {
        let trash = fs::read_dir(env.manager_home().join("trash/conversations")).unwrap();
        let mut folders = trash.flatten().map(|entry| entry.path());
        folders.find(|path| path.is_dir())
    };
    let name = format!("rollout-2026-10-01T00-00-00-{first}.jsonl");
    let live = env.codex_home().join("sessions/2026/10/01").join(&name);
    let full_text = fs::read_to_string(&live).unwrap();
    let (head, _) = full_text.trim_end().rsplit_once('\n').expect("two lines");
    let empty = ["storage", "trash", "--empty-trash", "--yes"];
    // Its fork would keep it too.
    let _ = env.run(["storage", "trash", &id(4)]).code(0);
    let _ = env.run(empty).code(0);
    let _ = env.run(["storage", "trash", &first]).code(0);
    fs::write(&live, format!("{head}\n")).unwrap();
    let entry = entry_folder(&env).expect("an entry");
    let entry_name = entry
        .file_name()
        .unwrap()
        .to_str()
        .expect("UTF-8")
        .to_owned();
    let run = env.run(empty).code(0);
    let reason = format!("{name} lacks: ");
    assert!(
        run.stderr.contains(&reason) && run.stderr.contains(&entry_name),
        "{run}"
    );
    // The live version is not replaced, and it is the newer one in the trash.
    let _ = env.run(["storage", "undelete", &first]).code(2);
    assert_eq!(fs::read_to_string(&live).unwrap(), format!("{head}\n"));
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:01:00Z");
    let _ = env.run(["storage", "trash", &first]).code(0);
    let _ = env.run(["storage", "undelete", &first]).code(0);
    assert_eq!(fs::read_to_string(&live).unwrap(), format!("{head}\n"));

    let trashed = entry.join(&name);
    let away = env.path("away");
    fs::rename(&trashed, &away).unwrap();
    let run = env.run(empty).code(0);
    let reason = "cannot be compared";
    assert!(
        run.stderr.contains(reason) && run.stderr.contains(&entry_name),
        "{run}"
    );
    fs::rename(&away, &trashed).unwrap();
    // Then the home has all turns.
    fs::write(&live, full_text + "{}\n").unwrap();
    let _ = env.run(empty).code(0);
    assert_eq!(entry_folder(&env), None);
}

#[test]
fn undelete_names_the_command_that_helps_after_a_home_was_moved() {
    let env = home();
    let id = id(3);
    let _ = env.run(["storage", "trash", &id]).code(0);
    let new = env.path("home/new");
    fs::rename(env.codex_home(), &new).unwrap();
    let home = new.to_str().unwrap();
    let undelete = ["--codex-home", home, "storage", "undelete", &id];
    let run = env.run(undelete).code(5);
    let command = "ln -s [ROOT]/home/new [ROOT]/home/.codex";
    assert!(run.stderr.contains(command), "{run}");
    std::os::unix::fs::symlink(&new, env.codex_home()).unwrap();
    let _ = env.run(undelete).code(0);
    assert_eq!(rollouts(&new).len(), 5);
}
