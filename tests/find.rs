//! `find` searches the contents of conversations and updates its index.

use crate::sessions::has_row;
use crate::support::conversations::{
    Conversation, assistant, id, state, tool_output, user, write, write_rewound,
};
use crate::support::env::TestEnv;
use crate::support::faults::Mount;
use crate::support::profiles::save_alice_and_bob;
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::terminal::Terminal;
use codex_manager_core::conversations::past_answers;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn found(env: &TestEnv, args: &[&str]) -> Vec<String> {
    let mut all = vec!["find", "--json"];
    all.extend(args);
    let run = env.run(all);
    assert!([0, 5].contains(&run.code), "{run}");
    let document = run.json();
    let hits = document["hits"].as_array().expect("hits").clone();
    assert_eq!(hits.is_empty(), run.code == 5, "{run}");
    let id = |hit: &Value| hit["session_id"].as_str().expect("an id").to_owned();
    hits.iter().map(id).collect()
}

/// Advances the clock, so that the next command checks all rollouts, as it does every ten minutes.
fn advance_clock(env: &mut TestEnv) {
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:20:00Z");
}

fn index(env: &TestEnv) -> PathBuf {
    let folder = env.manager_home().join("index");
    let entries = fs::read_dir(folder).expect("the folder of the index");
    let mut files = entries.map(|entry| entry.expect("entry").path());
    files
        .find(|file| file.extension().is_some_and(|e| e == "sqlite"))
        .expect("an index")
}

fn append(path: &PathBuf, lines: &[Value]) {
    let mut file = OpenOptions::new().append(true).open(path).expect("open");
    for line in lines {
        writeln!(file, "{line}").expect("write");
    }
}

#[test]
fn hits_have_all_words_and_rank_higher_if_one_message_has_them() {
    let env = TestEnv::new();
    write(
        &env,
        &Conversation::new(1, 10, "About the parser", "It has an error."),
    );
    write(
        &env,
        &Conversation::new(2, 20, "Hello", "The parser has an error."),
    );
    write(&env, &Conversation::new(3, 5, "Only the parser", "Done."));
    assert_eq!(found(&env, &["parser", "error"]), [id(2), id(1)]);
    assert_eq!(
        found(&env, &["parser", "error", "--sort", "newest"]),
        [id(1), id(2)]
    );
    assert_eq!(found(&env, &["parser", "error", "--limit", "1"]), [id(2)]);
    assert_eq!(found(&env, &["parser", "-error"]), [id(3)]);
    assert_eq!(found(&env, &["has an error"]), [id(1), id(2)]);
    assert_eq!(found(&env, &["\"error has\""]), [""; 0]);
    assert_eq!(found(&env, &["pars*", "-\"has an\""]), [id(3)]);
    let run = env.run(["find", "nothing"]).code(5);
    assert!(run.stderr.contains("no conversation matches"), "{run}");
    let run = env.run(["find", "-error"]).code(4);
    assert!(run.stderr.contains("no words to search for"), "{run}");
}

#[test]
fn a_title_from_a_message_that_was_taken_back_is_not_found() {
    let env = TestEnv::new();
    let mut legacy = Conversation::new(1, 60, "forgettable", "Done.");
    let mut rewound = Conversation::new(2, 60, "regrettable", "Done.");
    legacy.title.clear();
    rewound.title.clear();
    write(&env, &legacy);
    write(&env, &rewound);
    for title in ["forgettable", "regrettable"] {
        let _ = env.run(["find", title]).code(0);
    }

    write_rewound(&env, &rewound, 1);
    let back = json!({"timestamp": "2026-11-20T06:00:09.000Z", "type": "event_msg", "payload":
        {"type": "thread_rolled_back", "num_turns": 1}});
    legacy.lines.extend([back, user("instead")]);
    legacy.updated_ms += 1000;
    write(&env, &legacy);

    let found = env.run(["find", "--json", "instead"]).code(0).json();
    let titles = found["hits"].as_array().expect("hits").iter();
    assert_eq!(
        titles.map(|hit| &hit["title"]).collect::<Vec<_>>(),
        ["instead"; 2]
    );
    for title in ["forgettable", "regrettable"] {
        let _ = env.run(["find", title]).code(5);
    }
}

#[test]
fn code_accented_letters_and_scripts_without_spaces_are_found() {
    let env = TestEnv::new();
    write(
        &env,
        &Conversation::new(1, 1, "Ändere foo_bar.rs", "Use --flag, see E0499 🚀"),
    );
    write(
        &env,
        &Conversation::new(2, 2, "foo bar rs flag", "新しい日本語版です"),
    );
    assert_eq!(found(&env, &["foo_bar.rs"]), [id(1)]);
    assert_eq!(found(&env, &["e0499"]), [id(1)]);
    assert_eq!(found(&env, &["--", "--flag"]), [id(1)]);
    assert_eq!(found(&env, &["flag", "--sort", "newest"]), [id(1), id(2)]);
    assert_eq!(found(&env, &["andere"]), [id(1)]);
    assert_eq!(found(&env, &["🚀"]), [id(1)]);
    assert_eq!(found(&env, &["日本語版"]), [id(2)]);
    assert_eq!(found(&env, &["本語"]), [id(2)]);
    assert_eq!(found(&env, &["日本版"]), [""; 0]);
}

