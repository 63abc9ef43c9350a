//! Reads the messages of rollouts, in full or as digests of role and text, and compares two versions of a rollout by
//! them.
//!
//! All forms of a rollout have the same messages: plain or compressed, legacy or paginated. But Codex rewrites
//! rollouts, so versions with equal messages may have different bytes: `codex migrate-rollouts --apply` of Codex 0.169
//! rewrites a legacy rollout in place as a paginated one. Each message keeps its place, text and time. So messages with
//! the same text, but different times, are different messages: the user wrote them on two machines.

use super::reader::EventReader;
use super::reader_state::{DigestKind, digest};
use crate::codex::rollout_lines::{EventKind, LineParts, Role};
use crate::codex::user_request::find_title;
use crate::history::rollout;
use crate::history::thread_rollouts::RolloutSlice;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, ErrorKind};
use std::path::Path;

/// A message of the user or the assistant. Tool calls and reasoning do not count as messages, because Codex drops some
/// of them when it rewrites a rollout.
#[derive(Debug, Clone)]
struct RecordedMessage {
    pub role: Role,
    pub text: String,
    /// The time at which Codex wrote the message.
    pub at: Option<DateTime<Utc>>,
    /// The offset of the message's line in the uncompressed text of the rollout.
    pub offset: u64,
}

/// Returns the next message of a reader of texts, or `None` at the end.
fn next_message(reader: &mut EventReader) -> io::Result<Option<RecordedMessage>> {
    while let Some(event) = reader.next_event()? {
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
        let digest_and_time = format!("{} {}", self.digest, self.millis_or_zero());
        digest(DigestKind::DatedMessage, &digest_and_time)
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
    let mut reader = EventReader::open(path, LineParts::TEXTS)?;
    let mut messages = Vec::new();
    loop {
        let message = match next_message(&mut reader) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(messages),
            Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                return Ok(messages);
            }
            Err(e) => return Err(e),
        };

        let digest_kind = match message.role {
            Role::User => DigestKind::User,
            _ => DigestKind::Assistant,
        };

        messages.push(Message {
            digest: digest(digest_kind, message.text.trim()),
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
            let digest_and_time = (message.digest, message.millis_or_zero());
            *self.by_digest_and_time.entry(digest_and_time).or_default() += 1;
        }
    }

    /// Returns the messages of `copy` that are not among the counted messages. If `copy` has a message more often than
    /// it was counted, occurrences at counted times are matched first, then other ones in order. The rest is missing.
    pub fn find_missing(&self, copy: &[Message]) -> Vec<Message> {
        let mut unmatched = self.clone();
        let mut missing: Vec<Message> = copy.to_vec();
        missing.retain(|message| {
            let digest_and_time = (message.digest, message.millis_or_zero());
            let is_matched = remove_one(&mut unmatched.by_digest_and_time, &digest_and_time)
                && remove_one(&mut unmatched.by_digest, &message.digest);
            !is_matched
        });
        // A migration may change the time of a message, so a message at another time is not missing.
        missing.retain(|message| !remove_one(&mut unmatched.by_digest, &message.digest));
        missing
    }
}

/// Removes one occurrence of `key` from the counts. Returns false if there is none.
fn remove_one<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K) -> bool {
    let count = counts.get_mut(key).filter(|count| **count > 0);
    count.map(|count| *count -= 1).is_some()
}

/// The numbers of messages that only one of two versions has, after the common messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnMessages {
    pub prompts: usize,
    pub answers: usize,
}

impl OwnMessages {
    /// Counts `first` and all messages that `reader` has after it.
    fn add_remaining(
        &mut self,
        first: Option<RecordedMessage>,
        reader: &mut EventReader,
    ) -> io::Result<()> {
        let mut next = first;
        while let Some(message) = next {
            match message.role {
                Role::User => self.prompts += 1,
                _ => self.answers += 1,
            }
            next = next_message(reader)?;
        }
        Ok(())
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageComparison {
    /// The first line of the first request that both have.
    pub title: Option<String>,
    /// The number of equal messages at the beginning of both versions.
    pub common_count: usize,
    /// The time at which Codex wrote the last common message.
    pub last_common_at: Option<DateTime<Utc>>,
    pub only_in_first: OwnMessages,
    pub only_in_second: OwnMessages,
}

/// Compares the messages of two versions of a rollout, like [`compare_branches`].
pub fn compare_messages(first: &Path, second: &Path) -> io::Result<MessageComparison> {
    let [first, second] = [first, second].map(|path| [RolloutSlice::whole(path)]);
    compare_branches(&first, &second)
}

/// Compares the messages of two branches of a conversation. Each branch consists of several rollouts, in which each one
/// continues the previous one. Holds only one message of each branch in memory.
pub fn compare_branches(
    first: &[RolloutSlice],
    second: &[RolloutSlice],
) -> io::Result<MessageComparison> {
    let mut first = EventReader::open_all(first, LineParts::TEXTS)?;
    let mut second = EventReader::open_all(second, LineParts::TEXTS)?;
    let mut comparison = MessageComparison::default();
    loop {
        match (next_message(&mut first)?, next_message(&mut second)?) {
            (Some(a), Some(b)) if (a.role, &a.text, a.at) == (b.role, &b.text, b.at) => {
                comparison.common_count += 1;
                comparison.last_common_at = a.at;
                if comparison.title.is_none() && a.role == Role::User {
                    comparison.title = find_title(&a.text);
                }
            }
            // After the first difference, no later message is common.
            (a, b) => {
                comparison.only_in_first.add_remaining(a, &mut first)?;
                comparison.only_in_second.add_remaining(b, &mut second)?;
                return Ok(comparison);
            }
        }
    }
}

/// The version of a rollout that Codex wrote by rewriting the other version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewrittenVersion {
    First,
    Second,
    /// Both versions are paginated and have the same messages. Two versions of Codex migrated the rollout, or the user
    /// only opened one version, to which Codex 0.169 adds a line without a message.
    Both,
}

/// Returns the version into which Codex rewrote the other version: a paginated rollout that begins with all messages of
/// the other version, at the same times. Returns `None` if neither version is like this, if the versions have no common
/// message, or if one of them belongs to a subagent or has no metadata.
pub fn find_rewritten_version(first: &Path, second: &Path) -> io::Result<Option<RewrittenVersion>> {
    use RewrittenVersion::{Both, First, Second};

    let (Some(first_is_paginated), Some(second_is_paginated)) =
        (read_is_paginated(first)?, read_is_paginated(second)?)
    else {
        return Ok(None);
    };

    if !first_is_paginated && !second_is_paginated {
        return Ok(None);
    }

    let messages = compare_messages(first, second)?;
    if messages.common_count == 0 {
        return Ok(None);
    }

    let contains_other = |is_paginated, messages_only_in_other: OwnMessages| {
        is_paginated && messages_only_in_other.is_empty()
    };
    let first_contains_second = contains_other(first_is_paginated, messages.only_in_second);
    let second_contains_first = contains_other(second_is_paginated, messages.only_in_first);

    Ok(match (first_contains_second, second_contains_first) {
        (true, true) => Some(Both),
        (true, false) => Some(First),
        (false, true) => Some(Second),
        (false, false) => None,
    })
}

/// Returns true for a paginated rollout, and false for a legacy one. Returns `None` for a rollout without metadata, and
/// for one of a subagent, because Codex 0.169 shows no turn of a migrated subagent.
fn read_is_paginated(path: &Path) -> io::Result<Option<bool>> {
    let meta = rollout::read_head(path)?.filter(|meta| !meta.is_subagent());
    Ok(meta.map(|meta| meta.is_paginated()))
}
