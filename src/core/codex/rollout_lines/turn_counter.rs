//! The numbers of turns, as Codex counts them.

use super::event::EventKind;

/// Counts the turns of a conversation. Since 0.130 Codex records the beginning of each turn, also of one without a
/// message of the user, and a turn may have several messages. Before, a turn begins with each message of the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TurnCounter {
    /// The number of turns so far.
    pub turns: u32,
    /// True within a turn with a recorded beginning.
    pub is_open: bool,
}

impl TurnCounter {
    pub(crate) fn count(&mut self, kind: &EventKind) {
        match kind {
            EventKind::TurnStarted => *self = Self::new(self.turns + 1, true),
            EventKind::User(text) if !self.is_open && !text.trim().is_empty() => self.turns += 1,
            EventKind::TurnEnded => self.is_open = false,
            EventKind::RolledBack(turns) => {
                *self = Self::new(self.turns.saturating_sub(*turns), false);
            }
            _ => {}
        }
    }

    fn new(turns: u32, is_open: bool) -> Self {
        Self { turns, is_open }
    }
}
