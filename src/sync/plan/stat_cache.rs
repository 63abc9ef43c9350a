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
use crate::sync::lineage::{Descent, descent};
use crate::sync::lines;
use crate::sync::manifest::Written;
use crate::sync::peers::Manifests;
use crate::sync::scan::{Listing, Side, Stat};
use crate::sync::state::{Last, State};

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
    state: &mut State,
    there: &Listing,
    config: &SyncConfig,
) -> Option<Manifests> {
    if state.files.is_empty() {
        return None;
    }
    // Whoever needs what they say asks again, and is told why it cannot be read.
    let others = identity::others(config, state).ok()?;
    let mut learned = Vec::new();
    for file in &there.files {
        let key = key_of(&file.path);
        // Lines are always read.
        if lines::is_lines(&key) {
            continue;
        }
        if let Some(last) = state.files.get(&key)
            && is_as_last_synced(file, &last.there)
            && let Some(found) = recheck(state, &key, last, &others, config)
        {
            learned.push((key, found));
        }
    }
    state.must_be_written |= !learned.is_empty();
    for (key, found) in learned {
        let Some(last) = state.files.get_mut(&key) else {
            continue;
        };
        match found {
            Recheck::Bytes(digest) => {
                state.bytes_there.insert(key, (last.there.stat, digest));
            }
            Recheck::Changed => {
                last.there.stat.mtime_ns = Stat::NEVER;
                state.bytes_there.remove(&key);
            }
        }
    }
    Some(others)
}

fn recheck(
    state: &State,
    key: &str,
    last: &Last,
    others: &Manifests,
    config: &SyncConfig,
) -> Option<Recheck> {
    let said = others.of_others(key);
    let mut alike = said.iter().filter(|w| w.size == last.there.stat.size);
    let known = last_synced_bytes(state, key, last);
    let is_other = |written: &Written| match &known {
        Some(known) => written.digest != *known && !is_older(state, key, written, known),
        None => last.contents.is_some() || config.compare != Compare::Mtime,
    };
    if !alike.any(is_other) {
        return None;
    }
    // One that cannot be read is as it was, until it can.
    let path = config.place(Side::There, &last.there.path);
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
fn last_synced_bytes(state: &State, key: &str, last: &Last) -> Option<Sha256Digest> {
    let is_text = !last.there.path.ends_with(rollout::ZST);
    let text = last.contents.filter(|_| is_text).map(|(_, digest)| digest);
    text.or_else(|| {
        let (stat, digest) = state.bytes_there.get(key)?;
        (*stat == last.there.stat).then_some(*digest)
    })
}

/// Whether a version is known to be older than the one that the last sync left.
fn is_older(state: &State, key: &str, written: &Written, known: &Sha256Digest) -> bool {
    state.histories.get(key).is_some_and(|history| {
        let here = history.of(known);
        descent((&written.history(), &written.digest), (&here, known)) == Descent::Older
    })
}
