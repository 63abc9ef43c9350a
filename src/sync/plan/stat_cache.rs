//! Files of the cloud folder that have changed without looking so: clients round times, and an edit may
//! leave a size as it was. Size and time only save reading: where another machine vouches for a text
//! that is not the one of the last sync, the file is read.

use super::grouping::key_of;
use super::versions::is_as_last_synced;
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::sync::config::{Compare, SyncConfig};
use crate::sync::contents;
use crate::sync::identity;
use crate::sync::line_merge;
use crate::sync::manifest::ManifestEntry;
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::scan::{Side, SideListing, Stat};
use crate::sync::state::{SyncState, SyncedFile};
use crate::sync::version_vector::{CausalOrder, causal_order};

/// What was found out about a file by reading it.
enum Recheck {
    /// Its bytes are these, and that is worth noting.
    Bytes(Sha256Digest),
    /// It is not the one that the last sync left.
    Changed,
}

/// Has the state forget how such files looked, and note what was read of others: they are not read
/// again before they look different. Returns what all machines say, where that was read.
pub(super) fn recheck_stats(
    state: &mut SyncState,
    remote: &SideListing,
    config: &SyncConfig,
) -> Option<RemoteManifests> {
    if state.files.is_empty() {
        return None;
    }
    // Whoever needs what they say asks again, and is told why it cannot be read.
    let others = identity::read_remote_manifests(config, state).ok()?;
    let mut learned = Vec::new();
    for file in &remote.files {
        let key = key_of(&file.path);
        // Lines are always read.
        if line_merge::is_mergeable(&key) {
            continue;
        }
        if let Some(last) = state.files.get(&key)
            && is_as_last_synced(file, &last.remote)
            && let Some(found) = recheck(state, &key, last, &others, config)
        {
            learned.push((key, found));
        }
    }
    state.needs_rewrite |= !learned.is_empty();
    for (key, found) in learned {
        let Some(last) = state.files.get_mut(&key) else {
            continue;
        };
        match found {
            Recheck::Bytes(digest) => {
                state.remote_digests.insert(key, (last.remote.stat, digest));
            }
            Recheck::Changed => {
                last.remote.stat.mtime_ns = Stat::NEVER;
                state.remote_digests.remove(&key);
            }
        }
    }
    Some(others)
}

fn recheck(
    state: &SyncState,
    key: &str,
    last: &SyncedFile,
    others: &RemoteManifests,
    config: &SyncConfig,
) -> Option<Recheck> {
    let said = others.entries(key);
    let mut alike = said.iter().filter(|w| w.size == last.remote.stat.size);
    let known = last_synced_bytes(state, key, last);
    let is_other = |written: &ManifestEntry| match &known {
        Some(known) => written.digest != *known && !is_older(state, key, written, known),
        None => last.contents.is_some() || config.compare != Compare::Mtime,
    };
    if !alike.any(is_other) {
        return None;
    }
    // One that cannot be read is as it was, until it can.
    let path = config.file_path(Side::Remote, &last.remote.path);
    let bytes = contents::raw_digest(&path).ok()?;
    match (known, last.contents) {
        (Some(known), _) => (bytes != known).then_some(Recheck::Changed),
        (None, Some((_, text))) => {
            let is_same = contents::read(&path, None).ok()?.digest == text;
            Some(if is_same {
                Recheck::Bytes(bytes)
            } else {
                Recheck::Changed
            })
        }
        (None, None) => Some(Recheck::Bytes(bytes)),
    }
}

/// The digest of the bytes that the last sync left in the cloud folder, where that is known.
fn last_synced_bytes(state: &SyncState, key: &str, last: &SyncedFile) -> Option<Sha256Digest> {
    let is_text = !last.remote.path.ends_with(rollout::ZST);
    let text = last.contents.filter(|_| is_text).map(|(_, digest)| digest);
    text.or_else(|| {
        let (stat, digest) = state.remote_digests.get(key)?;
        (*stat == last.remote.stat).then_some(*digest)
    })
}

/// Whether a version is known to be older than the one that the last sync left.
fn is_older(state: &SyncState, key: &str, written: &ManifestEntry, known: &Sha256Digest) -> bool {
    state.histories.get(key).is_some_and(|history| {
        let local = history.with_explicit_vector(known);
        causal_order((&written.history(), &written.digest), (&local, known)) == CausalOrder::Older
    })
}
