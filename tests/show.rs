//! `show` prints conversations, and `export` writes them to files.

use crate::support::conversations::{Conversation, assistant, id, tool_output, user, write};
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::lab::{Lab, rollout};
use crate::support::terminal::Terminal;
use serde_json::{Value, json};
use std::fs;

/// Returns the line of a command of the assistant.
fn command(text: &str) -> Value {
    json!({"timestamp": "2026-11-20T06:00:02.000Z", "type": "response_item", "payload":
        {"type": "function_call", "name": "exec_command", "call_id": "call_1",
         "arguments": json!({"cmd": text}).to_string()}})
}

fn home() -> TestEnv {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 60, "Fix the parser", "I look.");
    conversation.lines.extend([
        command("ls -la\necho two"),
        tool_output("total 8"),
        json!({"timestamp": "2026-11-20T06:00:04.000Z", "type": "response_item", "payload":
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Thinking"}]}}),
        json!({"timestamp": "2026-11-20T06:00:05.000Z", "type": "compacted", "payload":
            {"message": "The sum", "replacement_history": []}}),
        user("Thanks <b>"),
        assistant("You are welcome."),
    ]);
    write(&env, &conversation);
    env
}

#[cfg(unix)]
#[test]
fn show_resume_and_find_read_a_rollout_that_codex_names_by_the_link_of_an_isolated_home() {
    let env = home();
    let isolated = env.manager_home().join("profiles/.isolated/1/home");
    fs::create_dir_all(&isolated).expect("folder");
    let sessions = isolated.join("sessions");
    std::os::unix::fs::symlink(env.codex_home().join("sessions"), sessions).expect("link");
    let sql = "UPDATE threads SET rollout_path=replace(rollout_path, ?1, ?2)";
    let homes = [env.codex_home(), isolated].map(|home| home.to_string_lossy().into_owned());
    let changed = crate::support::conversations::state(&env)
        .execute(sql, homes)
        .expect("update");
    assert_eq!(changed, 1);
    let shown = env.run(["show", "01a1f78b-0001"]).code(0);
    assert!(shown.stdout.contains("# Fix the parser"), "{shown}");
    let found = env.run(["find", "parser"]).code(0);
    assert!(found.stdout.contains("01a1f78b"), "{found}");
    // Its creator is known, but has no profile here.
    let resumed = env.run(["resume", "01a1f78b-0001"]).code(5);
    assert!(
        resumed.stderr.contains("belongs to the account acct-alice"),
        "{resumed}"
    );
}

#[test]
fn show_prints_markdown_with_folded_tools_and_marked_compactions() {
    let env = home();
    let text = env.run(["show", "01a1f78b-0001"]).code(0).stdout;
    let expected = format!(
        "# Fix the parser\n\nSession `{}` in `/home/alice/proj`\n\
         \n## Turn 1 · 2026-11-20 06:00\n\n### User\n\nFix the parser\n\n### Assistant\n\nI look.\n\
         \n- exec_command: `ls -la echo two`\n\
         \n*Codex replaced the messages above by a summary here.*\n\n> The sum\n\
         \n## Turn 2 · 2026-11-20 06:00\n\n### User\n\nThanks <b>\n\n### Assistant\n\nYou are welcome.\n",
        id(1)
    );
    assert_eq!(text, expected);
    assert_eq!(env.run(["show", "fix the"]).code(0).stdout, expected);
    let unknown = env.run(["show", "the parser"]).code(1);
    assert!(
        unknown
            .stderr
            .contains("no conversation has this id or title"),
        "{unknown}"
    );
    let search = "codex-manager find WORDS";
    assert!(unknown.stderr.contains(search), "{unknown}");
    let unknown = env.run(["show", "ffff-0"]).code(1);
    assert!(!unknown.stderr.contains(search), "an id: {unknown}");
    let all = env
        .run(["show", "01a1", "--tools", "--reasoning"])
        .code(0)
        .stdout;
    assert!(all.contains("```text\nls -la\necho two\n```"), "{all}");
    assert!(all.contains("total 8") && all.contains("Thinking"), "{all}");
    let turn = env.run(["show", "01a1", "--turn", "2"]).code(0).stdout;
    assert!(
        turn.contains("You are welcome.") && !turn.contains("I look."),
        "{turn}"
    );
}

#[test]
fn a_long_title_is_wrapped_at_the_width_of_the_terminal() {
    let mut env = TestEnv::new();
    env.set("PAGER", "cat");
    let title = "Restructure the table of merges without a clone of it all ".repeat(3);
    write(&env, &Conversation::new(1, 60, &title, "Done."));
    let text = crate::tables::shown(&env, &["show", &id(1)], 40);
    let longest = text
        .lines()
        .filter(|line| line.contains("merges"))
        .map(str::len)
        .max();
    assert!(longest <= Some(40), "{text}");
}

#[test]
fn show_limits_bytes_and_prints_raw_lines_unchanged() {
    let env = home();
    let run = env
        .run(["show", "01a1", "--format", "md", "--max-bytes", "100"])
        .code(0);
    assert_eq!(run.stdout.trim_end().len(), 100, "{run}");
    let cut = "cut after 100 bytes, in turn 1; ";
    assert!(run.stderr.contains(cut), "{run}");
    assert!(run.stderr.contains("--turn N"), "{run}");
    let within_head = env
        .run(["show", "01a1", "--format", "md", "--max-bytes", "5"])
        .code(0);
    assert_eq!(within_head.stdout.trim_end().len(), 5, "{within_head}");
    let cut = "cut after 5 bytes, before turn 1; ";
    assert!(within_head.stderr.contains(cut), "{within_head}");
    let raw = env.run(["show", "01a1", "--raw"]).code(0).stdout;
    let rollout = Conversation::new(1, 60, "Fix the parser", "I look.").relative();
    let rollout = fs::read_to_string(env.codex_home().join(rollout)).expect("a rollout");
    assert_eq!(raw, rollout);
    let document = env.run(["show", "01a1", "--json"]).code(0).json();
    assert_eq!(document["title"], "Fix the parser");
    let roles: Vec<_> = document["turns"]
        .as_array()
        .expect("turns")
        .iter()
        .collect();
    let roles: Vec<_> = roles
        .iter()
        .map(|turn| turn["role"].as_str().expect("a role"))
        .collect();
    assert_eq!(
        roles,
        [
            "user",
            "assistant",
            "tool",
            "compaction",
            "user",
            "assistant"
        ]
    );
    assert_eq!(document["turns"][2]["tool"], "exec_command");
}

#[test]
fn escape_sequences_in_conversations_are_not_printed() {
    let env = TestEnv::new();
    let steering = "\u{1b}[31mred\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}8mhidden";
    let mut conversation = Conversation::new(1, 60, steering, steering);
    conversation.cwd = format!("/home/alice/{steering}");
    conversation
        .lines
        .extend([command(steering), tool_output(&format!("{steering}\n\tx"))]);
    write(&env, &conversation);
    let out = env.path("out.md");
    let out = out.to_str().expect("text");
    let _ = env.run(["export", "01a1", "--tools", "--out", out]).code(0);
    let text = env.run(["show", "01a1", "--tools"]).code(0).stdout;
    assert_eq!(fs::read_to_string(out).expect("read"), text);
    let is_steering = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    assert!(!text.contains(is_steering), "{text:?}");
    assert!(text.contains("redhidden\n\tx\n"), "{text:?}");
}

#[test]
fn a_compressed_rollout_with_invalid_data_is_an_error_and_a_truncated_one_is_read_to_its_end() {
    let env = TestEnv::new();
    let conversation = Conversation::new(1, 60, "Hello", "Done.");
    let path = write(&env, &conversation);
    let compressed = path.with_extension("jsonl.zst");
    fs::rename(&path, &compressed).expect("rename");
    // The beginning of a zstd frame, followed by invalid data.
    fs::write(&compressed, b"\x28\xb5\x2f\xfd no zstd at all").expect("write");
    for args in [
        &["show", "01a1"][..],
        &["show", "01a1", "--json"],
        &["export", "01a1"],
    ] {
        let run = env.run(args).code(1);
        assert!(run.stderr.contains("cannot read the conversation"), "{run}");
    }
    let run = env.run(["find", "hello"]).code(6);
    assert!(run.stderr.contains("skipped: "), "{run}");
    // A truncated conversation is read up to its end.
    let mut long = conversation;
    long.lines
        .extend((0..20_000).map(|n| assistant(&format!("answer {n}"))));
    let whole = zstd::encode_all(long.text().as_bytes(), 1).expect("compress");
    fs::write(&compressed, &whole[..whole.len() / 2]).expect("write");
    for args in [
        &["show", "01a1"][..],
        &["show", "01a1", "--raw"],
        &["show", "01a1", "--json"],
        &["export", "01a1"],
        &["find", "--exact", "answer 1"],
        &["find", "answer"],
        &["find", "answer"],
        &["usage"],
        &["usage"],
    ] {
        // Each command names it, also if the index has it already.
        let run = env.run(args).code(6);
        assert!(run.stderr.contains("01a1"), "{}", run.stderr);
        assert!(run.stderr.contains("damage"), "{}", run.stderr);
        assert!(!run.stdout.contains("answer 19999"), "{args:?}");
    }
    let shown = env.run(["show", "01a1"]).code(6).stdout;
    assert!(shown.contains("answer 1\n"));
    let beyond = env.run(["show", "01a1", "--turn", "9"]).code(1);
    let count = "the conversation has 1 readable turn; there is no turn 9";
    assert!(beyond.stderr.contains(count), "{beyond}");
    assert!(beyond.stderr.contains("left out: "), "{beyond}");
    let found = env.run(["find", "answer", "--json"]).code(6).json();
    assert_eq!(found["refreshed"], 0, "{found}");
}

#[test]
fn export_redacts_tokens_and_counts_them() {
    let env = TestEnv::new();
    let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zaB3dE");
    let mut conversation = Conversation::new(1, 60, &format!("Use {token}"), "Done.");
    conversation
        .lines
        .push(tool_output(&format!("TOKEN={token}")));
    write(&env, &conversation);
    for format in ["md", "html", "json"] {
        let run = env
            .run(["export", "01a1", "--format", format, "--tools"])
            .code(0);
        assert!(!run.stdout.contains(&token), "{run}");
        assert!(run.stdout.contains("[redacted]"), "{run}");
        assert!(run.stderr.contains("tokens or keys redacted"), "{run}");
        let kept = [
            "export",
            "01a1",
            "--format",
            format,
            "--tools",
            "--no-redact",
        ];
        let kept = env.run(kept).code(0).stdout;
        assert!(kept.contains(&token), "{kept}");
    }
}

#[test]
fn export_writes_new_files_and_replaces_none() {
    let env = home();
    write(&env, &Conversation::new(2, 60, "Another", "one"));
    let out = env.path("page.html");
    let out = out.to_str().expect("text");
    let document = env.run([
        "export",
        "01a1f78b-0001",
        "--format",
        "html",
        "--out",
        out,
        "--json",
    ]);
    let document = document.code(0).json();
    let page = fs::read_to_string(out).expect("read");
    assert_eq!(document["files"][0]["bytes"], page.len());
    assert!(
        page.starts_with("<!doctype html>") && page.ends_with("</html>\n"),
        "{page}"
    );
    assert!(page.contains("Thanks &lt;b&gt;"), "{page}");
    for loaded in ["<script", "http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(loaded), "{loaded}");
    }
    let again = env.run(["export", "01a1f78b-0001", "--out", out]).code(1);
    assert!(again.stderr.contains("exists already"), "{again}");
    let run = env
        .run(["export", "01a1f78b-0001", "01a1f78b-0002"])
        .code(4);
    assert!(run.stderr.contains("--out"), "{run}");
    let folder = env.path("all");
    let args = [
        "export",
        "01a1f78b-0001",
        "01a1f78b-0002",
        "--format",
        "json",
        "--out",
    ];
    let mut args = args.to_vec();
    args.push(folder.to_str().expect("text"));
    let _ = env.run(args).code(0);
    for number in [1, 2] {
        let file = folder.join(format!("{}.json", id(number)));
        let text = fs::read_to_string(file).expect("read");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["id"], id(number));
        assert!(
            json["turns"]
                .as_array()
                .is_some_and(|turns| turns.len() > 1)
        );
    }
}

