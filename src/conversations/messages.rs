//! The messages of rollouts as digests of role and text.
//!
//! The plain and the compressed form of a rollout, and its legacy and its paginated form, have the same messages.

use super::reader::{self, EventReader};
use crate::codex::rollout_lines::{EventKind, LineParts};
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::Path;

/// A message of the user or the assistant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// The digest of its role and its text without blanks around it.
    pub digest: u64,
    /// The time at which Codex wrote it.
    pub at: Option<DateTime<Utc>>,
    /// The offset of its line in the plain text of the rollout.
    pub offset: u64,
}

/// Returns the messages of a rollout, plain or compressed, those behind the place of a rewind too. A damaged
/// rollout has the messages before the damage.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`ErrorKind::Interrupted`]).
pub(crate) fn read(path: &Path) -> io::Result<Vec<Message>> {
    let mut reader = EventReader::open(path, LineParts::TEXTS)?;
    let mut messages = Vec::new();
    loop {
        let event = match reader.next_event() {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(messages),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                return Ok(messages);
            }
            Err(e) => return Err(e),
        };
        let (role, text) = match &event.kind {
            EventKind::User(text) => (b'u', text),
            EventKind::Assistant(text) => (b'a', text),
            _ => continue,
        };
        messages.push(Message {
            digest: reader::digest(role, text.trim()),
            at: event.at,
            offset: event.offset,
        });
    }
}

/// The number of times that each message occurs.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageCounts(HashMap<u64, u32>);

impl MessageCounts {
    /// Counts these messages too.
    pub(crate) fn add(&mut self, messages: &[Message]) {
        for message in messages {
            *self.0.entry(message.digest).or_default() += 1;
        }
    }

    /// Returns the messages of `copy` that are not among these. Of a message that `copy` has more often, the last
    /// ones.
    pub(crate) fn missing(&self, copy: &[Message]) -> Vec<Message> {
        let mut left = self.0.clone();
        let is_missing = |message: &&Message| match left.get_mut(&message.digest) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        copy.iter().filter(is_missing).copied().collect()
    }
}
