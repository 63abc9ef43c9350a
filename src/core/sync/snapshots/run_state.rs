//! The state of a run until the run is published. It is a copy: if the run is killed, the state of the last publication
//! remains, so that state and publication always match. The versions that the run may place in the home are recorded
//! first, so that the next run recognizes them there.

use super::error::RemoteError;
use super::join::Join;
use super::position::{TAKEN_FILE, TakenVersions};
use super::snapshot_manifest::{FileVersions, is_conflict_copy_path};
use super::store::Remote;
use crate::io::{IoError, atomic, document, tree};
use crate::sync::config::SyncConfig;
use crate::sync::contents;
use crate::sync::ledger::Ledger;
use crate::sync::manifest::ManifestEntry;
use crate::sync::sides::{Side, Stat};
use crate::sync::state::{OwnManifests, Replica, SideFile, SyncState, SyncedFile};

impl Replica {
    /// Replaces the state of the last publication by the state in the folder of the run, if there is one, and
    /// removes that folder.
    pub(super) fn commit_unpublished_run(&self) -> Result<(), IoError> {
        let run_replica = self.of_unpublished_run();
        if run_replica.state_file().exists() {
            atomic::rename(&run_replica.state_file(), &self.committed_state_file())?;
        }
        tree::remove(run_replica.run_folder())
    }
}

