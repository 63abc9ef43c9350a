//! A run that joins the snapshots of the other machines and publishes this machine's.

use super::causality::VersionId;
use super::error::RemoteError;
use super::heads::{self, ForkedReplicas, find_heads, is_same_id};
use super::other_machine::{IncomingFile, OtherMachine};
use super::position::{NEXT_FILE, PUBLISHED_FILE, Position, TakenVersions};
use super::snapshot_manifest::{FileVersions, SnapshotManifest, is_conflict_copy_path};
use super::staged_tree::{StagedFiles, StagedTree};
use super::store::{HOME, MANIFEST, Publication, Remote, RemoteSnapshot};
use crate::codex::rollout;
use crate::io::beneath::{self, FollowedLinks};
use crate::io::{IoContext, IoError, atomic, events, tree};
use crate::sync::config::{Compare, SyncConfig, SyncRemote};
use crate::sync::contents;
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::PlanError;
use crate::sync::scope::Scope;
use crate::sync::sides::Stat;
use crate::sync::state::{Deletion, Replica, SyncState, SyncedFile};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Maximum number of publications of a run. A run publishes again if a file was rewritten during the publication.
const MAX_ATTEMPTS: u32 = 3;

/// A run. The caller holds the lock of the replica, unless it only plans.
#[derive(Debug)]
pub struct Join<'r, R> {
    pub(super) remote: &'r R,
    pub config: SyncConfig,
    pub replica: Replica,
    pub(super) scope: Scope,
    pub(super) tree: StagedTree,
    pub(super) position: Position,
    /// The manifest of this machine's last publication.
    pub(super) published_manifest: SnapshotManifest,
    /// The snapshot of the last publication, if the store lists it.
    pub(super) own_head: Option<RemoteSnapshot>,
    /// The files of the next snapshot, by key.
    pub(super) outgoing: BTreeMap<String, FileVersions>,
    /// Machines that are not merged yet.
    pub(super) waiting_machines: Vec<OtherMachine>,
    /// The machines of the current round, each with the files that it changed.
    pub(super) round: Vec<(OtherMachine, Vec<IncomingFile>)>,
    pub(super) forked_replicas: ForkedReplicas,
    pub(super) taken_versions: TakenVersions,
    /// The records of the incoming files in the state before the round, by key.
    pub(super) records_before_round: HashMap<String, SyncedFile>,
    /// Deletions that this machine has published or that other machines request, by key.
    pub(super) pending_deletions: BTreeMap<String, Deletion>,
    /// The folder in which the staged tree stays until the next run or plan.
    pub(super) kept_tree: PathBuf,
    /// False for a plan on a machine without a kept tree.
    keeps_tree: bool,
    /// False for a plan, which does not change the state.
    pub(super) writes_state: bool,
    pub(super) is_staged: bool,
    /// True if another machine has a copy of this disk, or this disk was restored from a copy.
    pub was_copied: bool,
}

/// Returns the settings for a run, with the staged tree below `staging` as the cloud folder.
fn build_run_config(config: &SyncConfig, staging: &Path) -> SyncConfig {
    let mut config = SyncConfig {
        cloud: staging.join(HOME),
        remote: SyncRemote::Vault,
        ..config.clone()
    };
    // The manifests tell which version is newer, so mtimes must not decide.
    config.policy.rules.compare = Compare::ThreeWay;
    config
}

