//! Reads the messages of rollouts, in full or as digests of role and text.
//!
//! All forms of a rollout have the same messages: plain or compressed, legacy or paginated.

use super::reader::EventReader;
use super::reader_state::digest;
use crate::codex::rollout_lines::{EventKind, LineParts, Role};
use crate::history::thread_rollouts::RolloutSlice;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, ErrorKind};
use std::path::Path;

/// A message of the user or the assistant. Tool calls and reasoning do not count as messages, because Codex drops some
/// of them when it rewrites a rollout.
#[derive(Debug, Clone)]
pub(super) struct RecordedMessage {
    pub role: Role,
    pub text: String,
    /// The time at which Codex wrote the message.
    pub at: Option<DateTime<Utc>>,
    /// The offset of the message's line in the uncompressed text of the rollout.
    pub offset: u64,
}

/// Reads the messages of a plain or compressed rollout one at a time.
pub(super) struct MessageReader(EventReader);

impl MessageReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        EventReader::open(path, LineParts::TEXTS).map(Self)
    }

    /// Opens several rollouts, in which each one continues the previous one.
    pub(super) fn open_all(slices: &[RolloutSlice]) -> io::Result<Self> {
        EventReader::open_all(slices, LineParts::TEXTS).map(Self)
    }

    /// Returns the next message, or `None` at the end.
    pub(super) fn next_message(&mut self) -> io::Result<Option<RecordedMessage>> {
        while let Some(event) = self.0.next_event()? {
            let (role, text) = match event.kind {
                EventKind::User(text) => (Role::User, text),
                EventKind::Assistant(text) => (Role::Assistant, text),
                _ => continue,
            };

            return Ok(Some(RecordedMessage {
                role,
                text,
                at: event.at,
                offset: event.offset,
            }));
        }
        Ok(None)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The digest of the role and the text, without blanks around the text.
    pub digest: u64,
    /// The time at which Codex wrote the message.
    pub at: Option<DateTime<Utc>>,
    /// The offset of the message's line in the uncompressed text of the rollout.
    pub offset: u64,
}

impl Message {
    /// Returns a digest of the message and its time. Equal messages at different times have different digests.
    pub fn dated_digest(&self) -> u64 {
        let dated = format!("{} {}", self.digest, self.millis_or_zero());
        digest(b't', &dated)
    }

    /// Returns the time in milliseconds since 1970; zero if it is unknown.
    fn millis_or_zero(&self) -> i64 {
        self.at.map_or(0, |at| at.timestamp_millis())
    }
}

/// Returns the messages of a plain or compressed rollout. They include messages that a later rollout hides by a rewind,
/// but not those of turns that were rolled back in this rollout. Of a damaged rollout, returns the messages before the
/// damage.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`ErrorKind::Interrupted`]).
pub fn read_messages(path: &Path) -> io::Result<Vec<Message>> {
    let mut reader = MessageReader::open(path)?;
    let mut messages = Vec::new();
    loop {
        let message = match reader.next_message() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(messages),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                return Ok(messages);
            }
            Err(e) => return Err(e),
        };

        let role_letter = if message.role == Role::User {
            b'u'
        } else {
            b'a'
        };

        messages.push(Message {
            digest: digest(role_letter, message.text.trim()),
            at: message.at,
            offset: message.offset,
        });
    }
}

/// The number of occurrences of each message.
#[derive(Debug, Clone, Default)]
pub struct MessageCounts {
    by_digest: HashMap<u64, u32>,
    by_digest_and_time: HashMap<(u64, i64), u32>,
}

impl MessageCounts {
    pub fn add(&mut self, messages: &[Message]) {
        for message in messages {
            *self.by_digest.entry(message.digest).or_default() += 1;
            let dated = (message.digest, message.millis_or_zero());
            *self.by_digest_and_time.entry(dated).or_default() += 1;
        }
    }

    /// Returns the messages of `copy` that are not among the counted messages. If `copy` has the same message more
    /// often, occurrences at counted times are not missing. Of the other occurrences, the last ones are missing.
    pub fn find_missing(&self, copy: &[Message]) -> Vec<Message> {
        let mut unmatched = self.clone();
        let mut missing: Vec<Message> = copy.to_vec();
        missing.retain(|message| {
            let dated = (message.digest, message.millis_or_zero());
            let is_found = decrement(&mut unmatched.by_digest_and_time, &dated);
            !(is_found && decrement(&mut unmatched.by_digest, &message.digest))
        });
        // A migration may change the time of a message, so a message at another time is not missing.
        missing.retain(|message| !decrement(&mut unmatched.by_digest, &message.digest));
        missing
    }
}

/// Decrements the count of `key`. Returns false if the count is already zero.
fn decrement<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) -> bool {
    let count = counts.get_mut(key).filter(|count| **count > 0);
    count.map(|count| *count -= 1).is_some()
}
