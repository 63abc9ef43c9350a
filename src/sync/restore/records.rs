//! Records of a restore, so that other machines accept the restored files: the resolutions of restored conversations, and
//! the attestation of files that go to the cloud folder.

use super::error::SyncRestoreError;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::backup::SnapshotFile;
use crate::sync::config::SyncConfig;
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::identity;
use crate::sync::ledger::{Ledger, LedgerContents};
use crate::sync::line_merge;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::plan::PlanError;
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::resolutions;
use crate::sync::rollouts;
use crate::sync::state::{Replica, StateJournal, SyncState};
use crate::sync::version_vector::Ancestry;
use std::collections::BTreeSet;
use std::path::Path;

/// Records that the user wants the restored versions of conversations, so that earlier decisions against them
/// no longer count on any machine. Does nothing before the first sync.
pub(super) struct ResolutionRecorder {
    noted: Option<(StateJournal, SyncState)>,
    others: BTreeSet<String>,
}

impl ResolutionRecorder {
    pub(super) fn of(config: &SyncConfig, replica: &Replica) -> Result<Self, SyncRestoreError> {
        let mut state = replica.read().map_err(PlanError::from)?;
        if !state.file.exists {
            return Ok(Self {
                noted: None,
                others: BTreeSet::new(),
            });
        }
        let others = identity::read_remote_manifests(config, &state)?.resolutions;
        if state.file.needs_rewrite {
            replica.write(&mut state)?;
        }
        Ok(Self {
            noted: Some((replica.journal()?, state)),
            others,
        })
    }

    /// Records the restored version. Call it before the file is renamed to its destination.
    pub(super) fn record_keep(&mut self, kept: &SnapshotFile, file: &Path) -> Result<(), IoError> {
        let Some((journal, state)) = &mut self.noted else {
            return Ok(());
        };
        let Some(key) = rollouts::key(&kept.path) else {
            return Ok(());
        };
        let read = contents::read(file, None).at("read", file)?;
        let name = conflict_copies::file_name(&key, &read.digest);
        let news = resolutions::record_keep(&name, &mut state.resolutions, &self.others);
        for record in &news {
            journal.record_resolution(record)?;
        }
        if news.is_empty() {
            Ok(())
        } else {
            journal.sync()
        }
    }
}

/// Records the files that this machine puts into the cloud folder.
pub(super) struct EntryRecorder {
    ledger: Ledger,
    noted: LedgerContents,
    others: RemoteManifests,
    state: SyncState,
}

impl EntryRecorder {
    pub(super) fn of(config: &SyncConfig, replica: &Replica) -> Result<Self, SyncRestoreError> {
        let state = replica.read().map_err(PlanError::from)?;
        Ok(Self {
            ledger: Ledger::open(&replica.folder)?,
            noted: Ledger::read(&replica.folder)?,
            others: identity::read_remote_manifests(config, &state)?,
            state,
        })
    }

    /// Records a file before it gets its name; durable on return.
    pub(super) fn record(
        &mut self,
        kept: &SnapshotFile,
        size: u64,
        digest: Sha256Digest,
    ) -> Result<(), IoError> {
        let entry = ManifestEntry {
            size,
            mtime_ns: kept.mtime_ns,
            digest,
            history: self.ancestry_of(&kept.path, &digest),
        };
        self.ledger.record(&kept.path, &entry)?;
        self.ledger.sync()
    }

    /// Returns the ancestry of a restored text: it replaces all known versions of the file. Its content names
    /// the change, because no machine edited it.
    fn ancestry_of(&self, path: &str, text: &Sha256Digest) -> Option<Box<Ancestry>> {
        if rollouts::key(path).is_some() || line_merge::is_mergeable(path) {
            return None;
        }
        let key = manifest::key_of(path);
        let own = self.noted.files.iter();
        let own = own.chain(self.noted.earlier.iter().map(|(path, entry)| (path, entry)));
        let own = own.filter(|(path, _)| manifest::key_of(path) == key);
        let all = self
            .others
            .entries(&key)
            .iter()
            .chain(own.map(|(_, entry)| entry));
        let all = all.map(|entry| (entry.history(), Some(entry.digest)));
        let last = |state_key: &String| self.state.files.get(state_key)?.contents;
        let known = self.state.histories.iter();
        let known = known.filter(|(state_key, _)| manifest::fold_name(state_key) == key);
        let known =
            known.map(|(key, history)| (history.clone(), last(key).map(|(_, digest)| digest)));
        let mut history = Ancestry::first(text);
        for (before, replaced) in all.chain(known) {
            history = history.merge(&before, text).record_replaced(replaced, text);
        }
        history.vector = history.vector.increment_unknown(text);
        Some(Box::new(history))
    }
}

/// Publishes this machine's manifest. Before the first sync, that sync will do it.
pub(super) fn publish(config: &SyncConfig, replica: &Replica) -> Result<(), SyncRestoreError> {
    let mut state = match replica.read() {
        Ok(state) if state.file.exists => state,
        _ => return Ok(()),
    };
    let files = Ledger::read(&replica.folder)?.files;
    Ok(identity::publish_manifest(
        &files, &mut state, config, replica,
    )?)
}
