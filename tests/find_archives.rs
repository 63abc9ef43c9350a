//! `find --archives` finds conversations that are only in archives, and prints the command to restore them.

use crate::support::conversations::{
    Conversation, assistant, id, state, user, write, write_rewound,
};
use crate::support::env::TestEnv;
use crate::support::profiles::save_alice_and_bob;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Creates a backup of the home at this time on 20 November.
fn back_up(env: &mut TestEnv, time: &str) {
    env.set("CODEX_MANAGER_NOW", format!("2026-11-20T{time}:00Z"));
    let _ = env.run(["backup", "--no-status"]).code(0);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
}

/// Deletes a conversation as `codex delete` does.
fn delete(env: &TestEnv, number: u32) {
    let rollout = Conversation::new(number, 0, "", "").relative();
    fs::remove_file(env.codex_home().join(rollout)).expect("remove");
    let delete = "DELETE FROM threads WHERE id=?1";
    state(env).execute(delete, [id(number)]).expect("delete");
}

/// Creates a home with one conversation. The first archive has two more, the second has one more.
fn home() -> TestEnv {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    for (number, title, answer) in [
        (1, "About the parser", "The borrow checker was right."),
        (2, "About the lexer", "The borrow checker was wrong."),
        (3, "About nothing", "The borrow checker is everywhere."),
    ] {
        write(&env, &Conversation::new(number, 60, title, answer));
    }
    back_up(&mut env, "10:00");
    delete(&env, 1);
    back_up(&mut env, "11:00");
    delete(&env, 2);
    env
}

fn hits(document: &Value) -> Vec<(String, Option<String>)> {
    let hits = document["hits"].as_array().expect("hits").iter();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut hits: Vec<_> = hits
        .map(|hit| {
            (
                text(&hit["session_id"]).expect("an id"),
                text(&hit["archive"]),
            )
        })
        .collect();
    hits.sort();
    hits
}

#[cfg(unix)]
#[test]
fn a_home_named_by_a_link_has_the_same_archives() {
    let env = home();
    let link = env.path("linked home");
    std::os::unix::fs::symlink(env.codex_home(), &link).expect("link");
    let link = link.to_str().expect("a path");

    let args = ["find", "--archives", "--json", "--codex-home", link];
    let document = env.run([&args[..], &["borrow checker"]].concat()).code(0);
    assert_eq!(document.json()["conversations"], 3);

    let _ = env.run(["backup", "--no-status"]).code(0);
    let archives = || {
        fs::read_dir(env.manager_home().join("backups"))
            .expect("archives")
            .count()
    };
    let before = archives();
    let _ = env
        .run(["backup", "--if-older", "1h", "--codex-home", link])
        .code(0);
    assert_eq!(archives(), before);
}

#[test]
fn a_deleted_conversation_is_found_in_the_newest_archive_that_has_it() {
    let env = home();
    let archive = |time: &str| Some(format!("2026-11-20-{time}-alice@example.com"));
    let expected = [
        (id(1), archive("100000")),
        (id(2), archive("110000")),
        (id(3), None),
    ];
    for query in [
        &["borrow checker"][..],
        &["borr*", "-nowhere"],
        &["--exact", "borrow checker"],
        &["--regex", "borrow.checker"],
    ] {
        let args = [&["find", "--archives", "--json"], query].concat();
        let document = env.run(args).code(0).json();
        assert_eq!(hits(&document), expected, "{query:?}");
        assert_eq!(
            document["conversations"], 3,
            "an archive was searched twice"
        );
        let without = [&["find", "--json"], query].concat();
        let document = env.run(without).code(0).json();
        assert_eq!(hits(&document), [(id(3), None)]);
    }
    let _ = env.run(["find", "parser"]).code(5);
    let _ = env.run(["find", "--archives", "nowhere"]).code(5);
    let limited = ["find", "--archives", "--json", "--limit", "2", "borrow"];
    assert_eq!(hits(&env.run(limited).code(0).json()).len(), 2);
    // The search leaves no temporary files.
    let tmp = env.manager_home().join("tmp");
    let left = fs::read_dir(tmp).expect("the folder").flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left, [".lock"]);
}

