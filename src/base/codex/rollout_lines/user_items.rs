//! The items of the model's input that are messages of the user.
//!
//! Codex records a message of the user as an item for the model and as an event, and inserts items of its own in the
//! user's name. So an item is a message only where no event can follow: in a rollout without such events, as importers
//! of other tools write it, and outside of the turns, where `thread/inject_items` and `thread/resume` with a history
//! write items (0.169, 0.171).

use super::event::{EventKind, ItemOrigin, LineItem, TurnCounter};
use super::line_parse::parse;
use super::line_parts::LineParts;

/// The items of role user in a rollout that count as messages of the user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum UserItems {
    /// Events have all messages of the user.
    #[default]
    None,
    /// Events have the messages of the turns, whose beginnings are recorded.
    OutsideTurns,
    All,
}

impl UserItems {
    /// Returns true if an item counts that follows the turns counted so far.
    pub(crate) fn contains_item_after(self, turns: TurnCounter) -> bool {
        match self {
            Self::None => false,
            Self::OutsideTurns => !turns.is_open,
            Self::All => true,
        }
    }
}

/// Reads the lines of a rollout, until it is known which items are messages. Nearly always the first event of a message
/// shows that.
#[derive(Debug, Default)]
pub(crate) struct UserItemsProbe {
    turns: TurnCounter,
    /// The last item outside of the turns.
    outside: String,
    found: Option<UserItems>,
}

impl UserItemsProbe {
    const PARTS: LineParts = LineParts::USER_EVENTS
        .union(LineParts::USER_ITEMS)
        .union(LineParts::TURNS);

    pub(crate) fn note_line(&mut self, line: &[u8]) {
        if self.found.is_none() {
            let items = parse(line, Self::PARTS).unwrap_or_default().items;
            for item in &items {
                self.note_item(item);
            }
        }
    }

    pub(crate) fn note_item(&mut self, item: &LineItem) {
        if self.found.is_some() {
            return;
        }
        match &item.kind {
            EventKind::UserInput(text) if !self.turns.is_open => self.outside.clone_from(text),
            EventKind::User(text) if item.origin != ItemOrigin::Item => {
                // When Codex migrates a rollout, it begins each turn after the item of the message (0.171).
                let has_copy_outside = has_same_words(text, &self.outside);
                let counts_outside = self.turns.turns > 0 && !has_copy_outside;
                let outside = counts_outside.then_some(UserItems::OutsideTurns);
                self.found = Some(outside.unwrap_or_default());
            }
            kind => self.turns.count(kind),
        }
    }

    /// Returns the result; `None` if later lines decide.
    pub(crate) fn found(&self) -> Option<UserItems> {
        self.found
    }

    /// Returns the result at the end of the rollout. `is_subagent` returns true for a rollout of a subagent: its items
    /// are messages of its parent.
    pub(crate) fn finish(self, is_subagent: impl FnOnce() -> bool) -> UserItems {
        let all_unless_subagent = || {
            if is_subagent() {
                UserItems::None
            } else {
                UserItems::All
            }
        };
        self.found.unwrap_or_else(all_unless_subagent)
    }
}

/// Compares two texts without regard to blanks, because an event joins the parts of a message in another way.
fn has_same_words(text: &str, other: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<String>();
    words(text) == words(other)
}
