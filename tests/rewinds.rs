//! Conversations that the real Codex rewound (Esc Esc): several rollouts, of which Codex shows parts.

use crate::support::lab::{Lab, OpenConversation, rollout, rollouts, rows};
use crate::support::pauses::EVENT_LIMIT;
use crate::support::two_machines::TwoMachines;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time in which an app server ends.
const END: Duration = EVENT_LIMIT;

/// Takes back the turns of a conversation from the turn with this number on, as Esc Esc does.
#[track_caller]
pub(crate) fn rewind(lab: &Lab, home: &Path, id: &str, turn: usize) {
    let mut conversation = OpenConversation::open(lab, home, id);
    conversation.rewind(turn);
    conversation.close();
}

/// Makes a conversation of which Codex shows `one`, `two`, `six`, and has `three`, `four` and `five` hidden.
pub(crate) fn rewound(lab: &Lab) -> String {
    let home = lab.home();
    let id = lab.say("one");
    let mut conversation = OpenConversation::open(lab, &home, &id);
    for prompt in ["two", "three", "four"] {
        conversation.say(prompt);
    }
    conversation.rewind(2);
    conversation.say("five");
    // A rewind of the rewind.
    conversation.rewind(2);
    conversation.say("six");
    conversation.close();
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "six"]);
    let own = |path: &&PathBuf| path.to_string_lossy().contains(&id);
    assert_eq!(rollouts(&home).iter().filter(own).count(), 3);
    id
}

pub(crate) fn user_texts(shown: &Value) -> Vec<String> {
    let turns = shown["turns"].as_array().expect("turns").iter();
    let texts = turns.filter(|turn| turn["role"] == "user");
    texts
        .map(|turn| turn["text"].as_str().expect("text").to_owned())
        .collect()
}

#[test]
fn show_export_and_find_omit_rewound_turns_like_codex() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let shown = lab.manager(["show", &id, "--json"]).code(0).json();
    assert_eq!(user_texts(&shown), ["one", "two", "six"]);
    let turns: Vec<_> = shown["turns"].as_array().unwrap().iter().collect();
    assert!(
        turns.iter().all(|turn| turn["session_id"] == *id),
        "{shown}"
    );
    let third = lab.manager(["show", &id, "--turn", "3", "--json"]).code(0);
    assert_eq!(user_texts(&third.json()), ["six"]);
    let exported = lab.manager(["export", &id]).code(0).stdout;
    assert!(
        exported.contains("six") && !exported.contains("five"),
        "{exported}"
    );
    let own = rollouts(&lab.home()).into_iter();
    let own = own.map(|path| path.to_string_lossy().into_owned());
    let args = ["export", "--out", "exported"].map(String::from);
    let _ = lab.manager(args.into_iter().chain(own)).code(0);
    let files = fs::read_dir(lab.world.path("exported")).expect("a folder");
    assert_eq!(files.count(), 3);
    for exact in [false, true] {
        for (word, turn) in [
            ("one", Some(1)),
            ("six", Some(3)),
            ("three", None),
            ("five", None),
        ] {
            let mut args = vec!["find", word, "--json"];
            args.extend(exact.then_some("--exact"));
            let found = lab.manager(args).json();
            let hits = found["hits"].as_array().expect("hits");
            let found: Vec<_> = hits
                .iter()
                .map(|hit| (hit["session_id"].as_str(), hit["turn"].as_u64()))
                .collect();
            let expected: Vec<_> = turn
                .map(|turn| (Some(&*id), Some(turn)))
                .into_iter()
                .collect();
            assert_eq!(found, expected, "{word}, exact: {exact}");
        }
    }
}

