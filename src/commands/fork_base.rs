//! The parts of other conversations with which a fork begins. Codex keeps a fork's own turns only (0.169).

use super::account::printable;
use super::session_choice::{NamedSession, session_named};
use crate::context::Context;
use crate::conversations::part_mark::PartMark;
use crate::history::rollout;

/// The largest number of conversations that continue each other.
const MAX_BASES: usize = 64;

/// A part of a conversation: that before a fork, or the conversation that is asked for.
pub(super) struct ConversationPart {
    /// The conversation that the part belongs to.
    pub session: NamedSession,
    /// The offset in its rollout at which the part ends; `None` for all of it.
    pub end: Option<u64>,
    /// True if it belongs to another conversation, which the one that is asked for continues.
    pub is_base: bool,
}

/// A conversation with the beginnings of those that it continues.
pub(super) struct ConversationParts {
    /// The parts, the oldest first.
    pub list: Vec<ConversationPart>,
    /// The conversation with the turns before the first part, if its rollout cannot be read.
    pub missing_parent: Option<String>,
}

impl ConversationParts {
    /// Finds the parts of a conversation.
    pub(super) fn of(session: &NamedSession, context: &Context) -> Self {
        let mut list = vec![ConversationPart {
            session: session.clone(),
            end: None,
            is_base: false,
        }];
        let mut missing_parent = None;
        let mut head = rollout::head(&session.rollout).ok().flatten();
        while let Some((parent, end)) = head
            .as_ref()
            .and_then(|head| Some((head.parent()?, head.parent_end())))
        {
            let mut known = list.iter().map(|part| &part.session.id);
            // Damaged rollouts could continue each other.
            if list.len() > MAX_BASES || known.any(|id| id.eq_ignore_ascii_case(&parent)) {
                break;
            }
            let base = session_named(&parent, context).ok();
            let base = base.and_then(|base| Some((rollout::head(&base.rollout).ok()?, base)));
            let Some((base_head, session)) = base else {
                missing_parent = Some(printable(&parent));
                break;
            };
            head = base_head;
            list.push(ConversationPart {
                session,
                end,
                is_base: true,
            });
        }
        list.reverse();
        Self {
            list,
            missing_parent,
        }
    }

    /// Returns the conversation alone.
    pub(super) fn without_bases(mut self) -> Self {
        self.list.retain(|part| !part.is_base);
        self.missing_parent = None;
        self
    }

    /// Returns the mark before the first part, if turns are missing there.
    pub(super) fn first_mark(&self) -> Option<PartMark> {
        self.missing_parent.clone().map(PartMark::Missing)
    }

    /// Returns the mark before a part; `None` if it is the only one.
    pub(super) fn mark(&self, part: &ConversationPart) -> Option<PartMark> {
        let mark = if part.is_base {
            PartMark::Base(printable(&part.session.id))
        } else {
            PartMark::Own
        };
        (self.list.len() > 1).then_some(mark)
    }
}
