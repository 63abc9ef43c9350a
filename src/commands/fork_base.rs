//! The parts of other conversations with which a fork begins. Codex keeps a fork's own turns only (0.169).

use super::session_choice::{NamedSession, session_named};
use crate::context::Context;
use crate::history::rollout;

/// The largest number of conversations that continue each other.
const MAX_BASES: usize = 16;

/// A part of a conversation: that before a fork, or the conversation that is asked for.
pub(super) struct ConversationPart {
    /// The conversation that the part belongs to.
    pub session: NamedSession,
    /// The offset in its rollout at which the part ends; `None` for all of it.
    pub end: Option<u64>,
    /// True if it belongs to another conversation, which the one that is asked for continues.
    pub is_base: bool,
}

/// Returns the parts of a conversation, the oldest first. Without the rollout of a parent, those before it are
/// missing; the head of the transcript names the parent anyway.
pub(super) fn parts(session: &NamedSession, context: &Context) -> Vec<ConversationPart> {
    let mut parts = vec![ConversationPart {
        session: session.clone(),
        end: None,
        is_base: false,
    }];
    while parts.len() <= MAX_BASES {
        let child = &parts[parts.len() - 1].session;
        let Some(meta) = rollout::head(&child.rollout).ok().flatten() else {
            break;
        };
        let Some(parent) = meta.parent() else { break };
        // Damaged rollouts could continue each other.
        let is_known = parts
            .iter()
            .any(|part| part.session.id.eq_ignore_ascii_case(&parent));
        let Ok(session) = session_named(&parent, context) else {
            break;
        };
        if is_known {
            break;
        }
        parts.push(ConversationPart {
            session,
            end: meta.parent_end(),
            is_base: true,
        });
    }
    parts.reverse();
    parts
}
