//! The archive with the most complete copy of a conversation.

use crate::context::Context;
use crate::copies::losses::places::may_have_copies;
use crate::copies::losses::rollout_copy::{StoredVersion, version_of};
use crate::copies::source::{self, ConversationSource, rollout_files};
use crate::error::{CommandError, Result, check_interrupt};
use codex_manager_core::archive::{ArchiveReader, FileEntry};
use codex_manager_core::codex::RolloutName;
use codex_manager_core::inventory::archive_names::{list_numbered, shortest_name};
use codex_manager_core::io::pluralize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Counts the messages in the archived copies of one conversation.
#[derive(Default)]
struct CopyCounts {
    /// The id of the conversation, once an archive with it was found. In an older archive, another conversation may
    /// have the same name.
    id: Option<String>,
    /// The numbers of messages by the versions of all rollouts.
    counts_by_version: HashMap<Vec<StoredVersion>, usize>,
    /// The number of archives with the conversation.
    archive_count: usize,
}

impl CopyCounts {
    /// Counts the messages of the conversation in an archive. Returns their number; `None` if the archive does not have
    /// the conversation.
    fn add_archive(&mut self, archive: &ArchiveReader, name_or_id: &str) -> Result<Option<usize>> {
        let name_or_id = self.id.as_deref().unwrap_or(name_or_id);
        let Some(names) = source::find_rollout_names(archive, name_or_id)? else {
            return Ok(None);
        };

        let own_rollout = names.first().map(Path::new).and_then(RolloutName::parse);
        let own_id = own_rollout.as_ref().and_then(RolloutName::id);
        let rollouts = list_own_rollouts(archive, own_id.unwrap_or_default());
        self.id = own_id.map(str::to_owned);
        self.archive_count += 1;

        let versions: Vec<_> = rollouts.iter().map(version_of).collect();
        // Successive archives often have the same version of a conversation, and extracting it takes long.
        if let Some(count) = self.counts_by_version.get(&versions) {
            return Ok(Some(*count));
        }

        let count = count_messages(archive, &rollouts)?;
        self.counts_by_version.insert(versions, count);
        Ok(Some(count))
    }
}

/// Returns the archive with the most messages of the conversation `name_or_id`. If several have the most messages,
/// returns the newest one. Prints the name of the archive if several archives have the conversation. Warns of an
/// archive that cannot be opened, and skips it.
///
/// # Errors
/// No archive of the Codex home has the conversation, several conversations match, or a copy cannot be read.
pub(crate) fn find_fullest_archive(name_or_id: &str, context: &Context) -> Result<PathBuf> {
    let home = context.codex_home();
    let records = context.archives()?;
    let mut copies = CopyCounts::default();
    let mut fullest: Option<(usize, PathBuf, String)> = None;

    for record in list_numbered(&records) {
        if !may_have_copies(&record.metadata, home) || !record.is_usable() {
            continue;
        }
        check_interrupt()?;

        let path = context.backups().join(&record.path);
        let archive = match ArchiveReader::open(&path) {
            Ok(archive) => archive,
            // A damaged archive must not keep the user from the copies in others.
            Err(e) => {
                let (name, problem) = (shortest_name(record), CommandError::from(e).to_one_line());
                context.warn(format_args!("not searched: {name}: {problem}"));
                continue;
            }
        };

        let Some(count) = copies.add_archive(&archive, name_or_id)? else {
            continue;
        };
        if fullest.as_ref().is_none_or(|(most, ..)| count > *most) {
            fullest = Some((count, path, shortest_name(record)));
        }
    }

    let Some((count, path, name)) = fullest else {
        let message = format!("no archive has a conversation with this id or name: {name_or_id}");
        let hint = "search the archives by words: codex-manager find --archives WORDS";
        return Err(CommandError::failed(message).hint(hint));
    };

    if copies.archive_count > 1 {
        context.ui.note(format_args!(
            "{name} has the most complete of {}, with {}",
            pluralize(copies.archive_count, "archived copy"),
            pluralize(count, "message")
        ));
    }
    Ok(path)
}

/// Returns the rollouts of the conversation itself, without the rollouts of other conversations that it continues.
fn list_own_rollouts(archive: &ArchiveReader, id: &str) -> Vec<FileEntry> {
    rollout_files(archive.files())
        .filter(|(name, _)| name.id().is_some_and(|own| own.eq_ignore_ascii_case(id)))
        .map(|(_, entry)| entry)
        .collect()
}

fn count_messages(archive: &ArchiveReader, entries: &[FileEntry]) -> Result<usize> {
    let mut count = 0;
    for entry in entries {
        count += source::read_messages(archive, entry)?.len();
    }
    Ok(count)
}
