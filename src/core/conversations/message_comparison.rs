//! Compares two versions of a rollout by their messages. Codex rewrites rollouts, so versions with equal messages may
//! have different bytes.
//!
//! `codex migrate-rollouts --apply` of Codex 0.169 rewrites a legacy rollout in place as a paginated one. Each message
//! keeps its place, text and time. So messages with the same text, but different times, are different messages: the
//! user wrote them on two machines.

use super::messages::{MessageReader, RecordedMessage};
use crate::codex::rollout_lines::Role;
use crate::history::rollout::{self, first_line};
use crate::history::thread_rollouts::RolloutSlice;
use chrono::{DateTime, Utc};
use std::io;
use std::path::Path;

/// The numbers of messages that only one of two versions has, after the common messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OwnMessages {
    pub prompts: usize,
    pub answers: usize,
}

impl OwnMessages {
    /// Counts `first` and all messages that `reader` has after it.
    fn count_remaining(
        &mut self,
        first: Option<RecordedMessage>,
        reader: &mut MessageReader,
    ) -> io::Result<()> {
        let mut next = first;
        while let Some(message) = next {
            match message.role {
                Role::User => self.prompts += 1,
                _ => self.answers += 1,
            }
            next = reader.next_message()?;
        }
        Ok(())
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MessageComparison {
    /// The first line of the first common message that the user wrote.
    pub title: Option<String>,
    /// The number of equal messages at the beginning of both versions.
    pub common: usize,
    /// The time of the last common message.
    pub since: Option<DateTime<Utc>>,
    /// The messages that only the first version has.
    pub first: OwnMessages,
    /// The messages that only the second version has.
    pub second: OwnMessages,
}

/// Compares the messages of two versions of a rollout. Holds only one message of each version in memory.
pub(crate) fn compare_messages(first: &Path, second: &Path) -> io::Result<MessageComparison> {
    compare_readers(MessageReader::open(first)?, MessageReader::open(second)?)
}

/// Compares the messages of two branches of a conversation. Each branch consists of several rollouts, in which each one
/// continues the previous one.
pub(crate) fn compare_branches(
    first: &[RolloutSlice],
    second: &[RolloutSlice],
) -> io::Result<MessageComparison> {
    let first = MessageReader::open_all(first)?;
    compare_readers(first, MessageReader::open_all(second)?)
}

fn compare_readers(
    mut first: MessageReader,
    mut second: MessageReader,
) -> io::Result<MessageComparison> {
    let mut comparison = MessageComparison::default();
    loop {
        match (first.next_message()?, second.next_message()?) {
            (Some(a), Some(b)) if (a.role, &a.text, a.at) == (b.role, &b.text, b.at) => {
                comparison.common += 1;
                comparison.since = a.at;
                if comparison.title.is_none() && a.role == Role::User {
                    comparison.title = first_line(&a.text);
                }
            }
            // After the first difference, no later message is common.
            (a, b) => {
                comparison.first.count_remaining(a, &mut first)?;
                comparison.second.count_remaining(b, &mut second)?;
                return Ok(comparison);
            }
        }
    }
}

/// The version of a rollout that Codex wrote by rewriting the other version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RewrittenVersion {
    First,
    Second,
    /// Both versions are paginated and have the same messages. Two versions of Codex migrated the rollout, or the user
    /// only opened it, for which Codex 0.169 adds a line without a message.
    Both,
}

/// Returns the version into which Codex rewrote the other version: a paginated rollout that begins with all messages of
/// the other version, at the same times. Returns `None` if a paginated version lacks a message of the other version, if
/// the versions have no common message, if neither version is paginated, or if one of them belongs to a subagent or has
/// no first line with metadata.
pub(crate) fn find_rewritten_version(
    first: &Path,
    second: &Path,
) -> io::Result<Option<RewrittenVersion>> {
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
    if messages.common == 0 {
        return Ok(None);
    }

    let contains_other = |is_paginated, messages_only_in_other: OwnMessages| {
        is_paginated && messages_only_in_other.is_empty()
    };
    let first_contains_second = contains_other(first_is_paginated, messages.second);
    let second_contains_first = contains_other(second_is_paginated, messages.first);

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
