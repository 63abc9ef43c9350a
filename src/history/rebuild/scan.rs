//! Reads the rollouts of the conversations to rebuild.

use super::conversations::{ConversationSet, RebuildConversation};
use super::prompts::Prompts;
use crate::history::{Depth, HistoryError, SkippedFile, for_each_file, rollout};
use crate::io::Progress;
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
    read_ends(home, set, &all, skipped)?;
    let conversations = &mut set.conversations;
    let at = |c: &RebuildConversation| c.updated.as_ref().map(|time| time.at);
    let mut newest_first = all;
    newest_first.sort_unstable_by(|a, b| {
        let (a, b) = (&conversations[*a], &conversations[*b]);
        (at(b), &b.id).cmp(&(at(a), &a.id))
    });
    for beyond in &newest_first[max..] {
        conversations[*beyond].is_restored = false;
    }
    Ok(conversations.len() - max)
}

/// Sets the times of the conversations at `places` from the ends of their rollouts.
fn read_ends(
    home: &Path,
    set: &mut ConversationSet,
    places: &[usize],
    skipped: &mut Vec<SkippedFile>,
) -> Result<(), HistoryError> {
    let (owners, paths) = set.list_rollouts(home, places);
    let read = rollout::read_last_time;
    for_each_file(paths.into_iter(), 1, skipped, read, |n, time| {
        set.conversations[owners[n]].add_time(time);
        Ok(())
    })?;
    for place in places {
        set.conversations[*place].set_updated();
    }
    Ok(())
}

/// Reads the rollouts of the selected conversations, and adds their messages to `prompts` if it is given. They are read
/// completely if prompts are wanted or their row has no title, else from their ends, for the time of the last change.
/// Returns the number of bad lines.
pub(super) fn scan(
    home: &Path,
    set: &mut ConversationSet,
    mut prompts: Option<&mut Prompts>,
    skipped: &mut Vec<SkippedFile>,
    progress: &dyn Progress,
) -> Result<u64, HistoryError> {
    let restored =
        (0..set.conversations.len()).filter(|place| set.conversations[*place].is_restored);
    let (whole, ends): (Vec<_>, Vec<_>) = restored
        .partition(|place| prompts.is_some() || set.conversations[*place].row_title().is_none());
    let (owners, paths) = set.list_rollouts(home, &whole);
    let lengths = paths
        .iter()
        .map(|path| path.metadata().map_or(0, |m| m.len()));
    progress.expect_bytes(lengths.sum());
    let mut bad_lines = 0;
    let read =
        |path: &Path| rollout::scan(path, Depth::Messages, |bytes| progress.add_bytes(bytes));
    for_each_file(paths.into_iter(), 1, skipped, read, |n, scan| {
        bad_lines += scan.bad_lines;
        let conversation = &mut set.conversations[owners[n]];
        if let Some(prompts) = &mut prompts {
            for message in &scan.messages {
                prompts.add(&conversation.id, message)?;
            }
        }
        conversation.add_time(scan.last);
        conversation.title = conversation.title.take().or(scan.title);
        Ok(())
    })?;
    for place in whole {
        set.conversations[place].set_updated();
    }
    read_ends(home, set, &ends, skipped)?;
    Ok(bad_lines)
}
