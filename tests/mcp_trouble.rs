//! `mcp` answers each request, whatever the client, the index, the homes and the conversations do.

use crate::support::conversations::{Conversation, assistant, id, tool_output, user, write};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::held_lock::HeldLock;
use crate::support::mcp_client::McpClient;
use crate::support::pauses::wait_until;
use crate::support::variables;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;

fn three_conversations() -> TestEnv {
    let env = TestEnv::new();
    for number in 1..=3 {
        let title = format!("Question {number}");
        write(
            &env,
            &Conversation::new(number, number.into(), &title, "The needle"),
        );
    }
    env
}

fn index(env: &TestEnv) -> PathBuf {
    let entries = fs::read_dir(env.manager_home().join("index")).expect("the folder of the index");
    let mut files = entries.map(|entry| entry.expect("entry").path());
    let found = files.find(|file| file.extension().is_some_and(|e| e == "sqlite"));
    found.expect("an index")
}

#[test]
fn invalid_requests_are_answered_with_an_error_and_notifications_are_not_answered() {
    let env = three_conversations();
    let mut client = McpClient::start(&env);
    let nested = "[".repeat(100_000);
    for (line, code, id) in [
        ("{", -32700, Value::Null),
        (&nested, -32700, Value::Null),
        ("\u{feff}{}", -32700, Value::Null),
        ("[]", -32600, Value::Null),
        ("null", -32600, Value::Null),
        ("{}", -32600, Value::Null),
        (
            r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#,
            -32600,
            3.into(),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#,
            -32600,
            Value::Null,
        ),
        (r#"{"jsonrpc":"2.0","id":"a"}"#, -32600, "a".into()),
        (
            r#"{"jsonrpc":"2.0","id":5,"method":"unknown"}"#,
            -32601,
            5.into(),
        ),
        (
            r#"{"jsonrpc":"2.0","id":6,"method":"tools/call"}"#,
            -32602,
            6.into(),
        ),
    ] {
        client.send_bytes(format!("{line}\n").as_bytes());
        let answer = client.receive();
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(code), &id),
            "{answer}"
        );
    }
    // No answer: empty lines, notifications and answers.
    client.send_bytes(b"\n \r\n");
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/unknown"}));
    client.send(&json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
    assert!(client.close().success());
}

#[test]
fn a_call_with_invalid_arguments_is_answered_with_the_reason() {
    let env = three_conversations();
    let mut client = McpClient::start(&env);
    for (tool, arguments, message) in [
        ("search_conversations", json!({}), "missing field `query`"),
        (
            "search_conversations",
            json!({"query": "-x"}),
            "no words to search for",
        ),
        (
            "search_conversations",
            json!({"query": "x".repeat(1001)}),
            "longer than 1000 bytes",
        ),
        (
            "search_conversations",
            json!({"query": "x", "scope": "there"}),
            "unknown variant `there`",
        ),
        (
            "search_conversations",
            json!({"query": "x", "role": "title"}),
            "unknown variant `title`",
        ),
        (
            "search_conversations",
            json!({"query": "x", "since": "soon"}),
            "soon",
        ),
        (
            "search_conversations",
            json!({"query": "x", "project": "none"}),
            "no project has this name",
        ),
        (
            "search_conversations",
            json!({"query": "x", "cursor": "y"}),
            "cursor",
        ),
        (
            "search_conversations",
            json!({"query": "x", "cursor": "1000"}),
            "first 1000",
        ),
        (
            "list_conversations",
            json!({"all": true}),
            "unknown field `all`",
        ),
        ("list_conversations", json!([]), "invalid arguments"),
        (
            "open_conversation",
            json!({"id": "nothing"}),
            "no conversation has this id",
        ),
        (
            "open_conversation",
            json!({"id": ""}),
            "no conversation has this id",
        ),
        (
            "open_conversation",
            json!({"id": "01a1f78b"}),
            "matches 3 conversations",
        ),
        (
            "open_conversation",
            json!({"id": id(1), "turn": 7}),
            "the conversation has 1 turn",
        ),
        (
            "open_conversation",
            json!({"id": id(1), "turn": -1}),
            "invalid arguments",
        ),
        (
            "open_conversation",
            json!({"id": "/etc/passwd"}),
            "no conversation has this id",
        ),
    ] {
        let answer = client.call(tool, arguments.clone());
        let is_expected = answer.is_error && answer.text.contains(message);
        assert!(is_expected, "{arguments}: {answer:?}");
    }
    assert!(client.close().success());
}

