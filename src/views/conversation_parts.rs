//! The parts of other conversations with which a fork begins. In a fork, Codex 0.169 stores only the turns of the fork.

use crate::views::account::printable;
use codex_manager_core::conversations::copied_texts::ParentRollout;
use codex_manager_core::conversations::left_out::LeftOut;
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::conversations::transcript::{
    self, PartMark, TranscriptEntry, TranscriptOptions,
};
use codex_manager_core::history::thread_rollouts::{
    MAX_ROLLOUTS, RolloutSlice, ThreadChain, ThreadPart,
};
use codex_manager_core::history::{SessionMeta, rollout};
use std::io;

/// A conversation, preceded by the parts of other conversations that it continues.
pub(crate) struct ConversationParts {
    /// The parts, the oldest first. The last one is the conversation itself.
    pub list: Vec<ThreadPart>,
    /// The id of the rollout with the turns before the first part; see [`ThreadChain::missing`].
    pub missing_parent: Option<String>,
    /// The conversation whose texts the last part repeats at its beginning.
    copied_parent: Option<ParentRollout>,
}

pub(crate) enum TranscriptPiece<'a> {
    /// The heading of a part.
    Mark(PartMark),
    /// The id of a conversation, and one of its entries.
    Entry(&'a str, TranscriptEntry),
}

impl ConversationParts {
    pub(crate) fn read_chain(session: &NamedConversation) -> Self {
        let chain = ThreadChain::read(&session.home, &session.id, &session.rollout);
        let oldest = chain.rollouts().first();
        let find_parent = |oldest: &RolloutSlice| ParentRollout::find(&session.home, &oldest.path);
        Self {
            copied_parent: oldest.and_then(find_parent),
            list: chain.parts,
            missing_parent: chain.missing.map(|id| printable(&id)),
        }
    }

    /// Leaves out the parts of other conversations.
    pub(crate) fn without_other_conversations(mut self) -> Self {
        self.list.drain(..self.list.len() - 1);
        self.missing_parent = None;
        self
    }

    /// Reads the metadata of the first rollout of the conversation itself. `None` if it cannot be read.
    pub(crate) fn read_own_head(&self) -> Option<SessionMeta> {
        let first = self.list.last()?.slices.first()?;
        rollout::read_head(&first.path).ok().flatten()
    }

    /// Returns the id of the conversation that this one continues, or the id of the missing rollout with its earlier
    /// turns.
    pub(crate) fn continued_id(&self) -> Option<String> {
        let parent = self.list.iter().rev().nth(1);
        let parent_id = parent.map(|part| printable(&part.id));
        parent_id.or_else(|| self.missing_parent.clone())
    }

    /// Reads the conversation. Calls `on_piece` with the headings and the entries in order, until `on_piece` returns
    /// false. Applies `redact` to the texts of the entries. Returns the parts of the rollouts that were left out.
    ///
    /// # Errors
    /// A rollout cannot be read, or the user interrupts.
    pub(crate) fn read(
        &self,
        options: TranscriptOptions,
        redact: &mut dyn FnMut(&str) -> String,
        mut on_piece: impl FnMut(TranscriptPiece<'_>) -> bool,
    ) -> io::Result<LeftOut> {
        let mut left_out = LeftOut::default();
        let mut goes_on = true;
        if let Some(parent) = self.missing_parent.clone() {
            let rollout_count: usize = self.list.iter().map(|part| part.slices.len()).sum();
            let mark = if rollout_count < MAX_ROLLOUTS {
                PartMark::Missing(parent)
            } else {
                PartMark::BeyondLimit(parent)
            };
            goes_on = on_piece(TranscriptPiece::Mark(mark));
        }

        for part in &self.list {
            if goes_on && let Some(heading) = self.heading_of_part(part) {
                goes_on = on_piece(TranscriptPiece::Mark(heading));
            }
            if !goes_on {
                break;
            }

            let copied_parent = self.copied_parent.as_ref();
            let parent = copied_parent.filter(|_| self.list.last() == Some(part));
            let mut was_copied = false;
            left_out += transcript::read_entries(&part.slices, parent, options, |mut entry| {
                entry.map_texts(&mut *redact);
                let is_copied = entry.is_copied;
                let parent_id = parent.map_or("", ParentRollout::id);
                if is_copied != was_copied {
                    was_copied = is_copied;
                    let base = || PartMark::Base(printable(parent_id));
                    let mark = if is_copied { base() } else { PartMark::Own };
                    goes_on = on_piece(TranscriptPiece::Mark(mark));
                }
                let id = if is_copied { parent_id } else { &part.id };
                goes_on = goes_on && on_piece(TranscriptPiece::Entry(id, entry));
                goes_on
            })?;
        }
        Ok(left_out)
    }

    /// Returns the heading of a part; `None` for a conversation with a single part.
    fn heading_of_part(&self, part: &ThreadPart) -> Option<PartMark> {
        let is_own = self.list.last() == Some(part);
        let heading = if is_own {
            PartMark::Own
        } else {
            PartMark::Base(printable(&part.id))
        };
        (self.list.len() > 1).then_some(heading)
    }
}
