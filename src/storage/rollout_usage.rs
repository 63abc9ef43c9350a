//! The disk usage of a rollout, with the facts that its name gives.

use crate::codex::home::HomeEntryKind;
use crate::codex::rollout::RolloutName;
use crate::history::id::ConversationId;
use chrono::{DateTime, NaiveDate, Utc};
use std::fs::Metadata;
use std::path::Path;

/// A rollout with the facts from its name and metadata.
pub(super) struct RolloutUsage {
    pub(super) path: Box<Path>,
    pub(super) id: Option<ConversationId>,
    pub(super) began: Option<NaiveDate>,
    pub(super) changed: Option<DateTime<Utc>>,
    pub(super) bytes: u64,
    pub(super) archived: bool,
    pub(super) compressed: bool,
}

impl RolloutUsage {
    /// Returns `None` for a file that is no rollout.
    pub(super) fn of(path: &Path, kind: HomeEntryKind, meta: &Metadata) -> Option<Self> {
        if !kind.is_rollout_folder() {
            return None;
        }
        let conversation = RolloutName::of(path)?;
        Some(Self {
            id: conversation.id().map(ConversationId::of),
            began: day_of(&conversation.name),
            changed: meta.modified().ok().map(Into::into),
            bytes: meta.len(),
            archived: kind == HomeEntryKind::ArchivedSessions,
            compressed: conversation.compressed,
            path: path.into(),
        })
    }
}

/// Parses the day in `rollout-2026-11-20T10-48-02-….jsonl`.
fn day_of(name: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix("rollout-")?.get(..10)?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}
