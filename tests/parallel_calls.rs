//! Tools that run at the same time: each output is shown under its call, in whatever order they end.

use crate::support::conversations::{Conversation, assistant, id, user, write};
use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::mcp_client::McpClient;
use crate::support::shapes::read_outputs;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;

fn item(payload: &Value) -> Value {
    json!({"timestamp": "2026-11-20T06:00:02.000Z", "type": "response_item", "payload": payload})
}

fn call(call_id: &str, command: &str) -> Value {
    let arguments = json!({"cmd": command}).to_string();
    item(
        &json!({"type": "function_call", "name": "exec_command", "call_id": call_id, "arguments": arguments}),
    )
}

fn output(call_id: &str, text: &str) -> Value {
    item(&json!({"type": "function_call_output", "call_id": call_id, "output": text}))
}

/// Returns the turns of a random conversation. Each word is in one text only.
fn random_lines(dice: &mut Dice) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut number = 0;
    for turn in 0..3 {
        lines.push(user(&format!("question{turn}")));
        for _ in 0..=dice.below(3) {
            let mut open = Vec::new();
            for _ in 0..=dice.below(6) {
                number += 1;
                let (call_id, text) = (format!("call_{number}"), format!("run c{number}x"));
                if dice.below(4) == 0 {
                    let payload = json!({"type": "custom_tool_call", "name": "apply_patch", "call_id": call_id, "input": text});
                    lines.push(item(&payload));
                } else {
                    lines.push(call(&call_id, &text));
                }
                open.push(number);
            }
            while !open.is_empty() {
                let done =
                    open.swap_remove(usize::try_from(dice.below(open.len() as u64)).unwrap());
                match dice.below(8) {
                    // Codex was ended before the output.
                    0 => continue,
                    1 => lines.push(assistant(&format!("note{done}"))),
                    _ => {}
                }
                let header = ["", "Exit code: 0\nWall time: 0.4 seconds\nOutput:\n"];
                let header = header[usize::try_from(dice.below(2)).unwrap()];
                lines.push(output(
                    &format!("call_{done}"),
                    &format!("{header}printed o{done}x"),
                ));
            }
        }
        lines.push(assistant(&format!("answer{turn}")));
    }
    lines
}

/// Asserts that between a call and the next one, a text has the output of this call and no other one.
#[track_caller]
fn assert_under_calls(text: &str, outputs: &HashMap<String, String>) {
    let mut parts = text.split("run c");
    assert!(!parts.next().unwrap().contains("printed o"), "{text}");
    for part in parts {
        let (number, rest) = part.split_once('x').unwrap();
        let printed: Vec<_> = rest
            .match_indices("printed o")
            .map(|(at, _)| &rest[at..])
            .collect();
        let expected = outputs.get(&format!("run c{number}"));
        assert_eq!(
            printed.len(),
            usize::from(expected.is_some()),
            "{number}\n{text}"
        );
        for printed in printed {
            assert!(
                printed.starts_with(&format!("printed o{number}x")),
                "{number}\n{text}"
            );
        }
    }
}

#[test]
fn each_output_is_under_its_call_in_random_orders_in_every_form() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    for number in 1..=6 {
        let mut made = Conversation::new(number, 60, "Title", "");
        made.lines = random_lines(&mut dice);
        write(&env, &made);
        let outputs = read_outputs(&made.lines);
        let outputs = outputs
            .iter()
            .map(|(call, output)| (call.trim_end_matches('x').to_owned(), output.clone()));
        let outputs: HashMap<_, _> = outputs.collect();
        for args in [
            &["show", &id(number), "--tools"][..],
            &["show", &id(number), "--tools", "--format", "md"],
            &["export", &id(number), "--tools", "--format", "md"],
        ] {
            assert_under_calls(&env.run(args).code(0).stdout, &outputs);
        }
        for json in [
            env.run(["show", &id(number), "--tools", "--json"])
                .code(0)
                .json(),
            env.run(["export", &id(number), "--tools", "--format", "json"])
                .code(0)
                .json(),
        ] {
            let turns = json["turns"].as_array().unwrap().iter();
            let texts: Vec<_> = turns.map(|turn| turn["text"].as_str().unwrap()).collect();
            assert_under_calls(&texts.join("\n"), &outputs);
        }
        let page = env
            .run(["export", &id(number), "--tools", "--format", "html"])
            .code(0)
            .stdout;
        assert_under_calls(&page, &outputs);
        // An output is in the same block as its call.
        assert!(!page.contains("tool output"), "{page}");
        let mut client = McpClient::start(&env);
        for turn in 1..=3 {
            let answer = client.call(
                "open_conversation",
                json!({"id": id(number), "turn": turn, "max_chars": 20000}),
            );
            let shown = answer.quoted();
            let of_turn = outputs
                .iter()
                .filter(|(call, _)| shown.contains(&format!("{call}x")));
            assert_under_calls(
                &shown,
                &of_turn.map(|(a, b)| (a.clone(), b.clone())).collect(),
            );
        }
    }
}

#[test]
fn an_output_stays_with_its_call_across_messages_and_without_a_call_where_it_is() {
    let env = TestEnv::new();
    let mut made = Conversation::new(1, 60, "Title", "");
    made.lines = vec![
        user("question"),
        call("a", "first command"),
        call("b", "second command"),
        assistant("I wait."),
        output("b", "of the second"),
        output(
            "lost",
            "Chunk ID: 1\nWall time: 1 s\nOutput:\nof a call that is gone",
        ),
        output("a", "of the first"),
        user("next"),
        // Codex ended the turn before this output.
        call("c", "third command"),
        user("last"),
        output("c", "too late"),
    ];
    write(&env, &made);
    let json = env
        .run(["show", &id(1), "--tools", "--json"])
        .code(0)
        .json();
    let turns = json["turns"].as_array().unwrap().iter();
    let texts: Vec<_> = turns.map(|turn| turn["text"].as_str().unwrap()).collect();
    let lost = "Chunk ID: 1\nWall time: 1 s\nOutput:\nof a call that is gone";
    assert_eq!(
        texts,
        [
            "question",
            "first command",
            "of the first",
            "second command",
            "of the second",
            "I wait.",
            lost,
            "next",
            "third command",
            "last",
            "too late"
        ]
    );
    let file = env.path("page.html");
    let _ = env
        .run([
            "export",
            &id(1),
            "--tools",
            "--format",
            "html",
            "--out",
            file.to_str().unwrap(),
        ])
        .code(0);
    let page = fs::read_to_string(file).unwrap();
    assert!(
        page.contains("<b>output</b> <code>of a call that is gone</code>"),
        "{page}"
    );
}