/// Creates a home with a conversation that is in an archive and in the index. Returns its rollout.
fn archive_and_index_a_conversation() -> (TestEnv, PathBuf) {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    let conversation = Conversation::new(1, 60, "About the parser", "The borrow checker.");
    let rollout = write(&env, &conversation);
    back_up(&mut env, "10:00");
    let _ = env.run(["find", "borrow"]).code(0);
    (env, rollout)
}

#[test]
fn a_conversation_whose_file_is_gone_but_indexed_is_found_once() {
    let (env, rollout) = archive_and_index_a_conversation();
    fs::remove_file(rollout).expect("remove");

    let indexed = env.run(["find", "--json", "borrow"]).code(0).json();
    assert_eq!(hits(&indexed), [(id(1), None)]);
    for no_refresh in [&[][..], &["--no-refresh"]] {
        let args = [&["find", "--archives", "--json", "borrow"], no_refresh].concat();
        let document = env.run(args).code(0).json();
        let archive = "2026-11-20-100000-alice@example.com".to_owned();
        assert_eq!(hits(&document), [(id(1), Some(archive))]);
        assert_eq!(document["total"], 1);
    }
}

/// Writes a conversation that is the older, the larger its number is. Returns its rollout.
fn write_numbered(env: &TestEnv, number: u32) -> PathBuf {
    let minutes = i64::from(number);
    let conversation = Conversation::new(number, minutes, "A question", "The borrow checker.");
    write(env, &conversation)
}

#[test]
fn a_conversation_whose_file_is_gone_but_indexed_is_counted_once() {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    let [_, _, oldest] = [1, 2, 3].map(|number| write_numbered(&env, number));
    back_up(&mut env, "10:00");
    let _ = env.run(["find", "borrow"]).code(0);
    fs::remove_file(oldest).expect("remove");

    for form in [&["--no-refresh"][..], &[], &["--exact"]] {
        // With the limit 1, the index's hit for the deleted conversation is beyond the limit.
        for limit in ["1", "20"] {
            let args = ["find", "--archives", "--json", "borrow", "--limit", limit];
            let document = env.run([&args[..], form].concat()).code(0).json();
            assert_eq!(document["total"], 3, "{form:?} {limit}");
            assert_eq!(document["conversations"], 3, "{form:?} {limit}");
        }
    }
}

#[test]
fn a_conversation_that_only_the_index_still_has_is_found() {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    let [_, archived] = [1, 2].map(|number| write_numbered(&env, number));
    back_up(&mut env, "10:00");
    let never_archived = write_numbered(&env, 3);
    let _ = env.run(["find", "borrow"]).code(0);
    fs::remove_file(archived).expect("remove");
    fs::remove_file(never_archived).expect("remove");

    let archive = Some("2026-11-20-100000-alice@example.com".to_owned());
    for form in [&["--no-refresh"][..], &[]] {
        let find = |limit: &str| {
            let args = ["find", "--archives", "--json", "borrow", "--limit", limit];
            env.run([&args[..], form].concat()).code(0).json()
        };
        let all = find("20");
        let expected = [(id(1), None), (id(2), archive.clone()), (id(3), None)];
        assert_eq!(hits(&all), expected, "{form:?}");
        for document in [all, find("1")] {
            assert_eq!(document["total"], 3, "{form:?}");
            assert_eq!(document["conversations"], 3, "{form:?}");
        }
        // The filters apply to it too.
        let args = [
            "find",
            "--archives",
            "--json",
            "borrow",
            "--project",
            "/other",
        ];
        let _ = env.run([&args[..], form].concat()).code(5);
    }
}

#[test]
fn a_conversation_on_disk_whose_file_name_lacks_its_id_is_found_once() {
    let (env, rollout) = archive_and_index_a_conversation();
    let renamed = rollout.with_file_name("rollout-saved.jsonl");
    fs::rename(&rollout, &renamed).expect("rename");
    let sql = "UPDATE threads SET rollout_path=?1";
    let path = renamed.to_str().expect("text");
    assert_eq!(state(&env).execute(sql, [path]), Ok(1));

    let args = ["find", "--archives", "--json", "borrow"];
    let document = env.run(args).code(0).json();
    assert_eq!(hits(&document), [(id(1), None)]);
    assert_eq!(document["total"], 1);
}

