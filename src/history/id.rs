//! Ids of conversations. A UUID is stored in 16 bytes, because a home may have a hundred thousand
//! conversations.

use serde::{Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;

/// The id of a conversation. UUIDs compare without regard to case and print in lower case, as in
/// Codex; any other text is kept verbatim. Ids are ordered as their texts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ConversationId(Id);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Id {
    Uuid([u8; 16]),
    Other(Box<str>),
}

/// The length of a UUID with its hyphens, in bytes.
const UUID_TEXT_LEN: usize = 36;

impl ConversationId {
    /// Parses an id. Any text is a valid id.
    pub(crate) fn of(text: &str) -> Self {
        let other = || Id::Other(text.into());
        Self(parse_uuid(text.as_bytes()).map_or_else(other, Id::Uuid))
    }

    /// Calls `use_text` with the id's text. Does not allocate.
    pub(crate) fn with_text<T>(&self, use_text: impl FnOnce(&str) -> T) -> T {
        match &self.0 {
            Id::Other(text) => use_text(text),
            Id::Uuid(bytes) => {
                let text = format_uuid(bytes);
                use_text(std::str::from_utf8(&text).unwrap_or_default())
            }
        }
    }
}

fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    if text.len() != UUID_TEXT_LEN || [8, 13, 18, 23].iter().any(|i| text[*i] != b'-') {
        return None;
    }
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let mut digits = text.iter().filter(|byte| **byte != b'-');
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = digit(*digits.next()?)? << 4 | digit(*digits.next()?)?;
    }
    digits.next().is_none().then_some(bytes)
}

fn format_uuid(bytes: &[u8; 16]) -> [u8; UUID_TEXT_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; UUID_TEXT_LEN];
    let mut at = 0;
    for byte in bytes {
        if matches!(at, 8 | 13 | 18 | 23) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    text
}

impl Ord for ConversationId {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Id::Uuid(a), Id::Uuid(b)) => a.cmp(b),
            _ => self.with_text(|a| other.with_text(|b| a.cmp(b))),
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
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ConversationId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
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
