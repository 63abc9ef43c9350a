//! The request of the user in messages to which a client has added context: titles, first messages, and names that
//! `history rebuild` writes. Messages and answers that a rollout records in one of its forms only.

use crate::support::cloud::Rng;
use crate::support::conversations::{Conversation, assistant, id, state, user, write};
use crate::support::env::TestEnv;
use crate::support::lab::Lab;
use crate::support::variables;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

const REQUESTS: [&str; 6] = [
    "rename the parser",
    "总结会议记录",
    "サーバーを直して",
    "sửa lỗi giỏ hàng",
    "réécris l'introduction",
    "prüfe die Grenzen",
];

fn line(second: usize, kind: &str, payload: &Value) -> Value {
    let at = format!("2026-11-20T06:{:02}:{:02}.000Z", second / 60, second % 60);
    json!({"timestamp": at, "type": kind, "payload": payload})
}

fn message_item(second: usize, role: &str, text: &str) -> Value {
    let kind = if role == "user" {
        "input_text"
    } else {
        "output_text"
    };
    let content = json!([{"type": kind, "text": text}]);
    line(
        second,
        "response_item",
        &json!({"type": "message", "role": role, "content": content}),
    )
}

fn message_event(second: usize, kind: &str, text: &str) -> Value {
    line(second, "event_msg", &json!({"type": kind, "message": text}))
}

/// The context that a client puts before a request.
fn context(rng: &mut Rng) -> String {
    let files = (0..rng.below(4)).map(|n| format!("- file{n}.ts: src/file{n}.ts\n"));
    let files: String = files.collect();
    let [ide, mentioned, browser] = [
        format!(
            "# Context from my IDE setup:\n\n## Active file: src/a.ts\n\n## Open tabs:\n{files}\n"
        ),
        format!("\n# Files mentioned by the user:\n\n## notes.md: /w/notes.md\n\n{files}"),
        format!(
            "<in-app-browser-context source=\"ambient-ui-state\">\n# In app browser:\n{files}</in-app-browser-context>\n\n"
        ),
    ];
    let heading = [
        "## My request for Codex:",
        "## My request:",
        "## My request for ChatGPT:",
    ];
    match rng.below(5) {
        0 => String::new(),
        1 => format!("{}\n", heading[rng.below(3)]),
        form => format!(
            "{}{}\n",
            [ide, mentioned, browser][form - 2],
            heading[rng.below(3)]
        ),
    }
}

/// The facts that an independent reader finds in a rollout.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    title: String,
    prompts: Vec<String>,
    answers: Vec<String>,
}

/// Reads a rollout of one form of messages: the last of several headings is not needed, because no request has one.
fn read(path: &Path) -> Facts {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events = |kind: &str| -> Vec<String> {
        let events = lines
            .iter()
            .map(|line| &line["payload"])
            .filter(|payload| payload["type"] == kind);
        events
            .map(|payload| payload["message"].as_str().unwrap().to_owned())
            .collect()
    };
    let items = |role: &str| -> Vec<String> {
        let items = lines.iter().map(|line| &line["payload"]);
        let items = items.filter(|payload| payload["type"] == "message" && payload["role"] == role);
        let texts = items.map(|payload| payload["content"][0]["text"].as_str().unwrap().to_owned());
        texts
            .filter(|text| {
                !text.starts_with("<environment_context>") && !text.starts_with("# AGENTS.md")
            })
            .collect()
    };
    let or_items = |events: Vec<String>, role: &str| {
        if events.is_empty() {
            items(role)
        } else {
            events
        }
    };
    let prompts = or_items(events("user_message"), "user");
    let answers = or_items(events("agent_message"), "assistant");
    let first = &prompts[0];
    let request = first
        .rfind("## My request")
        .map_or(&**first, |at| first[at..].split_once('\n').unwrap().1);
    Facts {
        title: request.trim().lines().next().unwrap().to_owned(),
        prompts,
        answers: answers
            .iter()
            .map(|answer| answer.trim().to_owned())
            .collect(),
    }
}