#[test]
fn a_rewound_conversation_in_an_archive_is_found_by_all_messages_but_those_taken_back() {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    let mut conversation = Conversation::new(1, 60, "About the parser", "The borrow checker.");
    conversation.lines.push(user("taken back"));
    let newest = write_rewound(&env, &conversation, 3);
    back_up(&mut env, "10:00");
    fs::remove_file(newest).expect("remove");
    delete(&env, 1);

    for form in [&[][..], &["--exact"], &["--regex"]] {
        let found = |text: &str, code| {
            let args = [&["find", "--archives"], form, &[text]].concat();
            let _ = env.run(args).code(code);
        };
        found("borrow checker", 0);
        found("instead", 0);
        found("taken back", 5);
    }
}

#[test]
fn the_printed_command_restores_the_conversation() {
    let env = home();
    let run = env.run(["find", "--archives", "parser"]).code(0);
    assert!(run.stdout.contains("only in the archive of "), "{run}");
    let line = run.stdout.lines().last().expect("a line").trim();
    let expected = format!(
        "codex-manager restore 2026-11-20-100000-alice@example.com --session {}",
        id(1)
    );
    assert_eq!(line, expected);
    let arguments = line.split(' ').skip(1);
    let _ = env.run(arguments).code(0);
    let hits = hits(&env.run(["find", "--json", "parser"]).code(0).json());
    assert_eq!(hits, [(id(1), None)]);
}

#[test]
fn filters_select_conversations_by_the_database_of_the_archive() {
    let env = home();
    let found = |args: &[&str]| {
        let all = [&["find", "--archives", "--json", "borrow"], args].concat();
        let run = env.run(all);
        assert!([0, 5].contains(&run.code), "{run}");
        hits(&run.json()).len()
    };
    assert_eq!(found(&["--project", "/home/alice/proj"]), 3);
    assert_eq!(found(&["--project", "/home/alice/other"]), 0);
    assert_eq!(found(&["--since", "2h"]), 3);
    assert_eq!(found(&["--until", "2h"]), 0);
    assert_eq!(found(&["--account", "alice"]), 3);
    assert_eq!(found(&["--account", "bob"]), 0);
    assert_eq!(found(&["--role", "assistant"]), 3);
    assert_eq!(found(&["--role", "user"]), 0);
}

#[test]
fn a_damaged_archive_is_named_and_the_others_are_searched() {
    let env = home();
    let backups = env.manager_home().join("backups");
    let newest = fs::read_dir(&backups).expect("backups").flatten();
    let newest = newest.map(|entry| entry.path()).find(|path| {
        let name = path.to_string_lossy();
        name.contains("110000") && name.ends_with(".tar.gz")
    });
    let newest = newest.expect("the newest archive");
    let mut bytes = fs::read(&newest).expect("read");
    // Damages the members before the manifest.
    bytes[..2000].fill(0);
    fs::write(&newest, bytes).expect("write");
    let run = env.run(["find", "--archives", "--json", "borrow"]);
    assert_eq!(run.code, 6, "{run}");
    assert!(
        run.stderr
            .contains("archive not searched: 2026-11-20-110000"),
        "{run}"
    );
    // The older archive also has the conversation.
    let found = hits(&run.json());
    let archive = Some("2026-11-20-100000-alice@example.com".to_owned());
    assert_eq!(
        found,
        [(id(1), archive.clone()), (id(2), archive), (id(3), None)]
    );
}

#[test]
fn the_missing_part_of_a_truncated_rollout_is_found_in_an_older_archive() {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    let mut conversation = Conversation::new(1, 60, "About the parser", "The beginning.");
    let answers = (0..20_000).map(|n| assistant(&format!("answer {n}")));
    conversation.lines.extend(answers);
    conversation.lines.push(assistant("The borrow checker."));
    let path = write(&env, &conversation);
    back_up(&mut env, "10:00");
    let whole = zstd::encode_all(conversation.text().as_bytes(), 1).expect("compress");
    let compressed = path.with_extension("jsonl.zst");
    fs::rename(&path, &compressed).expect("rename");
    fs::write(&compressed, &whole[..whole.len() / 2]).expect("write");
    back_up(&mut env, "11:00");
    fs::rename(&compressed, &path).expect("rename");
    delete(&env, 1);

    let in_archive = |time: &str| {
        let name = format!("2026-11-20-{time}-alice@example.com");
        [(id(1), Some(name))]
    };
    for form in [&[][..], &["--exact"]] {
        for (text, time) in [("borrow checker", "100000"), ("beginning", "110000")] {
            let args = [&["find", "--archives", "--json"], form, &[text]].concat();
            let run = env.run(args).code(6);
            let warning = "skipped in archive 2026-11-20-110000";
            assert!(run.stderr.contains(warning), "{run}");
            assert_eq!(hits(&run.json()), in_archive(time));
        }
    }
}

