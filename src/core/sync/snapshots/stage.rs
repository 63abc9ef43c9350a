//! Builds the folder that a run syncs the home with.

use super::causality::VersionId;
use super::error::RemoteError;
use super::join::Join;
use super::other_machine::{IncomingFile, OtherMachine};
use super::snapshot_manifest::{SnapshotManifest, is_conflict_copy_path};
use super::staged_tree::{StagedFiles, place_fetched};
use super::store::{HOME, Remote, RemoteSnapshot};
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, atomic, links, tree};
use crate::sync::config::sanitize_machine_name;
use crate::sync::file_group::state_key;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::sides::{Side, Stat};
use crate::sync::state::{SyncState, SyncedFile};
use crate::sync::{manager_folder, rollouts};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

impl<R: Remote> Join<'_, R> {
    /// Builds the folder to sync with, or adds the changes of the next machines to it. Returns false if all machines
    /// are joined. Two machines that changed the same file are joined in two rounds, one after the other.
    ///
    /// # Errors
    /// A file cannot be fetched, or does not match its manifest. This call changes no file of the home.
    pub fn stage(&mut self) -> Result<bool, R::Error> {
        let is_first_round = !self.is_staged;
        if is_first_round {
            self.write_first_state()?;
        } else if self.waiting_machines.is_empty() {
            return Ok(false);
        }

        let mut state = self.replica.read()?;
        self.fill_round(&state);
        if is_first_round {
            self.stage_published_files(&mut state)?;
            self.is_staged = true;
        }

        self.stage_incoming(&state)?;
        self.forget_concurrent_files(&mut state);
        self.write_state(&mut state)?;
        self.record_taken()?;
        self.stage_manifests(&state)?;
        Ok(true)
    }

    /// Removes the state records of files that both machines changed. With a record, this machine's version would count
    /// as unchanged, and the other version would replace it without a conflict. [`Join::settle`] restores the record if
    /// the user has to decide.
    fn forget_concurrent_files(&mut self, state: &mut SyncState) {
        self.records_before_round.clear();
        for file in self.round.iter().flat_map(|(_, incoming)| incoming) {
            if let Some(last) = state.files.get(&file.key) {
                self.records_before_round
                    .insert(file.key.clone(), last.clone());
            }
            if file.is_concurrent {
                state.files.remove(&file.key);
            }
        }
    }

    /// Returns true if machines are left for a further round.
    pub fn has_further_round(&self) -> bool {
        !self.waiting_machines.is_empty()
    }

    /// Moves waiting machines into the round. A machine keeps waiting if its changes collide with those of a machine
    /// before it.
    fn fill_round(&mut self, state: &SyncState) {
        // `None` is a deletion.
        let mut chosen_versions: BTreeMap<String, Option<VersionId>> = BTreeMap::new();
        let mut postponed_keys: BTreeSet<String> = BTreeSet::new();
        let waiting = self.waiting_machines.iter();
        let changes = waiting.map(|other| self.find_incoming(state, other));
        let changes: Vec<_> = changes.collect();

        let waiting = std::mem::take(&mut self.waiting_machines).into_iter();
        let waiting_with_changes = waiting.zip(changes);
        for (other, mut incoming) in order_newest_first(waiting_with_changes.collect()) {
            let collides = |file: &IncomingFile| {
                let chosen_version = chosen_versions.get(&file.key);
                postponed_keys.contains(&file.key)
                    || chosen_version.is_some_and(|version| *version != file.version)
            };

            if incoming.iter().any(collides) {
                postponed_keys.extend(incoming.into_iter().map(|file| file.key));
                self.waiting_machines.push(other);
                continue;
            }

            // Drops the files that another machine of the round has in the same version.
            incoming.retain(|file| !chosen_versions.contains_key(&file.key));
            for file in &incoming {
                chosen_versions.insert(file.key.clone(), file.version.clone());
            }
            self.round.push((other, incoming));
        }
    }

    /// Places the files that this machine published last, except files that the round changes. A file that is neither
    /// in the home nor in a snapshot is dropped from the state and from the next snapshot.
    fn stage_published_files(&mut self, state: &mut SyncState) -> Result<(), R::Error> {
        let incoming = self.round.iter().flat_map(|(_, incoming)| incoming);
        let incoming_keys: BTreeSet<&str> = incoming.map(|file| &*file.key).collect();
        let kept_stats = self.reuse_kept_files(state, &incoming_keys)?;
        self.link_conflict_copies()?;

        let mut missing_files = BTreeMap::new();
        for (key, versions) in &self.outgoing {
            if incoming_keys.contains(&**key) {
                continue;
            }
            for (path, entry) in &versions.files {
                let placed_stat = match kept_stats.get(path) {
                    Some(stat) => Some(*stat),
                    None => self.place_local(path, entry, state)?,
                };
                if placed_stat.is_none() {
                    missing_files.insert(path.clone(), entry.clone());
                }

                // Records the stat of the staged file, so that the plan sees the file as unchanged.
                let last = state.files.get_mut(key);
                if let Some(last) = last.filter(|last| last.remote.path == *path) {
                    last.remote.stat = placed_stat.unwrap_or(entry.stat());
                }
            }
        }

        // Forgets files that no machine has published: they were synced through a folder before, and count as new. The
        // remote path is tried too, because the key may differ from it in letter case.
        state.files.retain(|key, last| {
            self.outgoing.contains_key(key)
                || self.outgoing.contains_key(&state_key(&last.remote.path))
        });
        let lost_files = self.fetch_own_versions(missing_files)?;
        for key in lost_files.keys().map(|path| state_key(path)) {
            self.outgoing.remove(&key);
            state.files.remove(&key);
        }
        Ok(())
    }

    /// Moves the tree of the last run back. Keeps the files that still equal the last publication, except those of the
    /// `incoming_keys`, and returns their stats by path. Removes all other files. A conversation that Codex has
    /// appended to is removed too, because its hard link shows the new text.
    fn reuse_kept_files(
        &self,
        state: &SyncState,
        incoming_keys: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, Stat>, IoError> {
        let mut reused_stats = BTreeMap::new();
        for (key, files) in self.tree.reuse_kept(&self.kept_tree)? {
            let is_incoming = incoming_keys.contains(&*key);
            let published = self.outgoing.get(&key);
            let synced_text = state.files.get(&key).and_then(|last| last.text);

            for (path, stat) in files {
                let entry = published.and_then(|versions| versions.files.get(&path));
                let is_published = entry.is_some_and(|entry| {
                    entry.stat() == stat
                        && synced_text.is_some()
                        && synced_text == entry.text_digest(&path)
                });

                if is_published && !is_incoming {
                    reused_stats.insert(path, stat);
                } else {
                    self.tree.remove(&path)?;
                }
            }
        }

        Ok(reused_stats)
    }

    /// Places a file if the home has its content, at `path` or at the path of the last sync. Returns the size and mtime
    /// of the placed file.
    pub(super) fn place_local(
        &self,
        path: &str,
        entry: &ManifestEntry,
        state: &SyncState,
    ) -> Result<Option<Stat>, R::Error> {
        let last = state.files.get(&state_key(path));
        let is_synced = |last: &&SyncedFile| {
            last.remote.path == path
                && last.local.stat.size == entry.size
                && last
                    .text
                    .is_some_and(|text| Some(text) == entry.text_digest(path))
        };

        let synced = last.filter(is_synced).map(|last| &last.local);
        // The home may have the content at the published path although the last sync had the file at another path.
        let local_paths = match last {
            Some(last) if last.local.path != path => vec![&*last.local.path, path],
            _ => vec![path],
        };

        let is_compressed = |path: &str| path.ends_with(rollout::ZST);
        for local_path in local_paths {
            let source = self.config.file_path(Side::Local, local_path);
            let placed = match (is_compressed(local_path), is_compressed(path)) {
                (true, false) => self.tree.place_expanded(&source, path, entry)?,
                // A plain file cannot be compressed to the published bytes again.
                (false, true) => None,
                _ => {
                    let synced_here = synced.filter(|file| file.path == local_path);
                    let trusted = synced_here.map(|file| file.stat);
                    self.tree.place_from_home(&source, trusted, path, entry)?
                }
            };
            if placed.is_some() {
                return Ok(placed);
            }
        }
        Ok(None)
    }

    fn link_conflict_copies(&self) -> Result<(), IoError> {
        let folder = self.replica.conflict_copies();
        for (name, _) in tree::list_if_exists(&folder)? {
            let name = name.to_string_lossy();
            let target = manager_folder::conflict_copy_path(&name);
            if is_conflict_copy_path(&target) && !self.tree.path_of(&target).exists() {
                self.tree.link(&folder.join(&*name), &target)?;
            }
        }
        Ok(())
    }

    /// Fetches the `missing_files`: published versions from this machine's last snapshot, and adopted ones, which this
    /// machine has not published yet, from the snapshots of the other machines. Returns the files that no listed
    /// snapshot has.
    pub(super) fn fetch_own_versions(
        &self,
        missing_files: BTreeMap<String, ManifestEntry>,
    ) -> Result<BTreeMap<String, ManifestEntry>, R::Error> {
        let (published_files, mut lost_files) =
            split_listed(missing_files, &self.published_manifest);
        let machines = self.waiting_machines.iter();
        for other in machines.chain(self.round.iter().map(|(other, _)| other)) {
            let (adopted_files, other_files) = split_listed(lost_files, &other.manifest);
            lost_files = other_files;
            self.fetch_files(&other.head, &other.manifest, &adopted_files)?;
        }

        let Some(head) = &self.own_head else {
            lost_files.extend(published_files);
            return Ok(lost_files);
        };
        // A file differs from its entry if the user rewrote it while a killed run published it.
        let differences = self.fetch_matching(head, &self.published_manifest, &published_files)?;
        let is_lost = |(path, _): &(String, ManifestEntry)| differences.contains_key(path);
        lost_files.extend(published_files.into_iter().filter(is_lost));
        Ok(lost_files)
    }

    /// Places the files `wanted_files` of a snapshot.
    ///
    /// # Errors
    /// A fetched file does not match the manifest, or a fetch fails.
    fn fetch_files(
        &self,
        snapshot: &RemoteSnapshot,
        manifest: &SnapshotManifest,
        wanted_files: &BTreeMap<String, ManifestEntry>,
    ) -> Result<(), R::Error> {
        let differences = self.fetch_matching(snapshot, manifest, wanted_files)?;
        if let Some(detail) = differences.into_values().next() {
            let machine = snapshot.machine.clone();
            return Err(RemoteError::Damaged { machine, detail }.into());
        }
        Ok(())
    }

    /// Places the files `wanted_files` of a snapshot that match its `manifest`. Returns the difference for each of the
    /// other files, by path.
    fn fetch_matching(
        &self,
        snapshot: &RemoteSnapshot,
        manifest: &SnapshotManifest,
        wanted_files: &BTreeMap<String, ManifestEntry>,
    ) -> Result<BTreeMap<String, String>, R::Error> {
        let mut differences = BTreeMap::new();
        if wanted_files.is_empty() {
            return Ok(differences);
        }

        let folder = self.tree.root.join("fetched");
        atomic::create_private_folder(&folder)?;
        for path in wanted_files.keys() {
            self.place_delta_base(path, &folder.join(HOME).join(path))?;
        }

        let paths = wanted_files.keys().map(|path| &**path).collect();
        self.remote.fetch(snapshot, manifest, &paths, &folder)?;

        for (path, entry) in wanted_files {
            let from = folder.join(HOME).join(path);
            let to = self.tree.prepare_target(path)?;
            if let Err(detail) = place_fetched(&from, &to, path, entry)? {
                differences.insert(path.clone(), detail);
            }
        }

        tree::remove(&folder)?;
        Ok(differences)
    }

    /// Copies the local version of a conversation to the `target` of a fetch: restic 0.17 and newer then fetch only the
    /// appended text instead of the whole file.
    fn place_delta_base(&self, path: &str, target: &Path) -> Result<(), IoError> {
        let local = self.config.file_path(Side::Local, path);
        if rollouts::is_below_sessions(path) && Stat::read(&local)?.is_some() {
            atomic::create_unsynced_below(&self.tree.root, atomic::parent_of(target))?;
            links::copy_file(&local, target)?;
        }
        Ok(())
    }

    /// Replaces the staged files that the machines of the round changed or deleted by the versions of these machines.
    fn stage_incoming(&mut self, state: &SyncState) -> Result<(), R::Error> {
        let staged = self.list_staged_for_round()?;
        let mut round = std::mem::take(&mut self.round);

        for (other, incoming) in &round {
            let mut missing_files = BTreeMap::new();
            for file in incoming {
                self.unstage(&file.key, &staged)?;
                for (path, entry) in &file.files {
                    if self.place_local(path, entry, state)?.is_none() {
                        missing_files.insert(path.clone(), entry.clone());
                    }
                }
            }
            self.fetch_files(&other.head, &other.manifest, &missing_files)?;
        }

        // The result of the sync is compared with these sizes and times.
        for file in round.iter_mut().flat_map(|(_, incoming)| incoming) {
            for path in file.files.keys() {
                if let Some(stat) = Stat::read(&self.tree.path_of(path))? {
                    file.stats_before_sync.insert(path.clone(), stat);
                }
            }
        }

        self.round = round;
        Ok(())
    }

    /// Lists the staged files; lists nothing if the round changes no file, because no caller needs the list then.
    pub(super) fn list_staged_for_round(&self) -> Result<StagedFiles, IoError> {
        let is_unchanged = self.round.iter().all(|(_, incoming)| incoming.is_empty());
        if is_unchanged {
            return Ok(StagedFiles::new());
        }
        self.tree.list_files()
    }

    /// Removes the `staged` files of a key.
    pub(super) fn unstage(&self, key: &str, staged: &StagedFiles) -> Result<(), R::Error> {
        for path in staged.get(key).into_iter().flat_map(BTreeMap::keys) {
            self.tree.remove(path)?;
        }
        Ok(())
    }

    /// Writes the manifests that the planner reads: one for each machine of the round, with its changes, deletions and
    /// decisions, and an empty one for this machine.
    fn stage_manifests(&self, state: &SyncState) -> Result<(), IoError> {
        let cloud = &self.config.cloud;
        self.tree.remove_manifests()?;

        let write_manifest = |machine: &str, writer: &str, files: &_, state: &SyncState| {
            let path = manifest::path_of_machine(cloud, machine, writer);
            let encoded = manifest::encode(machine, files, state);
            encoded.at("encode", &path)?.write(cloud, &path)
        };

        // This machine's files need no attestation.
        let no_files = BTreeMap::new();
        write_manifest(&self.config.machine_id, &state.own.writer, &no_files, state)?;

        for (other, incoming) in &self.round {
            let files = incoming.iter().flat_map(|file| file.files.clone());
            let mut deleted: HashMap<_, _> = other.manifest.deleted.clone().into_iter().collect();

            // The planner deletes only a file with the digest of the deletion, so the deletion gets the digest of this
            // machine's version. The other machine knew this version, even if it deleted a later one.
            for file in incoming.iter().filter(|file| file.version.is_none()) {
                let own_digest = state.files.get(&file.key).and_then(SyncedFile::text_digest);
                if let (Some(deletion), Some(digest)) = (deleted.get_mut(&file.key), own_digest) {
                    deletion.digest = digest.to_string();
                }
            }

            let state_of_other = SyncState {
                deleted,
                resolutions: other.manifest.resolved.clone(),
                ..SyncState::default()
            };

            let machine = sanitize_machine_name(&other.head.machine);
            let writer = Sha256Digest::of(other.head.id.as_bytes()).to_string();
            // As many digits as a random writer has.
            write_manifest(&machine, &writer[..8], &files.collect(), &state_of_other)?;
        }
        Ok(())
    }
}

