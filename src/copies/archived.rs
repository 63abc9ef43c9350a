//! The conversations of an archive or a snapshot.

use crate::copies::source::rollout_files;
use codex_manager_core::archive::{FileEntry, FileList};
use codex_manager_core::codex::RolloutName;
use codex_manager_core::codex::rollout::OrderedRolloutId;
use codex_manager_core::history::files;
use codex_manager_core::io::IoError;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// Returns the rollouts of each conversation, the oldest first, by the id of the conversation in lower case. If a
/// rollout has a plain and a compressed form, returns the plain one. A conversation that was rewound has several
/// rollouts.
pub(crate) fn group_rollouts_by_conversation(files: &FileList) -> BTreeMap<String, Vec<FileEntry>> {
    let mut rollouts: BTreeMap<(String, OrderedRolloutId), FileEntry> = BTreeMap::new();
    for (name, file) in rollout_files(files) {
        if let (Some(id), Some(rollout)) = (name.id(), name.ordered_id()) {
            let conversation_and_rollout = (id.to_lowercase(), rollout);
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
