//! Ids of conversations.

use crate::codex::rollout::split_uuid;
use serde::Serialize;
use std::fmt;

/// The id of a conversation. UUIDs compare without regard to case and print in lower case, as in
/// Codex; any other text is kept verbatim.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct ConversationId(Box<str>);

impl ConversationId {
    /// Parses an id. Any text is a valid id.
    pub(crate) fn of(text: &str) -> Self {
        let is_uuid = split_uuid(text).is_some_and(|(before, _)| before.is_empty());
        let id = if is_uuid {
            text.to_lowercase()
        } else {
            text.to_owned()
        };
        Self(id.into())
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_compare_without_regard_to_case_and_other_text_is_kept_verbatim() {
        let lower = "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455";
        let id = ConversationId::of(lower);
        assert_eq!(id, ConversationId::of(&lower.to_uppercase()));
        assert_eq!(id.to_string(), lower);
        for other in [
            "",
            "Other",
            "01a1f78b-4d30-7ef3-b0ee-5caab8d3b45-",
            "01a1f78b4-d30-7ef3-b0ee-5caab8d3b455",
        ] {
            assert_eq!(ConversationId::of(other).to_string(), other);
        }
    }
}