#[test]
fn usage_counts_the_requests_of_rewound_turns() {
    let Some(lab) = Lab::new() else { return };
    let alone = lab.say("alone");
    let id = rewound(&lab);
    let requests = |id: &str| {
        let usage = lab.manager(["usage", "sessions", "--json"]).code(0).json();
        let rows = usage["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row.to_string().contains(id));
        row.unwrap_or_else(|| panic!("no row of {id}: {usage}"))["requests"].clone()
    };
    assert_eq!(requests(&alone), 1);
    assert_eq!(requests(&id), 6);
    lab.resume(&lab.home(), &id, "seven");
    assert_eq!(requests(&id), 7);
}

#[test]
fn a_rewound_conversation_is_listed_once_and_a_row_that_names_an_older_rollout_is_repaired() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let listed = lab.manager(["sessions", "--json"]).code(0).json();
    let ids: Vec<_> = listed["sessions"].as_array().unwrap().iter().collect();
    assert_eq!(ids.len(), 1, "{listed}");
    assert_eq!(ids[0]["id"], *id);
    let _ = lab.manager(["history", "check"]).code(0);
    // A row that names an older rollout is one of before the rewind.
    let home = lab.home();
    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    let first = rollouts(&home).remove(0);
    database
        .execute(
            "UPDATE threads SET rollout_path=?1",
            [first.to_string_lossy()],
        )
        .unwrap();
    drop(database);
    let _ = lab.manager(["history", "check"]).code(5);
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "six"]);
}

#[test]
fn a_restore_recreates_all_rollouts_of_a_rewound_conversation() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let home = lab.home();
    lab.back_up();
    for path in rollouts(&home) {
        fs::remove_file(path).unwrap();
    }
    let _ = lab
        .manager(["restore", "latest", "--session", &id, "--yes"])
        .code(0);
    assert_eq!(rollouts(&home).len(), 3);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "six"]);
    lab.resume(&home, &id, "seven");
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn a_fork_restored_alone_leaves_the_later_turns_of_its_conversation() {
    for (is_rewound, is_compressed) in [(false, false), (false, true), (true, false)] {
        let Some(lab) = Lab::new() else { return };
        let home = lab.home();
        let id = lab.say("one");
        lab.resume(&home, &id, "two");
        let forked = lab
            .codex
            .app_server_request(&home, &lab.backend, "thread/fork", json!({"threadId": id}))
            .expect("a fork");
        let fork = forked["thread"]["id"].as_str().expect("an id").to_owned();
        lab.resume(&home, &fork, "of the fork");
        if is_compressed {
            let _ = lab.manager(["storage", "shrink", "--session", &id]).code(0);
        }
        let archive = lab.back_up();
        let deleted = lab
            .codex
            .run(&home, &lab.backend, &["delete", "--force", &fork]);
        let _ = deleted.expect_success();

        let mut shown = vec!["one", "two"];
        if is_rewound {
            rewind(&lab, &home, &id, 1);
            shown.pop();
        }
        for prompt in ["edited", "later"] {
            lab.resume(&home, &id, prompt);
            shown.push(prompt);
        }
        assert_eq!(lab.user_messages(&home, &id), shown);
        let before = rows(&home);

        let archive = archive.to_str().expect("a path");
        for selection in [["--session", &*fork], ["--only", "sessions"]] {
            if selection[0] == "--only" && !is_rewound {
                // `--only` restores the archived state of each file.
                continue;
            }
            let args = [&["restore", archive, "--yes"], &selection[..]].concat();
            let _ = lab.manager(args).code(0);
            assert_eq!(
                lab.user_messages(&home, &id),
                shown,
                "{selection:?}, rewound: {is_rewound}"
            );
            let after = rows(&home);
            assert!(
                before.iter().all(|row| after.contains(row)),
                "{before:?} {after:?}"
            );
            let _ = lab.manager(["history", "check"]).code(0);
        }
        // Codex shows the fork as a whole when it is resumed.
        lab.resume(&home, &fork, "again");
        assert_eq!(
            lab.user_messages(&home, &fork),
            ["one", "two", "of the fork", "again"]
        );
        lab.resume(&home, &id, "last");
        shown.push("last");
        assert_eq!(lab.user_messages(&home, &id), shown);

        if !is_rewound && !is_compressed {
            let both = ["--session", &*fork, "--only", "sessions"];
            let _ = lab.manager([&["restore", archive, "--yes"], &both[..]].concat());
            assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
        }
    }
}

