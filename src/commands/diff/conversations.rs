//! Compares the conversations of a home with those of an archive, by messages.

use crate::commands::diff::content::Change;
use crate::context::Context;
use crate::copies::archived::group_rollouts_by_conversation;
use crate::copies::source::{self, ConversationSource as _, read_messages};
use crate::error::{Result, check_interrupt};
use codex_manager_core::archive::scan::HomeScan;
use codex_manager_core::archive::{ArchiveReader, FileEntry};
use codex_manager_core::conversations::messages::{self, MessageCounts};
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::io::IoContext;
use serde::Serialize;
use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// A conversation that changed, in JSON. Its keys are a contract.
#[derive(Debug, Serialize)]
pub(super) struct ConversationDiff {
    pub session_id: String,
    pub title: String,
    pub change: Change,
    pub messages_gained: usize,
    pub messages_lost: usize,
}

/// Returns the conversations that only the archive or only the home has, or whose messages differ. Conversations that
/// lost messages come first.
///
/// # Errors
/// A rollout cannot be read, an archived one cannot be extracted, or the user interrupts.
pub(super) fn compare_conversations(
    archive: &ArchiveReader,
    home_scan: &HomeScan,
    context: &Context,
) -> Result<Vec<ConversationDiff>> {
    let home = context.codex_home();
    let archived_by_id = group_rollouts_by_conversation(archive.files());
    let live_by_id = group_rollouts_by_conversation(&home_scan.files);
    let ids: BTreeSet<_> = archived_by_id.keys().chain(live_by_id.keys()).collect();
    let mut changed = Vec::new();

    for id in ids {
        check_interrupt()?;

        let (archived, live) = (archived_by_id.get(id), live_by_id.get(id));
        // `Added` or `Removed`; `None` if both the archive and the home have the conversation.
        let added_or_removed = Change::between(archived.map(|_| ()), live.map(|_| ()));
        let archived = archived.map(Vec::as_slice).unwrap_or_default();
        let live = live.map(Vec::as_slice).unwrap_or_default();
        // Rollouts with equal stamps need not be read.
        if list_rollout_stamps(archived) == list_rollout_stamps(live) {
            continue;
        }

        let (messages_gained, messages_lost) =
            count_gained_and_lost(archived, live, archive, home)?;
        let has_other_messages = messages_gained + messages_lost > 0;
        if let Some(change) = added_or_removed.or(has_other_messages.then_some(Change::Changed)) {
            changed.push(ConversationDiff {
                session_id: id.clone(),
                title: String::new(),
                change,
                messages_gained,
                messages_lost,
            });
        }
    }

    // `false` sorts before `true`, so the conversations that lost messages come first.
    changed.sort_by_key(|row| row.messages_lost == 0);
    set_titles(&mut changed, archive, context);
    Ok(changed)
}

/// Sets the titles: those of the home, else those of the archive.
fn set_titles(changed: &mut [ConversationDiff], archive: &ArchiveReader, context: &Context) {
    let ids = changed.iter().map(|row| row.session_id.to_lowercase());
    let titles = read_titles(context.codex_home(), &context.env, ids.collect());
    // Read only if needed: the titles are near the end of an archive. Without them, the rows have no titles.
    let archived_titles = LazyCell::new(|| source::read_titles(archive).unwrap_or_default());
    for row in changed {
        let id = row.session_id.to_lowercase();
        let title = titles.get(&id).or_else(|| match row.change {
            Change::Added => None,
            Change::Removed | Change::Changed => archived_titles.get(&id)?.first(),
        });
        row.title = title.cloned().unwrap_or_default();
    }
}

/// Returns file name, size and mtime of each file, sorted. Equal lists mean equal rollouts, even if Codex moved them to
/// another folder.
fn list_rollout_stamps(files: &[FileEntry]) -> Vec<(Option<OsString>, u64, i64)> {
    let stamps = files.iter().map(|file| {
        let name = file.path.as_path().file_name().map(ToOwned::to_owned);
        (name, file.size, file.mtime)
    });
    let mut stamps: Vec<_> = stamps.collect();
    stamps.sort();
    stamps
}

/// Returns the number of messages that only the home has, and the number that only the archive has. `archived` are the
/// rollouts of a conversation in the archive, `live` its rollouts in the home.
fn count_gained_and_lost(
    archived: &[FileEntry],
    live: &[FileEntry],
    archive: &ArchiveReader,
    home: &Path,
) -> Result<(usize, usize)> {
    let (mut live_messages, mut archived_messages) = (Vec::new(), Vec::new());
    for file in live {
        let path = home.join(file.path.as_path());
        live_messages.extend(messages::read_messages(&path).at("read", &path)?);
    }

    for file in archived {
        archived_messages.extend(read_messages(archive, file)?);
    }

    // Counts the messages of `wanted` that `present` lacks.
    let count_missing_from = |present: &[_], wanted: &[_]| {
        let mut counts = MessageCounts::default();
        counts.add(present);
        counts.find_missing(wanted).len()
    };
    let gained = count_missing_from(&archived_messages, &live_messages);
    let lost = count_missing_from(&live_messages, &archived_messages);
    Ok((gained, lost))
}