#[test]
fn a_conversation_that_is_named_twice_is_exported_once() {
    let env = home();
    let file = env.path("one.md");
    let to = file.to_str().expect("text");
    let once = ["export", "01a1f78b-0001", &id(1), "--out", to, "--json"];
    let files = env.run(once).code(0).json()["files"].clone();
    assert_eq!(files.as_array().map(Vec::len), Some(1), "{files}");
    assert!(file.is_file());
}

fn export(env: &TestEnv, number: u32, format: &str) -> String {
    env.run(["export", &id(number), "--format", format])
        .code(0)
        .stdout
}

#[test]
fn a_fork_of_codex_is_shown_with_the_turns_before_it() {
    let Some(lab) = Lab::new() else {
        return;
    };
    let first = lab.say("the first question");
    let forked = [
        "exec",
        "fork",
        "--skip-git-repo-check",
        &first,
        "asked in the fork",
    ];
    let forked = lab.codex.run(&lab.home(), &lab.backend, &forked);
    let forked = forked.expect_success();
    let fork = forked.session_id().expect("a session id").to_owned();
    let _ = lab.resume(&lab.home(), &first, "asked after the fork");
    for command in ["show", "export"] {
        let text = lab.manager([command, &fork]).code(0).stdout;
        let position = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}\n{text}"));
        let parts = [
            position(&format!("*From `{first}`")),
            // The title has no empty line before it.
            position("\n\nthe first question\n"),
            position("*This conversation:*"),
            position("\n\nasked in the fork\n"),
        ];
        assert!(parts.is_sorted(), "{text}");
        assert!(!text.contains("asked after the fork"), "{text}");
    }
    let hits = lab
        .manager(["find", "asked", "fork", "--json"])
        .code(0)
        .json();
    let hits = hits["hits"].as_array().expect("hits").iter();
    let turn = hits
        .filter(|hit| hit["session_id"] == *fork)
        .map(|hit| hit["turn"].to_string());
    let turn: Vec<_> = turn.collect();
    let shown = lab
        .manager(["show", &fork, "--turn", &turn[0]])
        .code(0)
        .stdout;
    assert!(shown.contains("asked in the fork"), "{shown}");
}