#[test]
fn hits_name_turn_author_and_text_and_role_since_and_project_limit_them() {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 60, "First question", "First answer");
    conversation.archived = true;
    conversation.lines.push(user("Second question"));
    conversation
        .lines
        .push(tool_output("line\nwith the needle in it"));
    write(&env, &conversation);
    let document = env.run(["find", "needle", "--json"]).code(0).json();
    let path = conversation.relative();
    let path = format!("[ROOT]/home/.codex/{}", path.display());
    let expected = json!({"session_id": id(1), "title": "First question", "turn": 2,
        "cwd": "/home/alice/proj", "account": null, "path": path,
        "role": "tool", "at": "2026-11-20T06:00:03+00:00", "nearby": [],
        "snippet": "line with the needle in it", "score": document["hits"][0]["score"],
        "archive": null, "machine": null});
    assert_eq!(document["hits"], json!([expected]));
    assert_eq!(document["total"], 1);
    assert_eq!(document["refreshed"], 1);
    assert_eq!(document["conversations"], 1);
    let text = env.run(["find", "needle"]).code(0).stdout;
    assert!(
        text.contains("turn 2, tool: line with the needle in it"),
        "{text}"
    );
    assert!(text.contains("archived"), "{text}");
    let command = format!("\n    codex-manager show {} --turn 2\n", &id(1)[..13]);
    assert!(text.ends_with(&command), "{text}");
    let colored = env
        .run(["find", "needle", "--color", "always"])
        .code(0)
        .stdout;
    assert!(colored.contains("\x1b[33mneedle\x1b[0m"), "{colored}");
    write(
        &env,
        &Conversation::new(2, 60, "The zeppelin leaks", "Gas."),
    );
    let text = env.run(["find", "zeppelin"]).code(0).stdout;
    assert_eq!(text.matches("zeppelin").count(), 1, "{text}");
    assert!(text.ends_with("--turn 1\n"), "{text}");
    let text = env.run(["find", "proj"]).code(0).stdout;
    assert!(text.contains("\n>     folder: alice/proj"), "{text}");
    assert_eq!(found(&env, &["needle", "--role", "tool"]), [id(1)]);
    assert_eq!(found(&env, &["needle", "--role", "user"]), [""; 0]);
    assert_eq!(found(&env, &["needle", "--since", "30min"]), [""; 0]);
    assert_eq!(
        found(&env, &["needle", "--project", "/home/alice"]),
        [id(1)]
    );
    assert_eq!(found(&env, &["needle", "--project", "/other"]), [""; 0]);
}

#[test]
fn only_new_lines_of_a_grown_conversation_are_read() {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 60, "First question", "The pearl");
    let path = write(&env, &conversation);
    write(&env, &Conversation::new(2, 60, "Another", "one"));
    assert_eq!(found(&env, &["pearl"]), [id(1)]);
    // Overwrites the lines that were read, so that a second read of them would be detected.
    let text = fs::read_to_string(&path).expect("read");
    let hidden = text.replacen("pearl", "xxxxx", 1);
    fs::write(&path, hidden).expect("write");
    append(&path, &[user("Second needle"), assistant("Fine.")]);
    conversation.updated_ms += 60_000;
    let update = "UPDATE threads SET updated_at_ms=?1, updated_at=?1/1000 WHERE id=?2";
    let updated = state(&env).execute(update, (conversation.updated_ms, id(1)));
    updated.expect("update");
    let document = env.run(["find", "needle", "--json"]).code(0).json();
    assert_eq!(document["hits"][0]["turn"], 2);
    assert_eq!(document["refreshed"], 1);
    assert_eq!(
        found(&env, &["pearl", "needle"]),
        [id(1)],
        "the first lines were removed"
    );
}

#[test]
fn a_rollout_that_was_replaced_is_read_again() {
    let mut env = TestEnv::new();
    let path = write(&env, &Conversation::new(1, 60, "Old words", "First answer"));
    assert_eq!(found(&env, &["old"]), [id(1)]);
    fs::remove_file(&path).expect("remove");
    write(
        &env,
        &Conversation::new(1, 60, "New words, and more of them", "First answer"),
    );
    advance_clock(&mut env);
    assert_eq!(found(&env, &["new"]), [id(1)]);
    assert_eq!(found(&env, &["old"]), [""; 0]);
}

