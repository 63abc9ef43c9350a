//! The parts of a rollout that this program uses.

use crate::codex::threads::{PAGINATED, RowTexts};
use crate::codex::{RolloutCut, TurnContext};
use crate::history::id::ConversationId;
use crate::io::Rfc3339Time;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// The first `session_meta` line, which describes the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionMeta {
    pub id: ConversationId,
    /// False for the form of Codex before 0.32, which newer versions do not list or open.
    pub has_envelope: bool,
    /// The payload, which is mostly instructions.
    pub payload: Value,
}

impl SessionMeta {
    /// Returns a string of the payload, unless it is empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.payload
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// Returns the time at which the conversation began.
    pub fn created(&self) -> Option<Rfc3339Time> {
        self.text("timestamp").and_then(Rfc3339Time::parse)
    }

    /// Returns the form of the rollout, `legacy` or `paginated`.
    pub fn history_mode(&self) -> &str {
        self.text("history_mode").unwrap_or("legacy")
    }

    /// Returns the workspace account that created the conversation. `None` if Codex recorded none: then every account
    /// sees the conversation.
    pub fn creator_account_id(&self) -> Option<&str> {
        self.text("creator_account_id")
    }

    /// Returns the id of the rollout that this one continues by reference, without a copy of its lines.
    pub fn base_id(&self) -> Option<String> {
        let id = self.payload.pointer("/history_base/thread_id")?;
        Some(ConversationId::of(id.as_str()?).to_string())
    }

    /// Returns the rollout that this one continues, and the position at which this one branches off. `None` if the
    /// metadata lacks a part of these facts.
    pub fn base_cut(&self) -> Option<RolloutCut> {
        let ordinal = self.payload.pointer("/history_base/end_ordinal_exclusive");
        Some(RolloutCut {
            rollout_id: self.base_id()?.to_lowercase(),
            offset: self.base_end_offset()?,
            ordinal: ordinal?.as_i64()?,
        })
    }

    /// Returns true if Codex shows the turns of the rollout from a projection.
    pub(crate) fn is_paginated(&self) -> bool {
        self.text("history_mode") == Some(PAGINATED)
    }

    /// Returns true for a conversation of a subagent, including reviews.
    pub(crate) fn is_subagent(&self) -> bool {
        let source = self.payload.get("source");
        source.is_some_and(|source| source.get("subagent").is_some())
            || self.text("thread_source") == Some("subagent")
    }

    /// Returns true for a side conversation (`/side`), which Codex shows only at its parent.
    fn is_side(&self) -> bool {
        self.payload.get("attached_thread") == Some(&Value::Bool(true))
    }

    /// Returns true for a conversation that no user began: a memory job of Codex, and one that a client runs by
    /// `codex exec`, such as a request of VS Code for a title.
    pub(crate) fn is_internal(&self) -> bool {
        let source = self.payload.get("source");
        let is_job = source.is_some_and(|source| source.get("internal").is_some());
        let is_of_client = self.text("source") == Some("exec")
            && self
                .text("originator")
                .is_some_and(|originator| originator != "codex_exec");
        is_job || is_of_client || self.text("thread_source") == Some("memory_consolidation")
    }

    /// Returns true for a conversation of a subagent, for a side conversation, and for one that no user began.
    pub fn is_child(&self) -> bool {
        self.is_subagent() || self.is_side() || self.is_internal()
    }

    /// Returns the parent of a side conversation.
    pub(crate) fn side_parent_id(&self) -> Option<&str> {
        self.text("forked_from_id").filter(|_| self.is_side())
    }

    /// Returns the conversation that started this subagent. `None` for any other conversation, and for a review.
    pub fn spawn_parent_id(&self) -> Option<&str> {
        let spawn = self.payload.pointer("/source/subagent/thread_spawn")?;
        spawn.get("parent_thread_id")?.as_str()
    }

    /// Returns the number of the first line that Codex shows; only for subagents.
    pub fn subagent_start(&self) -> Option<u64> {
        let start = self.payload.get("subagent_history_start_ordinal")?;
        start.as_u64()
    }

    /// Returns the offset in the rollout [`SessionMeta::base_id`] at which this one branches off.
    pub fn base_end_offset(&self) -> Option<u64> {
        let end = self.payload.pointer("/history_base/end_byte_offset")?;
        end.as_u64()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserMessage {
    /// The time of the line of the message, or of the last line before it that has a time, in seconds since 1970.
    pub ts: i64,
    /// The text without trailing newlines.
    pub text: String,
}

/// The result of reading a rollout to its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RolloutScan {
    /// The metadata; `None` if the file names no conversation.
    pub meta: Option<SessionMeta>,
    /// The first line of the user's first message.
    pub title: Option<String>,
    /// The time of the last line that has a time.
    pub last_time: Option<Rfc3339Time>,
    /// The messages without those that are only images.
    pub messages: Vec<UserMessage>,
    /// The number of lines that are incomplete or not JSON.
    pub bad_lines: u64,
    /// Values for a row of the database; empty unless [`Depth::RowData`] was asked for.
    pub row_data: RowData,
    /// The id in the metadata of another conversation after those of this one.
    pub(super) second_id: Option<ConversationId>,
    /// The time of the line with the last of these metadata.
    pub(super) begun_at: Option<DateTime<Utc>>,
}

impl RolloutScan {
    /// Returns the conversation whose lines Codex may have copied to the beginning of this one: the original of a fork,
    /// or the conversation that started a subagent. Codex 0.55 names the original of a fork only by its metadata, which
    /// follow those of the fork. `None` for a conversation that refers to its original (0.169).
    pub(crate) fn copy_origin(&self) -> Option<PastOrigin> {
        let meta = self.meta.as_ref().filter(|meta| meta.base_id().is_none())?;
        let parent = meta.text("forked_from_id").or(meta.spawn_parent_id());
        let parent = parent.map(ConversationId::of).or(self.second_id.clone());
        let created = || DateTime::from_timestamp_millis(meta.created()?.millis());
        Some(PastOrigin {
            id: parent?.to_string().to_lowercase(),
            is_subagent: meta.is_subagent(),
            begun_at: self.begun_at.or_else(created),
        })
    }
}

/// The conversation whose lines may be repeated at the beginning of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastOrigin {
    /// The id of the conversation, in lower case.
    pub(crate) id: String,
    /// True if the copy is in a subagent, which has only some of the lines.
    pub(crate) is_subagent: bool,
    /// The time at which Codex wrote the first line of the copy. It may be seconds after the creation in the metadata.
    pub(crate) begun_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RowData {
    pub texts: RowTexts,
    /// The settings of the last turn that records them.
    pub context: Option<TurnContext>,
    /// The last reported total of tokens.
    pub tokens: Option<i64>,
}

/// The part of a rollout that [`super::scan`] evaluates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Metadata, title, times and messages.
    #[default]
    Messages,
    /// The same and [`RolloutScan::row_data`].
    RowData,
}

/// Returns the first line that is not blank, trimmed.
pub fn first_line(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| !line.is_empty()).map(str::to_owned)
}