impl<'r, R: Remote> Join<'r, R> {
    /// Lists the snapshots, and reads the manifests of those that are new. `staging` is an empty private folder for the
    /// staged tree. The tree is kept for the next run below `kept_folder`, a folder for all replicas of this machine.
    /// `writes_state` is false for a plan, which does not change the state.
    ///
    /// # Errors
    /// See [`RemoteError`]. No file of the home was changed.
    pub fn open(
        remote: &'r R,
        config: &SyncConfig,
        replica: &Replica,
        staging: &Path,
        kept_folder: &Path,
        writes_state: bool,
    ) -> Result<Self, R::Error> {
        let config = build_run_config(config, staging);
        // No operation in the staged tree follows a link.
        beneath::protect(&config.cloud, FollowedLinks::NONE);
        let position = replica.read_position(&config, || remote.new_replica_id())?;
        let published_manifest = replica
            .read_own_manifest(PUBLISHED_FILE)?
            .unwrap_or_default();
        let scope =
            Scope::build(&config).map_err(|e| RemoteError::from(PlanError::InvalidGlob(e)))?;

        let kept_tree = kept_folder.join(replica.folder.file_name().unwrap_or_default());
        let mut join = Self {
            remote,
            tree: StagedTree::create(staging, &config)?,
            replica: replica.clone(),
            scope,
            own_head: None,
            outgoing: BTreeMap::new(),
            waiting_machines: Vec::new(),
            round: Vec::new(),
            forked_replicas: ForkedReplicas::default(),
            taken_versions: TakenVersions::default(),
            records_before_round: HashMap::new(),
            pending_deletions: BTreeMap::new(),
            keeps_tree: writes_state || kept_tree.exists(),
            kept_tree,
            writes_state,
            is_staged: false,
            was_copied: false,
            config,
            position,
            published_manifest,
        };

        let snapshots = remote.snapshots()?;
        let heads = find_heads(&snapshots);
        join.resume_from_own_head(&heads)?;
        // After `resume_from_own_head`, which replaces the manifest by the publication of a killed run.
        join.outgoing.clone_from(&join.published_manifest.files);
        join.pending_deletions
            .clone_from(&join.published_manifest.deleted);

        if join.was_copied {
            join.change_replica_id(&heads, &snapshots);
        }
        join.forked_replicas = ForkedReplicas::find(&heads, &snapshots);
        join.queue_other_manifests(heads)?;
        Ok(join)
    }

    /// Finds this machine's newest snapshot, and records it if a killed run published it. Sets `was_copied` if another
    /// machine has a copy of this disk, or if this disk was restored from a copy.
    fn resume_from_own_head(&mut self, heads: &[RemoteSnapshot]) -> Result<(), R::Error> {
        let is_own = |head: &&RemoteSnapshot| head.replica == self.position.replica;
        let own_heads: Vec<_> = heads.iter().filter(is_own).collect();
        let last_id = self.position.snapshot.clone().unwrap_or_default();
        let is_last = |head: &RemoteSnapshot| is_same_id(&head.id, &last_id);

        // A killed run of this machine published the newest snapshot and could not record it.
        if let [head] = *own_heads
            && !is_last(head)
            && let Some(manifest) = self.find_killed_publication(head)?
        {
            self.position.snapshot = Some(head.id.clone());
            self.position.number = head.number;
            self.position.knowledge.clone_from(&manifest.knowledge);
            self.published_manifest = manifest;
            self.own_head = Some(head.clone());

            if self.writes_state {
                self.replica.record_published()?;
                // Committed now, because this run can be killed too.
                self.commit_run()?;
            }

            return Ok(());
        }

        match *own_heads {
            // The first run, or another machine removed this machine's snapshots. All other snapshots are joined again.
            [] => self.position.joined.clear(),
            // The last snapshot is not listed yet.
            [head] if head.number < self.position.number => {}
            [head] if is_last(head) => self.own_head = Some(head.clone()),
            _ => self.was_copied = true,
        }
        Ok(())
    }

    /// Returns the manifest of a snapshot if a killed run of this machine made it.
    fn find_killed_publication(
        &self,
        snapshot: &RemoteSnapshot,
    ) -> Result<Option<SnapshotManifest>, R::Error> {
        let next = self.replica.read_own_manifest(NEXT_FILE)?;
        // The killed run may have renamed `NEXT_FILE` to `PUBLISHED_FILE` already.
        let own_manifests = next.into_iter().chain([self.published_manifest.clone()]);
        let candidates: Vec<_> = own_manifests
            .filter(|known| known.replica == snapshot.replica && known.number == snapshot.number)
            .collect();
        if candidates.is_empty() {
            return Ok(None);
        }
        let stored = self.remote.manifest(snapshot)?;
        Ok(candidates.into_iter().find(|known| *known == stored))
    }