#[test]
fn trash_and_undelete_move_all_rollouts_of_a_rewound_conversation() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let home = lab.home();
    let _ = lab.manager(["storage", "trash", &id, "--yes"]).code(0);
    assert_eq!(rollouts(&home), Vec::<PathBuf>::new());
    let _ = lab.manager(["storage", "undelete", &id]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "six"]);
    lab.resume(&home, &id, "seven");
}

#[test]
fn a_rewound_conversation_is_not_trashed_without_its_fork() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let home = lab.home();
    let fork = lab
        .codex
        .app_server_request(&home, &lab.backend, "thread/fork", json!({"threadId": id}))
        .expect("a fork");
    let fork = fork["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(&home, &fork, "seven");
    let shown = lab.manager(["show", &fork, "--json"]).code(0).json();
    assert_eq!(user_texts(&shown), ["one", "two", "six", "seven"]);
    let text = lab.manager(["show", &fork]).code(0).stdout;
    assert!(text.contains(&format!("From `{id}`")), "{text}");
    let refused = lab.manager(["storage", "trash", &id, "--yes"]);
    assert!(refused.stderr.contains(&fork[..8]), "{}", refused.stderr);
}

#[test]
fn codex_archives_all_rollouts_of_a_rewind_and_needs_the_projection_for_earlier_turns() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let home = lab.home();
    for entry in fs::read_dir(&home).unwrap().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("thread_history_1.sqlite")
        {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let mut server = lab.codex.app_server(&home, &lab.backend);
    let resumed = server
        .request("thread/resume", json!({"threadId": id}))
        .expect("a thread");
    assert_eq!(resumed["thread"]["turns"].as_array().unwrap().len(), 1);
    server
        .request("thread/archive", json!({"threadId": id}))
        .expect("archived");
    server.close(END).expect("the server ends");
    let archived = home.join("archived_sessions");
    assert!(
        rollouts(&home)
            .iter()
            .all(|path| path.starts_with(&archived))
    );
    assert_eq!(rollouts(&home).len(), 3);
    // This program needs no such table.
    let shown = lab.manager(["show", &id, "--json"]).code(0).json();
    assert_eq!(user_texts(&shown), ["one", "two", "six"]);
    let _ = lab.manager(["history", "check"]).code(5);
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "six"]);
}

