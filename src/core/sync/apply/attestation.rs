//! Decides which files this machine attests in its manifest.
//!
//! This machine attests the versions that it wrote, without those that [`select_published_entries`] leaves out. It also
//! attests each file with equal content on both sides if no other machine does. So a cloud folder that was filled by
//! other means, or by a machine that is gone, becomes usable for further machines once one machine with the same
//! content has synced.

use super::error::ApplyError;
use super::request::ApplyRequest;
use crate::codex::{rollout, text_damage};
use crate::io::{IoContext, IoError};
use crate::sync::config::SyncConfig;
use crate::sync::ledger::{Ledger, LedgerContents};
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::sides::{Side, Stat};
use crate::sync::state::{SyncState, SyncedFile};
use crate::sync::{contents, identity, line_merge, rollouts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Adds the synced files without attestation to `own_entries`, those of this machine's manifest. Skips files that
/// changed since the last sync, which a later run attests. Adds nothing while the manifest of another machine is not
/// downloaded. Records in `state` the digests that it reads.
pub(super) fn attest_unlisted(
    state: &mut SyncState,
    own_entries: &mut BTreeMap<String, ManifestEntry>,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    let is_listed = |last: &SyncedFile| {
        let entry = own_entries.get(&last.remote.path);
        entry.is_some_and(|entry| matches_last_sync(entry, last))
    };
    let unattested = state.files.iter().filter(|(_, last)| !is_listed(last));
    let mut unattested: Vec<String> = unattested.map(|(key, _)| key.clone()).collect();
    if unattested.is_empty() {
        return Ok(());
    }

    let config = request.config;
    let manifests = identity::read_remote_manifests(config, state)?;
    // The manifest of another machine that is not downloaded may attest the files.
    if !manifests.not_downloaded.is_empty() {
        return Ok(());
    }

    // In a fixed order, so that a run continues where an interrupted run stopped.
    unattested.sort();
    for key in unattested {
        let Some(last) = state.files.get_mut(&key) else {
            continue;
        };
        let mut listed = manifests.listed_entries(&manifest::folded_key(&last.remote.path));
        if listed.any(|entry| matches_last_sync(entry, last)) {
            continue;
        }

        request.check_interrupt()?;
        let entry = match build_verified_entry(last, config) {
            // The file was removed in the meantime; the next run checks again.
            Err(e) if e.is_not_found() => None,
            entry => entry?,
        };
        if let Some(entry) = entry {
            own_entries.insert(last.remote.path.clone(), entry);
        }
    }
    Ok(())
}

/// Removes each entry of a plain file with another digest than that of the last sync. Other machines would wait for the
/// replaced version that the entry lists.
pub(super) fn remove_replaced(entries: &mut BTreeMap<String, ManifestEntry>, state: &SyncState) {
    entries.retain(|path, entry| {
        let synced_digest = state.files.get(path).and_then(SyncedFile::text_digest);
        rollouts::key(path).is_some()
            || line_merge::is_mergeable(path)
            || synced_digest.is_none_or(|digest| digest == entry.digest)
    });
}

/// Returns the entries of `files` to publish. Leaves out
/// - files that the cloud folder lacks, without a record of this machine or a deletion of any machine. Other machines
///   would wait for them forever. Both sides lost such a file, or a run was killed before it recorded the upload and
///   the user then deleted the file;
/// - versions of conversations that are longer than the synced or the deleted text. They became conflict copies, Codex
///   rewrote them, or a machine that did not have them brought the deleted conversation back.
///
/// Entries of deleted files stay, because they identify older versions. The ledger keeps all entries, because a cloud
/// client may bring a file back.
pub(super) fn select_published_entries(
    files: &BTreeMap<String, ManifestEntry>,
    state: &SyncState,
    config: &SyncConfig,
) -> Result<BTreeMap<String, ManifestEntry>, IoError> {
    let mut entries = files.clone();
    entries.retain(|path, entry| !exceeds_synced_text(path, entry, state));

    let is_missing = |path: &&String| {
        let key = rollouts::key(path);
        !state.files.contains_key(key.as_deref().unwrap_or(path))
            && config.cloud.join(path).symlink_metadata().is_err()
    };
    let missing: Vec<_> = files.keys().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(entries);
    }

    let manifests = identity::read_remote_manifests(config, state)?;
    let recorded_keys = state.files.keys().chain(state.deleted.keys());
    let known_keys: BTreeSet<String> = recorded_keys.map(|key| manifest::fold_name(key)).collect();
    for path in missing {
        let Some(size) = entries.get(path).map(|entry| entry.size) else {
            continue;
        };
        let key = manifest::folded_key(path);
        let own_deletion = rollouts::key(path).and_then(|key| state.deleted.get(&key));
        let deletions = manifests.pending_deletions(&key);
        let deletions: Vec<_> = deletions.chain(own_deletion).collect();
        let has_no_record = deletions.is_empty() && !known_keys.contains(&key);

        let is_shorter_deleted_text = |listed: &ManifestEntry| {
            let digest = listed.digest.to_string();
            listed.size < size && deletions.iter().any(|deletion| deletion.digest == digest)
        };
        let mut listed = manifests.listed_entries(&key);
        let exceeds_deleted_text = rollouts::is_key(&key) && listed.any(is_shorter_deleted_text);
        if has_no_record || exceeds_deleted_text {
            entries.remove(path);
        }
    }
    Ok(entries)
}

/// Returns true for a version of a conversation that is longer than the text of the last sync.
fn exceeds_synced_text(path: &str, entry: &ManifestEntry, state: &SyncState) -> bool {
    let synced_text = rollouts::key(path).and_then(|key| state.files.get(&key)?.text);
    // The size of a compressed file says nothing about its text.
    !path.ends_with(rollout::ZST) && synced_text.is_some_and(|text| entry.size > text.len)
}

