//! Recognizes the texts at the beginning of a fork or a subagent that Codex copied from its parent.

use super::reader::EventReader;
use crate::codex::rollout_lines::{LineParts, RolloutEvent};
use crate::history::rollout::{self, PastOrigin};
use crate::history::thread_rollouts::find_rollout;
use chrono::{DateTime, TimeDelta, Utc};
use std::path::{Path, PathBuf};

/// The conversation whose texts another one may repeat at its beginning.
#[derive(Debug, Clone)]
pub struct ParentRollout {
    pub(crate) origin: PastOrigin,
    pub(crate) path: PathBuf,
}

impl ParentRollout {
    /// Returns the parent of the conversation whose first rollout is `rollout`; `None` if Codex copied nothing, or the
    /// parent is not in the home.
    pub fn find(home: &Path, rollout: &Path) -> Option<Self> {
        let (_head, origin) = rollout::read_head_and_origin(rollout).ok()?;
        let origin = origin?;
        let path = find_rollout(home, &origin.id)?;
        let path = rollout::resolve_rollout_in_home(home, &path)?;
        Some(Self { origin, path })
    }

    /// Returns the id of the parent, in lower case.
    pub fn id(&self) -> &str {
        &self.origin.id
    }
}

/// The longest time between two lines that Codex writes when it copies a conversation. A request takes longer.
const MAX_COPY_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// The time of the last copied line. Copies have the time of the copy, or those of the original lines.
pub(crate) struct CopyTime(pub DateTime<Utc>);

impl CopyTime {
    /// Returns true if a line of this time may be the next copy.
    pub(crate) fn includes(&self, at: DateTime<Utc>) -> bool {
        at <= self.0 + MAX_COPY_PAUSE
    }

    pub(crate) fn advance(&mut self, at: DateTime<Utc>) {
        self.0 = self.0.max(at);
    }
}

/// The copies at the beginning of one conversation.
pub(crate) struct CopiedTexts {
    /// The texts of the parent. `None` once the conversation differs from its parent, and without a readable parent:
    /// then its texts are nowhere else, so none counts as a copy.
    parent: Option<EventReader>,
    is_subagent: bool,
    /// `None` if the rollout has no times.
    time: Option<CopyTime>,
}

impl CopiedTexts {
    pub(crate) fn open(parent: Option<&ParentRollout>) -> Self {
        let open = |parent: &ParentRollout| EventReader::open(&parent.path, LineParts::TEXTS).ok();
        Self {
            parent: parent.and_then(open),
            is_subagent: parent.is_some_and(|parent| parent.origin.is_subagent),
            time: parent.and_then(|parent| parent.origin.begun_at.map(CopyTime)),
        }
    }

    /// Returns true if the text of `event` is a copy of a text of the parent. The first other text ends the copies.
    /// Equal texts alone prove nothing, because a fork and its parent may both go on with the same words.
    pub(crate) fn consume(&mut self, event: &RolloutEvent) -> bool {
        let is_in_time = match (&self.time, event.at) {
            (Some(time), Some(at)) => time.includes(at),
            _ => true,
        };
        let parent = self.parent.as_mut().filter(|_| is_in_time);
        let is_subagent = self.is_subagent;
        let is_copy = parent.is_some_and(|parent| consume_next(parent, event, is_subagent));
        match (&mut self.time, event.at) {
            (Some(time), Some(at)) if is_copy => time.advance(at),
            _ => {}
        }
        if !is_copy {
            self.parent = None;
        }
        is_copy
    }
}

/// Moves `parent` behind the text that `event` repeats. A fork has copies of all texts, so only the next one is
/// compared. A subagent has copies of only some texts, so others are skipped: it has final answers, no tool calls, and
/// messages only as the model got them (Codex 0.171).
fn consume_next(parent: &mut EventReader, event: &RolloutEvent, is_subagent: bool) -> bool {
    while let Ok(Some(original)) = parent.next_event() {
        if original.kind == event.kind {
            return true;
        }
        if !is_subagent && original.kind.author_and_text().is_some() {
            return false;
        }
    }
    false
}