    /// Gives this machine a new replica id. Also gives its versions a new version id, if a copy of its disk may have
    /// published other versions under the old ids.
    fn change_replica_id(&mut self, heads: &[RemoteSnapshot], snapshots: &[RemoteSnapshot]) {
        let old_id = std::mem::replace(&mut self.position.replica, self.remote.new_replica_id());
        let last_id = self.position.snapshot.take().unwrap_or_default();
        self.position.number = 0;

        // If all heads under the old id are based on the last snapshot, each version id still means one version.
        let mut old_heads = heads.iter().filter(|head| head.replica == old_id);
        let are_based_on_last = old_heads.all(|head| heads::is_based_on(head, &last_id, snapshots));
        if are_based_on_last {
            return;
        }

        let new_version = self.next_version_id();
        for file in self.outgoing.values_mut() {
            let VersionId(replica, _) = &file.version;
            if *replica == old_id {
                file.version = new_version.clone();
            }
        }
    }

    /// Returns the id of the versions that this run publishes.
    pub(super) fn next_version_id(&self) -> VersionId {
        VersionId(self.position.replica.clone(), self.position.number + 1)
    }

    /// Queues the other `heads` with their manifests, except those that were joined completely. Forgets the joined
    /// snapshots that are no longer among these heads.
    fn queue_other_manifests(&mut self, heads: Vec<RemoteSnapshot>) -> Result<(), R::Error> {
        let is_other = |head: &RemoteSnapshot| Some(head) != self.own_head.as_ref();
        let others: Vec<_> = heads.into_iter().filter(is_other).collect();
        let is_listed = |id: &String| others.iter().any(|head| is_same_id(&head.id, id));
        self.position.joined.retain(is_listed);

        for head in others {
            if self.position.has_joined(&head) {
                continue;
            }
            let manifest = self.remote.manifest(&head)?;
            self.waiting_machines.push(OtherMachine { head, manifest });
        }
        Ok(())
    }

    /// Returns the id of this machine in the store.
    pub fn replica_id(&self) -> &str {
        &self.position.replica
    }

    /// Records the incoming versions that the sync merged. If an incoming version waits for a decision, the staged tree
    /// and the state get back the version that this machine published.
    pub fn settle(&mut self) -> Result<(), R::Error> {
        let mut state = self.replica.read()?;
        let mut has_undecided_files = false;
        let staged_by_key = self.list_staged_for_round()?;

        for (other, incoming) in std::mem::take(&mut self.round) {
            let other_knowledge = &other.manifest.knowledge;
            self.position.knowledge.add_merged(other_knowledge);

            let mut is_joined_completely = true;
            for file in incoming {
                let staged_files = staged_by_key.get(&file.key);
                if is_synced(&file.key, staged_files, &file.files, &state) {
                    self.record_incoming_result(&file, staged_files, &state)?;
                    self.position
                        .knowledge
                        .mark_merged(&file.key, other_knowledge);
                } else {
                    is_joined_completely = false;
                    self.return_to_own_version(file, &staged_by_key, &mut state)?;
                }
            }

            if is_joined_completely {
                self.position.joined.insert(other.head.id.clone());
            } else {
                has_undecided_files = true;
            }

            for (key, deletion) in other.manifest.deleted {
                self.pending_deletions.entry(key).or_insert(deletion);
            }
        }

        if has_undecided_files {
            self.replica.write(&mut state)?;
        }

        if self.has_further_round() {
            // The machines of the next round are compared with the result of this round.
            self.outgoing = self.list_staged_versions(&state)?;
        }
        Ok(())
    }

