//! Detects remote files that changed although their size and mtime did not: cloud clients round mtimes, and an edit can
//! keep the size. If another machine attests a version of equal size that is neither the version of the last sync nor
//! an older one, the file is read.

use crate::codex::rollout;
use crate::sync::config::SyncConfig;
use crate::sync::file_group::FileGroup;
use crate::sync::listed_versions::RemoteManifests;
use crate::sync::sides::{Side, Stat};
use crate::sync::state::{SyncState, SyncedFile};
use crate::sync::{contents, line_merge};
use std::collections::HashMap;

/// Reads the remote files that may have changed despite equal size and mtime. Resets the recorded mtime of a changed
/// file, so that the plan sees the change.
pub(crate) fn reset_mtimes_of_changed_files(
    state: &mut SyncState,
    groups: &HashMap<String, FileGroup>,
    manifests: &RemoteManifests,
    config: &SyncConfig,
) {
    if !manifests.has_listed_files() {
        return;
    }

    let mut changed_keys = Vec::new();
    for (key, group) in groups {
        let matches = |last: &SyncedFile| {
            let mut files = group.remote.iter();
            files.any(|file| last.remote.matches(&file.path, file.stat))
        };
        // Line-based files are always read, whatever their size and time.
        if !line_merge::is_mergeable(key)
            && let Some(last) = state.files.get(key)
            && matches(last)
            && has_changed(state, key, last, manifests, config)
        {
            changed_keys.push(key);
        }
    }

    for key in changed_keys {
        // The comparison of states at the end of a run does not see the reset.
        state.file.needs_rewrite = true;
        if let Some(last) = state.files.get_mut(key) {
            last.remote.stat.mtime_ns = Stat::UNKNOWN_MTIME_NS;
        }
    }
}

/// Returns true if a manifest suggests a change of a remote file, and the file has another content than at the last
/// sync. A compressed file counts as unchanged: the digest of its text says nothing about its bytes. A file without a
/// recorded digest also counts as unchanged: equal size and time were proof enough for the last sync.
fn has_changed(
    state: &SyncState,
    key: &str,
    last: &SyncedFile,
    manifests: &RemoteManifests,
    config: &SyncConfig,
) -> bool {
    let Some(synced_digest) = last.text_digest() else {
        return false;
    };
    if last.remote.path.ends_with(rollout::ZST) {
        return false;
    }

    let mut listed = manifests.listed_entries(key);
    let is_unknown_version_listed = listed.any(|entry| {
        entry.size == last.remote.stat.size
            && entry.digest != synced_digest
            && !state.replaced_digests(key).contains(&entry.digest)
    });

    // An unreadable file counts as unchanged; the plan for it reports the error if it needs the content.
    let path = config.file_path(Side::Remote, &last.remote.path);
    is_unknown_version_listed
        && contents::read_raw_digest(&path).is_ok_and(|digest| digest != synced_digest)
}
