//! Builds a row of the table `threads` from a rollout, as Codex 0.171 does.

use super::rollout::{self, Depth, RolloutScan, SessionMeta};
use super::thread_rollouts::ThreadChain;
use crate::codex::threads::RowTexts;
use crate::codex::{RolloutName, RowValues};
use crate::io::Rfc3339Time;
use serde_json::Value;
use std::io;
use std::path::Path;

/// The sandbox policy that Codex records if the rollout has none.
const READ_ONLY: &str = r#"{"type":"managed","file_system":{"type":"restricted","entries":[{"path":{"type":"special","value":{"kind":"root"}},"access":"read"}]},"network":"restricted"}"#;

/// Values of a row that do not come from the rollout's content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowFacts<'a> {
    /// The absolute path of the rollout in its plain form.
    pub path: &'a Path,
    pub is_archived: bool,
    /// The mtime of the file in milliseconds since 1970.
    pub modified_ms: i64,
    /// The model provider in `config.toml`, for rollouts that name none.
    pub provider: &'a str,
}

/// Reads a rollout for [`build_row`], and adds the texts that its row has from other rollouts.
pub(crate) fn scan_for_row(home: &Path, path: &Path) -> io::Result<RolloutScan> {
    let mut scan = scan_with_first_texts(home, path)?;

    // Codex gives a fork the preview of its original. A subagent has a preview only if it has messages of its own.
    let may_inherit = |meta: &SessionMeta| meta.base_id().is_some() && !meta.is_subagent();
    if scan.row_data.texts.preview.is_none() && scan.meta.as_ref().is_some_and(may_inherit) {
        scan.row_data.texts.preview = read_preview_of_original(home, path)?;
    }
    Ok(scan)
}

fn read_preview_of_original(home: &Path, fork: &Path) -> io::Result<Option<String>> {
    let chain = read_chain(home, fork).unwrap_or_default();
    // The last part is the fork itself.
    let originals = chain.parts.iter().rev().skip(1);
    for rollout in originals.flat_map(|part| &part.slices) {
        let preview = match scan_rollout(&rollout.path) {
            Ok(scan) => scan.row_data.texts.preview,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            // A fork gets its row even if its original cannot be read.
            Err(_) => None,
        };
        if preview.is_some() {
            return Ok(preview);
        }
    }
    Ok(None)
}

/// Returns the texts that Codex finds if it adds the row of this rollout again.
pub(crate) fn read_texts(home: &Path, path: &Path) -> io::Result<RowTexts> {
    Ok(scan_with_first_texts(home, path)?.row_data.texts)
}

/// Reads a rollout. After a rewind, takes the texts from the first rollout of the conversation.
fn scan_with_first_texts(home: &Path, path: &Path) -> io::Result<RolloutScan> {
    let mut scan = scan_rollout(path)?;
    if RolloutName::parse(path).is_some_and(|name| name.is_rewind()) {
        let chain = read_chain(home, path).unwrap_or_default();
        if let Some(first) = chain.rollouts().first().filter(|first| first.path != path) {
            scan.row_data.texts = scan_rollout(&first.path)?.row_data.texts;
        }
    }
    Ok(scan)
}

pub(super) fn scan_rollout(path: &Path) -> io::Result<RolloutScan> {
    rollout::scan(path, Depth::RowData, |_| ())
}

fn read_chain(home: &Path, path: &Path) -> Option<ThreadChain> {
    Some(ThreadChain::read(
        home,
        RolloutName::parse(path)?.id()?,
        path,
    ))
}

pub(crate) fn build_row(meta: &SessionMeta, scan: &RolloutScan, facts: &RowFacts<'_>) -> RowValues {
    let mut row = RowValues::default();
    add_texts(&mut row, meta, scan, facts);
    add_numbers(&mut row, meta, scan, facts);
    row
}

fn add_texts(row: &mut RowValues, meta: &SessionMeta, scan: &RolloutScan, facts: &RowFacts<'_>) {
    let context = scan.row_data.context.clone().unwrap_or_default();
    let texts = &scan.row_data.texts;
    let from_meta = |key: &str| meta.text(key).map(str::to_owned);
    let source = to_text_or_json(meta.payload.get("source"));
    let sandbox = context.permission_profile.or(context.sandbox_policy);

    // Codex sets these in every row, with a default if the rollout does not have them.
    for (column, value, default) in [
        ("source", source, "vscode"),
        (
            "model_provider",
            from_meta("model_provider"),
            facts.provider,
        ),
        ("cwd", from_meta("cwd").or(context.cwd), ""),
        ("title", texts.title.clone(), ""),
        ("first_user_message", texts.first_message.clone(), ""),
        ("preview", texts.preview.clone(), ""),
        ("sandbox_policy", sandbox, READ_ONLY),
        ("approval_mode", context.approval_policy, "on-request"),
        ("cli_version", from_meta("cli_version"), ""),
        ("memory_mode", from_meta("memory_mode"), "enabled"),
    ] {
        row.set(column, value.unwrap_or_else(|| default.to_owned()));
    }

    row.set("id", meta.id.to_string());
    row.set("history_mode", meta.history_mode().to_owned());
    row.set("rollout_path", facts.path.to_string_lossy().into_owned());

    let from_git = |key: &str| to_text_or_json(meta.payload.get("git")?.get(key));
    // Codex leaves these null if the rollout does not have them.
    for (column, value) in [
        ("model", context.model),
        ("reasoning_effort", context.effort),
        ("git_sha", from_git("commit_hash")),
        ("git_branch", from_git("branch")),
        ("git_origin_url", from_git("repository_url")),
        ("agent_nickname", from_meta("agent_nickname")),
        ("agent_role", from_meta("agent_role")),
        ("agent_path", from_meta("agent_path")),
        ("thread_source", from_meta("thread_source")),
        ("originator", from_meta("originator")),
        ("creator_user_id", from_meta("creator_user_id")),
        ("creator_account_id", from_meta("creator_account_id")),
        (
            "attached_thread_parent_id",
            meta.side_parent_id().map(str::to_owned),
        ),
    ] {
        if let Some(value) = value {
            row.set(column, value);
        }
    }
}

fn add_numbers(row: &mut RowValues, meta: &SessionMeta, scan: &RolloutScan, facts: &RowFacts<'_>) {
    let modified_ms = facts.modified_ms;
    let created_ms = meta.created().as_ref().map(Rfc3339Time::millis);
    let created_ms = created_ms.unwrap_or(modified_ms);

    for (column, number) in [
        ("created_at", created_ms.div_euclid(1000)),
        ("created_at_ms", created_ms),
        ("updated_at", modified_ms.div_euclid(1000)),
        ("updated_at_ms", modified_ms),
        ("recency_at", modified_ms.div_euclid(1000)),
        ("recency_at_ms", modified_ms),
        ("tokens_used", scan.row_data.tokens.unwrap_or(0)),
        ("has_user_event", 0),
        ("archived", i64::from(facts.is_archived)),
    ] {
        row.set(column, number);
    }

    if facts.is_archived {
        row.set("archived_at", modified_ms.div_euclid(1000));
    }
}

/// Returns a string's text, any other value as compact JSON, and `None` for null.
fn to_text_or_json(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
