//! A conversation in the list, with the size of its rollout.

use crate::choices::conversation_accounts::ConversationAccounts;
use crate::codex::rollout::ZST;
use crate::codex::threads::ListedThread;
use crate::context::Context;
use crate::ui::time;
use chrono::DateTime;
use serde::Serialize;
use std::path::Path;

/// A conversation in JSON. Its keys are an interface.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConversationView {
    pub id: String,
    pub title: String,
    pub cwd: String,
    pub git_branch: Option<String>,
    pub profile: Option<String>,
    pub email: Option<String>,
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    pub model: Option<String>,
    pub tokens: Option<i64>,
    pub bytes: Option<u64>,
    pub rollout_path: String,
    pub archived: bool,
    pub compressed: bool,
    pub parent_id: Option<String>,
    pub source: Option<String>,
    #[serde(skip)]
    pub updated_ms: Option<i64>,
    #[serde(skip)]
    pub nickname: String,
    /// True if Codex does not list it.
    #[serde(skip)]
    pub is_unlisted: bool,
}

/// Adds account and size to a row of Codex's list.
pub(crate) fn session_view(
    thread: ListedThread,
    accounts: &ConversationAccounts,
    context: &Context,
) -> ConversationView {
    let account = accounts.of(&thread);
    let (bytes, compressed) = rollout_size(&thread.rollout_path);
    let time = |ms: Option<i64>| {
        let at = DateTime::from_timestamp_millis(ms?)?;
        Some(time::rfc3339(&at, context.settings.zone))
    };
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    ConversationView {
        created_at: time(thread.created_ms),
        updated_at: time(thread.updated_ms),
        updated_ms: thread.updated_ms,
        id: thread.id,
        title: thread.title,
        cwd: thread.cwd,
        git_branch: known(thread.git_branch),
        profile: account.profile,
        email: account.email,
        model: known(thread.model),
        tokens: thread.tokens,
        bytes,
        rollout_path: thread.rollout_path,
        archived: thread.archived,
        compressed,
        parent_id: thread.parent_id,
        source: known(thread.source),
        nickname: thread.nickname,
        is_unlisted: false,
    }
}

/// Returns the size of a rollout, and true if only its compressed form exists. Codex may record either name.
pub(crate) fn rollout_size(path: &str) -> (Option<u64>, bool) {
    let size = |path: &str| {
        let meta = Path::new(path).metadata().ok();
        meta.filter(std::fs::Metadata::is_file)
            .map(|meta| meta.len())
    };
    let plain = path.strip_suffix(ZST).unwrap_or(path);
    if let Some(bytes) = size(plain) {
        return (Some(bytes), false);
    }
    let bytes = size(&format!("{plain}{ZST}"));
    (bytes, bytes.is_some())
}