#[test]
fn a_fork_is_shown_with_the_labelled_turns_of_its_parent_or_a_note_that_they_are_missing() {
    let env = TestEnv::new();
    let parent = Conversation::new(1, 60, "The first question", "The first answer.");
    let end = parent.text().len();
    let mut longer = parent.clone();
    longer.lines.push(user("Asked after the fork"));
    write(&env, &longer);
    let fork = Conversation::new(2, 30, "The question of the fork", "Its answer.");
    let path = write(&env, &fork);
    let base = format!(
        "\"payload\":{{\"history_base\":{{\"thread_id\":\"{}\",\"end_byte_offset\":{end}}},",
        id(1)
    );
    let text = fork.text().replacen("\"payload\":{", &base, 1);
    fs::write(&path, text).expect("write");
    let shown = env.run(["show", &id(2)]).code(0).stdout;
    let position = |text: &str| {
        shown
            .find(text)
            .unwrap_or_else(|| panic!("{text}\n{shown}"))
    };
    let marks = [
        position(&format!(
            "*From `{}`, which this conversation continues:*",
            id(1)
        )),
        position("The first answer."),
        position("*This conversation:*"),
        position("Its answer."),
    ];
    assert!(marks.is_sorted(), "{shown}");
    assert!(!shown.contains("Asked after the fork"), "{shown}");
    let document = env.run(["show", &id(2), "--json"]).code(0).json();
    let turns = document["turns"].as_array().expect("turns").iter();
    let turns: Vec<_> = turns
        .map(|turn| {
            (
                turn["session_id"].as_str().expect("an id"),
                turn["turn"].as_u64(),
            )
        })
        .collect();
    let (one, two) = (id(1), id(2));
    let own = [
        (&*one, Some(1)),
        (&*one, Some(1)),
        (&*two, Some(1)),
        (&*two, Some(1)),
    ];
    assert_eq!(turns, own);
    // The turns of `find` are those of the fork itself.
    let turn = env.run(["show", &id(2), "--turn", "1"]).code(0).stdout;
    assert!(
        turn.contains("Its answer.") && !turn.contains("The first answer."),
        "{turn}"
    );
    // An export is the same text.
    let page = export(&env, 2, "md");
    assert_eq!(page, shown);
    let document: Value = serde_json::from_str(&export(&env, 2, "json")).expect("JSON");
    let exported = document["turns"].as_array().expect("turns").iter();
    let exported: Vec<_> = exported
        .map(|turn| (turn["session_id"].as_str(), turn["turn"].as_u64()))
        .collect();
    assert_eq!(exported, own.map(|(id, turn)| (Some(id), turn)));
    assert_eq!(document["missing_parent"], Value::Null);
    let page = export(&env, 2, "html");
    let position = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}\n{page}"));
    let marks = [
        position(&format!(
            "From <code>{}</code>, which this conversation continues:",
            id(1)
        )),
        position("<h2>Turn 1<"),
        position("The first answer."),
        position("This conversation:"),
        position("<h2 id=\"turn-1\">"),
        position("Its answer."),
    ];
    assert!(marks.is_sorted(), "{page}");
    assert!(!page.contains("Asked after the fork"), "{page}");
    // Without the parent, the rest is shown, with a line about the missing part.
    fs::remove_file(env.codex_home().join(parent.relative())).expect("remove");
    let shown = env.run(["show", &id(2)]).code(0).stdout;
    let missing = format!(
        "\n*The earlier turns are missing: they are in `{}`, whose rollout cannot be read.*\n",
        id(1)
    );
    assert!(shown.contains(&missing), "{shown}");
    assert!(
        shown.contains("Its answer.") && !shown.contains("*From"),
        "{shown}"
    );
    assert_eq!(export(&env, 2, "md"), shown);
    assert!(export(&env, 2, "html").contains("The earlier turns are missing"));
    let document = env.run(["show", &id(2), "--json"]).code(0).json();
    assert_eq!(document["missing_parent"], id(1));
    let turn = env.run(["show", &id(2), "--turn", "1"]).code(0).stdout;
    assert!(!turn.contains("missing"), "{turn}");
}