/// Returns the user's messages that Codex sent with its last request.
fn sent(lab: &Lab) -> Vec<String> {
    let body = lab.backend.last_turn();
    let items = body["input"].as_array().expect("input").iter();
    let users = items.filter(|item| item["role"] == "user");
    let texts = users.filter_map(|item| item["content"][0]["text"].as_str());
    texts
        .filter(|text| !text.starts_with('<'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_sync_copies_all_rollouts_of_a_rewound_conversation() {
    for was_synced_before in [false, true] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        let own = lab.say_in(b, "at home on b");
        let id = lab.say("one");
        lab.resume(&a, &id, "two");
        if was_synced_before {
            two.sync(&["a", "b"]);
            lab.resume(b, &id, "three");
            two.sync(&["b", "a"]);
        } else {
            lab.resume(&a, &id, "three");
        }
        lab.edit(&a, &id, 2, "four");
        two.sync(&["a", "b"]);
        lab.resume(b, &id, "five");
        assert_eq!(sent(lab), ["one", "two", "four", "five"]);
        two.sync(&["b", "a"]);
        lab.resume(&a, &id, "six");
        assert_eq!(sent(lab), ["one", "two", "four", "five", "six"]);
        // Rewound again, back into the first rollout.
        lab.edit(&a, &id, 1, "seven");
        two.sync(&["a", "b"]);
        lab.resume(b, &id, "eight");
        assert_eq!(sent(lab), ["one", "seven", "eight"]);
        let mut ids = [own, id.clone()];
        ids.sort();
        let mut listed = lab.listed_ids(b);
        // Codex lists a conversation that was rewound once for each rollout (0.169).
        listed.dedup();
        assert_eq!(listed, ids);
        two.sync(&["b", "a"]);
        let below = |home: &Path| -> Vec<_> {
            let own = rollouts(home).into_iter();
            let own = own.filter(|path| path.to_string_lossy().contains(&id));
            own.map(|path| {
                (
                    path.strip_prefix(home).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                )
            })
            .collect()
        };
        assert_eq!(below(&a).len(), 3);
        assert!(below(&a) == below(b), "other rollouts");
        for home in [&a, b] {
            let newest = rollouts(home)
                .into_iter()
                .rfind(|path| path.to_string_lossy().contains(&id));
            let row = rows(home).into_iter().find(|(row, _)| *row == id);
            assert_eq!(row.map(|(_, path)| path), newest);
        }
    }
}

#[test]
fn find_shows_snippets_of_a_rewound_conversation_that_codex_archived() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let snippet = || {
        let found = lab.manager(["find", "six", "--json"]).code(0).json();
        found["hits"][0]["snippet"].as_str().unwrap().to_owned()
    };
    assert_eq!(snippet(), "six");
    for command in ["archive", "unarchive"] {
        let moved = lab.codex.run(&lab.home(), &lab.backend, &[command, &id]);
        let _ = moved.expect_success();
        assert_eq!(snippet(), "six", "{command}");
    }
}

#[test]
fn shrink_compresses_all_rollouts_of_a_rewound_conversation_and_sessions_sums_their_sizes() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let own = || {
        let mut own = rollouts(&lab.home());
        own.retain(|path| path.to_string_lossy().contains(&id));
        own
    };
    let size = || {
        let listed = lab.manager(["sessions", "--json"]).code(0).json();
        listed["sessions"][0]["bytes"].as_u64().unwrap()
    };
    let sum = || -> u64 {
        own()
            .iter()
            .map(|path| path.metadata().unwrap().len())
            .sum()
    };
    assert_eq!(size(), sum());
    let args = ["storage", "shrink", "--session", &id, "--yes", "--json"];
    let shrunk = lab.manager(args).code(0).json();
    let items = shrunk["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "{shrunk}");
    assert!(
        items.iter().all(|item| item["action"] == "compress"),
        "{shrunk}"
    );
    assert!(
        own()
            .iter()
            .all(|path| path.extension().is_some_and(|end| end == "zst"))
    );
    assert_eq!(size(), sum());
}

/// Returns the user's messages that Codex shows after it has opened a conversation.
#[track_caller]
pub(crate) fn resumed(lab: &Lab, home: &Path, id: &str) -> Vec<String> {
    OpenConversation::open(lab, home, id).close();
    lab.user_messages(home, id)
}

pub(crate) fn newest(home: &Path, id: &str) -> PathBuf {
    let mut all = rollouts(home).into_iter();
    all.rfind(|path| path.to_string_lossy().contains(id))
        .expect("a rollout")
}

fn row_path(home: &Path, id: &str) -> Option<PathBuf> {
    let row = rows(home).into_iter().find(|(row, _)| row == id);
    row.map(|(_, path)| path)
}

#[test]
fn a_partly_archived_conversation_is_shown_from_its_newest_rollout() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    lab.resume(&home, &id, "two");
    lab.edit(&home, &id, 1, "three");
    // Codex was killed while it archived the conversation.
    let tip = newest(&home, &id);
    let archived = home.join("archived_sessions");
    fs::create_dir_all(&archived).unwrap();
    fs::rename(&tip, archived.join(tip.file_name().unwrap())).unwrap();
    let shown = lab.manager(["show", &id, "--json"]).code(0).json();
    assert_eq!(user_texts(&shown), ["one", "three"]);
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "three"]);
}

