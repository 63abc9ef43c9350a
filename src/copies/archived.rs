//! The conversations of an archive or a snapshot.

use crate::copies::source::{ConversationSource, rollout_files};
use codex_manager_core::archive::{FileEntry, FileList};
use codex_manager_core::codex::{ListedThread, RolloutName, ThreadFilter, threads};
use codex_manager_core::history::files;
use codex_manager_core::io::IoError;
use codex_manager_core::restore::needed_paths::find_newest_state_database;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Returns the rollouts of each conversation, the oldest first, by the id of the conversation in lower case. If a
/// rollout has a plain and a compressed form, returns the plain one. A conversation that was rewound has several
/// rollouts.
pub(crate) fn group_rollouts_by_conversation(files: &FileList) -> BTreeMap<String, Vec<FileEntry>> {
    let mut rollouts: BTreeMap<(String, String), FileEntry> = BTreeMap::new();
    for (name, file) in rollout_files(files) {
        if let (Some(id), Some(rollout)) = (name.id(), name.rollout_id()) {
            let conversation_and_rollout = (id.to_lowercase(), rollout.to_lowercase());
            if !name.compressed || !rollouts.contains_key(&conversation_and_rollout) {
                rollouts.insert(conversation_and_rollout, file);
            }
        }
    }

    let mut conversations: BTreeMap<String, Vec<FileEntry>> = BTreeMap::new();
    for ((id, _), file) in rollouts {
        conversations.entry(id).or_default().push(file);
    }
    conversations
}

/// Returns the ids of the conversations with a rollout below `home`, in lower case.
///
/// # Errors
/// A folder cannot be listed.
pub(crate) fn list_ids_on_disk(home: &Path) -> Result<HashSet<String>, IoError> {
    let files = files::find_rollouts(home)?.into_iter();
    let names = files.filter_map(|file| RolloutName::parse(&file.relative));
    Ok(names
        .filter_map(|name| name.id().map(str::to_lowercase))
        .collect())
}

/// Returns the conversations in the newest state database of a source. Returns none if the database is missing or
/// unreadable, because each conversation can also be found by its rollouts.
pub(crate) fn read_threads(source: &dyn ConversationSource) -> Vec<ListedThread> {
    let try_read = || {
        let entry = find_newest_state_database(source.files())?;
        let database = tempfile::NamedTempFile::new().ok()?;
        source.extract(&entry, database.as_file()).ok()?;
        threads::list(database.path(), &ThreadFilter::default()).ok()
    };
    try_read().unwrap_or_default()
}