#[test]
fn a_chain_of_too_many_forks_names_the_conversation_with_the_earlier_turns() {
    let env = TestEnv::new();
    for number in 1..=1002 {
        let fork = Conversation::new(number, 60, &format!("Question {number}"), "An answer.");
        let path = env.codex_home().join(fork.relative());
        if number == 1 || number == 1002 {
            write(&env, &fork);
        }
        if number > 1 {
            let base = format!(
                "\"payload\":{{\"history_base\":{{\"thread_id\":\"{}\",\"end_byte_offset\":9000}},",
                id(number - 1)
            );
            let text = fork.text().replacen("\"payload\":{", &base, 1);
            fs::write(path, text).expect("write");
        }
    }
    let shown = env.run(["show", &id(1002)]).code(0).stdout;
    let cut = format!(
        "\n*The earlier turns are in `{}`: only the last 1000 rollouts are shown.*\n",
        id(2)
    );
    assert!(shown.contains(&cut), "{shown}");
    assert!(shown.contains("Question 3") && !shown.contains("Question 2\n"));
    let document = env.run(["show", &id(1002), "--json"]).code(0).json();
    assert_eq!(document["missing_parent"], id(2));
}

#[test]
fn a_turn_beyond_the_end_and_an_ambiguous_or_trashed_id_are_explained() {
    let mut env = TestEnv::new();
    env.set("PAGER", "cat");
    write(&env, &Conversation::new(1, 60, "First", "x"));
    let second = Conversation {
        archived: true,
        ..Conversation::new(2, 120, "Second", "x")
    };
    write(&env, &second);
    write(&env, &Conversation::new(3, 180, "Third", "x"));
    for (format, turn) in [(&[][..], "99"), (&["--json"], "99"), (&[], "0")] {
        let run = env.run([&["show", "First", "--turn", turn], format].concat());
        let message = format!("the conversation has 1 turn; there is no turn {turn}");
        assert!(run.code(1).stderr.contains(&message));
    }
    for command in ["show", "resume", "export"] {
        let run = env.run([command, "01a1f78b"]).code(1);
        assert!(
            run.stderr.contains("01a1f78b matches 3 conversations"),
            "{run}"
        );
        let rows = [
            (1, "1 h", "First"),
            (2, "2 h", "Second"),
            (3, "3 h", "Third"),
        ];
        let rows = rows.map(|(n, age, title)| format!("hint: {}  {age}  {title}\n", &id(n)[..13]));
        assert!(run.stderr.contains(&rows.concat()), "{run}");
    }
    let mut terminal = Terminal::attend(&mut env.command(["show", "01a1f78b"]), 40);
    let limit = std::time::Duration::from_secs(60);
    terminal.wait_until((40, 40), limit, |picture| {
        picture.contains("01a1f78b matches 3 conversations") && picture.contains("  2 h  Second")
    });
    terminal.type_keys("\r");
    terminal.wait_for("First", limit);
    assert_eq!(terminal.end().code(), Some(0), "{}", terminal.text());
    let _ = env.run(["storage", "trash", &id(2)]).code(0);
    let run = env.run(["show", &id(2)[..13]]).code(1);
    let undelete = format!("codex-manager storage undelete {}", id(2));
    assert!(
        run.stderr
            .contains("the conversation is in the trash: Second"),
        "{run}"
    );
    assert!(run.stderr.contains(&undelete), "{run}");
}

