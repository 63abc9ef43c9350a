//! The conversations that other machines have and this one does not: the newest snapshot of each machine, as a small
//! Codex home in the manager home.
//!
//! `sync/machines/<replica>/home` has rollouts and the session index; `machine.json` names the snapshot that they are
//! from. A conversation that this machine has with the same times is not fetched. The folder is a cache: files that are
//! missing in it are fetched again.

use super::error::VaultError;
use super::folder::create_staging;
use super::replica_snapshot::{
    ReplicaSnapshot, list_replica_snapshots, newest_by_replica, read_manifest,
};
use super::restic::Restic;
use super::restored_files::restore_files;
use crate::codex::RolloutName;
use crate::history::{files, session_index};
use crate::io::document::{self, Document, DocumentState};
use crate::io::hash::Sha256Digest;
use crate::io::{FileLock, IoContext, IoError, Progress, atomic, modified_ns, tree, tree_sync};
use crate::sync::manifest::ManifestEntry;
use crate::sync::rollouts;
use crate::sync::snapshots::{HOME, place_fetched};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// A machine with its fetched conversations.
#[derive(Debug, Clone)]
pub struct MachineHome {
    pub machine: String,
    pub published_at: DateTime<Utc>,
    /// A folder like a Codex home, with the fetched conversations of the machine.
    pub folder: PathBuf,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct MachineRecord {
    machine: String,
    /// Id of the snapshot from which the files were fetched.
    snapshot: String,
    #[serde(default)]
    published_at: DateTime<Utc>,
    /// The fetched files, by path in the home.
    files: BTreeMap<String, Sha256Digest>,
}

impl Document for MachineRecord {
    const SCHEMA: u64 = 1;
}

/// Returns the folder with the conversations of all machines.
pub fn machines_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("sync").join("machines")
}

/// Returns the machines with fetched conversations, the latest publisher first. Leaves out machines that cannot be
/// read.
pub fn list_machine_homes(manager_home: &Path) -> Vec<MachineHome> {
    let folders = tree::list_folders(&machines_folder(manager_home)).unwrap_or_default();

    let read_machine = |folder: PathBuf| {
        let record = document::read::<MachineRecord>(&record_path(&folder)).ok()?;
        let record = record.good()?;
        Some(MachineHome {
            machine: record.machine,
            published_at: record.published_at,
            folder: folder.join(HOME),
        })
    };

    let mut machines: Vec<_> = folders.into_iter().filter_map(read_machine).collect();
    machines.sort_by_key(|machine| Reverse(machine.published_at));
    machines
}

fn record_path(folder: &Path) -> PathBuf {
    folder.join("machine.json")
}

/// The homes of this machine, for [`refresh`].
#[derive(Debug, Clone, Copy)]
pub struct LocalHomes<'a> {
    pub codex_home: &'a Path,
    pub manager_home: &'a Path,
    /// Id of the replica of this Codex home, if it has synced with the vault.
    pub replica: Option<&'a str>,
}

/// Fetches the conversations that this machine lacks from the newest snapshots of the other machines, and removes
/// fetched conversations that are no longer needed. Returns the machines that could not be read, each with the reason,
/// and keeps the conversations that were fetched from them before.
///
/// # Errors
/// The list of snapshots cannot be read, or the user interrupts.
pub fn refresh(
    restic: &Restic,
    homes: LocalHomes<'_>,
    progress: &dyn Progress,
) -> Result<Vec<(String, VaultError)>, VaultError> {
    let snapshots = list_replica_snapshots(restic)?;
    let mut newest = newest_by_replica(&snapshots);
    // The id comes from a tag, so it may be no valid name of a folder.
    newest.retain(|replica, _| homes.replica != Some(replica) && can_be_folder_name(replica));

    // Only another replica with a snapshot needs a folder.
    let root = machines_folder(homes.manager_home);
    for folder in tree::list_folders(&root)? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if !newest.contains_key(&*name) {
            tree::remove(&folder)?;
        }
    }

    let mut local_times = None;
    let mut failures = Vec::new();
    for (replica, snapshot) in newest {
        let folder = root.join(replica);
        let machine_refresh = MachineRefresh {
            restic,
            homes,
            folder: &folder,
            progress,
        };

        match machine_refresh.refresh_folder(snapshot, &mut local_times) {
            Err(VaultError::Interrupted) => return Err(VaultError::Interrupted),
            Err(e) => failures.push((snapshot.published.machine.clone(), e)),
            Ok(()) => {}
        }
    }

    Ok(failures)
}