#[test]
fn archives_of_other_homes_are_not_searched() {
    let env = home();
    let other = env.path("other");
    fs::create_dir_all(&other).expect("folder");
    let run = env.run(["--codex-home", "other", "find", "--archives", "borrow"]);
    assert_eq!(run.code, 5, "{run}");
}

#[test]
fn the_agents_hook_has_at_most_ten_lines_and_its_commands_work() {
    let env = TestEnv::new();
    write(
        &env,
        &Conversation::new(1, 60, "About the parser", "The borrow checker was right."),
    );
    let snippet = env.run(["hook", "agents"]).code(0).stdout;
    assert!(snippet.lines().count() <= 10, "{snippet}");
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sessions.md");
    let docs = fs::read_to_string(docs).expect("docs");
    assert!(docs.contains(snippet.trim_end()), "{snippet}");
    let commands: Vec<_> = snippet
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("codex-manager "))
        .collect();
    assert_eq!(commands.len(), 2, "{snippet}");
    let run = |command: &str| {
        let words = command.replace("WORDS", "parser").replace(" N ", " 1 ");
        let words = words.replace("SESSION", &id(1));
        env.run(words.split(' ').skip(1)).code(0)
    };
    let found = run(commands[0]).json();
    let hit = &found["hits"][0];
    for key in ["session_id", "title", "turn", "snippet"] {
        assert!(
            snippet.contains(&format!("`{key}`")) && hit.get(key).is_some(),
            "{key}: {hit}"
        );
    }
    let shown = run(commands[1]).stdout;
    assert!(shown.contains("The borrow checker was right."), "{shown}");
    // The exit code and the options that the text names.
    let _ = env
        .run(["find", "--json", "--limit", "5", "nothing"])
        .code(5);
    let _ = env
        .run(["find", "--here", "--json", "\"the parser\""])
        .code(5);
    let cut = env.run(["show", "--format", "md", "--max-bytes", "20", &id(1)]);
    assert!(cut.code(0).stdout.len() <= 21);
    let refused = env.run(["hook", "agents", "--wrap"]).code(4);
    assert!(refused.stderr.contains("--wrap needs a shell"), "{refused}");
}

/// The search of many archives uses little memory, because it stages contents on disk.
#[test]
fn a_search_of_sixty_large_archived_conversations_needs_less_than_100_mib() {
    use crate::support::memory::run_measuring_memory;
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    let text = "word and another one ".repeat(50_000);
    for number in 1..=60 {
        let mut long = Conversation::new(number, 60, "Long", "needle");
        long.lines
            .push(crate::support::conversations::tool_output(&text));
        write(&env, &long);
    }
    back_up(&mut env, "10:00");
    for number in 1..=60 {
        delete(&env, number);
    }
    let (run, peak) = run_measuring_memory(
        &env,
        &["find", "--archives", "--json", "--limit", "100", "needle"],
    );
    assert_eq!(hits(&run.code(0).json()).len(), 60);
    assert!(peak < 100 << 20, "{peak} bytes");
}

#[test]
fn names_only_in_an_archived_session_index_are_found() {
    let mut env = TestEnv::new();
    save_alice_and_bob(&env);
    write(&env, &Conversation::new(1, 60, "Hello", "Done."));
    let names = env.codex_home().join("session_index.jsonl");
    let line = format!("{{\"id\":\"{}\",\"thread_name\":\"zebra\"}}\n", id(1));
    fs::write(&names, line).expect("write");
    back_up(&mut env, "10:00");
    delete(&env, 1);
    fs::remove_file(&names).expect("remove");
    for query in [&["zebra"][..], &["--exact", "zebra"]] {
        let args = [&["find", "--archives", "--json"], query].concat();
        let document = env.run(args).code(0).json();
        assert_eq!(hits(&document).len(), 1, "{query:?}");
        assert_eq!(document["hits"][0]["title"], "zebra");
    }
}
