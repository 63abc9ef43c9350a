//! Finds the newest rollout of each rewound thread by the names and places of the files.

use crate::codex::rollout::OrderedRolloutId;
use crate::sync::decide::choose_folder;
use crate::sync::file_group::FileGroup;
use crate::sync::rollouts;
use crate::sync::state::SyncState;
use std::collections::HashMap;

/// Ordered by the rollout; `is_archived` only makes the order total.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NewestRewind {
    rollout_id: OrderedRolloutId,
    /// True if the rollout is in the archive after this sync.
    pub is_archived: bool,
}

/// Returns the newest rollout of each rewound thread, by the id of the thread in lower case. Codex continues the newest
/// rollout, and archives all rollouts of a thread at once.
pub(super) fn find_newest_rewinds(
    groups: &HashMap<String, FileGroup>,
    state: &SyncState,
) -> HashMap<String, NewestRewind> {
    let mut rewinds: HashMap<String, NewestRewind> = HashMap::new();
    for (key, group) in groups {
        if !rollouts::is_rewind(rollouts::file_name(key)) {
            continue;
        }
        let last = state.files.get(key);
        let last_folder = last.map(|last| rollouts::parent_folder(&last.local.path));
        let folders = [&group.local, &group.remote]
            .map(|files| Some(rollouts::parent_folder(&files.first()?.path)));
        let folder = match folders {
            [Some(local), Some(remote)] => Some(choose_folder(local, remote, last_folder)),
            [local, remote] => local.or(remote),
        };

        let Some((ids, folder)) = rollouts::ids(key).zip(folder) else {
            continue;
        };
        let rewind = NewestRewind {
            rollout_id: ids.rollout,
            is_archived: rollouts::is_archive_folder(folder),
        };
        let newest = rewinds.get(&ids.thread);
        if newest.is_none_or(|newest| *newest < rewind) {
            rewinds.insert(ids.thread, rewind);
        }
    }
    rewinds
}