#[test]
fn a_restore_keeps_the_projections_of_equal_rollouts() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let home = lab.home();
    lab.back_up();
    let restore = ["restore", "latest", "--session", &id, "--yes"];
    let _ = lab.manager(restore).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "six"]);
    let _ = lab.manager(["history", "check"]).code(0);
    // A rollout that another one continues was cut short, so it is replaced.
    let first = rollouts(&home).remove(0);
    let text = fs::read_to_string(&first).unwrap();
    let half = text[..text.len() / 2].rfind('\n').unwrap() + 1;
    fs::write(&first, &text[..half]).unwrap();
    let _ = lab.manager(restore).code(0);
    assert_eq!(resumed(&lab, &home, &id), ["one", "two", "six"]);
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn an_archive_made_before_a_rewind_restores_the_conversation_without_it_unless_a_fork_needs_it() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    lab.turns(&home, &id, &["two", "three"]);
    let archive = lab.back_up();
    let archive = archive.to_string_lossy().into_owned();
    lab.edit(&home, &id, 1, "four");
    let _ = lab
        .manager(["restore", &archive, "--session", &id, "--yes"])
        .code(0);
    assert_eq!(resumed(&lab, &home, &id), ["one", "two", "three"]);
    let shown = lab.manager(["show", &id, "--json"]).code(0).json();
    assert_eq!(user_texts(&shown), ["one", "two", "three"]);
    let _ = lab.manager(["history", "check"]).code(0);
    // Not if a fork goes on from the rewind.
    lab.edit(&home, &id, 1, "five");
    let fork = lab
        .codex
        .app_server_request(&home, &lab.backend, "thread/fork", json!({"threadId": id}))
        .expect("a fork");
    let fork = fork["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(&home, &fork, "six");
    let refused = lab
        .manager(["restore", &archive, "--session", &id, "--yes"])
        .code(5);
    assert!(refused.stderr.contains(&fork), "{}", refused.stderr);
    assert_eq!(resumed(&lab, &home, &id), ["one", "five"]);
}

/// The id of a conversation of Codex up to 0.34: a UUID of version 4, without a time.
pub(crate) const OLD_ID: &str = "c9e9da7a-486a-4153-9d2c-0b6a3b1c7d55";

/// Gives the only conversation of a home the id [`OLD_ID`], and removes the databases that have the old one.
pub(crate) fn give_old_id(home: &Path, id: &str) {
    let path = rollout(home, id);
    let text = fs::read_to_string(&path).unwrap().replace(id, OLD_ID);
    fs::write(path.to_string_lossy().replace(id, OLD_ID), text).unwrap();
    fs::remove_file(path).unwrap();
    for entry in fs::read_dir(home).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("state_5.sqlite") || name.starts_with("thread_history_1.sqlite") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn the_rewinds_of_a_conversation_with_an_id_without_a_time_are_its_newest_rollouts() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    give_old_id(&home, &id);
    lab.resume(&home, OLD_ID, "two");
    let archive = lab.back_up();
    let archive = archive.to_string_lossy().into_owned();
    lab.edit(&home, OLD_ID, 1, "three");
    let tip = newest(&home, OLD_ID).to_string_lossy().into_owned();
    for shown in [OLD_ID, &*tip] {
        let shown = lab.manager(["show", shown, "--json"]).code(0).json();
        assert_eq!(user_texts(&shown), ["one", "three"]);
    }
    let _ = lab.manager(["history", "check"]).code(0);
    let restore = ["restore", &*archive, "--session", OLD_ID, "--yes"];
    let _ = lab.manager(restore).code(0);
    assert_eq!(rollouts(&home).len(), 1, "the rewind is removed");
    assert_eq!(resumed(&lab, &home, OLD_ID), ["one", "two"]);
    let _ = lab.manager(["history", "check"]).code(0);
}