/// Splits files into those that `manifest` lists with the same content, and the others.
fn split_listed(
    files: BTreeMap<String, ManifestEntry>,
    manifest: &SnapshotManifest,
) -> (
    BTreeMap<String, ManifestEntry>,
    BTreeMap<String, ManifestEntry>,
) {
    files.into_iter().partition(|(path, entry)| {
        let versions = manifest.files.get(&state_key(path));
        let listed = versions.and_then(|versions| versions.files.get(path));
        listed.is_some_and(|listed| listed.digest == entry.digest)
    })
}

/// Orders machines so that each comes before the machines whose versions it replaced. In the opposite order, the sync
/// would have to decide about the replaced version, and the decision would win over the version that replaced it.
fn order_newest_first(
    mut remaining: Vec<(OtherMachine, Vec<IncomingFile>)>,
) -> Vec<(OtherMachine, Vec<IncomingFile>)> {
    let replaces_any = |other: &OtherMachine, machine: &OtherMachine, files: &[IncomingFile]| {
        let mut keys = files.iter().map(|file| &file.key);
        keys.any(|key| other.replaces(machine, key) && !machine.replaces(other, key))
    };

    let mut ordered = Vec::new();
    while !remaining.is_empty() {
        let is_replaced = |(machine, incoming): &(OtherMachine, Vec<IncomingFile>)| {
            let mut others = remaining.iter();
            others.any(|(other, _)| replaces_any(other, machine, incoming))
        };

        // Two machines can each have replaced a file of the other one; then the first one is taken.
        let next = remaining.iter().position(|item| !is_replaced(item));
        ordered.push(remaining.remove(next.unwrap_or(0)));
    }
    ordered
}
