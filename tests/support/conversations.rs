//! A Codex home with conversations, in the part of the schema of Codex 0.169 that the program reads.

#![allow(
    clippy::disallowed_methods,
    reason = "the rules for durable writes are the program's, not its tests'"
)]

use super::env::TestEnv;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the id of the conversation with this number.
pub(crate) fn id(number: u32) -> String {
    format!("01a1f78b-{number:04x}-7ef3-b0ee-5caab8d3b455")
}

/// A conversation that a test writes.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub number: u32,
    pub title: String,
    pub cwd: String,
    pub account: String,
    pub updated_ms: i64,
    pub source: String,
    pub parent: Option<u32>,
    pub archived: bool,
    pub lines: Vec<Value>,
}

impl Conversation {
    /// Creates a conversation with one question and one answer, changed `minutes` before 12:00 UTC on 2026-11-20.
    pub(crate) fn new(number: u32, minutes: i64, question: &str, answer: &str) -> Self {
        let lines = vec![user(question), assistant(answer)];
        Self {
            number,
            title: question.to_owned(),
            cwd: "/home/alice/proj".into(),
            account: "acct-alice".into(),
            updated_ms: 1_795_176_000_000 - minutes * 60_000,
            source: "cli".into(),
            parent: None,
            archived: false,
            lines,
        }
    }

    /// Returns the path of the rollout, relative to the home.
    pub(crate) fn relative(&self) -> PathBuf {
        let name = format!("rollout-2026-11-20T06-00-00-{}.jsonl", id(self.number));
        if self.archived {
            Path::new("archived_sessions").join(name)
        } else {
            Path::new("sessions/2026/11/20").join(name)
        }
    }

    /// Returns the text of the rollout.
    pub(crate) fn text(&self) -> String {
        let meta = json!({"timestamp": "2026-11-20T06:00:00.000Z", "type": "session_meta", "payload":
            {"id": id(self.number), "timestamp": "2026-11-20T06:00:00.000Z", "cwd": self.cwd,
             "creator_account_id": self.account, "source": self.source}});
        let lines = std::iter::once(&meta).chain(&self.lines);
        let lines: Vec<_> = lines.map(Value::to_string).collect();
        lines.join("\n") + "\n"
    }
}

/// Returns the line of a user's message.
pub(crate) fn user(text: &str) -> Value {
    json!({"timestamp": "2026-11-20T06:00:01.000Z", "type": "event_msg", "payload":
        {"type": "user_message", "message": text}})
}

/// Returns the line of an answer.
pub(crate) fn assistant(text: &str) -> Value {
    json!({"timestamp": "2026-11-20T06:00:02.000Z", "type": "response_item", "payload":
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}})
}

/// Returns the line of a tool's output.
pub(crate) fn tool_output(text: &str) -> Value {
    json!({"timestamp": "2026-11-20T06:00:03.000Z", "type": "response_item", "payload":
        {"type": "function_call_output", "call_id": "call_1", "output": text}})
}

/// Writes a conversation that was rewound to its first `kept_lines`, and then got the message `instead`. Returns the
/// path of the newest rollout.
pub(crate) fn write_rewound(
    env: &TestEnv,
    conversation: &Conversation,
    kept_lines: usize,
) -> PathBuf {
    let first = write(env, conversation);
    let text = conversation.text();
    let kept: usize = text
        .split_inclusive('\n')
        .take(kept_lines)
        .map(str::len)
        .sum();
    let thread = id(conversation.number);
    // The id of the rollout is of the same day, but later.
    let rollout = thread.replace("01a1f78b", "01a1f78c");
    let newest = first.with_file_name(format!(
        "rollout-2026-11-20T07-00-00-{thread}_{rollout}.jsonl"
    ));
    let meta = json!({"timestamp": "2026-11-20T07:00:00.000Z", "type": "session_meta", "payload":
        {"id": thread, "timestamp": "2026-11-20T07:00:00.000Z", "cwd": conversation.cwd,
         "history_base": {"thread_id": thread, "end_ordinal_exclusive": kept_lines, "end_byte_offset": kept}}});
    fs::write(&newest, format!("{meta}\n{}\n", user("instead"))).expect("write");
    let sql = "UPDATE threads SET rollout_path=?2, updated_at_ms=updated_at_ms+1000 WHERE id=?1";
    let updated = state(env).execute(sql, params![thread, newest.to_str()]);
    assert_eq!(updated, Ok(1));
    newest
}

/// Creates the state database, if it does not exist, and opens it.
pub(crate) fn state(env: &TestEnv) -> Connection {
    let home = env.codex_home();
    fs::create_dir_all(&home).expect("home");
    let connection = Connection::open(home.join("state_5.sqlite")).expect("open");
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL,
             created_at INTEGER, updated_at INTEGER, source TEXT, cwd TEXT, title TEXT,
             tokens_used INTEGER, archived INTEGER, git_branch TEXT, first_user_message TEXT,
             model TEXT, created_at_ms INTEGER, updated_at_ms INTEGER, thread_source TEXT,
             history_mode TEXT, name TEXT, creator_user_id TEXT, creator_account_id TEXT);
             CREATE INDEX IF NOT EXISTS idx_threads_updated_at_ms ON threads(updated_at_ms DESC, id DESC);
             CREATE TABLE IF NOT EXISTS thread_spawn_edges(parent_thread_id TEXT NOT NULL,
             child_thread_id TEXT NOT NULL PRIMARY KEY, status TEXT NOT NULL);",
        )
        .expect("schema");
    connection
}

/// Writes the rollout and the row of a conversation.
pub(crate) fn write(env: &TestEnv, conversation: &Conversation) -> PathBuf {
    let path = env.codex_home().join(conversation.relative());
    fs::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs::write(&path, conversation.text()).expect("write");
    let connection = state(env);
    let thread = if conversation.parent.is_some() {
        "subagent"
    } else {
        "user"
    };
    connection
        .execute(
            "INSERT OR REPLACE INTO threads VALUES(?1, ?2, ?3 / 1000, ?4 / 1000, ?5, ?6, ?7, 1234, ?8,
             'main', ?7, 'gpt-6', ?3, ?4, ?9, 'paginated', NULL, NULL, ?10)",
            params![
                id(conversation.number),
                path.to_str(),
                1_795_150_000_000_i64 + i64::from(conversation.number),
                conversation.updated_ms,
                conversation.source,
                conversation.cwd,
                conversation.title,
                conversation.archived,
                thread,
                conversation.account,
            ],
        )
        .expect("row");
    if let Some(parent) = conversation.parent {
        connection
            .execute(
                "INSERT OR REPLACE INTO thread_spawn_edges VALUES(?1, ?2, 'open')",
                [id(parent), id(conversation.number)],
            )
            .expect("edge");
    }
    path
}