#[test]
fn a_synced_rewind_hides_no_turn_of_its_base() {
    for was_synced_before in [false, true] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        lab.say_in(b, "at home on b");
        let id = lab.say("one");
        lab.turns(&a, &id, &["two", "three"]);
        if was_synced_before {
            two.sync(&["a", "b"]);
            assert_eq!(resumed(lab, b, &id), ["one", "two", "three"]);
        }
        lab.edit(&a, &id, 2, "four");
        two.sync(&["a", "b"]);
        assert_eq!(resumed(lab, b, &id), ["one", "two", "four"]);
        let state = rusqlite::Connection::open(b.join("state_5.sqlite")).unwrap();
        let title: String = state
            .query_row("SELECT title FROM threads WHERE id=?1", [&id], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(title, "one");
    }
}

#[test]
fn a_base_synced_after_its_rewind_is_not_continued_by_codex() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    lab.say_in(b, "at home on b");
    let id = lab.say("one");
    lab.resume(&a, &id, "two");
    lab.edit(&a, &id, 1, "three");
    two.sync(&["a"]);
    let base = rollouts(&lab.world.path("cloud")).remove(0);
    let late = lab.world.path("late");
    fs::rename(&base, &late).unwrap();
    let _ = two.run_sync("b", &["run", "--apply"]);
    fs::rename(&late, &base).unwrap();
    two.sync(&["b"]);
    assert_eq!(row_path(b, &id), Some(newest(b, &id)));
    assert_eq!(resumed(lab, b, &id), ["one", "three"]);
}

#[test]
fn a_projection_is_kept_while_an_archive_has_the_lost_turns_of_its_rollout() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    lab.turns(&home, &id, &["two", "three"]);
    lab.back_up();
    let path = newest(&home, &id);
    let text = fs::read_to_string(&path).unwrap();
    let turn = text.find("\"two\"").unwrap();
    fs::write(&path, &text[..=text[..turn].rfind('\n').unwrap()]).unwrap();
    let checked = lab.manager(["history", "check", "--json"]).code(5).json();
    let found = &checked["unreadable"][0];
    // The rollout has the beginning of the second turn.
    assert_eq!(
        (&found["turns_on_disk"], &found["turns_shown"]),
        (&json!(2), &json!(3))
    );
    let fix = found["fix"].as_str().expect("a command").to_owned();
    assert!(fix.starts_with("codex-manager restore "), "{fix}");
    let _ = lab.manager(["history", "repair"]).code(6);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "three"]);
    let _ = lab.manager(fix.split(' ').skip(1)).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(resumed(&lab, &home, &id), ["one", "two", "three"]);
}

#[test]
fn storage_counts_a_rewound_conversation_once() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let bytes: u64 = rollouts(&lab.home())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    let report = lab.manager(["storage", "--json"]).code(0).json();
    for shares in ["projects", "months", "accounts"] {
        assert_eq!(report[shares][0]["conversations"], 1, "{shares}: {report}");
    }
    let largest = report["largest"].as_array().unwrap();
    assert_eq!(largest.len(), 1, "{report}");
    assert_eq!(
        (&largest[0]["id"], &largest[0]["bytes"]),
        (&json!(id), &json!(bytes))
    );

    let mut server = lab.codex.app_server(&lab.home(), &lab.backend);
    server
        .request("thread/resume", json!({"threadId": id}))
        .expect("a thread");
    let skipped = lab.manager(["storage", "shrink", "--session", &id]).code(6);
    assert_eq!(skipped.stderr.matches("skipped").count(), 1, "{skipped}");
    server.close(END).expect("the server ends");
    let shrunk = lab.manager(["storage", "shrink", "--session", &id]).code(0);
    assert!(
        shrunk.stdout.contains("1 conversation compressed: "),
        "{shrunk}"
    );
}