/// Creates a conversation of a client, whose messages are recorded as events and items, or as items alone.
fn random_conversation(number: u32, rng: &mut Rng) -> Conversation {
    let has_events = rng.chance(60);
    let mut lines = vec![
        message_item(
            1,
            "user",
            "# AGENTS.md instructions for /w\n\n<INSTRUCTIONS>\nbe kind\n</INSTRUCTIONS>",
        ),
        message_item(
            1,
            "user",
            "<environment_context>\n  <cwd>/w</cwd>\n</environment_context>",
        ),
    ];
    for turn in 0..=rng.below(3) {
        let prompt = format!(
            "{}{} {number}.{turn}\nand more\n",
            context(rng),
            REQUESTS[rng.below(6)]
        );
        let answer = format!("Answer {number}.{turn}.");
        let second = 10 + 10 * turn;
        lines.push(message_item(second, "user", &prompt));
        if has_events {
            let citation = "\n<oai-mem-citation>\n<citation_entries>\nx\n</citation_entries>\n</oai-mem-citation>";
            let cited = if rng.chance(50) { citation } else { "" };
            lines.push(message_event(second, "user_message", &prompt));
            lines.push(message_event(
                second + 1,
                "agent_message",
                &format!("{answer}\n\n"),
            ));
            lines.push(message_item(
                second + 1,
                "assistant",
                &format!("{answer}\n\n{cited}"),
            ));
        } else {
            lines.push(message_item(second + 1, "assistant", &answer));
        }
    }
    let minutes = i64::from(number);
    Conversation {
        lines,
        ..Conversation::new(number, minutes, "", "")
    }
}

fn shown(env: &TestEnv, id: &str) -> Facts {
    let json = env.run(["show", id, "--json"]).code(0).json();
    let texts = |role: &str| -> Vec<String> {
        let turns = json["turns"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|turn| turn["role"] == role);
        turns
            .map(|turn| turn["text"].as_str().unwrap().to_owned())
            .collect()
    };
    Facts {
        title: json["title"].as_str().unwrap().to_owned(),
        prompts: texts("user"),
        answers: texts("assistant")
            .iter()
            .map(|answer| answer.trim().to_owned())
            .collect(),
    }
}

fn names(env: &TestEnv) -> BTreeMap<String, String> {
    let text = fs::read_to_string(env.codex_home().join("session_index.jsonl")).unwrap();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text_of = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines
        .map(|line| (text_of(&line, "id"), text_of(&line, "thread_name")))
        .collect()
}

