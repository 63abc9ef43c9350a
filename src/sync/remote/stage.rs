//! Builds the folder that a run syncs the home with.

use super::causality::VersionId;
use super::error::RemoteError;
use super::incoming::{IncomingFile, OwnSide, is_agreed};
use super::join::{Join, OWN_MANIFEST_FILE};
use super::snapshot_manifest::{SnapshotManifest, copy_name};
use super::staged_tree::{Candidate, Expected, StagedFiles};
use super::store::{HOME, Remote, RemoteSnapshot};
use crate::codex::rollout::ZST;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, atomic, tree};
use crate::sync::config::sanitize_machine_name;
use crate::sync::identity;
use crate::sync::manager_folder;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::plan::state_key;
use crate::sync::sides::Stat;
use crate::sync::state::SyncState;
use std::collections::{BTreeMap, BTreeSet};

impl<R: Remote> Join<'_, R> {
    /// Builds the folder to sync with, or adds the next machines to it. Returns false if all machines are joined. Two
    /// machines that changed the same file are joined one after the other.
    ///
    /// # Errors
    /// A file cannot be fetched, or does not match its manifest. Nothing was changed.
    pub fn stage(&mut self) -> Result<bool, R::Error> {
        if self.is_staged && self.waiting.is_empty() {
            return Ok(false);
        }
        self.replica.concurrent.clear();
        let mut state = self.replica.read().map_err(RemoteError::from)?;
        if !self.is_staged {
            self.adopt_taken(&state);
        }
        self.choose_machines(&state);
        if !self.is_staged {
            self.stage_own(&state)?;
            self.is_staged = true;
        }
        self.stage_incoming(&state)?;
        self.stage_manifests(&mut state)?;
        self.forget_concurrent(&mut state)
            .map_err(RemoteError::from)?;
        Ok(true)
    }

    /// Forgets the last sync of files that another machine changed at the same time: it would show only that this
    /// machine did not change them since.
    fn forget_concurrent(&mut self, state: &mut SyncState) -> Result<(), IoError> {
        let incoming = self.round.iter().flat_map(|(_, incoming)| incoming);
        let keys = incoming.filter(|one| one.is_concurrent);
        let keys = keys.map(|one| one.key.clone());
        let mut keys: BTreeSet<_> = keys.chain(std::mem::take(&mut self.unknown)).collect();
        keys.retain(|key| state.files.contains_key(key));
        if self.writes && !keys.is_empty() {
            state.files.retain(|key, _| !keys.contains(key));
            return self.replica.write(state);
        }
        self.replica.concurrent = keys;
        Ok(())
    }

    /// Returns true if machines are left for a further round.
    pub fn has_further_round(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Adopts the versions of other machines that a killed run took, or that both machines synced through a folder, so
    /// that later changes replace them.
    fn adopt_taken(&mut self, state: &SyncState) {
        for other in self.waiting.iter().filter(|other| !other.head.is_forked) {
            for (key, file) in &other.manifest.files {
                let own = self.current.get(key);
                let is_same = own.is_some_and(|own| own.has_same_files(file));
                if !is_same && is_agreed(key, file, state) {
                    let id = other.head.snapshot.id.clone();
                    self.adopted.insert(key.clone(), id);
                    self.current.insert(key.clone(), file.clone());
                }
            }
        }
    }

    /// Moves machines into the round, as long as no two of them changed the same file.
    fn choose_machines(&mut self, state: &SyncState) {
        let mut taken: BTreeMap<String, Option<VersionId>> = BTreeMap::new();
        for other in std::mem::take(&mut self.waiting) {
            let own = OwnSide {
                current: &self.current,
                knowledge: &self.knowledge,
                published: &self.published,
                state,
                scope: &self.scope,
            };
            let mut incoming = own.find_incoming(&other);
            let collides = |one: &IncomingFile| {
                let other = taken.get(&one.key);
                other.is_some_and(|version| *version != one.version)
            };
            if incoming.iter().any(collides) {
                self.waiting.push(other);
                continue;
            }
            incoming.retain(|one| !taken.contains_key(&one.key));
            let names = incoming
                .iter()
                .map(|one| (one.key.clone(), one.version.clone()));
            taken.extend(names);
            self.round.push((other, incoming));
        }
    }

    /// Stages the files that this machine and the store had in common after the last run.
    fn stage_own(&mut self, state: &SyncState) -> Result<(), R::Error> {
        let incoming = self.round.iter().flat_map(|(_, incoming)| incoming);
        let incoming: BTreeSet<&str> = incoming.map(|one| &*one.key).collect();
        let mut missing: BTreeMap<String, ManifestEntry> = BTreeMap::new();
        for (key, last) in &state.files {
            if incoming.contains(&**key) {
                continue;
            }
            let (path, stat) = (&last.remote.path, last.remote.stat);
            let published = self.current.get(key).and_then(|file| file.files.get(path));
            let is_text = !path.ends_with(ZST);
            let text = last.contents.filter(|_| is_text).map(|(_, digest)| digest);
            let published = published.filter(|entry| {
                entry.size == stat.size && text.is_none_or(|text| text == entry.digest)
            });
            let expected = Expected {
                size: stat.size,
                mtime_ns: stat.mtime_ns,
                digest: text.or(published.map(|entry| entry.digest)),
            };
            let same_size = last.local.stat.size == stat.size;
            let candidates = [Candidate {
                path: &last.local.path,
                trusted: same_size.then_some(last.local.stat),
            }];
            let is_placed = self
                .tree
                .place_from_home(&self.config, path, &expected, &candidates);
            if is_placed.map_err(RemoteError::from)? {
                continue;
            }
            let is_adopted = self.adopted.contains_key(key);
            match published.filter(|_| is_adopted || self.own_head.is_some()) {
                Some(entry) => {
                    // With the time of the last sync: other machines may list another one.
                    let mtime_ns = stat.mtime_ns;
                    let entry = ManifestEntry {
                        mtime_ns,
                        ..entry.clone()
                    };
                    missing.insert(path.clone(), entry);
                }
                None => {
                    self.unknown.insert(key.clone());
                }
            }
        }
        for (key, file) in &self.current {
            let is_known = state.files.contains_key(key) || state.deleted.contains_key(key);
            if is_known || incoming.contains(&**key) {
                continue;
            }
            for (path, entry) in &file.files {
                if !self.place_local(path, entry, state)? {
                    missing.insert(path.clone(), entry.clone());
                }
            }
        }
        self.link_conflict_copies().map_err(RemoteError::from)?;
        self.fetch_own(missing)
    }

    /// Places a file if this machine has its content.
    pub(super) fn place_local(
        &self,
        path: &str,
        entry: &ManifestEntry,
        state: &SyncState,
    ) -> Result<bool, R::Error> {
        let key = state_key(path);
        let last = state.files.get(&key).map(|last| &*last.local.path);
        let paths = std::iter::once(path).chain(last.filter(|last| *last != path));
        let candidates = paths.map(|path| Candidate {
            path,
            trusted: None,
        });
        let candidates: Vec<_> = candidates.collect();
        let expected = Expected::from(entry);
        let placed = self
            .tree
            .place_from_home(&self.config, path, &expected, &candidates);
        Ok(placed.map_err(RemoteError::from)?)
    }

    fn link_conflict_copies(&self) -> Result<(), IoError> {
        let folder = self.replica.conflict_copies();
        for (name, _) in tree::list_if_exists(&folder)? {
            let name = name.to_string_lossy();
            let to = manager_folder::conflict_copy_path(&name);
            if copy_name(&to).is_some() && !self.tree.path(&to).exists() {
                self.tree.link(&folder.join(&*name), &to)?;
            }
        }
        Ok(())
    }

    /// Fetches files of this machine's last snapshot that the home does not have any more. Without that snapshot they
    /// are left out, and the files of the home count as new.
    pub(super) fn fetch_own(
        &self,
        mut missing: BTreeMap<String, ManifestEntry>,
    ) -> Result<(), R::Error> {
        let machines = self.waiting.iter();
        for other in machines.chain(self.round.iter().map(|(other, _)| other)) {
            let snapshot = &other.head.snapshot;
            let adopts = |path: &String| self.adopted.get(&state_key(path)) == Some(&snapshot.id);
            let (adopted, rest) = missing.into_iter().partition(|(path, _)| adopts(path));
            missing = rest;
            if !adopted.is_empty() {
                self.fetch(snapshot, &other.manifest, &adopted)?;
            }
        }
        match &self.own_head {
            Some(head) if !missing.is_empty() => self.fetch(head, &self.published, &missing),
            _ => Ok(()),
        }
    }

    fn fetch(
        &self,
        snapshot: &RemoteSnapshot,
        all: &SnapshotManifest,
        wanted: &BTreeMap<String, ManifestEntry>,
    ) -> Result<(), R::Error> {
        let folder = self.tree.root().join("fetched");
        atomic::create_private_folder(&folder).map_err(RemoteError::from)?;
        let paths = wanted.keys().map(|path| &**path).collect();
        self.remote.fetch(snapshot, all, &paths, &folder)?;
        for (path, entry) in wanted {
            let from = folder.join(HOME).join(path);
            let placed = self.tree.place_fetched(&from, path, entry);
            placed
                .map_err(RemoteError::from)?
                .map_err(|detail| RemoteError::Damaged {
                    machine: snapshot.machine.clone(),
                    detail,
                })?;
        }
        tree::remove(&folder).map_err(RemoteError::from)?;
        Ok(())
    }

    /// Replaces staged files by those that the machines of the round changed.
    fn stage_incoming(&mut self, state: &SyncState) -> Result<(), R::Error> {
        let staged = self.tree.list().map_err(RemoteError::from)?;
        let mut round = std::mem::take(&mut self.round);
        for (other, incoming) in &round {
            let mut missing = BTreeMap::new();
            for one in incoming {
                self.clear(&one.key, &staged)?;
                for (path, entry) in &one.files {
                    if !self.place_local(path, entry, state)? {
                        missing.insert(path.clone(), entry.clone());
                    }
                }
            }
            if !missing.is_empty() {
                self.fetch(&other.head.snapshot, &other.manifest, &missing)?;
            }
        }
        for one in round.iter_mut().flat_map(|(_, incoming)| incoming) {
            for path in one.files.keys() {
                let stat = Stat::read(&self.tree.path(path)).map_err(RemoteError::from)?;
                one.placed.extend(stat.map(|stat| (path.clone(), stat)));
            }
        }
        self.round = round;
        Ok(())
    }

    pub(super) fn clear(&self, key: &str, staged: &StagedFiles) -> Result<(), R::Error> {
        for path in staged.get(key).into_iter().flat_map(BTreeMap::keys) {
            self.tree.remove(path).map_err(RemoteError::from)?;
        }
        Ok(())
    }

    /// Writes the manifests that the planner reads, one per machine of the round, with its changes, deletions and
    /// resolutions.
    fn stage_manifests(&self, state: &mut SyncState) -> Result<(), R::Error> {
        let write = |state: &mut SyncState| -> Result<(), IoError> {
            let cloud = &self.config.cloud;
            self.tree.remove_manifests()?;
            self.stage_own_manifest(state)?;
            for (other, incoming) in &self.round {
                let files = incoming.iter().flat_map(|one| one.files.clone());
                let of_other = SyncState {
                    deleted: other.manifest.deleted.clone().into_iter().collect(),
                    resolutions: other.manifest.resolved.clone(),
                    ..SyncState::default()
                };
                let snapshot = &other.head.snapshot;
                let machine = sanitize_machine_name(&snapshot.machine);
                let writer = Sha256Digest::of(snapshot.id.as_bytes()).to_string();
                let path = manifest::path_of(cloud, &machine, &writer[..8]);
                let encoded = manifest::encode(&machine, &files.collect(), &of_other);
                encoded.at("encode", &path)?.write(cloud, &path)?;
            }
            Ok(())
        };
        Ok(write(state).map_err(RemoteError::from)?)
    }

    /// Places this machine's manifest of the last run. If the state does not have it, the planner treats it as the
    /// manifest of a cloned machine.
    fn stage_own_manifest(&self, state: &mut SyncState) -> Result<(), IoError> {
        let kept = self.replica.folder.join(OWN_MANIFEST_FILE);
        let path = identity::own_manifest_path(&self.config, state);
        let end = manifest::read_end_digest(&kept).ok().flatten();
        if end.is_some_and(|end| state.own.published.contains(&end)) {
            return self.tree.link_to(&kept, &path);
        }
        let known = state.own.published.clone();
        let own = identity::encode_next_manifest(&BTreeMap::new(), state, &self.config)?;
        if !known.is_empty() {
            if !self.writes {
                return Ok(());
            }
            self.replica.write(state)?;
        }
        own.write(&self.config.cloud, &path)
    }
}