/// Returns true for an id that can be the name of a folder.
fn can_be_folder_name(replica: &str) -> bool {
    const MAX_LEN: usize = 64;
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
    replica.len() <= MAX_LEN && replica.chars().all(is_allowed)
}

/// Files of a snapshot, by path in the home.
type ManifestFiles = BTreeMap<String, ManifestEntry>;

/// The modification times of the rollouts of each conversation, in nanoseconds since 1970, by [`to_conversation_key`].
type RolloutTimes = HashMap<String, BTreeSet<i64>>;

struct MachineRefresh<'a> {
    restic: &'a Restic,
    homes: LocalHomes<'a>,
    folder: &'a Path,
    progress: &'a dyn Progress,
}

impl MachineRefresh<'_> {
    /// Brings the folder of one machine up to date with its newest snapshot. Computes `local_times`, the times of this
    /// machine's rollouts, on first use.
    fn refresh_folder(
        &self,
        snapshot: &ReplicaSnapshot,
        local_times: &mut Option<RolloutTimes>,
    ) -> Result<(), VaultError> {
        // Usually the folder is current, which needs no lock. Checked again under the lock, because another process may
        // refresh the folder before the lock is held.
        if self.read_record().snapshot == snapshot.published.id {
            return Ok(());
        }

        atomic::create_unsynced_below(self.homes.manager_home, self.folder)?;
        let _lock = FileLock::acquire_unless_interrupted(&self.folder.join(".lock"))?;
        let record = self.read_record();
        if record.snapshot == snapshot.published.id {
            return Ok(());
        }

        let manifest = self.read_manifest(snapshot)?;
        let local_times = match local_times {
            Some(local_times) => local_times,
            None => local_times.insert(read_local_times(self.homes.codex_home)?),
        };

        let wanted_files = select_wanted_files(&manifest, local_times);
        self.fetch(snapshot, &manifest, &wanted_files, &record)?;
        self.remove_unwanted_rollouts(&wanted_files)?;
        // The files must be on disk before the record lists them.
        tree_sync::sync_file_systems([self.folder]);

        let wanted_files = wanted_files.into_iter();
        let digests = wanted_files.map(|(path, entry)| (path, entry.digest));
        let record = MachineRecord {
            machine: snapshot.published.machine.clone(),
            snapshot: snapshot.published.id.clone(),
            published_at: snapshot.time,
            files: digests.collect(),
        };
        Ok(document::write(&record_path(self.folder), &record)?)
    }

    fn read_record(&self) -> MachineRecord {
        let document = document::read(&record_path(self.folder)).ok();
        document.and_then(DocumentState::good).unwrap_or_default()
    }

    /// Returns the rollouts and the session index of a snapshot.
    fn read_manifest(&self, snapshot: &ReplicaSnapshot) -> Result<ManifestFiles, VaultError> {
        let locks = false;
        let manifest = read_manifest(self.restic, &snapshot.published, locks)?;
        let files = manifest.files().filter(|(path, _)| {
            rollouts::is_below_sessions(path) || *path == session_index::FILE_NAME
        });
        let files = files.map(|(path, entry)| (path.to_owned(), entry.clone()));
        Ok(files.collect())
    }

    /// Fetches the wanted files that the folder lacks or that `record` lists with another digest, checks their digests,
    /// and moves them to their final paths.
    fn fetch(
        &self,
        snapshot: &ReplicaSnapshot,
        manifest: &ManifestFiles,
        wanted: &ManifestFiles,
        record: &MachineRecord,
    ) -> Result<(), VaultError> {
        let is_fetched = |(path, entry): &(&String, &ManifestEntry)| {
            let meta = self.folder.join(HOME).join(path).symlink_metadata();
            let has_listed_size = meta.is_ok_and(|meta| meta.is_file() && meta.len() == entry.size);
            has_listed_size && record.files.get(*path) == Some(&entry.digest)
        };

        let missing: Vec<_> = wanted.iter().filter(|file| !is_fetched(file)).collect();
        if missing.is_empty() {
            return Ok(());
        }

        let missing_bytes = missing.iter().map(|(_, entry)| entry.size).sum();
        self.progress.expect_bytes(missing_bytes);

        // Each file goes to its place only after its digest was checked, so restic writes into a staging folder.
        let staging = create_staging(self.homes.manager_home)?;
        let fetched_folder = staging.path("files");
        atomic::create_private_folder(&fetched_folder)?;

        let paths = missing.iter().map(|(path, _)| path.as_str()).collect();
        let all_paths = manifest.keys().map(String::as_str);
        let id = &snapshot.published.id;
        restore_files(self.restic, id, all_paths, &paths, &fetched_folder)?;

        for (path, entry) in missing {
            let target = self.folder.join(HOME).join(path);
            atomic::create_unsynced_below(self.folder, atomic::parent_of(&target))?;
            // The outer error is an I/O error of this disk, the inner error a difference from the manifest.
            place_fetched(&fetched_folder.join(HOME).join(path), &target, path, entry)?
                .map_err(|detail| VaultError::damaged_snapshot(id, detail))?;
            self.progress.add_bytes(entry.size);
        }

        Ok(())
    }

    /// Removes the rollouts that are no longer wanted.
    fn remove_unwanted_rollouts(&self, wanted_files: &ManifestFiles) -> Result<(), VaultError> {
        let home = self.folder.join(HOME);
        for file in files::find_rollouts(&home)? {
            let path = file.path(&home);
            let relative = path.strip_prefix(&home).unwrap_or(&path);
            if !wanted_files.contains_key(&*relative.to_string_lossy().replace('\\', "/")) {
                tree::remove(&path)?;
            }
        }
        Ok(())
    }
}