impl<R: Remote> Join<'_, R> {
    /// Writes the state with which the run begins: the state of the last publication, with the versions that a killed
    /// run has placed in the home since.
    pub(super) fn write_first_state(&mut self) -> Result<(), RemoteError> {
        let run_replica = self.replica.of_unpublished_run();
        let taken = document::read(&run_replica.run_folder().join(TAKEN_FILE))?;
        let killed_state = run_replica.read()?;

        let mut state = self.replica.read()?;
        // The run has a state file of its own, which is not damaged.
        let initial_damage = state.file.damage.take();
        if initial_damage.is_some() && self.writes_state {
            self.replica.keep_damaged_file()?;
        }

        // Decisions that a killed run recorded stay.
        let killed_records = killed_state.resolutions.iter().cloned();
        state.resolutions.extend(killed_records);
        self.adopt_synced(&state);
        self.adopt_taken(taken.good().unwrap_or_default(), &killed_state, &mut state)?;
        self.record_outgoing_versions(&mut state);

        // A plan writes its state below the staged tree instead.
        self.replica = if self.writes_state {
            run_replica
        } else {
            let folder = self.tree.root.join("state");
            self.replica.with_run_folder(folder)
        };
        self.replica.initial_damage = initial_damage;
        Ok(self.write_state(&mut state)?)
    }

    /// Writes the state of the run. Drops the former contents, the published manifests and the ledger, which only a
    /// sync through a folder needs: the manifests of snapshots tell which version is newer.
    pub(super) fn write_state(&self, state: &mut SyncState) -> Result<(), IoError> {
        state.own = OwnManifests {
            writer: state.own.writer.clone(),
            ..OwnManifests::default()
        };
        state.replaced.clear();
        self.replica.write(state)?;
        Ledger::remove(self.replica.run_folder())
    }

    /// Records the versions that arrive in this round from other machines, before the sync places them in the home. If
    /// only a plan is made, writes no file.
    pub(super) fn record_taken(&mut self) -> Result<(), IoError> {
        for file in self.round.iter().flat_map(|(_, incoming)| incoming) {
            if let Some(version) = file.version.clone() {
                let (key, files) = (file.key.clone(), file.files.clone());
                let versions = self.taken_versions.files.entry(key).or_default();
                versions.push(FileVersions { files, version });
            }
        }

        if self.writes_state && !self.taken_versions.files.is_empty() {
            let path = self.replica.run_folder().join(TAKEN_FILE);
            document::write(&path, &self.taken_versions)?;
        }
        Ok(())
    }

    /// Adopts the versions of other machines that this machine has from an earlier sync through a folder: the state
    /// records them as synced, but this machine has not published the files.
    fn adopt_synced(&mut self, state: &SyncState) {
        for other in &self.waiting_machines {
            for (key, file) in &other.manifest.files {
                let is_synced = |last| file.is_synced_as(last);
                if !self.outgoing.contains_key(key) && state.files.get(key).is_some_and(is_synced) {
                    self.outgoing.insert(key.clone(), file.clone());
                }
            }
        }
    }

    /// Adopts the versions that a killed run placed in the home, and records them as synced, so that a later change of
    /// the user counts as newer.
    fn adopt_taken(
        &mut self,
        taken: TakenVersions,
        killed_state: &SyncState,
        state: &mut SyncState,
    ) -> Result<(), IoError> {
        for (key, versions) in taken.files {
            for (index, file) in versions.into_iter().enumerate() {
                let has_same_files = |own: &FileVersions| own.has_same_files(&file);
                let is_merged = self.position.knowledge.knows(&key, &file.version)
                    || self.outgoing.get(&key).is_some_and(has_same_files);
                if is_merged {
                    continue;
                }

                // The killed run may have recorded the files of both sides. Without its record, the home is searched.
                let recorded_file = killed_state.files.get(&key);
                let record = match recorded_file.filter(|last| file.is_synced_as(last)) {
                    Some(last) => Some(last.clone()),
                    None => find_in_home(&self.config, &file)?,
                };

                // An earlier killed run placed the first version, and the user may have changed the file since.
                let was_placed_earlier = index == 0 && taken.placed.contains(&key);
                if record.is_none() && !was_placed_earlier {
                    continue;
                }

                // If the home has another content now, [`Self::record_outgoing_versions`] records the version.
                if let Some(record) = record {
                    state.files.insert(key.clone(), record);
                }

                self.outgoing.insert(key.clone(), file.clone());
                // If this run is killed too, the next run recognizes the version.
                self.taken_versions.files.insert(key.clone(), vec![file]);
                self.taken_versions.placed.insert(key.clone());
            }
        }
        Ok(())
    }

    /// Records in `state`, for each file, the version that this machine published or adopted. The state may have
    /// another version if it was damaged, or if the user changed an adopted file.
    fn record_outgoing_versions(&self, state: &mut SyncState) {
        for (key, file) in &self.outgoing {
            let last = state.files.get(key);
            if is_conflict_copy_path(key) || last.is_some_and(|last| file.is_synced_as(last)) {
                continue;
            }
            let Some((path, entry)) = file.files.iter().next() else {
                continue;
            };

            let local_path = last.map_or(path, |last| &last.local.path);
            let stat = Stat {
                // No file has this mtime, so the plan compares the content of the local file.
                mtime_ns: Stat::UNKNOWN_MTIME_NS,
                ..entry.stat()
            };
            let synced = to_synced(SideFile::new(local_path, stat), path, entry);
            state.files.insert(key.clone(), synced);
        }
    }
}

/// Returns the record that the file `local` was synced with the published version `entry`, at `path` in the staged
/// tree.
fn to_synced(local: SideFile, path: &str, entry: &ManifestEntry) -> SyncedFile {
    SyncedFile {
        local,
        remote: SideFile::new(path, entry.stat()),
        text: entry.text_digest(path),
    }
}

/// Returns the record of a file of the home that has the content of a version; `None` if no file has it.
fn find_in_home(config: &SyncConfig, file: &FileVersions) -> Result<Option<SyncedFile>, IoError> {
    for (path, entry) in &file.files {
        let full_path = config.file_path(Side::Local, path);
        let Some(stat) = Stat::read(&full_path)?.filter(|stat| stat.size == entry.size) else {
            continue;
        };

        if contents::read_raw_digest(&full_path).is_ok_and(|digest| digest == entry.digest) {
            let local = SideFile::new(path, stat);
            return Ok(Some(to_synced(local, path, entry)));
        }
    }
    Ok(None)
}
