//! Ids of conversations. A UUID is stored in 16 bytes, because a home may have a hundred thousand
//! conversations.

use crate::codex::rollout::split_uuid;
use serde::{Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// The id of a conversation. UUIDs compare without regard to case and print in lower case, as in
/// Codex; any other text is kept verbatim. Ids are ordered as their texts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConversationId(Id);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Id {
    Uuid([u8; 16]),
    Other(Box<str>),
}

impl ConversationId {
    /// Parses an id. Any text is a valid id.
    pub fn of(text: &str) -> Self {
        let other = || Id::Other(text.into());
        Self(parse_uuid(text).map_or_else(other, Id::Uuid))
    }
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let (_, uuid) = split_uuid(text).filter(|(before, _)| before.is_empty())?;
    let digits = uuid.chars().filter_map(|c| c.to_digit(16));
    let number = digits.fold(0, |number, digit| number << 4 | u128::from(digit));
    Some(number.to_be_bytes())
}

impl Ord for ConversationId {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Id::Uuid(a), Id::Uuid(b)) => a.cmp(b),
            _ => self.to_string().cmp(&other.to_string()),
        }
    }
}

impl PartialOrd for ConversationId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match &self.0 {
            Id::Other(text) => return f.pad(text),
            Id::Uuid(bytes) => u128::from_be_bytes(*bytes),
        };
        // The five groups of a UUID have 32, 16, 16, 16 and 48 bits.
        let group = |shift: u32| number >> shift & 0xffff;
        let (first, last) = (number >> 96, number & 0xffff_ffff_ffff);
        let (a, b, c) = (group(80), group(64), group(48));
        f.pad(&format!("{first:08x}-{a:04x}-{b:04x}-{c:04x}-{last:012x}"))
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ConversationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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

    #[test]
    fn ids_are_ordered_as_their_texts() {
        let texts = [
            "",
            "01A",
            "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455",
            "01a2",
            "ffffffff-4d30-7ef3-b0ee-5caab8d3b455",
            "zz",
        ];
        let mut ids: Vec<_> = texts.iter().rev().map(|t| ConversationId::of(t)).collect();
        ids.sort();
        assert_eq!(
            ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
            texts
        );
    }
}