    /// Updates [`Self::outgoing`] after the sync of an incoming file. An unchanged file keeps the version id of the
    /// other machine if `may_keep_version` allows it; any other file gets a new id. `staged` has the files of the key
    /// after the sync; with `None`, the file is gone and is removed.
    fn record_incoming_result(
        &mut self,
        incoming: &IncomingFile,
        staged: Option<&BTreeMap<String, Stat>>,
        state: &SyncState,
    ) -> Result<(), R::Error> {
        let Some(staged) = staged else {
            self.outgoing.remove(&incoming.key);
            return Ok(());
        };

        let is_unchanged = *staged == incoming.stats_before_sync;
        let file = match &incoming.version {
            Some(version) if is_unchanged && incoming.may_keep_version => FileVersions {
                files: incoming.files.clone(),
                version: version.clone(),
            },
            _ => FileVersions {
                files: self.read_entries(state, &incoming.key, staged)?,
                version: self.next_version_id(),
            },
        };
        self.outgoing.insert(incoming.key.clone(), file);
        Ok(())
    }

    /// Records an incoming version as undecided. The state and the staged tree get this machine's version of the file.
    fn return_to_own_version(
        &mut self,
        incoming: IncomingFile,
        staged: &StagedFiles,
        state: &mut SyncState,
    ) -> Result<(), R::Error> {
        let key = incoming.key;
        if let Some(version) = incoming.version {
            self.position.knowledge.add_unmerged(&key, version);
        }
        match self.records_before_round.remove(&key) {
            Some(last) => state.files.insert(key.clone(), last),
            None => state.files.remove(&key),
        };
        self.unstage(&key, staged)?;
        self.place_own_version_again(&key, state)
    }

    /// Puts the published version of the file `key` of this machine into the staged folder: from the home if it has the
    /// content, else from the snapshots.
    fn place_own_version_again(&self, key: &str, state: &SyncState) -> Result<(), R::Error> {
        let files = self.outgoing.get(key).map(|file| file.files.clone());
        let mut missing_files = BTreeMap::new();
        for (path, entry) in files.unwrap_or_default() {
            if self.place_local(&path, &entry, state)?.is_none() {
                missing_files.insert(path, entry);
            }
        }
        // The next run forgets the records of files that no snapshot has.
        let _lost_files = self.fetch_own_versions(missing_files)?;
        Ok(())
    }

    /// Publishes the staged folder as this machine's newest snapshot, and returns the id of the snapshot. `None` if the
    /// last snapshot has the same content. If a file was rewritten during the publication, publishes again.
    ///
    /// # Errors
    /// [`RemoteError::Changed`] if each of [`MAX_ATTEMPTS`] snapshots lists former content of a file.
    pub fn publish(&mut self) -> Result<Option<String>, R::Error> {
        let state = self.replica.read()?;
        let mut new_id = None;

        for attempt in 1.. {
            let manifest = self.build_next_manifest(&state)?;
            let is_listed = self.own_head.is_some() || new_id.is_some();
            if is_listed && manifest.has_same_content(&self.published_manifest) {
                break;
            }

            // Stored before the snapshot: if this run is killed, the next run recognizes the snapshot by this manifest.
            let bytes = self.write_manifest(&manifest)?;
            self.replica.write_next_manifest(&bytes)?;
            let publication = Publication {
                replica: manifest.replica.clone(),
                machine: manifest.machine.clone(),
                number: manifest.number,
                base: self.position.snapshot.clone(),
            };

            let snapshot_id = self.remote.publish(&self.tree.root, &publication)?;
            self.replica.record_published()?;
            self.position.snapshot = Some(snapshot_id.clone());
            self.position.number = manifest.number;
            self.position.knowledge.clone_from(&manifest.knowledge);
            new_id = Some(snapshot_id);

            let rewritten_path = self.find_rewritten_file(&manifest)?;
            self.published_manifest = manifest;
            match rewritten_path {
                None => break,
                // The next snapshot replaces this one.
                Some(_) if attempt < MAX_ATTEMPTS => {}
                Some(path) => return Err(RemoteError::Changed(path).into()),
            }
        }

        self.commit_run()?;
        Ok(new_id)
    }