#[test]
fn deleted_conversations_leave_the_index_and_archived_ones_stay() {
    let env = TestEnv::new();
    let path = write(
        &env,
        &Conversation::new(1, 60, "needle one", "zebracrossing"),
    );
    let mut second = Conversation::new(2, 60, "needle two", "the \"exact phrase\"");
    let old = write(&env, &second);
    assert_eq!(found(&env, &["needle"]).len(), 2);
    let has_word = || {
        let bytes = fs::read(index(&env)).expect("read");
        bytes.windows(13).any(|part| part == b"zebracrossing")
    };
    assert!(has_word());
    fs::remove_file(path).expect("remove");
    let deleted = state(&env).execute("DELETE FROM threads WHERE id=?1", [id(1)]);
    deleted.expect("delete");
    assert_eq!(found(&env, &["needle"]), [id(2)]);
    assert!(!has_word(), "the index still contains its words");
    let texts = "SELECT sum(length(replace(hex(roles), '0', ''))) FROM span";
    let count = |sql: &str| -> i64 {
        let connection = Connection::open(index(&env)).expect("open");
        connection
            .query_row(sql, [], |row| row.get(0))
            .expect("count")
    };
    assert_eq!(count(texts), 3, "the title, the question and the answer");
    fs::remove_file(old).expect("remove");
    second.archived = true;
    write(&env, &second);
    assert_eq!(found(&env, &["\"exact phrase\""]), [id(2)]);
    let run = env.run(["find", "needle"]).code(0);
    assert!(run.stdout.contains("archived"), "{run}");
}

#[test]
fn text_removed_from_a_conversation_is_removed_from_the_index_file() {
    let mut env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "needle", "zebracrossing"));
    write(&env, &Conversation::new(2, 60, "needle", "other"));
    assert_eq!(found(&env, &["zebracrossing"]), [id(1)]);
    write(&env, &Conversation::new(1, 50, "needle", "clean"));
    advance_clock(&mut env);
    assert_eq!(found(&env, &["clean"]), [id(1)]);
    let bytes = fs::read(index(&env)).expect("read");
    let mut parts = bytes.windows(13);
    assert!(!parts.any(|part| part == b"zebracrossing"));
}

#[test]
fn rolled_back_turns_are_removed_from_the_index_file() {
    let env = TestEnv::new();
    let path = write(&env, &Conversation::new(1, 60, "needle", "other"));
    append(&path, &[user("again"), assistant("zebracrossing")]);
    assert_eq!(found(&env, &["zebracrossing"]), [id(1)]);
    let back = json!({"timestamp": "2026-11-20T06:00:04.000Z", "type": "event_msg",
                      "payload": {"type": "thread_rolled_back", "num_turns": 1}});
    append(&path, &[back]);
    assert_eq!(found(&env, &["zebracrossing"]), [""; 0]);
    let bytes = fs::read(index(&env)).expect("read");
    let mut parts = bytes.windows(13);
    assert!(!parts.any(|part| part == b"zebracrossing"));
}

#[test]
fn a_conversation_that_codex_does_not_list_is_found() {
    let mut env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "Listed", "x"));
    write(&env, &Conversation::new(2, 60, "Not listed", "needle"));
    let deleted = state(&env).execute("DELETE FROM threads WHERE id=?1", [id(2)]);
    deleted.expect("delete");
    assert_eq!(found(&env, &["needle"]), [id(2)]);
    assert_eq!(
        found(&env, &["needle", "--project", "/home/alice/proj"]),
        [id(2)]
    );
    let list = env.run(["sessions"]).code(0).stdout;
    assert!(has_row(&list, "Not listed", "unlisted"), "{list}");
    // A new conversation is found at once, although all rollouts were checked just before.
    let path = write(&env, &Conversation::new(3, 60, "Third", "pin"));
    let deleted = state(&env).execute("DELETE FROM threads WHERE id=?1", [id(3)]);
    deleted.expect("delete");
    assert_eq!(found(&env, &["pin"]), [id(3)]);
    fs::remove_file(path).expect("remove");
    advance_clock(&mut env);
    assert_eq!(found(&env, &["pin"]), [""; 0]);
}

