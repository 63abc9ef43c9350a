//! Reads the rollouts of the conversations to rebuild.

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

    let all: Vec<usize> = (0..set.conversations.len()).collect();
    read_last_times(home, set, &all, skipped)?;

    let conversations = &mut set.conversations;
    let updated_at = |c: &RebuildConversation| c.updated.as_ref().map(|time| time.at);
    let mut newest_first = all;
    newest_first.sort_unstable_by(|a, b| {
        let (a, b) = (&conversations[*a], &conversations[*b]);
        (updated_at(b), &b.id).cmp(&(updated_at(a), &a.id))
    });

    for left_out in &newest_first[max..] {
        conversations[*left_out].is_restored = false;
    }

    Ok(conversations.len() - max)
}

/// Sets the times of the conversations at `places` from the ends of their rollouts.
fn read_last_times(
    home: &Path,
    set: &mut ConversationSet,
    places: &[usize],
    skipped: &mut Vec<SkippedFile>,
) -> Result<(), HistoryError> {
    let owner_of_rollout: Vec<usize> = set.rollouts(places).map(|(place, _)| place).collect();
    let mut last_times: Vec<Option<Rfc3339Time>> = vec![None; set.conversations.len()];
    let paths = set.rollouts(places).map(|(_, file)| file.path(home));

    for_each_file(paths, 1, skipped, rollout::read_last_time, |i, time| {
        let last_time = &mut last_times[owner_of_rollout[i]];
        *last_time = Rfc3339Time::later_of(last_time.take(), time);
        Ok(())
    })?;

    for place in places {
        set.conversations[*place].set_updated(last_times[*place].take());
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
    /// Adds the prompts, the title and the last time of a rollout to those of its conversation.
    fn add_rollout(
        &mut self,
        conversation: &RebuildConversation,
        scan: RolloutScan,
        found: &mut ScanResult,
    ) -> Result<(), HistoryError> {
        if let Some(prompts) = self.prompts.as_deref_mut() {
            for message in &scan.messages {
                prompts.add(&conversation.id, message)?;
            }
        }

        found.last = Rfc3339Time::later_of(found.last.take(), scan.last);

        if !found.has_title
            && let Some(title) = scan.title
        {
            found.has_title = true;
            let line = self.index.get(&conversation.id)?;
            found.is_index_derived = line.is_some_and(|line| line.thread_name == title);
            if conversation.row_title().is_none() {
                found.title = Some(title);
            }
        }

        Ok(())
    }
}

/// Reads the rollouts of the selected conversations. They are read completely if prompts are wanted or their row has no
/// title, else from their ends, for the time of the last change. Returns the number of bad lines.
pub(super) fn read_rollouts(
    home: &Path,
    set: &mut ConversationSet,
    contents: &mut Contents<'_>,
    skipped: &mut Vec<SkippedFile>,
    progress: &dyn Progress,
) -> Result<u64, HistoryError> {
    let (mut read_whole, mut read_ends_only) = (Vec::new(), Vec::new());
    let restored = set.conversations.iter().enumerate();
    for (place, conversation) in restored.filter(|(_, c)| c.is_restored) {
        if contents.prompts.is_some() || conversation.row_title().is_none() {
            read_whole.push(place);
        } else {
            read_ends_only.push(place);
        }
    }

    // The rollouts of all these conversations are read in one go, so each has to lead back to its conversation.
    let owner_of_rollout: Vec<usize> = set.rollouts(&read_whole).map(|(place, _)| place).collect();
    let paths = || set.rollouts(&read_whole).map(|(_, file)| file.path(home));
    let lengths = paths().map(|path| path.metadata().map_or(0, |m| m.len()));
    progress.expect_bytes(lengths.sum());

    let mut bad_lines = 0;
    let mut found: HashMap<usize, ScanResult> = HashMap::new();
    let read =
        |path: &Path| rollout::scan(path, Depth::Messages, |bytes| progress.add_bytes(bytes));
    for_each_file(paths(), 1, skipped, read, |i, scan| {
        let place = owner_of_rollout[i];
        bad_lines += scan.bad_lines;
        let found = found.entry(place).or_default();
        contents.add_rollout(&set.conversations[place], scan, found)
    })?;

    for place in read_whole {
        let found = found.remove(&place).unwrap_or_default();
        let conversation = &mut set.conversations[place];
        conversation.set_updated(found.last);
        conversation.title = found.title;
        conversation.is_index_derived = found.is_index_derived;
    }

    read_last_times(home, set, &read_ends_only, skipped)?;
    Ok(bad_lines)
}

#[derive(Default)]
struct ScanResult {
    last: Option<Rfc3339Time>,
    has_title: bool,
    title: Option<String>,
    is_index_derived: bool,
}
