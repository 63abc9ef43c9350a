//! Random turns, in the forms in which different versions of Codex record them.

use super::modeled::Modeled;
use super::random::Random;
use super::texts::text;
use crate::codex::rollout_lines::Role;

pub(super) fn line(kind: &str, payload: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-20T06:00:00.000Z","ordinal":1,"type":"{kind}","payload":{payload}}}"#
    )
}

pub(super) fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Adds the lines of a message, in the form of a random version of Codex.
pub(super) fn message(random: &mut Random, role: Role, text: &str, lines: &mut Vec<String>) {
    let (name, event, item) = match role {
        Role::User => ("user", "user_message", "UserMessage"),
        _ => ("assistant", "agent_message", "AgentMessage"),
    };
    let text = json(text);
    let forms = [
        line(
            "response_item",
            &format!(
                r#"{{"type":"message","role":"{name}","content":[{{"type":"input_text","text":{text}}}]}}"#
            ),
        ),
        line(
            "event_msg",
            &format!(r#"{{"type":"{event}","message":{text}}}"#),
        ),
        line(
            "event_msg",
            &format!(
                r#"{{"type":"item_completed","item":{{"type":"{item}","content":[{{"type":"text","text":{text}}}]}}}}"#
            ),
        ),
    ];
    let [first, second, third] = forms;
    match random.below(3) {
        0 => lines.extend([first, second]),
        1 => lines.extend([third, first]),
        _ if role == Role::Assistant => lines.push(first),
        _ => lines.push(second),
    }
}

pub(super) fn tool(random: &mut Random, text: &str, lines: &mut Vec<String>) {
    let number = random.below(1_000_000);
    let arguments = json(&format!("{{\"cmd\":{}}}", json(text)));
    lines.push(match random.below(4) {
        0 => line(
            "response_item",
            &format!(r#"{{"type":"function_call","name":"exec_command","arguments":{arguments},"call_id":"c{number}"}}"#),
        ),
        1 => line(
            "response_item",
            &format!(r#"{{"type":"function_call_output","call_id":"c{number}","output":{}}}"#, json(text)),
        ),
        2 => line(
            "response_item",
            &format!(r#"{{"type":"custom_tool_call","name":"apply_patch","input":{},"call_id":"c{number}"}}"#, json(text)),
        ),
        _ => line(
            "event_msg",
            &format!(r#"{{"type":"item_completed","item":{{"type":"FileChange","id":"c{number}","changes":{{{}:{{"type":"add"}}}}}}}}"#, json(text)),
        ),
    });
}

/// Adds a turn to a conversation, together with lines that a search must not find.
pub(super) fn turn(random: &mut Random, conversation: &mut Modeled) {
    let lines = &mut conversation.lines;
    let question = text(random);
    if random.below(2) == 0 {
        lines.push(line(
            "event_msg",
            r#"{"type":"task_started","turn_id":"1"}"#,
        ));
    }
    message(random, Role::User, &question, lines);
    conversation.texts.push((Role::User, question));
    for _ in 0..random.below(5) {
        let text = text(random);
        match random.below(8) {
            0..=2 => {
                message(random, Role::Assistant, &text, lines);
                conversation.texts.push((Role::Assistant, text));
            }
            3..=4 => {
                tool(random, &text, lines);
                conversation.texts.push((Role::Tool, text));
            }
            5 => {
                lines.push(line(
                    "response_item",
                    &format!(r#"{{"type":"reasoning","summary":[{{"type":"summary_text","text":{}}}],"encrypted_content":"gAAA"}}"#, json(&text)),
                ));
                conversation.texts.push((Role::Assistant, text));
            }
            6 => lines.push(line(
                "compacted",
                &format!(r#"{{"message":{0},"replacement_history":[{{"type":"message","role":"user","content":[{{"text":{0}}}]}}]}}"#, json(&text)),
            )),
            _ => lines.push(match random.below(4) {
                0 => line(
                    "response_item",
                    &format!(r#"{{"type":"message","role":"developer","content":[{{"type":"input_text","text":{}}}]}}"#, json(&text)),
                ),
                1 => "{\"timestamp\":\"2026-11-20T06:00:00.000Z\",\"type\":\"event_msg\",\"payload\":{\"type\":\"user_mess".to_owned(),
                2 => line("world_state", &format!(r#"{{"full":{}}}"#, json(&text))),
                _ => String::new(),
            }),
        }
    }
}
