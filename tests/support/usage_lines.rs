//! Rollouts with token counts.

use super::conversations::{Conversation, write};
use super::env::TestEnv;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Token counts: input, cached input, output, reasoning.
pub(crate) type Tokens = [u64; 4];

/// Returns the time `minutes` after 12:00 UTC on 2026-11-19.
pub(crate) fn at(minutes: i64) -> DateTime<Utc> {
    let noon: DateTime<Utc> = "2026-11-19T12:00:00Z".parse().unwrap();
    noon + TimeDelta::minutes(minutes)
}

/// Returns a line with its fields in Codex's order.
pub(crate) fn line(at: DateTime<Utc>, kind: &str, payload: &str) -> String {
    let timestamp = at.format("%Y-%m-%dT%H:%M:%S%.3fZ");
    format!(r#"{{"timestamp":"{timestamp}","type":"{kind}","payload":{payload}}}"#)
}

/// Returns the counts as Codex writes them.
pub(crate) fn usage([input, cached, output, reasoning]: Tokens) -> Value {
    json!({"input_tokens": input, "cached_input_tokens": cached, "output_tokens": output,
           "reasoning_output_tokens": reasoning, "total_tokens": input + output})
}

/// Returns the line that names the model of the next requests.
pub(crate) fn context(at: DateTime<Utc>, model: &str) -> String {
    let payload = json!({"model": model, "cwd": "/home/alice/proj"});
    line(at, "turn_context", &payload.to_string())
}

/// Returns the line that Codex writes after each request, with the total of the conversation and the last request. Some
/// versions write only the total.
pub(crate) fn count(
    at: DateTime<Utc>,
    total: Tokens,
    last: impl Into<Option<Tokens>>,
    used_percent: Option<f64>,
) -> String {
    let resets_at: DateTime<Utc> = "2026-11-24T00:00:00Z".parse().unwrap();
    let limits = used_percent.map(|used| {
        json!({"limit_id": "codex", "primary": null, "secondary": {"used_percent": used,
               "window_minutes": 10080, "resets_at": resets_at.timestamp()}})
    });
    let mut info = json!({"total_token_usage": usage(total)});
    if let Some(last) = last.into() {
        info["last_token_usage"] = usage(last);
    }
    let limits = json!(limits);
    let payload = format!(r#"{{"type":"token_count","info":{info},"rate_limits":{limits}}}"#);
    line(at, "event_msg", &payload)
}

/// Returns the `token_usage_record` line of one request, as in Codex 0.169.
pub(crate) fn record(at: DateTime<Utc>, thread: &str, used: Tokens, total: Tokens) -> String {
    let payload =
        json!({"thread_id": thread, "usage": usage(used), "thread_token_usage": usage(total)});
    line(at, "token_usage_record", &payload.to_string())
}

/// Writes a conversation with these lines after the first one.
pub(crate) fn store(env: &TestEnv, made: &Conversation, lines: &[String]) -> PathBuf {
    let path = write(env, made);
    fs::write(&path, text_of(made, lines)).unwrap();
    path
}

/// Returns the text of a rollout with these lines after the first one.
pub(crate) fn text_of(made: &Conversation, lines: &[String]) -> String {
    let meta = made.text().lines().next().unwrap().to_owned();
    let lines = std::iter::once(meta).chain(lines.iter().cloned());
    lines.map(|line| line + "\n").collect()
}

/// Returns the sum of two token counts, component by component.
pub(crate) fn sum(a: Tokens, b: Tokens) -> Tokens {
    std::array::from_fn(|i| a[i] + b[i])
}

/// Creates a conversation without messages.
pub(crate) fn conversation(number: u32) -> Conversation {
    let mut made = Conversation::new(number, 10, "Title", "");
    made.lines.clear();
    made
}

/// Reads the counts of a JSON row.
pub(crate) fn tokens(row: &Value) -> Tokens {
    [
        "input_tokens",
        "cached_input_tokens",
        "output_tokens",
        "reasoning_output_tokens",
    ]
    .map(|key| row[key].as_u64().unwrap())
}