#[test]
fn turn_0_has_what_comes_before_the_first_prompt() {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 60, "First", "x");
    conversation.lines.insert(0, assistant("An early answer."));
    write(&env, &conversation);
    let run = env.run(["show", "First", "--turn", "0"]).code(0);
    assert!(run.stdout.contains("An early answer."), "{run}");
}

#[test]
fn show_reports_a_rollout_that_is_empty_damaged_or_missing() {
    let env = TestEnv::new();
    let path = write(&env, &Conversation::new(1, 60, "First", "x"));
    for text in ["", "not a rollout\n"] {
        fs::write(&path, text).expect("write");
        let run = env.run(["show", "First"]).code(1);
        let message = "the rollout is empty, damaged or of another conversation: ";
        assert!(run.stderr.contains(message), "{run}");
    }
    fs::remove_file(&path).expect("remove");
    for command in ["show", "resume"] {
        let run = env.run([command, "First"]).code(1);
        let message =
            "the home does not have the rollout that Codex recorded for the conversation: ";
        assert!(run.stderr.contains(message), "{run}");
        let restore = format!("codex-manager restore --session {}\n", id(1));
        assert!(run.stderr.contains(&restore), "{run}");
    }
    let run = env.run(["resume", "First", "--json"]).code(4);
    assert!(run.stderr.contains("--json needs --dry-run"), "{run}");
}

