//! The rollouts of a home by their conversations.

use super::files::RolloutFile;
use super::id::ConversationId;
use crate::codex::{RolloutCut, RolloutName, parse_rollout_id};
use std::cmp::Reverse;
use std::ops::Range;

/// A rollout with the conversation that its first line names.
#[derive(Debug)]
pub(crate) struct ConversationRollout {
    /// The id in the first line of the rollout.
    pub id: ConversationId,
    pub file: RolloutFile,
    /// The workspace account that created the conversation, if it is known and not the live one.
    pub other_account: Option<Box<str>>,
    /// True if Codex shows the turns of the rollout from a projection.
    pub is_paginated: bool,
    /// The rollout that this one continues, and the position at which this one branches off.
    pub base: Option<Box<RolloutCut>>,
    /// The number of the first line that Codex shows; only for subagents.
    pub subagent_start: Option<u64>,
}

impl ConversationRollout {
    /// Returns the id of the rollout in lower case; `None` if its name has none.
    pub(crate) fn rollout_id(&self) -> Option<String> {
        parse_rollout_id(&self.file.relative)
    }

    /// Returns the id of the rollout if a rewind began it.
    pub(super) fn rewind_id(&self) -> Option<String> {
        if !RolloutName::parse(&self.file.relative)?.is_rewind() {
            return None;
        }
        self.rollout_id()
    }

    /// Returns a key that sorts the rollout that Codex uses before the other rollouts of its conversation.
    fn use_order(&self) -> impl Ord {
        // Codex continues the rollout that the last rewind began, even if a kill or a sync left only older rollouts
        // unarchived. Without a rewind, Codex prefers unarchived rollouts, and among these the last by name.
        let name = Reverse(&self.file.relative);
        (Reverse(self.rewind_id()), self.file.is_archived, name)
    }
}

/// All rollouts of a home that name a conversation.
#[derive(Debug, Default)]
pub struct Conversations {
    /// Ordered by id. Of several rollouts of one conversation, the one that Codex uses comes first.
    pub(super) files: Vec<ConversationRollout>,
    /// The number of rollouts of Codex before 0.32.
    pub(super) old_format: usize,
}

impl Conversations {
    pub(super) fn sort(&mut self) {
        self.files.sort_unstable_by(|a, b| {
            let by_id = a.id.cmp(&b.id);
            by_id.then_with(|| a.use_order().cmp(&b.use_order()))
        });
    }

    /// Returns the rollouts of a conversation, the one that Codex uses first.
    pub(crate) fn rollouts_of(&self, id: &ConversationId) -> &[ConversationRollout] {
        &self.files[self.file_range(id)]
    }

    /// Returns the range of a conversation in [`Self::files`].
    pub(super) fn file_range(&self, id: &ConversationId) -> Range<usize> {
        let start = self.files.partition_point(|c| c.id < *id);
        let len = self.files[start..]
            .iter()
            .take_while(|c| c.id == *id)
            .count();
        start..start + len
    }

    /// Iterates over the rollouts of all conversations, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConversationRollout> {
        self.files.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}