#[test]
fn texts_that_a_command_puts_back_are_found_at_once() {
    let mut env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::alice());
    write(&env, &Conversation::new(1, 60, "needle", "one"));
    let path = write(&env, &Conversation::new(2, 600, "needle", "two"));
    write(&env, &Conversation::new(3, 600, "other", "three"));
    let whole = fs::read(&path).expect("read");
    let _ = env.run(["backup", "--no-status"]).code(0);
    fs::remove_file(&path).expect("remove");
    write(&env, &Conversation::new(2, 600, "nothing", "two"));
    advance_clock(&mut env);
    assert_eq!(found(&env, &["needle"]), [id(1)]);
    let both = [id(1), id(2)];
    let restore = ["restore", "latest", "--session", &id(2), "--yes"];
    let _ = env.run(restore).code(0);
    assert_eq!(fs::read(&path).expect("read"), whole);
    assert_eq!(found(&env, &["needle"]), both);

    // The number of rows stays the same, because another conversation is deleted.
    let _ = env.run(["storage", "trash", &id(2)]).code(0);
    assert_eq!(found(&env, &["needle"]), [id(1)]);
    let deleted = state(&env).execute("DELETE FROM threads WHERE id=?1", [id(3)]);
    deleted.expect("delete");
    let _ = env.run(["storage", "undelete", &id(2)]).code(0);
    assert_eq!(found(&env, &["needle"]), both);
}

#[test]
fn a_new_title_without_a_new_time_is_found_only_after_a_rollout_has_changed() {
    let mut env = TestEnv::new();
    let copied = write(&env, &Conversation::new(1, 60, "needle", "one"));
    let path = write(&env, &Conversation::new(2, 600, "needle", "two"));
    assert_eq!(found(&env, &["needle"]).len(), 2);
    // Of two forms of a rollout, only the plain one counts.
    fs::write(copied.with_extension("jsonl.zst"), "copy").expect("write");
    let retitle = "UPDATE threads SET title='zebracrossing' WHERE id=?1";
    let retitled = state(&env).execute(retitle, [id(2)]);
    retitled.expect("update");
    // The titles are compared once a day if no file and no time changed.
    advance_clock(&mut env);
    assert_eq!(found(&env, &["zebracrossing"]), [""; 0]);
    // One more line that the database does not tell is found by the same walk.
    append(&path, &[user("haystack")]);
    assert_eq!(found(&env, &["haystack"]), [id(2)]);
    assert_eq!(found(&env, &["zebracrossing"]), [id(2)]);
}

#[test]
fn a_damaged_or_foreign_index_is_recreated() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "needle", "x"));
    assert_eq!(found(&env, &["needle"]), [id(1)]);
    let path = index(&env);
    let whole = fs::read(&path).expect("read");
    for damage in [
        b"garbage".to_vec(),
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        {
            let mut bytes = whole.clone();
            bytes[5000..].fill(0xaa);
            bytes
        },
    ] {
        fs::write(&path, damage).expect("write");
        assert_eq!(found(&env, &["needle"]), [id(1)]);
    }
    let connection = Connection::open(&path).expect("open");
    connection
        .execute_batch("PRAGMA user_version=99; DROP TABLE meta")
        .expect("change");
    drop(connection);
    assert_eq!(found(&env, &["needle"]), [id(1)]);
}

#[test]
fn the_index_is_private_and_can_be_removed_and_rebuilt() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "needle", "x"));
    let run = env.run(["find", "needle", "--no-refresh"]).code(1);
    assert!(run.stderr.contains("no search index yet"), "{run}");
    let status = env.run(["sessions", "index"]).code(0).stdout;
    assert!(status.contains("there is no index yet"), "{status}");
    assert_eq!(found(&env, &["needle"]), [id(1)]);
    let folder = env.manager_home().join("index");
    for entry in fs::read_dir(&folder).expect("list") {
        let path = entry.expect("entry").path();
        let mode = path.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    let doctor = env.run(["doctor"]);
    assert!(!doctor.stdout.contains("index"), "{doctor}");
    let status = env
        .run(["sessions", "index", "--status", "--json"])
        .code(0)
        .json();
    assert_eq!(status["conversations"], 1);
    assert_eq!(status["texts"], 3);
    let removed = env
        .run(["sessions", "index", "--remove", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&removed["action"], &removed["bytes"]),
        (&json!("removed"), &json!(0))
    );
    assert_eq!(found(&env, &["needle", "--sort", "newest"]), [id(1)]);
    let rebuilt = env
        .run(["sessions", "index", "--rebuild", "--json"])
        .code(0)
        .json();
    assert_eq!(rebuilt["texts"], 3);
}

#[test]
fn messages_copied_into_forks_are_found_once_and_the_history_in_compactions_is_not_found() {
    let env = TestEnv::new();
    let original = Conversation::new(1, 60, "The question", "The needle");
    write(&env, &original);
    // Older versions of Codex copied the lines of the original into a fork.
    let mut fork = Conversation::new(2, 30, "The fork", "x");
    fork.lines = original.lines.clone();
    fork.lines.push(user("More"));
    fork.lines.push(
        json!({"timestamp": "2026-11-20T06:00:09Z", "type": "compacted", "payload":
        {"message": "", "replacement_history": [{"type": "message", "role": "user",
        "content": [{"type": "input_text", "text": "pin"}]}]}}),
    );
    let path = write(&env, &fork);
    let text = fork.text().replacen(
        "\"cwd\"",
        &format!("\"forked_from_id\":\"{}\",\"cwd\"", id(1)),
        1,
    );
    fs::write(&path, text).expect("write");
    assert_eq!(found(&env, &["needle"]), [id(1)]);
    assert_eq!(found(&env, &["more"]), [id(2)]);
    assert_eq!(found(&env, &["pin"]), [""; 0]);
    // Without the original, only the copy has the line.
    fs::remove_file(env.codex_home().join(original.relative())).expect("remove");
    let deleted = state(&env).execute("DELETE FROM threads WHERE id=?1", [id(1)]);
    deleted.expect("delete");
    assert_eq!(found(&env, &["needle"]), [id(2)]);
}

