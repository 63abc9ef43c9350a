//! Builds a row of the table `threads` from a rollout, as Codex 0.169 does.

use super::rollout::{RolloutScan, SessionMeta};
use crate::codex::threads::{NewRow, NewValue};
use crate::io::rfc3339::Rfc3339Time;
use serde_json::Value;
use std::path::Path;

/// The sandbox policy that Codex records if the rollout has none.
const READ_ONLY: &str = r#"{"type":"managed","file_system":{"type":"restricted","entries":[{"path":{"type":"special","value":{"kind":"root"}},"access":"read"}]},"network":"restricted"}"#;

/// Values of a row that do not come from the rollout's content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFacts<'a> {
    /// The absolute path of the rollout in its plain form.
    pub path: &'a Path,
    /// True if it lies below `archived_sessions/`.
    pub is_archived: bool,
    /// The mtime of the file in milliseconds since 1970.
    pub modified_ms: i64,
    /// The model provider in `config.toml`, for rollouts that name none.
    pub provider: &'a str,
}

/// Builds the row of a conversation.
pub(crate) fn build(meta: &SessionMeta, scan: &RolloutScan, facts: &RowFacts<'_>) -> NewRow {
    let mut row = NewRow::new();
    add_texts(&mut row, meta, scan, facts);
    add_optional_texts(&mut row, meta, scan);
    add_numbers(&mut row, meta, scan, facts);
    row
}

/// Adds the columns that every row has as text.
fn add_texts(row: &mut NewRow, meta: &SessionMeta, scan: &RolloutScan, facts: &RowFacts<'_>) {
    let mut text = |key: &str, value: &str| {
        row.insert(key.into(), NewValue::Text(value.to_owned()));
    };
    let first = scan
        .turn
        .first_message
        .as_deref()
        .unwrap_or_default()
        .trim();
    let context = scan.turn.context.clone().unwrap_or_default();
    meta.id.with_text(|id| text("id", id));
    text("rollout_path", &facts.path.to_string_lossy());
    text(
        "source",
        &json_text(meta.payload.get("source")).unwrap_or_else(|| "vscode".into()),
    );
    text(
        "model_provider",
        meta.text("model_provider").unwrap_or(facts.provider),
    );
    let cwd = meta.text("cwd").map(str::to_owned);
    text("cwd", &cwd.or(context.cwd).unwrap_or_default());
    text("title", first);
    text("first_user_message", first);
    text("preview", first);
    let sandbox = context.permission_profile.or(context.sandbox_policy);
    text("sandbox_policy", sandbox.as_deref().unwrap_or(READ_ONLY));
    let approval = context.approval_policy.as_deref();
    text("approval_mode", approval.unwrap_or("on-request"));
    text("cli_version", meta.text("cli_version").unwrap_or_default());
    text("memory_mode", meta.text("memory_mode").unwrap_or("enabled"));
    let mode = meta.history_mode();
    text("history_mode", mode);
}

/// Adds the columns that are null without a value in the rollout.
fn add_optional_texts(row: &mut NewRow, meta: &SessionMeta, scan: &RolloutScan) {
    let mut text = |key: &str, value: &str| {
        row.insert(key.into(), NewValue::Text(value.to_owned()));
    };
    let context = scan.turn.context.clone().unwrap_or_default();
    let in_git = |key: &str| json_text(meta.payload.get("git")?.get(key));
    for (column, value) in [
        ("model", context.model),
        ("reasoning_effort", context.effort),
        ("git_sha", in_git("commit_hash")),
        ("git_branch", in_git("branch")),
        ("git_origin_url", in_git("repository_url")),
    ] {
        if let Some(value) = value {
            text(column, &value);
        }
    }
    for column in [
        "agent_nickname",
        "agent_role",
        "agent_path",
        "thread_source",
        "originator",
        "creator_user_id",
        "creator_account_id",
    ] {
        if let Some(value) = meta.text(column) {
            text(column, value);
        }
    }
}

/// Adds the times, the counts and the flags.
fn add_numbers(row: &mut NewRow, meta: &SessionMeta, scan: &RolloutScan, facts: &RowFacts<'_>) {
    let mut number = |key: &str, value: i64| {
        row.insert(key.into(), NewValue::Number(value));
    };
    let created = meta.created().as_ref().map(Rfc3339Time::millis);
    let created = created.unwrap_or(facts.modified_ms);
    number("created_at", created.div_euclid(1000));
    number("created_at_ms", created);
    for column in ["updated_at", "recency_at"] {
        number(column, facts.modified_ms.div_euclid(1000));
    }
    for column in ["updated_at_ms", "recency_at_ms"] {
        number(column, facts.modified_ms);
    }
    number("tokens_used", scan.turn.tokens.unwrap_or(0));
    number("has_user_event", 0);
    number("archived", i64::from(facts.is_archived));
    if facts.is_archived {
        number("archived_at", facts.modified_ms.div_euclid(1000));
    }
}

/// Returns a string's text, any other value as compact JSON, and `None` for null.
fn json_text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
