//! The parts of a rollout that a reader wants.

/// A set of kinds of content that the lines of a rollout record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineParts(u16);

impl LineParts {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const META: Self = Self(1);
    /// Messages of the user as the model gets them.
    pub(crate) const USER_ITEMS: Self = Self(1 << 1);
    /// Messages of the user as Codex shows them.
    pub(crate) const USER_EVENTS: Self = Self(1 << 2);
    /// Messages and reasoning of the assistant.
    pub(crate) const ASSISTANT: Self = Self(1 << 3);
    /// Calls of tools, and their outputs.
    pub(crate) const TOOLS: Self = Self(1 << 4);
    pub(crate) const COMPACTIONS: Self = Self(1 << 5);
    pub(crate) const SETTINGS: Self = Self(1 << 6);
    /// Sums of tokens, with quota windows.
    pub(crate) const TOKENS: Self = Self(1 << 7);
    /// The tokens of single requests.
    pub(crate) const REQUESTS: Self = Self(1 << 8);
    /// Images in messages and outputs.
    pub(crate) const IMAGES: Self = Self(1 << 9);
    /// Turns that the user took back.
    pub(crate) const ROLLBACKS: Self = Self(1 << 10);
    /// The beginnings and ends of turns.
    pub(crate) const TURNS: Self = Self(1 << 11);
    /// Messages, tools, compactions, rollbacks and turns.
    pub const TEXTS: Self = Self::USER_ITEMS
        .union(Self::USER_EVENTS)
        .union(Self::ASSISTANT)
        .union(Self::TOOLS)
        .union(Self::COMPACTIONS)
        .union(Self::ROLLBACKS)
        .union(Self::TURNS);
    pub(crate) const TEXTS_AND_IMAGES: Self = Self::TEXTS.union(Self::IMAGES);
    /// The parts that the search index records: texts, settings and tokens, also those of single requests.
    pub(crate) const INDEXED: Self = Self::TEXTS
        .union(Self::SETTINGS)
        .union(Self::TOKENS)
        .union(Self::REQUESTS);

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}
