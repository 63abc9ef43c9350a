//! The state after reading a part of a rollout, by which the reader recognizes copies of texts and tool calls.

use crate::codex::rollout_lines::{
    EventKind, ItemOrigin, LineItem, LineItems, RolloutEvent, TurnCounter, UserItems,
};
use std::collections::VecDeque;

/// The number of recent texts that are compared with a new text. Codex writes the copies of a text within a few lines.
const MAX_RECENT_TEXTS: usize = 64;

/// The number of recent tool calls that are compared with a completed item, which may be a copy of one of them.
const MAX_RECENT_CALLS: usize = 256;

/// The numbers of recent texts and calls in the encoded state.
const MAX_STORED_TEXTS: usize = 4;
const MAX_STORED_CALLS: usize = 8;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReaderState {
    pub turns: TurnCounter,
    /// The items that are messages of the user. Not encoded, because a rollout that grows may decide it anew.
    pub user_items: UserItems,
    texts: VecDeque<RecentText>,
    /// The digests of the ids of recent tool calls.
    calls: VecDeque<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RecentText {
    digest: u64,
    /// The number of times that the reader has returned the text.
    returned: u32,
    /// The number of times that each [`ItemOrigin`] has recorded the text.
    recorded: [u32; 3],
}

impl ReaderState {
    pub(super) fn new(user_items: UserItems) -> Self {
        Self {
            user_items,
            ..Self::default()
        }
    }

    /// Encodes the state in at most 118 bytes: the number of turns (4 bytes), 1 if a turn is open (1 byte), the number
    /// of texts (1 byte), for each text its digest (8 bytes) and its counts (4 bytes), and the digests of calls (8
    /// bytes each). Only the last texts and calls are encoded, because copies are a few lines apart.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.turns.turns.to_le_bytes().to_vec();
        bytes.push(u8::from(self.turns.is_open));

        let first_stored_text = self.texts.len().saturating_sub(MAX_STORED_TEXTS);
        let texts = self.texts.range(first_stored_text..);
        bytes.push(u8::try_from(texts.len()).unwrap_or(0));
        for text in texts {
            bytes.extend(text.digest.to_le_bytes());
            let [first, second, third] = text.recorded;
            let counts = [text.returned, first, second, third];
            // Only the differences between the counts matter, so each count fits into a byte.
            let smallest_count = counts[1..].iter().min().copied().unwrap_or(0);
            let to_byte = |count| u8::try_from(count - smallest_count).unwrap_or(u8::MAX);
            bytes.extend(counts.map(to_byte));
        }

        let first_stored_call = self.calls.len().saturating_sub(MAX_STORED_CALLS);
        let calls = self.calls.range(first_stored_call..);
        bytes.extend(calls.flat_map(|call| call.to_le_bytes()));
        bytes
    }

    /// Decodes the bytes of [`Self::to_bytes`]. Returns the empty state if the bytes are too short.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (turns, remaining) = bytes.split_first_chunk::<4>()?;
        let (is_open, remaining) = remaining.split_first()?;
        let (text_count, mut remaining) = remaining.split_first()?;

        let mut texts = VecDeque::new();
        for _ in 0..*text_count {
            let (digest, after_digest) = remaining.split_first_chunk::<8>()?;
            let (counts, after_counts) = after_digest.split_first_chunk::<4>()?;
            remaining = after_counts;
            // First the number of times that the text was returned, then how often each origin recorded it.
            let [returned, recorded @ ..] = counts.map(u32::from);
            texts.push_back(RecentText {
                digest: u64::from_le_bytes(*digest),
                returned,
                recorded,
            });
        }

        let (calls, _) = remaining.as_chunks::<8>();
        Some(Self {
            turns: TurnCounter {
                turns: u32::from_le_bytes(*turns),
                is_open: *is_open != 0,
            },
            user_items: UserItems::default(),
            texts,
            calls: calls.iter().map(|call| u64::from_le_bytes(*call)).collect(),
        })
    }

    /// Converts the items of the line at `offset` to events. The result has one element per item: `None` for a copy of
    /// a recent item, and for an empty text.
    pub(super) fn convert_line(
        &mut self,
        line: LineItems,
        offset: u64,
    ) -> Vec<Option<RolloutEvent>> {
        let LineItems { at, items } = line;

        let to_event = |mut item: LineItem| {
            item.kind = match item.kind {
                EventKind::UserInput(text) if self.user_items.contains_item_after(self.turns) => {
                    EventKind::User(text)
                }
                kind => kind,
            };
            if !self.record_item(&item) {
                return None;
            }

            self.turns.count(&item.kind);
            Some(RolloutEvent {
                turn: self.turns.turns,
                at,
                offset,
                call_id: item.call_id,
                kind: item.kind,
            })
        };

        items.into_iter().map(to_event).collect()
    }

    /// Records an item. Returns false if the item is a copy or has an empty text.
    fn record_item(&mut self, item: &LineItem) -> bool {
        let (digest_kind, text) = match &item.kind {
            EventKind::User(text) => (DigestKind::User, text),
            EventKind::Assistant(text) => (DigestKind::Assistant, text),
            EventKind::Reasoning(text) => (DigestKind::Reasoning, text),
            EventKind::ToolCall { .. } | EventKind::ToolOutput(_) => {
                return self.record_call(item);
            }
            // Only texts and calls are compared with recent ones.
            EventKind::FilesTouched(_)
            | EventKind::ModelInput
            | EventKind::UserInput(_)
            | EventKind::Meta(_)
            | EventKind::Image(_)
            | EventKind::Compaction(_)
            | EventKind::TurnContext(_)
            | EventKind::Tokens(_)
            | EventKind::Request(_)
            | EventKind::TurnStarted
            | EventKind::TurnEnded
            | EventKind::RolledBack(_) => return true,
        };

        let text = text.trim();
        if text.is_empty() {
            return false;
        }

        let digest = digest(digest_kind, text);
        let position = self.texts.iter().position(|recent| recent.digest == digest);
        let mut recent = position
            .and_then(|i| self.texts.remove(i))
            .unwrap_or(RecentText {
                digest,
                returned: 0,
                recorded: [0; 3],
            });

        // Each origin records every text once. So a text is new if its origin has now recorded it more often than the
        // reader has returned it.
        let times_recorded = &mut recent.recorded[item.origin as usize];
        *times_recorded += 1;
        let is_new = *times_recorded > recent.returned;
        recent.returned = recent.returned.max(*times_recorded);

        // The text moves to the end, so that the text that was recorded longest ago is dropped first.
        self.texts.push_back(recent);
        if self.texts.len() > MAX_RECENT_TEXTS {
            self.texts.pop_front();
        }

        is_new
    }

    /// Records a tool call by its id. Returns false if the item is an event that repeats a recorded call or its output:
    /// Codex may write the call as a `response_item` first, and as an event when it has ended.
    fn record_call(&mut self, item: &LineItem) -> bool {
        let Some(id) = &item.call_id else {
            return true;
        };

        let digest = digest(DigestKind::CallId, id);
        if item.origin != ItemOrigin::Item {
            return !self.calls.contains(&digest);
        }

        if matches!(item.kind, EventKind::ToolCall { .. }) {
            self.calls.push_back(digest);
            if self.calls.len() > MAX_RECENT_CALLS {
                self.calls.pop_front();
            }
        }

        true
    }
}

/// The kind of a text, as the byte that is hashed before the text. So equal texts of two kinds have different digests.
#[repr(u8)]
pub(super) enum DigestKind {
    User = b'u',
    Assistant = b'a',
    Reasoning = b'r',
    CallId = b'c',
    /// The digest of a message with its time.
    DatedMessage = b't',
}

/// Returns the FNV-1a hash of a text and its kind. Unlike the hashes of the standard library, it never changes, so it
/// can be stored.
pub(super) fn digest(kind: DigestKind, text: &str) -> u64 {
    const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const FNV_PRIME: u64 = 0x0100_0000_01b3;
    let bytes = std::iter::once(kind as u8).chain(text.bytes());
    bytes.fold(FNV_OFFSET_BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    })
}