#[test]
fn regular_expressions_and_exact_text_are_searched_in_the_rollouts() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 10, "fn parse_test", "a++ b"));
    write(&env, &Conversation::new(2, 20, "FN other", "A++ B"));
    assert_eq!(found(&env, &["--regex", r"fn \w+_test"]), [id(1)]);
    assert_eq!(found(&env, &["--exact", "a++"]), [id(1)]);
    assert_eq!(
        found(&env, &["--exact", "++", "--sort", "newest"]),
        [id(1), id(2)]
    );
    assert!(
        !env.manager_home().join("index").exists(),
        "an index was created"
    );
    let run = env.run(["find", "--regex", "("]).code(4);
    let message = "error: not a regular expression: unclosed group\n";
    assert!(run.stderr.starts_with(message), "{run}");
    let run = env.run(["find", "++"]).code(4);
    assert!(run.stderr.contains("--exact"), "{run}");
}

#[test]
fn the_index_needs_less_than_an_eighth_of_the_text() {
    let env = TestEnv::new();
    let mut bytes = 0;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(sources).sort_by_file_name();
    let texts = files.into_iter().filter_map(Result::ok);
    let texts = texts.filter(|entry| entry.file_type().is_file());
    let texts = texts.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let texts: Vec<_> = texts.collect();
    for (number, texts) in (1..).zip(texts.chunks(20)) {
        let path = write(
            &env,
            &Conversation::new(number, 60, "Show the code", "Here it is."),
        );
        // Outputs of usual lengths: most are short, and the long ones have most of the text.
        let mut cut = 1;
        for text in texts {
            let mut rest = &**text;
            while !rest.is_empty() {
                cut = cut * 7 % 6007;
                let end = rest.floor_char_boundary(300 + cut);
                bytes += end;
                append(&path, &[assistant(&rest[..end])]);
                rest = &rest[end..];
            }
        }
    }
    assert!(!found(&env, &["WalkDir"]).is_empty());
    let size = fs::metadata(index(&env)).expect("an index").len();
    let share = size * 100 / bytes as u64;
    assert!(share < 12, "{size} bytes of {bytes}: {share} %");
}

#[test]
fn the_index_is_searched_while_another_process_writes_it() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "needle", "x"));
    assert_eq!(found(&env, &["needle"]), [id(1)]);
    // Another process writes to the index.
    let connection = Connection::open(index(&env)).expect("open");
    connection.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let run = env.run(["find", "needle", "--no-refresh"]).code(0);
    assert!(run.stdout.contains("needle"), "{run}");
}

/// Creates many conversations, each with unique words.
fn write_many(env: &TestEnv, count: u32) {
    for number in 0..count {
        let words: Vec<_> = (0..300).map(|i| format!("w{number}x{i}")).collect();
        let answer = words.join(" ");
        let question = format!("question{number}");
        write(env, &Conversation::new(number, 60, &question, &answer));
    }
}

#[test]
fn an_index_whose_creation_was_killed_is_completed() {
    let env = TestEnv::new();
    write_many(&env, 60);
    for _ in 0..4 {
        let mut child = env.command(["find", "question1"]).spawn().expect("start");
        // The command is killed after its first write, or has finished.
        let folder = env.manager_home().join("index");
        let has_index = || {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut sizes = entries.filter_map(|entry| entry.metadata().ok());
            sizes.any(|meta| meta.len() > 0)
        };
        while !has_index() && child.try_wait().expect("a state").is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().expect("the end");
    }
    for number in [0, 17, 59] {
        assert_eq!(found(&env, &[&format!("w{number}x299")]), [id(number)]);
    }
}

#[test]
fn a_full_disk_only_prevents_an_update_of_the_index() {
    let mut env = TestEnv::new();
    let Some(_mount) = Mount::tmpfs(&env.manager_home(), 1024) else {
        return;
    };
    write(&env, &Conversation::new(900, 60, "needle", "x"));
    assert_eq!(found(&env, &["needle"]), [id(900)]);
    write_many(&env, 200);
    advance_clock(&mut env);
    let filler = env.manager_home().join("filler");
    let size = (1..1024)
        .rev()
        .find(|kib| fs::write(&filler, vec![1; kib << 10]).is_ok());
    assert!(size.is_some(), "the disk has no space for the filler");
    let run = env.run(["find", "needle"]);
    assert!([0, 6].contains(&run.code), "{run}");
    assert!(run.stdout.contains("needle"), "{run}");
    assert!(
        run.stderr.contains("the search index is not up to date"),
        "{run}"
    );
    fs::remove_file(&filler).expect("remove");
    let run = env.run(["find", "needle"]).code(0);
    assert!(run.stdout.contains("needle"), "{run}");
}