#[test]
fn damaged_lines_are_counted_and_an_incomplete_last_line_is_not() {
    let env = TestEnv::new();
    let conversation = Conversation::new(1, 60, "First", "important answer");
    let path = write(&env, &conversation);
    let text = conversation.text();
    let torn = &text[..text.len() - 9];
    let tokens = r#"{"timestamp":"2026-11-20T06:00:09Z","type":"event_msg","payload":{"type":"token_count","info":"#;
    let message = r#"{"timestamp":"2026-11-20T06:00:09Z","type":"event_msg","payload":{"type":"user_message","message":"Next"}}"#;
    let hidden_message = format!("{tokens}{message}\n");
    let inner_time = format!("{tokens}{{\"timestamp\":\"x\"}}}}}}\n");
    for (bytes, count) in [
        ([&*text, &*hidden_message].concat().into_bytes(), 1),
        ([&*text, &*inner_time].concat().into_bytes(), 0),
        (text.as_bytes().to_vec(), 0),
        (torn.as_bytes().to_vec(), 0),
        (text.replace("important", "imp\u{1}ortant").into_bytes(), 1),
        (text.replace('\n', "\n\n").into_bytes(), 0),
        ([text.as_bytes(), b"\0\0", text.as_bytes()].concat(), 1),
        ([torn.as_bytes(), b"\xff\xfe\n"].concat(), 1),
    ] {
        fs::write(&path, &bytes).expect("write");
        for args in [
            &["show", "01a1"][..],
            &["export", "01a1", "--format", "html"],
        ] {
            let run = env.run(args).code(if count > 0 { 6 } else { 0 });
            let warns = run.stderr.contains("damaged line left out: ");
            assert_eq!(warns, count > 0, "{run}");
        }
    }
}

