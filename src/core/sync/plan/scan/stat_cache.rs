//! Detects remote files that changed although their size and mtime did not: cloud clients round mtimes, and an edit can
//! keep the size. If another machine attests a version of equal size that is neither the version of the last sync nor
//! an older one, the file is read.

use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::sync::config::{Compare, SyncConfig};
use crate::sync::file_group::state_key;
use crate::sync::manifest::ManifestEntry;
use crate::sync::remote::folder::listed_versions::RemoteManifests;
use crate::sync::scan::SideListing;
use crate::sync::sides::{Side, Stat};
use crate::sync::state::{SyncState, SyncedFile};
use crate::sync::{contents, line_merge};

/// The result of reading a file again.
enum Recheck {
    /// No change since the last sync was found. The state records the digest, so that the file is not read again.
    Unchanged(Sha256Digest),
    Changed,
}

/// Reads the remote files that may have changed despite equal size and mtime. Resets the recorded mtime of a changed
/// file, so that the plan sees the change, and records the digest of an unchanged file in the state.
pub(crate) fn recheck_stats(
    state: &mut SyncState,
    remote: &SideListing,
    manifests: &RemoteManifests,
    config: &SyncConfig,
) {
    let mut rechecked = Vec::new();
    for file in &remote.files {
        let key = state_key(&file.path);
        // Line-based files are always read, whatever their size and time.
        if line_merge::is_mergeable(&key) {
            continue;
        }

        if let Some(last) = state.files.get(&key)
            && last.remote.matches(&file.path, file.stat)
            && let Some(result) = recheck_file(state, &key, last, manifests, config)
        {
            rechecked.push((key, result));
        }
    }

    state.file.needs_rewrite |= !rechecked.is_empty();
    for (key, result) in rechecked {
        let Some(last) = state.files.get_mut(&key) else {
            continue;
        };
        match result {
            Recheck::Unchanged(digest) => {
                state.remote_digests.insert(key, (last.remote.stat, digest));
            }
            Recheck::Changed => {
                last.remote.stat.mtime_ns = Stat::NEVER;
                state.remote_digests.remove(&key);
            }
        }
    }
}

/// Reads a remote file if a manifest suggests a change; `None` if there is nothing to record.
fn recheck_file(
    state: &SyncState,
    key: &str,
    last: &SyncedFile,
    manifests: &RemoteManifests,
    config: &SyncConfig,
) -> Option<Recheck> {
    let listed = manifests.listed_entries(key);
    let mut entries_of_same_size = listed.filter(|entry| entry.size == last.remote.stat.size);
    let synced_digest = last_synced_digest(state, key, last);

    let is_unknown_version = |entry: &ManifestEntry| match &synced_digest {
        Some(synced_digest) => {
            entry.digest != *synced_digest && !state.replaced_digests(key).contains(&entry.digest)
        }
        // With `compare = "mtime"` and no recorded digest, the user accepts equal size and time as proof.
        None => last.contents.is_some() || config.policy.rules.compare != Compare::Mtime,
    };
    if !entries_of_same_size.any(is_unknown_version) {
        return None;
    }

    // An unreadable file counts as unchanged; the plan for it reports the error if it needs the content.
    let path = config.file_path(Side::Remote, &last.remote.path);
    let raw_digest = contents::read_raw_digest(&path).ok()?;
    match (synced_digest, last.contents) {
        (Some(synced_digest), _) => (raw_digest != synced_digest).then_some(Recheck::Changed),
        (None, Some((_, text_digest))) => {
            let has_synced_text = contents::read_text_digest(&path).ok()?.1 == text_digest;
            Some(if has_synced_text {
                Recheck::Unchanged(raw_digest)
            } else {
                Recheck::Changed
            })
        }
        // No digest of the last sync is known, so later runs compare with the present one.
        (None, None) => Some(Recheck::Unchanged(raw_digest)),
    }
}

/// Returns the digest of the bytes that the last sync left in the cloud folder, if known.
fn last_synced_digest(state: &SyncState, key: &str, last: &SyncedFile) -> Option<Sha256Digest> {
    let is_uncompressed = !last.remote.path.ends_with(rollout::ZST);
    let text_digest = last
        .contents
        // The digest of the text is that of the bytes only without compression.
        .filter(|_| is_uncompressed)
        .map(|(_, digest)| digest);
    text_digest.or_else(|| {
        let (stat, digest) = state.remote_digests.get(key)?;
        (*stat == last.remote.stat).then_some(*digest)
    })
}