#[test]
fn names_only_in_session_index_are_found() {
    let mut env = TestEnv::new();
    write(&env, &Conversation::new(1, 30, "Hello", "Done."));
    write(&env, &Conversation::new(2, 20, "Hello again", "Done."));
    let unlisted = Conversation::new(3, 10, "Not listed", "Done.");
    fs::write(env.codex_home().join(unlisted.relative()), unlisted.text()).expect("write");
    let names = env.codex_home().join("session_index.jsonl");
    let name = |number, name: &str| json!({"id": id(number), "thread_name": name});
    let text = format!("{}\n{}\n", name(1, "zebra"), name(3, "yak"));
    fs::write(&names, text).expect("write");
    assert_eq!(found(&env, &["zebra"]), [id(1)]);
    assert_eq!(found(&env, &["yak"]), [id(3)]);
    assert_eq!(found(&env, &["--exact", "zebra"]), [id(1)]);
    assert_eq!(found(&env, &["--exact", "yak"]), [id(3)]);
    // Codex changes only this file when it names an older conversation.
    append(&names, &[name(1, "giraffe"), name(2, "zebra crossing")]);
    assert_eq!(found(&env, &["zebra"]), [id(2)]);
    assert_eq!(found(&env, &["giraffe"]), [id(1)]);
    let document = env.run(["find", "giraffe", "--json"]).code(0).json();
    assert_eq!(document["hits"][0]["title"], "giraffe");
    assert_eq!(document["hits"][0]["role"], "title");
    fs::remove_file(&names).expect("remove");
    assert_eq!(found(&env, &["giraffe"]), [""; 0]);
    assert_eq!(found(&env, &["hello"]), [id(2), id(1)]);
    advance_clock(&mut env);
    assert_eq!(found(&env, &["again"]), [id(2)]);
}