/// Returns the line of a prompt with an image of this many bytes.
fn prompt_with_image(bytes: usize) -> Value {
    let url = format!("data:image/png;base64,{}", "A".repeat(bytes));
    json!({"timestamp": "2026-11-20T06:00:06.000Z", "type": "response_item", "payload":
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": url}]}})
}

#[test]
fn long_lines_are_shown_and_those_above_16_mib_are_counted() {
    let env = TestEnv::new();
    let mut conversation = Conversation::new(1, 60, "First", "x");
    conversation.lines.push(prompt_with_image(12 << 20));
    conversation.lines.push(user("What is this?"));
    write(&env, &conversation);
    let shown = env.run(["show", "First"]).code(0);
    assert!(shown.stdout.contains("What is this?"), "{shown}");
    assert_eq!(shown.stderr, "");
    let raw = env.run(["show", "First", "--raw"]).code(0);
    assert_eq!(raw.stdout, conversation.text());
    let page = export(&env, 1, "html");
    assert!(page.len() > 12 << 20 && page.contains("<img alt=\"image\""));

    conversation.lines.push(prompt_with_image(17 << 20));
    conversation.lines.push(assistant("The end."));
    write(&env, &conversation);
    for args in [
        &["show", "First"][..],
        &["show", "First", "--raw"],
        &["export", "First"],
    ] {
        let run = env.run(args).code(6);
        assert!(run.stdout.contains("The end."), "{}", run.stderr);
        assert!(
            run.stderr.contains("1 line longer than 16 MiB left out: "),
            "{}",
            run.stderr
        );
    }
}

/// Returns a picture of noise, of about 2.1 MB.
fn noise_png(seed: u64) -> Vec<u8> {
    const SIDE: u16 = 840;
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
            })
        })
    };
    let mut dice = Dice::seeded(seed);
    let row = || [vec![0], dice.bytes(usize::from(SIDE) * 3)].concat();
    let rows: Vec<_> = std::iter::repeat_with(row).take(SIDE.into()).collect();
    // Deflate without compression.
    let mut data = vec![0x78, 1];
    let (mut a, mut b) = (1_u32, 0_u32);
    for (number, row) in rows.iter().enumerate() {
        let len = u16::try_from(row.len()).expect("in range");
        data.push(u8::from(number + 1 == rows.len()));
        data.extend(len.to_le_bytes());
        data.extend((!len).to_le_bytes());
        data.extend(row);
        for byte in row {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
    }
    data.extend((b << 16 | a).to_be_bytes());
    let side = u32::from(SIDE).to_be_bytes();
    let head = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", head), (b"IDAT", data), (b"IEND", Vec::new())] {
        let chunk = [&kind[..], &content].concat();
        png.extend(
            u32::try_from(content.len())
                .expect("in range")
                .to_be_bytes(),
        );
        png.extend(&chunk);
        png.extend(crc(&chunk).to_be_bytes());
    }
    png
}

/// Codex 0.169 writes the images of a prompt in one line.
#[test]
fn a_prompt_of_the_real_codex_with_four_large_images_is_exported() {
    let Some(lab) = Lab::new() else {
        return;
    };
    let mut args = vec!["Compare the pictures".to_owned()];
    for seed in 0..4 {
        let path = lab.world.write(&format!("{seed}.png"), noise_png(seed));
        args.extend(["-i".to_owned(), path.display().to_string()]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let output = lab
        .codex
        .exec(&lab.home(), &lab.backend, &args)
        .expect_success();
    let id = output.session_id().expect("an id").to_owned();
    lab.resume(&lab.home(), &id, "And the second question");
    let text = fs::read_to_string(rollout(&lab.home(), &id)).expect("read");
    assert!(text.lines().any(|line| line.len() > 8 << 20));
    let page = lab
        .manager(["export", &id, "--format", "html"])
        .code(0)
        .stdout;
    assert_eq!(page.matches("<img alt=\"image\"").count(), 4);
    // The search index does not read the line, and counts the same turns.
    let found = lab
        .manager(["find", "second question", "--json"])
        .code(0)
        .json();
    assert_eq!(found["hits"][0]["turn"], 2, "{found}");
    let shown = lab.manager(["show", &id, "--turn", "2"]).code(0).stdout;
    assert!(shown.contains("And the second question"), "{shown}");
}