fn read_local_times(home: &Path) -> Result<RolloutTimes, IoError> {
    let mut times = RolloutTimes::new();
    for file in files::find_rollouts(home)? {
        let path = file.path(home);
        let meta = path.metadata().at("inspect", &path)?;
        let key = to_conversation_key(path.strip_prefix(home).unwrap_or(&path));
        times.entry(key).or_default().insert(modified_ns(&meta));
    }
    Ok(times)
}

/// Returns the id of a rollout's conversation in lower case, or the path if the name has no id.
fn to_conversation_key(path: &Path) -> String {
    let id = RolloutName::parse(path).and_then(|name| name.id().map(str::to_lowercase));
    id.unwrap_or_else(|| path.to_string_lossy().into_owned())
}

/// Selects the session index, and the rollouts of conversations that this machine lacks or has with other mtimes. Equal
/// mtimes show the same rollouts, because sync and compression keep mtimes.
fn select_wanted_files(manifest: &ManifestFiles, local_times: &RolloutTimes) -> ManifestFiles {
    let mut remote_times = RolloutTimes::new();
    for (path, entry) in manifest {
        let key = to_conversation_key(Path::new(path));
        remote_times.entry(key).or_default().insert(entry.mtime_ns);
    }

    let is_wanted = |path: &str| {
        let id = to_conversation_key(Path::new(path));
        path == session_index::FILE_NAME || local_times.get(&id) != remote_times.get(&id)
    };
    let wanted_files = manifest.iter().filter(|(path, _)| is_wanted(path));
    let wanted_files = wanted_files.map(|(path, entry)| (path.clone(), entry.clone()));
    wanted_files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_that_this_machine_has_are_not_fetched_whether_plain_or_compressed() {
        let id = |n: u32| format!("01a1f78b-4d30-7ef3-b0ee-5caab8d3b45{n}");
        let name = |n: u32| format!("rollout-2026-11-18T10-00-00-{}.jsonl", id(n));
        let entry = |mtime_ns| ManifestEntry {
            size: 1,
            mtime_ns,
            digest: Sha256Digest::of(b"x"),
        };
        let manifest: ManifestFiles = [
            (format!("sessions/2026/11/18/{}", name(1)), entry(1)),
            (format!("archived_sessions/{}.zst", name(2)), entry(2)),
            (format!("sessions/2026/11/18/{}", name(3)), entry(3)),
            (session_index::FILE_NAME.to_owned(), entry(4)),
        ]
        .into();
        let local = [
            (id(1), [1].into()),
            (id(2), [2].into()),
            (id(3), [2].into()),
        ]
        .into();
        let wanted: Vec<_> = select_wanted_files(&manifest, &local).into_keys().collect();
        assert_eq!(
            wanted,
            [
                session_index::FILE_NAME.to_owned(),
                format!("sessions/2026/11/18/{}", name(3))
            ]
        );
    }
}
