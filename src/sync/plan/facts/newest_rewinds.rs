//! Finds the newest rollout of each rewound thread by the names and places of the files.

use crate::sync::decide::choose_folder;
use crate::sync::file_group::FileGroup;
use crate::sync::rollouts;
use crate::sync::state::SyncState;
use std::collections::HashMap;

/// Returns the newest rollout of each rewound thread and true if it is archived after this sync, by the id of the thread
/// in lower case. Codex continues the newest rollout, and archives all rollouts of a thread at once.
pub(super) fn find_newest_rewinds(
    groups: &HashMap<String, FileGroup>,
    state: &SyncState,
) -> HashMap<String, (String, bool)> {
    let mut newest: HashMap<String, (String, bool)> = HashMap::new();
    for (key, group) in groups {
        if !rollouts::is_rewind(rollouts::file_name(key)) {
            continue;
        }
        let last = state.files.get(key);
        let last = last.map(|last| rollouts::parent_folder(&last.local.path));
        let folders = [&group.local, &group.remote]
            .map(|files| Some(rollouts::parent_folder(&files.first()?.path)));
        let folder = match folders {
            [Some(local), Some(remote)] => Some(choose_folder(local, remote, last)),
            [local, remote] => local.or(remote),
        };

        let ids = rollouts::id(key).zip(rollouts::rollout_id(key));
        if let Some(((thread, id), folder)) = ids.zip(folder) {
            let rewind = (id, rollouts::is_archive_folder(folder));
            let newest = newest.entry(thread.to_lowercase()).or_default();
            *newest = std::mem::take(newest).max(rewind);
        }
    }
    newest
}
