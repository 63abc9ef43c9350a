//! Conversations of the first versions of Codex, which newer ones do not list or open.

use crate::support::conversations::{Conversation, id, state, write};
use crate::support::env::TestEnv;
use serde_json::json;
use std::fs;

const BARE: &str = "6f9f9a2e-1b3c-4c7a-9b0a-000000000020";
const DOCUMENT: &str = "6f9f9a2e-1b3c-4c7a-9b0a-000000000001";

/// Writes a conversation of 0.20, and one of the Codex in TypeScript.
fn old_home() -> TestEnv {
    let env = TestEnv::new();
    let sessions = env.codex_home().join("sessions");
    let folder = sessions.join("2025/07/10");
    fs::create_dir_all(&folder).unwrap();
    let items = |question: &str, answer: &str| {
        [
            json!({"type": "message", "role": "user",
                   "content": [{"type": "input_text", "text": question}]}),
            json!({"type": "function_call", "name": "shell", "call_id": "c",
                   "arguments": "{\"command\":[\"bash\",\"-lc\",\"ls orchard\"]}"}),
            json!({"type": "function_call_output", "call_id": "c",
                   "output": "{\"output\":\"trees\",\"metadata\":{\"exit_code\":0}}"}),
            json!({"type": "message", "role": "assistant",
                   "content": [{"type": "output_text", "text": answer}]}),
        ]
    };
    let mut lines = vec![
        json!({"id": BARE, "timestamp": "2025-07-10T12:00:00.000Z", "instructions": null,
               "git": {"branch": "main"}}),
        json!({"record_type": "state"}),
    ];
    lines.extend(items("count the apples", "There are seven."));
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    let path = folder.join(format!("rollout-2025-07-10T12-00-00-{BARE}.jsonl"));
    fs::write(path, lines.join("\n") + "\n").unwrap();
    let document = json!({
        "session": {"timestamp": "2025-04-17T08:00:00.000Z", "id": DOCUMENT, "instructions": ""},
        "items": items("count the plums", "There are nine."),
    });
    let path = sessions.join(format!("rollout-2025-04-17-{DOCUMENT}.json"));
    fs::write(path, serde_json::to_string_pretty(&document).unwrap()).unwrap();
    env
}

#[test]
fn conversations_of_2025_are_found_shown_and_exported() {
    let env = old_home();
    for (session, question, answer) in [
        (BARE, "apples", "There are seven."),
        (DOCUMENT, "plums", "There are nine."),
    ] {
        for option in [&[][..], &["--exact"], &["--archives"]] {
            let args = [&["find", question, "--json"], option].concat();
            let found = env.run(args).code(0).json();
            assert_eq!(found["hits"][0]["session_id"], session, "{found}");
            assert_eq!(found["hits"][0]["turn"], 1, "{found}");
            assert_eq!(found["hits"].as_array().unwrap().len(), 1, "{found}");
        }
        for command in ["show", "export"] {
            let shown = env.run([command, session]).code(0).stdout;
            let texts = [&format!("count the {question}"), "ls orchard", answer];
            assert!(texts.iter().all(|text| shown.contains(*text)), "{shown}");
        }
    }
    let _ = env.run(["usage"]).code(0);
    let listed = env.run(["sessions", "--json"]).code(0).json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2, "{listed}");
}

#[test]
fn history_check_counts_old_rollouts_and_reports_none_as_damaged() {
    let env = old_home();
    write(&env, &Conversation::new(1, 60, "A question", "An answer."));
    let checked = env.run(["history", "check", "--json"]).code(0).json();
    assert_eq!(checked["damaged"], json!([]), "{checked}");
    assert_eq!(
        (&checked["on_disk"], &checked["old_format"]),
        (&json!(1), &json!(1))
    );
    let text = env.run(["history", "check"]).code(0);
    assert!(
        text.to_string()
            .contains("1 conversation of Codex before 0.32"),
        "{text}"
    );
}

#[test]
fn a_legacy_conversation_takes_its_name_from_session_index() {
    let env = TestEnv::new();
    write(&env, &Conversation::new(1, 60, "A question", "An answer."));
    let sql = "UPDATE threads SET name = 'earlier name', history_mode = 'legacy' WHERE id = ?1";
    assert_eq!(state(&env).execute(sql, [id(1)]), Ok(1));
    let line = json!({"id": id(1), "thread_name": "orchard", "updated_at": "2026-11-20T06:00:00Z"});
    fs::write(
        env.codex_home().join("session_index.jsonl"),
        format!("{line}\n"),
    )
    .unwrap();
    let listed = env.run(["sessions", "--json"]).code(0).json();
    assert_eq!(listed["sessions"][0]["title"], "orchard", "{listed}");
    let _ = env.run(["show", "orchard"]).code(0);
}
