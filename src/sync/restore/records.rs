//! Records of a restore, so that other machines accept the restored files: the resolutions of restored conversations,
//! and the attestation of files that go to the cloud folder.

use super::error::SyncRestoreError;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::backup::SnapshotFile;
use crate::sync::config::SyncConfig;
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::identity;
use crate::sync::ledger::Ledger;
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::PlanError;
use crate::sync::resolutions;
use crate::sync::rollouts;
use crate::sync::scan::Stat;
use crate::sync::state::{Replica, StateJournal, SyncState};
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

/// Records a file that this machine puts into the cloud folder, before it gets its name; durable on return. `over` is
/// the file that it replaces: machines take the earlier one of two versions for the older.
pub(super) fn record_entry(
    ledger: &mut Ledger,
    kept: &SnapshotFile,
    over: Option<Stat>,
    size: u64,
    digest: Sha256Digest,
) -> Result<(), IoError> {
    let least = over.map_or(i64::MIN, |stat| stat.mtime_ns.saturating_add(1));
    let entry = ManifestEntry {
        size,
        mtime_ns: kept.mtime_ns.max(least),
        digest,
    };
    ledger.record(&kept.path, &entry)?;
    ledger.sync()
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