#[test]
fn a_line_of_100_mb_is_refused_and_not_kept_in_memory() {
    let env = three_conversations();
    let mut client = McpClient::start(&env);
    let part = vec![b'x'; 1 << 20];
    for megabytes in [2, 100] {
        for _ in 0..megabytes {
            client.send_bytes(&part);
        }
        client.send_bytes(b"\n");
        let answer = client.receive();
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
        assert_eq!(client.search("needle").ids().len(), 3);
    }
    // A line that never ends, as the last one.
    client.send_bytes(&part);
    let peak = client.peak_memory();
    assert!(peak < 60 * MIB, "{peak}");
    assert!(client.close().success());
}

#[test]
fn ten_thousand_mutated_requests_get_valid_answers() {
    let env = three_conversations();
    let before = env.tree("home/.codex");
    let mut client = McpClient::start(&env);
    let requests = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params":
            {"name": "search_conversations", "arguments": {"query": "needle", "scope": "all"}}}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "open_conversation",
            "arguments": {"id": id(1), "turn": 1, "around": 2, "max_chars": 5000, "cursor": "0"}}}),
        json!({"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params":
            {"name": "list_conversations", "arguments": {"limit": 3, "since": "2d"}}}),
        json!({"jsonrpc": "2.0", "id": 4, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}),
        json!({"jsonrpc": "2.0", "id": 5, "method": "server/discover", "params": {"_meta":
            {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}),
    ];
    let mut dice = Dice::new();
    let rounds = variables::sequences(10_000);
    for round in 0..rounds {
        let choice = usize::try_from(dice.below(requests.len() as u64)).unwrap();
        let mut line = requests[choice].to_string().into_bytes();
        for _ in 0..=dice.below(3) {
            let at = usize::try_from(dice.below(line.len() as u64)).unwrap();
            match dice.below(4) {
                0 => line[at] = dice.bytes(1)[0],
                1 => line.truncate(at.max(1)),
                2 => line.insert(
                    at,
                    b"\"\\{}[]:,0-e\x00\xff"[usize::try_from(dice.below(13)).unwrap()],
                ),
                _ => line.extend_from_within(at..),
            }
        }
        line.retain(|byte| *byte != b'\n');
        line.push(b'\n');
        client.send_bytes(&line);
        if round % 100 == 99 || round + 1 == rounds {
            let id = format!("end of round {round}");
            client.send(&json!({"jsonrpc": "2.0", "id": id, "method": "ping"}));
            loop {
                let answer = client.receive();
                // Only an error may be about an unknown request.
                let has_id = answer.get("id").is_some_and(|id| !id.is_null());
                let is_valid = has_id || answer.get("error").is_some();
                let has_one = answer.get("result").is_some() != answer.get("error").is_some();
                assert!(
                    answer["jsonrpc"] == "2.0" && is_valid && has_one,
                    "{answer}"
                );
                if answer["id"] == id {
                    break;
                }
            }
        }
    }
    assert!(client.close().success());
    assert_same_tree(&before, &env.tree("home/.codex"));
}

#[test]
fn parallel_calls_are_all_answered_and_a_cancelled_one_is_not() {
    let env = three_conversations();
    let mut client = McpClient::start(&env);
    let expected = client.search("needle").text;
    let params =
        json!({"name": "search_conversations", "arguments": {"query": "needle", "scope": "all"}});
    let mut waiting: BTreeSet<u64> = (0..200)
        .map(|_| client.begin("tools/call", params.clone()))
        .collect();
    while !waiting.is_empty() {
        let answer = client.receive();
        assert_eq!(McpClient::parse(&answer).text, expected);
        let id = answer["id"].as_u64().expect("an id");
        assert!(waiting.remove(&id), "{answer}");
    }
    // A call without a hit waits for an update of the index, which waits for this lock.
    let lock = HeldLock::exclusive(&index(&env).with_extension("lock"));
    let nothing =
        json!({"name": "search_conversations", "arguments": {"query": "nothing", "scope": "all"}});
    let cancelled = client.begin("tools/call", nothing);
    client.send(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params":
        {"requestId": cancelled, "reason": "the user changed his mind"}}),
    );
    let next = client.begin("tools/call", params.clone());
    assert_eq!(client.receive()["id"], next);
    drop(lock);
    let ping = client.begin("ping", json!({}));
    assert_eq!(client.receive()["id"], ping);
    // Answers that are under way when the input is closed are sent.
    let last = client.begin("tools/call", params);
    client.close_stdin();
    assert_eq!(client.receive()["id"], last);
    assert!(client.close().success());
}