#[test]
fn an_unreadable_folder_is_reported_the_rest_is_found_and_indexed_conversations_stay() {
    let mut env = TestEnv::new();
    write(&env, &Conversation::new(1, 10, "A needle", "Done."));
    let hidden = Conversation {
        archived: true,
        ..Conversation::new(2, 20, "A haystack", "Done.")
    };
    write(&env, &hidden);
    let folder = env.codex_home().join("archived_sessions");
    let mode = |path: &PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    mode(&folder, 0);
    let run = env.run_unprivileged(&["find", "needle"]).code(6);
    assert!(run.stdout.contains("A needle"), "{run}");
    assert!(
        run.stderr
            .contains("skipped: cannot list: Permission denied"),
        "{run}"
    );
    let run = env.run_unprivileged(&["find", "--exact", "needle"]).code(6);
    assert!(run.stdout.contains("A needle"), "{run}");
    let run = env.run_unprivileged(&["find", "absent"]).code(6);
    assert!(
        run.stderr
            .contains("no conversation matches in the part that could be searched"),
        "{run}"
    );
    mode(&folder, 0o700);
    advance_clock(&mut env);
    assert_eq!(found(&env, &["haystack"]), [id(2)]);
    // Indexed conversations stay in the index and are shown.
    mode(&folder, 0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:40:00Z");
    let run = env.run_unprivileged(&["find", "haystack"]).code(6);
    assert!(run.stdout.contains("A haystack"), "{run}");
    mode(&folder, 0o700);
    let document = env.run(["find", "haystack", "--json"]).code(0).json();
    assert_eq!(
        document["refreshed"], 0,
        "the conversation was removed from the index"
    );
    // A conversation is shown without the names in the index.
    let names = env.codex_home().join("session_index.jsonl");
    fs::write(&names, "").expect("write");
    mode(&names, 0);
    let run = env.run_unprivileged(&["show", &id(1)]).code(0);
    assert!(run.stdout.contains("A needle"), "{run}");
    assert!(run.stderr.contains("names of conversations"), "{run}");
}

/// A file's mode is no part of the stamp by which the index recognizes a change.
#[test]
fn a_rollout_that_could_not_be_read_is_found_and_counted_once_when_it_can_be_read() {
    let mut env = TestEnv::new();
    write(&env, &Conversation::new(1, 10, "A needle", "Done."));
    let path = write(&env, &Conversation::new(2, 20, "A haystack", "Done."));
    let set_mode = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    let skips_it = |env: &TestEnv| {
        let run = env.run_unprivileged(&["find", "needle"]).code(6);
        assert!(run.stderr.contains("skipped"), "{run}");
    };
    set_mode(0);
    skips_it(&env);
    set_mode(0o600);
    advance_clock(&mut env);
    assert_eq!(found(&env, &["haystack"]), [id(2)]);
    // An appended turn cannot be read at first.
    append(&path, &[user("A meadow")]);
    set_mode(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:40:00Z");
    skips_it(&env);
    assert_eq!(found(&env, &["haystack", "--no-refresh"]), [id(2)]);
    set_mode(0o600);
    append(&path, &[user("A stream")]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    for text in ["haystack", "meadow", "stream"] {
        assert_eq!(found(&env, &[text]), [id(2)], "{text}");
    }
    let texts = |env: &TestEnv| {
        let status = env.run(["sessions", "index", "--json"]).code(0).json();
        status["texts"].as_i64().expect("a number")
    };
    let updated = texts(&env);
    let _ = env.run(["sessions", "index", "--rebuild"]).code(0);
    assert_eq!(updated, texts(&env), "no text is in the index twice");
}

#[test]
fn options_limit_a_search_to_archived_launched_or_subagent_conversations_or_a_branch() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 10, "needle", "x"));
    let archived = Conversation {
        archived: true,
        ..Conversation::new(2, 20, "needle", "x")
    };
    write(&env, &archived);
    let subagent = Conversation {
        parent: Some(1),
        ..Conversation::new(3, 30, "needle", "x")
    };
    write(&env, &subagent);
    let unlisted = Conversation {
        archived: true,
        ..Conversation::new(4, 40, "needle", "x")
    };
    write(&env, &unlisted);
    let change = "UPDATE threads SET git_branch='feature/checkout' WHERE id=?1";
    state(&env).execute(change, [id(1)]).expect("a branch");
    let delete = "DELETE FROM threads WHERE id=?1";
    state(&env).execute(delete, [id(4)]).expect("delete");
    let find = |option: &[&str]| {
        let mut ids = found(&env, &[&["needle"], option].concat());
        ids.sort();
        ids
    };
    assert_eq!(find(&[]), [id(1), id(2), id(3), id(4)]);
    assert_eq!(find(&["--archived"]), [id(2), id(4)]);
    assert_eq!(find(&["--subagents"]), [id(3)]);
    assert_eq!(find(&["--branch", "feature/checkout"]), [id(1)]);
    assert_eq!(find(&["--branch", "main", "--archived"]), [id(2)]);
    assert_eq!(find(&["--launched"]), [""; 0]);
    let launch = json!({"launch_id": "1", "settled": true, "schema": 1, "profile": "work",
        "identity": {"email": "alice@example.com"}, "started_at": "2026-11-20T06:00:00Z",
        "cwd": "/p", "codex_home": env.codex_home(), "auth_fingerprint": "",
        "wrapper": {"pid": 1, "started": null},
        "conversations": [{"session_id": id(2), "rollout_path": "/p", "start_offset": 0}]});
    let file = env.manager_home().join("launches.jsonl");
    fs::write(file, format!("{launch}\n")).expect("write");
    assert_eq!(find(&["--launched"]), [id(2)]);
    let list = env.run(["sessions", "--branch", "feature/checkout", "--json"]);
    let list = list.code(0).json();
    assert_eq!(list["sessions"].as_array().expect("a list").len(), 1);
    assert_eq!(list["sessions"][0]["id"], id(1));
}

#[test]
fn context_lines_include_the_messages_before_and_after_the_match() {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 60, "The question", "one\ntwo\n\nthe needle");
    conversation.lines.push(tool_output("three\nfour\nfive"));
    write(&env, &conversation);
    let text = env.run(["find", "needle", "-C", "2"]).code(0).stdout;
    let command = format!("    codex-manager show {} --turn 1", &id(1)[..13]);
    assert!(past_answers::is_mcp_answer(&text), "{text}");
    let lines: Vec<_> = text.lines().skip(2).collect();
    let expected = [
        ">     turn 1, assistant:",
        ">       one",
        ">       two",
        ">       the needle",
        ">     turn 1, tool:",
        ">       three",
        ">       four",
        &command,
    ];
    assert_eq!(lines, expected, "{text}");
    for args in [&["find", "needle"][..], &["find", "--regex", "ne+dle"]] {
        let document = env.run([args, &["-C", "1", "--json"]].concat()).code(0);
        let nearby = &document.json()["hits"][0]["nearby"];
        let texts = nearby.as_array().expect("lines").iter();
        let texts: Vec<_> = texts.map(|line| line["text"].as_str()).collect();
        assert_eq!(texts, [Some("two"), Some("the needle"), Some("three")]);
        assert_eq!(nearby[2]["role"], "tool");
        assert!(past_answers::is_mcp_answer(&document.stdout));
    }
    // A title is in no message.
    let text = env.run(["find", "question", "--role", "user", "-C", "0"]);
    assert!(text.code(0).stdout.contains("      The question\n"));
}

