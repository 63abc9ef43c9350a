//! The snapshots of sync: the state of each replica, with a manifest, in the repository of the vault.
//!
//! A snapshot appears as a whole, and nothing in it changes. Its root has [`MANIFEST`] and the folder of the home.

use super::backup::run_backup;
use super::error::VaultError;
use super::restic::Restic;
use super::snapshot::list_tagged;
use super::tags::{LAYOUT, SYNC_TAG, find_value, format_sync_tags, parse_layout, parse_sync_tags};
use super::tree_lock::TreeLock;
use crate::io::Progress;
use crate::sync::snapshots::{MANIFEST, Publication, RemoteSnapshot, SnapshotManifest, find_heads};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

/// The largest manifest that is read: some four million files.
const MAX_MANIFEST_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone)]
pub struct ReplicaSnapshot {
    pub(crate) time: DateTime<Utc>,
    pub published: RemoteSnapshot,
}

impl ReplicaSnapshot {
    /// Returns a sort key that is larger for a newer snapshot of the same replica. Because clocks may be wrong, the
    /// time only decides between equal numbers.
    fn sort_key(&self) -> (u64, DateTime<Utc>) {
        (self.published.number, self.time)
    }
}

/// Lists the snapshots of all replicas, oldest first. Takes no lock.
///
/// # Errors
/// restic fails, or a newer version of this program made one of the snapshots.
pub fn list_replica_snapshots(restic: &Restic) -> Result<Vec<ReplicaSnapshot>, VaultError> {
    let mut snapshots = Vec::new();
    for listed in list_tagged(restic, &["--tag", SYNC_TAG])? {
        let layout = parse_layout(listed.tags());
        if layout > LAYOUT {
            return Err(VaultError::NewerLayout {
                machine: find_value(listed.tags(), "machine").unwrap_or_default(),
                layout,
            });
        }

        let time = listed.time;
        if let Some(published) = parse_sync_tags(listed.id.clone(), listed.tags()) {
            snapshots.push(ReplicaSnapshot { time, published });
        }
    }

    Ok(snapshots)
}

/// Reads the manifest of a snapshot, which may have at most [`MAX_MANIFEST_BYTES`]. With `locks`, locks the repository,
/// and waits while another process holds an exclusive lock.
///
/// # Errors
/// restic fails, the manifest is larger, or it cannot be parsed.
pub fn read_manifest(
    restic: &Restic,
    snapshot: &RemoteSnapshot,
    locks: bool,
) -> Result<SnapshotManifest, VaultError> {
    let id = &*snapshot.id;
    let path = format!("/{MANIFEST}");
    let mut args = vec!["dump"];
    if !locks {
        args.push("--no-lock");
    }
    args.extend([id, &path]);

    let parsed = restic.stream(&args, |stream| {
        let mut limited = stream.take(MAX_MANIFEST_BYTES + 1);
        let result = SnapshotManifest::parse(&mut limited, &snapshot.machine);
        // Without a reader of the rest, restic would fail, and its error would hide the one in `result`.
        let _ = io::copy(&mut limited, &mut io::sink());

        // The limit is one byte more than a manifest may have.
        if limited.limit() > 0 {
            return Ok(result);
        }
        let detail = format!("its manifest has more than {MAX_MANIFEST_BYTES} bytes");
        Err(VaultError::damaged_snapshot(id, detail))
    })?;
    Ok(parsed?)
}

/// Makes a snapshot of `tree`, which has [`MANIFEST`] and the folder of the home. Returns the id that restic prints,
/// which is short before restic 0.17. restic reads only files whose size, mtime or inode differs from `parent`, the
/// previous snapshot of this replica. `_lock` ensures that no restic of a killed run still reads `tree`.
///
/// # Errors
/// restic fails. No snapshot is made then.
pub fn publish(
    restic: &Restic,
    _lock: &TreeLock,
    tree: &Path,
    publication: &Publication,
    parent: Option<&str>,
    progress: &dyn Progress,
) -> Result<String, VaultError> {
    let tags = format_sync_tags(publication);
    let options: Vec<_> = parent.into_iter().flat_map(|id| ["--parent", id]).collect();
    let machine = &publication.machine;
    Ok(run_backup(restic, tree, machine, &tags, &options, progress)?.id)
}

/// Returns the newest snapshot of each replica, by the id of the replica. The newest snapshot has the highest number,
/// and the latest time among equal numbers.
pub fn newest_by_replica(snapshots: &[ReplicaSnapshot]) -> BTreeMap<&str, &ReplicaSnapshot> {
    let mut newest: BTreeMap<&str, &ReplicaSnapshot> = BTreeMap::new();
    for snapshot in snapshots {
        let entry = newest.entry(&snapshot.published.replica);
        let newest_so_far = entry.or_insert(snapshot);
        if snapshot.sort_key() >= newest_so_far.sort_key() {
            *newest_so_far = snapshot;
        }
    }
    newest
}

/// Returns the ids of the snapshots of a replica, except of its newest `keep`.
///
/// If two machines published under this id, the replica has two newest snapshots, and [`find_heads`] needs the
/// snapshots before them to find both. Returns no ids then, unless `keep` is 0.
pub fn ids_of_all_but_newest<'a>(
    snapshots: &'a [ReplicaSnapshot],
    replica: &str,
    keep: usize,
) -> Vec<&'a str> {
    let is_of_replica = |snapshot: &&ReplicaSnapshot| snapshot.published.replica == replica;
    let mut candidates: Vec<_> = snapshots.iter().filter(is_of_replica).collect();
    let published: Vec<_> = candidates.iter().map(|s| s.published.clone()).collect();
    if keep > 0 && find_heads(&published).len() > 1 {
        return Vec::new();
    }

    candidates.sort_by_key(|snapshot| snapshot.sort_key());
    candidates.truncate(candidates.len().saturating_sub(keep));
    let ids = candidates.iter().map(|snapshot| &*snapshot.published.id);
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: &str, secs: i64, number: u64, base: &str) -> ReplicaSnapshot {
        ReplicaSnapshot {
            time: DateTime::from_timestamp(secs, 0).unwrap(),
            published: RemoteSnapshot {
                id: id.into(),
                replica: "r".into(),
                machine: String::new(),
                number,
                base: Some(base.to_owned()),
            },
        }
    }

    #[test]
    fn the_newest_snapshots_are_those_with_the_highest_numbers() {
        let all = [
            snapshot("d", 1, 5, "c"),
            snapshot("a", 2, 2, "gone"),
            snapshot("b", 3, 3, "a"),
            snapshot("c", 0, 4, "b"),
        ];
        assert_eq!(newest_by_replica(&all)["r"].published.id, "d");
        assert_eq!(ids_of_all_but_newest(&all, "r", 2), ["a", "b"]);
    }

    #[test]
    fn snapshots_of_two_machines_with_one_id_stay_unless_all_are_removed() {
        let all = [
            snapshot("a", 1, 1, "gone"),
            snapshot("copy", 2, 2, "a"),
            snapshot("b", 3, 2, "a"),
            snapshot("c", 4, 3, "b"),
        ];
        assert!(ids_of_all_but_newest(&all, "r", 1).is_empty());
        let each = ["a", "copy", "b", "c"];
        assert_eq!(ids_of_all_but_newest(&all, "r", 0), each);
    }
}
