//! The messages of rollouts, also as digests of role and text.
//!
//! The plain and the compressed form of a rollout, and its legacy and its paginated form, have the same messages.

use super::reader::EventReader;
use super::reader_state::digest;
use crate::codex::rollout_lines::{EventKind, LineParts, Role};
use crate::history::thread_rollouts::RolloutSlice;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, ErrorKind};
use std::path::Path;

/// A message of the user or the assistant. Tools and reasoning are no messages: Codex drops some of their events when
/// it rewrites a rollout.
#[derive(Debug, Clone)]
pub(super) struct RecordedMessage {
    pub role: Role,
    pub text: String,
    /// The time at which Codex wrote it.
    pub at: Option<DateTime<Utc>>,
    /// The offset of its line in the plain text of the rollout.
    pub offset: u64,
}

/// The messages of a rollout, plain or compressed, one at a time.
pub(super) struct MessageReader(EventReader);

impl MessageReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        EventReader::open(path, LineParts::TEXTS).map(Self)
    }

    /// Opens rollouts that continue each other.
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
pub(crate) struct Message {
    /// The digest of its role and its text without blanks around it.
    pub digest: u64,
    /// The time at which Codex wrote it.
    pub at: Option<DateTime<Utc>>,
    /// The offset of its line in the plain text of the rollout.
    pub offset: u64,
}

impl Message {
    /// Returns a digest of the message and its time, in which equal messages at different times differ.
    pub(crate) fn dated_digest(&self) -> u64 {
        let dated = format!("{} {}", self.digest, self.at_millis());
        digest(b't', &dated)
    }

    /// Returns the time in milliseconds since 1970; zero if it is unknown.
    fn at_millis(&self) -> i64 {
        self.at.map_or(0, |at| at.timestamp_millis())
    }
}

/// Returns the messages of a rollout, plain or compressed: those that a later rollout hides by a rewind too, but none of
/// turns that were rolled back in this one. Of a damaged rollout, returns the messages before the damage.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`ErrorKind::Interrupted`]).
pub(crate) fn read(path: &Path) -> io::Result<Vec<Message>> {
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
        let role = if message.role == Role::User {
            b'u'
        } else {
            b'a'
        };
        messages.push(Message {
            digest: digest(role, message.text.trim()),
            at: message.at,
            offset: message.offset,
        });
    }
}

/// The number of times that each message occurs.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageCounts {
    by_digest: HashMap<u64, u32>,
    by_digest_and_time: HashMap<(u64, i64), u32>,
}

impl MessageCounts {
    pub(crate) fn add(&mut self, messages: &[Message]) {
        for message in messages {
            *self.by_digest.entry(message.digest).or_default() += 1;
            let dated = (message.digest, message.at_millis());
            *self.by_digest_and_time.entry(dated).or_default() += 1;
        }
    }

    /// Returns the messages of `copy` that are not among these. If `copy` has a message more often, returns the
    /// occurrences at times that are missing here, and of these the last ones.
    pub(crate) fn find_missing(&self, copy: &[Message]) -> Vec<Message> {
        let mut left = self.clone();
        let mut missing: Vec<Message> = copy.to_vec();
        missing.retain(|message| {
            let dated = (message.digest, message.at_millis());
            let is_found = take_one(&mut left.by_digest_and_time, &dated);
            !(is_found && take_one(&mut left.by_digest, &message.digest))
        });
        // A migration may change times.
        missing.retain(|message| !take_one(&mut left.by_digest, &message.digest));
        missing
    }
}

/// Decrements the count of `key`. Returns false if it is zero.
fn take_one<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) -> bool {
    let count = counts.get_mut(key).filter(|count| **count > 0);
    count.map(|count| *count -= 1).is_some()
}