/// Reads the ledger, with its entries corrected. Of the superseded versions, only those that the cloud client may
/// still deliver are left.
pub(super) fn read_written_entries(request: &ApplyRequest<'_>) -> Result<LedgerContents, IoError> {
    let mut ledger = Ledger::read(request.replica.run_folder())?;
    let superseded = std::mem::take(&mut ledger.superseded);
    let cloud = &request.config.cloud;
    ledger.superseded = correct_unwritten_entries(&mut ledger.files, superseded, cloud);
    Ok(ledger)
}

/// Corrects the entries in `files` for which the ledger has `superseded` versions too: a killed run may have recorded a
/// version that it never wrote. Such an entry becomes the version that the cloud folder has. If the cloud folder has
/// none of these versions, the entry stays, and the superseded versions are returned, because the cloud client may
/// still deliver them.
fn correct_unwritten_entries(
    files: &mut BTreeMap<String, ManifestEntry>,
    superseded: Vec<(String, ManifestEntry)>,
    cloud: &Path,
) -> Vec<(String, ManifestEntry)> {
    let mut versions_by_path: BTreeMap<String, Vec<ManifestEntry>> = BTreeMap::new();
    for (path, entry) in superseded {
        versions_by_path.entry(path).or_default().push(entry);
    }

    let mut undelivered = Vec::new();
    for (path, versions) in versions_by_path {
        let Some(recorded) = files.get_mut(&path) else {
            continue;
        };
        match find_written_version(recorded, &versions, &cloud.join(&path)).cloned() {
            Some(written) => *recorded = written,
            None => undelivered.extend(versions.into_iter().map(|entry| (path.clone(), entry))),
        }
    }
    undelivered
}

/// Returns the version that the file at `path` has. `None` if the file has another version or cannot be read.
fn find_written_version<'v>(
    recorded: &'v ManifestEntry,
    superseded: &'v [ManifestEntry],
    path: &Path,
) -> Option<&'v ManifestEntry> {
    let size = Stat::read(path).ok().flatten()?.size;
    // Sizes tell most versions apart, so the content is read only if a superseded version has this size.
    if superseded.iter().all(|entry| entry.size != size) {
        return (recorded.size == size).then_some(recorded);
    }

    let digest = contents::read_raw_digest(path).ok()?;
    let mut versions = std::iter::once(recorded).chain(superseded);
    versions.find(|entry| entry.digest == digest)
}

/// Returns true if the entry has the size and, as far as it is known, the digest of the remote file at the last sync.
fn matches_last_sync(entry: &ManifestEntry, last: &SyncedFile) -> bool {
    // The recorded digest is that of the text, and an entry has the digest of the bytes.
    let is_uncompressed = !last.remote.path.ends_with(rollout::ZST);
    let digest = last.text_digest().filter(|_| is_uncompressed);
    entry.size == last.remote.stat.size && digest.is_none_or(|digest| digest == entry.digest)
}

/// Builds an entry for the remote file. Returns `None` if the file is incomplete, or if a side changed since the last
/// sync. Sets `last.text` if it was unknown and both sides have the same text.
fn build_verified_entry(
    last: &mut SyncedFile,
    config: &SyncConfig,
) -> Result<Option<ManifestEntry>, IoError> {
    let local_path = config.file_path(Side::Local, &last.local.path);
    let remote_path = config.file_path(Side::Remote, &last.remote.path);
    if !last.is_unchanged(config)? {
        return Ok(None);
    }

    let read_text = |path: &Path| contents::read_text_digest(path).at("read", path);
    let is_compressed = last.remote.path.ends_with(rollout::ZST);
    let raw_digest = match last.text {
        Some(text) if !is_compressed && text.len == last.remote.stat.size => text.digest,
        _ => contents::read_raw_digest(&remote_path).at("read", &remote_path)?,
    };

    if last.text.is_none() {
        let remote_text = read_text(&remote_path)?;
        if remote_text == read_text(&local_path)? {
            last.text = Some(remote_text);
        } else if text_damage::find_defect(&remote_path, false)
            .at("read", &remote_path)?
            .is_some()
        {
            // The files were equal by size and mtime only, and the remote one may be incomplete. The checks of a plain
            // file fit any content.
            return Ok(None);
        }
    }

    // A side may have changed while it was read.
    Ok(last.is_unchanged(config)?.then_some(ManifestEntry {
        size: last.remote.stat.size,
        mtime_ns: last.local.stat.mtime_ns,
        digest: raw_digest,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::Sha256Digest;

    #[test]
    fn a_recorded_version_that_was_never_written_is_not_attested() {
        let version = |text: &str| ManifestEntry {
            size: text.len() as u64,
            mtime_ns: 5,
            digest: Sha256Digest::of(text.as_bytes()),
        };
        // The content of the cloud folder, the version attested then, and the number of undelivered versions.
        for (remote, expected, undelivered) in [
            (Some("new"), "new", 0),
            (Some("old"), "old", 0),
            (Some("older"), "older", 0),
            (Some("\0\0\0"), "new", 2),
            (Some("of another"), "new", 2),
            (None, "new", 2),
        ] {
            let cloud = tempfile::tempdir().unwrap();
            if let Some(text) = remote {
                std::fs::write(cloud.path().join("a"), text).unwrap();
            }
            let mut files = BTreeMap::from([("a".to_owned(), version("new"))]);
            let superseded = ["older", "old"].map(|text| ("a".to_owned(), version(text)));
            let left = correct_unwritten_entries(&mut files, superseded.to_vec(), cloud.path());
            assert_eq!(files["a"], version(expected), "{remote:?}");
            assert_eq!(left, superseded[..undelivered], "{remote:?}");
        }
    }
}