#[test]
fn calls_are_answered_with_a_busy_damaged_or_missing_index() {
    let env = three_conversations();
    let mut client = McpClient::start(&env);
    assert_eq!(client.search("needle").ids().len(), 3);
    let path = index(&env);
    // Another process updates it: the answer comes from the index as it is.
    let lock = HeldLock::exclusive(&path.with_extension("lock"));
    let miss = client.search("nothing");
    assert!(
        !miss.is_error && miss.text.contains("No conversation matches"),
        "{miss:?}"
    );
    drop(lock);
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let busy = client.search("needle");
    assert!(
        busy.is_error && busy.text.contains("cannot use the search index"),
        "{busy:?}"
    );
    drop(writer);
    wait_until("the index can be used again", || {
        client.search("needle").ids().len() == 3
    });
    fs::write(&path, vec![7; 100_000]).unwrap();
    wait_until("the damaged index is created again", || {
        client.search("needle").ids().len() == 3
    });
    fs::remove_file(&path).unwrap();
    wait_until("the missing index is created again", || {
        client.search("needle").ids().len() == 3
    });
    assert!(client.close().success());
}

#[test]
fn a_home_may_change_or_disappear_while_the_server_runs() {
    let env = three_conversations();
    let mut client = McpClient::start(&env);
    assert_eq!(client.search("needle").ids().len(), 3);
    write(&env, &Conversation::new(4, 0, "New", "Another needle"));
    wait_until("a new conversation is found", || {
        client.search("needle").ids().len() == 4
    });
    assert!(
        !client
            .call("open_conversation", json!({"id": id(4)}))
            .is_error
    );
    let home = env.codex_home();
    fs::rename(&home, env.path("gone")).unwrap();
    let opened = client.call("open_conversation", json!({"id": id(4)}));
    assert!(opened.is_error, "{opened:?}");
    for tool in ["search_conversations", "list_conversations"] {
        let query = if tool == "list_conversations" {
            json!({})
        } else {
            json!({"query": "x"})
        };
        assert!(client.call(tool, query).ids().is_empty());
    }
    fs::rename(env.path("gone"), &home).unwrap();
    wait_until("the home is back", || {
        client.search("needle").ids().len() == 4
    });
    assert!(client.close().success());
}

#[test]
fn memory_stays_below_60_mb_after_ten_thousand_calls() {
    let env = TestEnv::new();
    for number in 1..=200 {
        let mut conversation = Conversation::new(number, number.into(), "About it", "The needle");
        for turn in 0..5 {
            conversation.lines.push(user(&format!("and turn {turn}?")));
            conversation
                .lines
                .push(tool_output(&"output of a tool\n".repeat(300)));
            conversation
                .lines
                .push(assistant(&format!("hay {number} and stalk {turn}")));
        }
        write(&env, &conversation);
    }
    let mut client = McpClient::start(&env);
    let words = [
        "needle",
        "hay",
        "\"and stalk\"",
        "tool output",
        "about -needle",
    ];
    let calls = variables::sequences(10_000);
    for round in 0..calls {
        let number = u32::try_from(round % 200).unwrap() + 1;
        let (name, arguments) = match round % 5 {
            0 => (
                "search_conversations",
                json!({"query": words[number as usize % 5], "scope": "all"}),
            ),
            1 => ("list_conversations", json!({"scope": "all", "limit": 50})),
            _ => (
                "open_conversation",
                json!({"id": id(number), "turn": round % 6, "max_chars": 10_000}),
            ),
        };
        client.begin("tools/call", json!({"name": name, "arguments": arguments}));
        // A few calls are under way at any time.
        if round >= 8 {
            assert!(client.receive()["result"].is_object());
        }
    }
    for _ in 0..calls.min(8) {
        assert!(client.receive()["result"].is_object());
    }
    let peak = client.peak_memory();
    assert!(peak < 60 * MIB, "{peak}");
    assert!(client.close().success());
}