#[test]
fn every_command_shows_the_requests_and_messages_that_an_independent_reader_finds() {
    for seed in variables::seeds(2) {
        let mut rng = Rng::new(seed);
        let env = TestEnv::new();
        let has_rows = rng.chance(50);
        let mut expected = BTreeMap::new();
        for number in 1..=8 {
            let mut conversation = random_conversation(number, &mut rng);
            let path = env.codex_home().join(conversation.relative());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, conversation.text()).unwrap();
            let facts = read(&path);
            if has_rows {
                // Codex cuts at one of the headings, so a row may have the context.
                conversation.title.clone_from(&facts.prompts[0]);
                write(&env, &conversation);
            }
            expected.insert(id(number), facts);
        }

        for (id, facts) in &expected {
            assert_eq!(&shown(&env, id), facts, "seed {seed}");
            let found = env
                .run(["find", &format!("\"{}\"", facts.title), "--json"])
                .code(0)
                .json();
            let hits = found["hits"].as_array().unwrap();
            let hit = hits.iter().find(|hit| hit["session_id"] == **id);
            assert_eq!(hit.unwrap()["title"], *facts.title, "seed {seed}");
            let page = env.run(["export", id, "--format", "md"]).code(0).stdout;
            assert!(
                page.starts_with(&format!("# {}", facts.title)),
                "seed {seed}: {page}"
            );
        }
        let titles: BTreeMap<_, _> = expected
            .iter()
            .map(|(id, facts)| (id.clone(), facts.title.clone()))
            .collect();
        let list = env.run(["sessions", "--json"]).code(0).json();
        let rows = list["sessions"].as_array().unwrap().iter();
        let listed = rows.map(|row| {
            (
                row["id"].as_str().unwrap().to_owned(),
                row["title"].as_str().unwrap().to_owned(),
            )
        });
        assert_eq!(listed.collect::<BTreeMap<_, _>>(), titles, "seed {seed}");

        let _ = env.run(["history", "rebuild", "--yes"]).code(0);
        let first_line = |name: &str| name.lines().next().unwrap().to_owned();
        let named = names(&env)
            .into_iter()
            .map(|(id, name)| (id, first_line(&name)));
        assert_eq!(named.collect::<BTreeMap<_, _>>(), titles, "seed {seed}");
        let history = fs::read_to_string(env.codex_home().join("history.jsonl")).unwrap();
        let mut prompts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in history.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let id = line["session_id"].as_str().unwrap().to_owned();
            prompts
                .entry(id)
                .or_default()
                .push(line["text"].as_str().unwrap().to_owned());
        }
        let recalled = |facts: &Facts| {
            facts
                .prompts
                .iter()
                .map(|text| text.trim_end().to_owned())
                .collect::<Vec<_>>()
        };
        let recalled: BTreeMap<_, _> = expected
            .iter()
            .map(|(id, facts)| (id.clone(), recalled(facts)))
            .collect();
        assert_eq!(prompts, recalled, "seed {seed}");
    }
}

