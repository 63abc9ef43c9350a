//! Reads the rollouts of the conversations to rebuild.

use super::apply::file_len;
use super::conversations::{ConversationSet, RebuildConversation};
use super::prompts::Prompts;
use crate::history::rollout::{Depth, RolloutScan};
use crate::history::session_index::ThreadNameIndex;
use crate::history::{HistoryError, SkippedFile, for_each_file, rollout};
use crate::io::{Progress, Rfc3339Time};
use std::collections::HashMap;
use std::path::Path;

/// Marks all but the `max` most recent conversations as left out and returns their number. Reads
/// only the ends of rollouts, and nothing if all conversations fit.
pub(super) fn apply_limit(
    home: &Path,
    set: &mut ConversationSet,
    max: Option<usize>,
    skipped: &mut Vec<SkippedFile>,
) -> Result<usize, HistoryError> {
    let Some(max) = max.filter(|max| set.conversations.len() > *max) else {
        return Ok(0);
    };

    let all_positions: Vec<usize> = (0..set.conversations.len()).collect();
    set_last_times(home, set, &all_positions, skipped)?;

    let conversations = &mut set.conversations;
    let updated_at = |c: &RebuildConversation| c.updated.as_ref().map(|time| time.at);
    let mut newest_first = all_positions;
    newest_first.sort_unstable_by(|a, b| {
        let (a, b) = (&conversations[*a], &conversations[*b]);
        (updated_at(b), &b.id).cmp(&(updated_at(a), &a.id))
    });

    for position in &newest_first[max..] {
        conversations[*position].is_beyond_limit = true;
    }

    Ok(conversations.len() - max)
}

/// Sets the times of the conversations at `positions` from the ends of their rollouts.
fn set_last_times(
    home: &Path,
    set: &mut ConversationSet,
    positions: &[usize],
    skipped: &mut Vec<SkippedFile>,
) -> Result<(), HistoryError> {
    let mut last_times: Vec<Option<Rfc3339Time>> = vec![None; set.conversations.len()];
    let rollouts = set.rollout_paths(home, positions);
    let read = rollout::read_last_time;
    for_each_file(rollouts, skipped, read, |position, time| {
        let last_time = &mut last_times[position];
        *last_time = Rfc3339Time::later_of(last_time.take(), time);
        Ok(())
    })?;

    for position in positions {
        set.conversations[*position].set_updated(last_times[*position].take());
    }
    Ok(())
}

/// Collects the contents of the rollouts of a rebuild.
pub(super) struct Contents<'a> {
    /// The current index, which distinguishes derived titles from given names.
    pub(super) index: &'a ThreadNameIndex,
    /// `None` if no prompts are wanted.
    pub(super) prompts: Option<&'a mut Prompts>,
}

impl Contents<'_> {
    /// Adds the prompts of a rollout, and its title and last time to the facts of its conversation.
    fn add_rollout(
        &mut self,
        conversation: &RebuildConversation,
        scan: RolloutScan,
        facts: &mut RebuildFacts,
    ) -> Result<(), HistoryError> {
        if let Some(prompts) = self.prompts.as_deref_mut() {
            for message in &scan.messages {
                prompts.add(&conversation.id, message)?;
            }
            if let Some(origin) = scan.copy_origin() {
                prompts.add_fork(&conversation.id, origin);
            }
        }

        facts.last_time = Rfc3339Time::later_of(facts.last_time.take(), scan.last_time);

        if !facts.has_title
            && let Some(title) = scan.title
        {
            facts.has_title = true;
            let line = self.index.get(&conversation.id)?;
            facts.is_index_name_derived = line.is_some_and(|line| line.thread_name == title);
            if conversation.row_title().is_none() {
                facts.title = Some(title);
            }
        }

        Ok(())
    }
}

/// Reads the rollouts of the restored conversations. Reads whole rollouts if prompts are wanted or the row has no
/// title, else only their ends for the time of the last change. Returns the number of bad lines.
pub(super) fn add_rollout_contents(
    home: &Path,
    set: &mut ConversationSet,
    contents: &mut Contents<'_>,
    skipped: &mut Vec<SkippedFile>,
    progress: &dyn Progress,
) -> Result<u64, HistoryError> {
    let (mut read_whole, mut read_ends_only) = (Vec::new(), Vec::new());
    let conversations = set.conversations.iter().enumerate();
    for (position, conversation) in conversations.filter(|(_, c)| !c.is_beyond_limit) {
        if contents.prompts.is_some() || conversation.row_title().is_none() {
            read_whole.push(position);
        } else {
            read_ends_only.push(position);
        }
    }

    let rollouts = || set.rollout_paths(home, &read_whole);
    let lengths = rollouts().map(|(_, path)| file_len(&path));
    progress.expect_bytes(lengths.sum());

    let mut bad_lines = 0;
    let mut facts_by_position: HashMap<usize, RebuildFacts> = HashMap::new();
    let read =
        |path: &Path| rollout::scan(path, Depth::Messages, |bytes| progress.add_bytes(bytes));
    for_each_file(rollouts(), skipped, read, |position, scan| {
        bad_lines += scan.bad_lines;
        let facts = facts_by_position.entry(position).or_default();
        contents.add_rollout(&set.conversations[position], scan, facts)
    })?;

    for position in read_whole {
        let facts = facts_by_position.remove(&position).unwrap_or_default();
        let conversation = &mut set.conversations[position];
        conversation.set_updated(facts.last_time);
        conversation.title = facts.title;
        conversation.is_index_name_derived = facts.is_index_name_derived;
    }

    set_last_times(home, set, &read_ends_only, skipped)?;
    Ok(bad_lines)
}

/// The facts about a conversation from its rollouts that were read so far.
#[derive(Default)]
struct RebuildFacts {
    last_time: Option<Rfc3339Time>,
    has_title: bool,
    title: Option<String>,
    is_index_name_derived: bool,
}