    /// Keeps the hard links for the next run. If that run created them again, each file would get a new ctime, which
    /// restic stores. A failure is only logged.
    pub fn keep_tree(&self) {
        if self.is_staged
            && self.keeps_tree
            && let Err(e) = self.tree.move_links_to(&self.kept_tree)
        {
            events::info!("the staged folder is not kept: {e}: {}", e.source);
        }
    }

    /// Records the position, and replaces the state of the last publication by the state of this run.
    fn commit_run(&self) -> Result<(), IoError> {
        self.replica.write_position(&self.position)?;
        self.replica.commit_unpublished_run()
    }

    fn build_next_manifest(&self, state: &SyncState) -> Result<SnapshotManifest, IoError> {
        let VersionId(replica, number) = self.next_version_id();
        let files = self.list_staged_versions(state)?;

        // A deletion ends when the file is back or a machine cancels it.
        let known_deletions = state.deleted.iter().chain(&self.pending_deletions);
        let is_pending = |(key, deletion): &(&String, &Deletion)| {
            !files.contains_key(*key) && !state.resolutions.contains(&deletion.id)
        };

        let mut deleted = BTreeMap::new();
        for (key, deletion) in known_deletions.filter(is_pending) {
            deleted
                .entry(key.clone())
                .or_insert_with(|| deletion.clone());
        }

        let mut knowledge = self.position.knowledge.clone();
        knowledge.seen.insert(replica.clone(), number);
        Ok(SnapshotManifest {
            replica,
            machine: self.config.machine_id.clone(),
            number,
            knowledge,
            deleted,
            resolved: state.resolutions.clone(),
            files,
        })
    }

    fn write_manifest(&self, manifest: &SnapshotManifest) -> Result<Vec<u8>, IoError> {
        let path = self.tree.root.join(MANIFEST);
        self.tree.remove_manifests()?;
        let bytes = manifest.encode().at("encode", &path)?;
        tree::remove(&path)?;
        let mut file = atomic::create_private(&path)?;
        file.write_all(&bytes).at("write", &path)?;
        Ok(bytes)
    }

    /// Returns the path of a file that was rewritten while the store read it, or that cannot be read now; `None` if
    /// there is none. A file that only grew is accepted, because readers truncate it to the listed size.
    fn find_rewritten_file(&self, manifest: &SnapshotManifest) -> Result<Option<String>, IoError> {
        for (path, entry) in manifest.files() {
            let full_path = self.tree.path_of(path);
            let has_listed_content = Stat::read(&full_path)? == Some(entry.stat())
                || contents::raw_begins_with(&full_path, entry.size, &entry.digest)
                    .unwrap_or_default();
            if !has_listed_content {
                return Ok(Some(path.to_owned()));
            }
        }
        Ok(None)
    }
}

/// Returns true if the state records the staged files of a key as synced, or if there are neither staged files nor a
/// record. Conflict copies always count as synced.
fn is_synced(
    key: &str,
    staged_files: Option<&BTreeMap<String, Stat>>,
    incoming_files: &BTreeMap<String, ManifestEntry>,
    state: &SyncState,
) -> bool {
    if is_conflict_copy_path(key) {
        return true;
    }

    let last = state.files.get(key);
    let (Some(staged_files), Some(last)) = (staged_files, last) else {
        return staged_files.is_none() && last.is_none();
    };

    if staged_files.get(&last.remote.path) != Some(&last.remote.stat) {
        return false;
    }

    // Versions in conflict can have equal sizes and mtimes, so their digests are compared if both are known.
    let is_uncompressed = !last.remote.path.ends_with(rollout::ZST);
    match (incoming_files.get(&last.remote.path), last.text_digest()) {
        (Some(entry), Some(digest)) if is_uncompressed && entry.stat() == last.remote.stat => {
            digest == entry.digest
        }
        _ => true,
    }
}