#[test]
fn an_injected_exchange_is_shown_whole_before_the_turns_of_codex() {
    let env = TestEnv::new();
    let turn = |second: usize, kind: &str| {
        line(second, "event_msg", &json!({"type": kind, "turn_id": "t"}))
    };
    let lines = vec![
        message_item(1, "user", "which port?"),
        message_item(2, "assistant", "Port 8080."),
        turn(3, "task_started"),
        message_item(4, "user", "Codex writes this within the turn."),
        message_item(5, "user", "and the host?"),
        message_event(5, "user_message", "and the host?"),
        message_event(6, "agent_message", "localhost"),
        message_item(6, "assistant", "localhost"),
        turn(7, "task_complete"),
    ];
    write(
        &env,
        &Conversation {
            lines,
            ..Conversation::new(1, 5, "", "")
        },
    );
    let facts = shown(&env, &id(1));
    assert_eq!(facts.title, "which port?");
    let list = env.run(["sessions", "--json"]).code(0).json();
    assert_eq!(list["sessions"][0]["title"], "which port?");
    assert_eq!(facts.prompts, ["which port?", "and the host?"]);
    assert_eq!(facts.answers, ["Port 8080.", "localhost"]);
    let hits = |word: &str| {
        env.run(["find", word, "--json"]).code(0).json()["hits"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!((hits("port"), hits("host")), (1, 1));
    let _ = env.run(["find", "within"]).code(5);
    let _ = env.run(["history", "rebuild", "--yes"]).code(0);
    let history = fs::read_to_string(env.codex_home().join("history.jsonl")).unwrap();
    assert_eq!(history.lines().count(), 2, "{history}");
}

#[test]
fn messages_of_items_alone_are_lost_if_the_rollout_shrinks() {
    let env = TestEnv::new();
    let lines = vec![
        message_item(1, "user", "keep this question"),
        message_item(2, "assistant", "Kept."),
        message_item(3, "user", "and this one"),
        message_item(4, "assistant", "Kept too."),
    ];
    let mut conversation = Conversation {
        lines,
        ..Conversation::new(1, 5, "", "")
    };
    write(&env, &conversation);
    let _ = env.run(["backup"]).code(0);
    conversation.lines.truncate(2);
    write(&env, &conversation);
    let losses = env.run(["history", "losses", "--json"]).code(5).json();
    assert_eq!(losses["losses"][0]["lost_messages"], 2, "{losses}");
}

#[test]
fn a_plan_and_an_answer_with_a_citation_are_shown_once() {
    let env = TestEnv::new();
    let citation = "<oai-mem-citation>\n<rollout_ids>\n</rollout_ids>\n</oai-mem-citation>";
    let plan = "Here it is.\n<proposed_plan>\n# Plan\n- sort\n</proposed_plan>";
    let lines = vec![
        user("why?"),
        message_event(3, "agent_message", "The total is added twice."),
        message_item(
            3,
            "assistant",
            &format!("The total is added twice.\n\n{citation}"),
        ),
        message_event(4, "agent_message", "Here it is."),
        message_item(4, "assistant", plan),
        assistant("The tag `<proposed_plan>` is text."),
    ];
    write(
        &env,
        &Conversation {
            lines,
            ..Conversation::new(1, 5, "why?", "")
        },
    );
    let expected = [
        "The total is added twice.",
        "Here it is.",
        "# Plan\n- sort",
        "The tag `<proposed_plan>` is text.",
    ];
    assert_eq!(shown(&env, &id(1)).answers, expected);
    let _ = env.run(["find", "rollout_ids"]).code(5);
}

#[test]
fn a_rebuild_writes_no_name_that_is_worse_than_what_codex_shows() {
    let env = TestEnv::new();
    let context_only = "# Context from my IDE setup:\n\n## Open tabs:\n- a.ts: src/a.ts\n";
    let image = json!({"type": "user_message", "message": context_only, "images": ["data:x"]});
    for (number, lines) in [
        (1, vec![user("sort the list")]),
        (2, vec![line(1, "event_msg", &image)]),
        (
            3,
            vec![line(
                1,
                "event_msg",
                &json!({"type": "thread_goal_updated", "goal": {"objective": "be fast"}}),
            )],
        ),
    ] {
        write(
            &env,
            &Conversation {
                lines,
                ..Conversation::new(number, 5, "", "")
            },
        );
    }
    // An older version derived these names.
    let old = [
        (1, "# Context from my IDE setup:"),
        (2, "# Files mentioned by the user:"),
    ];
    let old = old.map(|(number, name)| {
        json!({"id": id(number), "thread_name": name, "updated_at": "2026-11-20T06:00:00Z"})
            .to_string()
            + "\n"
    });
    fs::write(env.codex_home().join("session_index.jsonl"), old.concat()).unwrap();
    let list = env.run(["sessions", "--json"]).code(0).json();
    assert!(!list.to_string().contains("Context from"), "{list}");
    let _ = env.run(["history", "rebuild", "--yes"]).code(0);
    assert_eq!(
        names(&env),
        BTreeMap::from([(id(1), "sort the list".to_owned())])
    );
}

#[test]
fn a_rollout_without_a_first_line_is_opened_by_the_command_that_find_prints() {
    let env = TestEnv::new();
    let whole = Conversation::new(1, 5, "plant the banana", "Planted.");
    write(&env, &whole);
    let text = whole.text();
    let (head, rest) = text.split_once('\n').unwrap();
    let zeros = "\0".repeat(head.len()) + "\n";
    // The two ids have the same beginning.
    for (tail, first_line) in [("1", ""), ("2", &*zeros)] {
        let id = format!("01a1f78b-0002-7ef3-b0ee-00000000000{tail}");
        let folder = env.codex_home().join("sessions/2026/11/20");
        let name = format!("rollout-2026-11-20T06-00-00-{id}.jsonl");
        fs::write(folder.join(name), format!("{first_line}{rest}")).unwrap();
    }
    let found = env.run(["find", "banana"]).code(0).stdout;
    let commands: Vec<_> = found
        .lines()
        .filter_map(|line| line.trim().strip_prefix("codex-manager "))
        .collect();
    assert_eq!(commands.len(), 3, "{found}");
    for command in commands {
        let run = env.run(command.split(' '));
        assert!(matches!(run.code, 0 | 6), "{run}");
        assert!(run.stdout.contains("plant the banana"), "{run}");
    }
    let _ = env.run(["show", "01a1f78b-0002"]).code(1);
}

#[test]
fn a_rollout_outside_of_the_home_is_refused_with_the_reason() {
    let env = TestEnv::new();
    let path = write(&env, &Conversation::new(1, 5, "why?", "So."));
    let outside = env
        .codex_home()
        .parent()
        .unwrap()
        .join(path.file_name().unwrap());
    fs::rename(&path, &outside).unwrap();
    let moved = state(&env).execute("UPDATE threads SET rollout_path = ?1", [outside.to_str()]);
    assert_eq!(moved, Ok(1));
    let run = env.run(["show", &id(1)]).code(1);
    assert!(run.stderr.contains("is outside of the Codex home"), "{run}");
    // The file exists, so the row stays.
    let plan = env
        .run(["history", "repair", "--drop-missing", "--dry-run", "--json"])
        .json();
    assert_eq!(plan["changed"], json!([]));
}

#[test]
fn rows_without_a_file_are_marked_and_removed_after_consent_and_return_by_undo() {
    let env = TestEnv::new();
    for number in 1..=3 {
        write(&env, &Conversation::new(number, 5, "why?", "So."));
    }
    let rollout = |number| {
        env.codex_home()
            .join(Conversation::new(number, 5, "", "").relative())
    };
    fs::remove_file(rollout(1)).unwrap();
    // A damaged rollout is no missing one.
    fs::write(rollout(2), "").unwrap();
    let missing = || {
        let list = env.run(["sessions", "--json"]).code(0).json();
        let rows = list["sessions"].as_array().unwrap().clone();
        let rows = rows.iter().map(|row| {
            (
                row["id"].as_str().unwrap().to_owned(),
                row["missing"] == true,
            )
        });
        rows.collect::<BTreeMap<_, _>>()
    };
    let all = BTreeMap::from([(id(1), true), (id(2), false), (id(3), false)]);
    assert_eq!(missing(), all);
    assert!(env.run(["sessions"]).code(0).stdout.contains("no file"));

    let refused = env.run(["history", "repair", "--drop-missing"]).code(5);
    assert!(refused.stderr.contains("needs confirmation"), "{refused}");
    assert_eq!(missing(), all);
    let repaired = env
        .run(["history", "repair", "--drop-missing", "--yes", "--json"])
        .json();
    let change = &repaired["changed"][0];
    assert_eq!(
        (&change["id"], &change["action"]),
        (&json!(id(1)), &json!("drop")),
        "{repaired}"
    );
    assert_eq!(missing(), BTreeMap::from([(id(2), false), (id(3), false)]));
    let _ = env.run(["history", "undo"]).code(0);
    assert_eq!(missing(), all);
}

#[test]
fn conversations_that_no_user_began_are_in_no_list_unless_asked_for() {
    for has_rows in [false, true] {
        let env = TestEnv::new();
        let prompt =
            "Generate a concise UI title (20-40 characters) for this task.\n\nrename the parser";
        for number in 1..=4 {
            let question = if number == 1 {
                "rename the parser"
            } else {
                prompt
            };
            let mut conversation = Conversation::new(number, 5, question, "Rename the parser");
            conversation.source = if number == 1 { "vscode" } else { "exec" }.to_owned();
            let path = write(&env, &conversation);
            // The user began the last one by `codex exec`.
            let originator = if number == 4 {
                "codex_exec"
            } else {
                "codex_vscode"
            };
            let text = fs::read_to_string(&path).unwrap();
            let text = text.replacen(
                "\"payload\":{",
                &format!("\"payload\":{{\"originator\":\"{originator}\","),
                1,
            );
            fs::write(&path, text).unwrap();
        }
        if has_rows {
            state(&env)
                .execute_batch(&format!(
                    "UPDATE threads SET title = 'other' WHERE id = '{}'; \
                     ALTER TABLE threads ADD COLUMN originator TEXT; \
                     UPDATE threads SET originator = 'codex_vscode' WHERE id <> '{}'",
                    id(4),
                    id(4)
                ))
                .unwrap();
        } else {
            fs::remove_file(env.codex_home().join("state_5.sqlite")).unwrap();
        }
        let listed = |args: &[&str]| {
            let json = env.run(args).code(0).json();
            let rows = json["sessions"].as_array().unwrap().clone();
            let rows = rows.iter().map(|row| {
                (
                    row["id"].as_str().unwrap().to_owned(),
                    row["internal"] == true,
                )
            });
            rows.collect::<BTreeMap<_, _>>()
        };
        let own = BTreeMap::from([(id(1), false), (id(4), false)]);
        assert_eq!(listed(&["sessions", "--json"]), own, "{has_rows}");
        let mut all = own;
        all.extend([(id(2), true), (id(3), true)]);
        assert_eq!(
            listed(&["sessions", "--subagents", "--json"]),
            all,
            "{has_rows}"
        );
        assert!(
            env.run(["sessions", "--subagents"])
                .code(0)
                .stdout
                .contains("internal")
        );
    }
}

#[test]
fn a_list_of_archived_rows_alone_gets_no_conversations_from_disk() {
    let env = TestEnv::new();
    let archived = Conversation {
        archived: true,
        ..Conversation::new(1, 5, "old", "So.")
    };
    write(&env, &archived);
    let orphan = Conversation::new(2, 5, "new", "So.");
    fs::create_dir_all(env.codex_home().join(orphan.relative()).parent().unwrap()).unwrap();
    fs::write(env.codex_home().join(orphan.relative()), orphan.text()).unwrap();
    let plan = env
        .run(["history", "rebuild", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (
            &plan["source"],
            &plan["refreshed"],
            &plan["orphans_skipped"]
        ),
        (&json!("database"), &json!(0), &json!(1)),
        "{plan}"
    );
}

#[test]
fn messages_that_the_real_codex_injects_are_shown_with_their_answers() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let mut server = lab.codex.app_server(&home, &lab.backend);
    let started = server
        .request("thread/start", json!({"cwd": lab.world.path("")}))
        .expect("a thread");
    let id = started["thread"]["id"].as_str().expect("an id").to_owned();
    let item = |role: &str, kind: &str, text: &str| json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    let items = json!([
        item("user", "input_text", "which port?"),
        item("assistant", "output_text", "Port 8080.")
    ]);
    let _ = server
        .request(
            "thread/inject_items",
            json!({"threadId": id, "items": items}),
        )
        .expect("injected");
    let _ = server.close(Duration::from_secs(30));

    for prompts in [vec!["which port?"], vec!["which port?", "and the host?"]] {
        if prompts.len() == 2 {
            lab.resume(&home, &id, "and the host?");
        }
        let shown = lab.manager(["show", &id, "--json"]).code(0).json();
        let texts = |role: &str| -> Vec<Value> {
            let turns = shown["turns"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|turn| turn["role"] == role);
            turns.map(|turn| turn["text"].clone()).collect()
        };
        assert_eq!(
            (&shown["title"], texts("user")),
            (
                &json!("which port?"),
                prompts.iter().map(|prompt| json!(prompt)).collect()
            ),
            "{shown}"
        );
        assert_eq!(
            (texts("assistant").len(), &texts("assistant")[0]),
            (prompts.len(), &json!("Port 8080.")),
            "{shown}"
        );
        let _ = lab
            .manager(["history", "rebuild", "--include-orphans", "--yes"])
            .code(0);
        let history = fs::read_to_string(home.join("history.jsonl")).unwrap();
        assert_eq!(history.lines().count(), prompts.len(), "{history}");
    }
}