#[test]
fn the_number_of_matches_and_the_account_of_each_are_printed() {
    let env = TestEnv::new();
    save_alice_and_bob(&env);
    for number in 1..=25 {
        write(
            &env,
            &Conversation::new(number, 10, "needle", "a pin-point"),
        );
    }
    let run = env.run(["find", "needle"]).code(0);
    assert_eq!(
        run.stdout.matches("codex-manager show").count(),
        20,
        "{run}"
    );
    let note = "20 of 25 conversations; add --limit 25 to see more";
    assert!(run.stderr.contains(note), "{run}");
    let run = env.run(["find", "needle", "--limit", "30"]).code(0);
    assert_eq!(run.stderr, "", "{run}");
    // Code is checked in the rollouts, so not all are counted.
    let run = env.run(["find", "pin-point", "--limit", "3"]).code(0);
    assert!(
        run.stderr.contains("3 conversations shown; add --limit 12"),
        "{run}"
    );
    let run = env.run(["find", "--exact", "pin-point", "--limit", "3"]);
    assert!(run.code(0).stderr.contains("3 of 25 conversations"));
    let document = env.run(["find", "needle", "--limit", "1", "--json"]);
    let document = document.code(0).json();
    assert_eq!(document["total"], 25);
    assert_eq!(document["hits"][0]["account"], "work");
    let table = env.run(["find", "needle", "--limit", "2", "--format", "tsv"]);
    let table = table.code(0).stdout;
    let lines: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(&lines[0][..3], ["SESSION", "TURN", "ROLE"]);
    assert!(lines[1][0].starts_with("01a1f78b-") && lines[1][0].len() == 36);
    assert_eq!(lines[1][5], "work");
    assert!(lines[1][10].contains("/rollout-2026"), "{table}");
}

#[test]
fn the_pager_of_find_begins_with_the_first_hits() {
    let mut env = TestEnv::new();
    for number in 1..=15 {
        let title = format!("needle {number}");
        write(&env, &Conversation::new(number, number.into(), &title, "x"));
    }
    // Like `less`, it shows the beginning.
    env.set("PAGER", "head -n 6");
    let mut terminal = Terminal::start(&mut env.command(["find", "needle", "--sort", "newest"]));
    terminal.end();
    let screen = terminal.picture(120, 20);
    assert!(
        screen.contains("needle 1 ") && screen.contains("needle 3 "),
        "{screen}"
    );
    assert!(!screen.contains("needle 5 "), "{screen}");
}

#[test]
fn the_first_search_of_a_large_home_shows_the_newest_conversations_first() {
    let mut env = TestEnv::new();
    env.set("PAGER", "cat");
    write(&env, &Conversation::new(1, 1, "newest needle", "x"));
    let old = write(&env, &Conversation::new(2, 90, "old needle", "x"));
    let file = OpenOptions::new().write(true).open(&old).expect("open");
    // One line that is too long to be searched.
    file.set_len(70 << 20).expect("a hole");
    let mut terminal = Terminal::start(&mut env.command(["find", "needle"]));
    terminal.end();
    let screen = terminal.picture(120, 40);
    let (early, all) = screen
        .split_once("searched the newest 1 conversation; reading the others")
        .unwrap_or_else(|| panic!("{screen}"));
    let has = |part: &str| ["newest needle", "old needle"].map(|title| part.contains(title));
    assert_eq!(
        (has(early), has(all)),
        ([true, false], [true, true]),
        "{screen}"
    );
    fs::remove_file(index(&env)).expect("remove");
    assert_eq!(
        found(&env, &["needle"]).len(),
        2,
        "a program gets one result"
    );
}

#[test]
fn a_search_without_hits_counts_the_matches_without_the_filters() {
    let env = TestEnv::new();
    for number in 1..=3 {
        write(
            &env,
            &Conversation::new(number, 60, "needle", "a pin-point"),
        );
    }
    let elsewhere = Conversation {
        cwd: "/home/alice/other".into(),
        ..Conversation::new(4, 60, "Hello", "x")
    };
    write(&env, &elsewhere);
    let stderr = |args: &[&str]| env.run([&["find"], args].concat()).code(5).stderr;
    let run = stderr(&["needle", "--project", "other"]);
    assert!(
        run.contains("no conversation matches; 3 without --project\n"),
        "{run}"
    );
    let run = stderr(&["pin-point", "--project", "other", "--since", "1h"]);
    assert!(run.contains("; 3 without --project and --since\n"), "{run}");
    assert_eq!(
        stderr(&["nothing", "--archived"]),
        "no conversation matches\n"
    );
}
