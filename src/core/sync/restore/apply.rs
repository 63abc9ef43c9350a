//! Puts the files of a snapshot in place, with the records by which other machines accept them: the resolutions of
//! restored conversations, and the attestation of files that go to the cloud folder.

use super::error::SyncRestoreError;
use super::plan::{SyncRestorePlan, target_path};
use super::snapshot_reader::SnapshotReader;
use crate::history::files;
use crate::io::atomic::{self, TempFile};
use crate::io::{IoContext, IoError, OrdinaryPath as _, tree};
use crate::sync::backup::SnapshotFile;
use crate::sync::config::SyncConfig;
use crate::sync::ledger::Ledger;
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::PlanError;
use crate::sync::sides::{Side, Stat, move_into_place, set_mode, set_mtime};
use crate::sync::state::{Replica, StateJournal, SyncState};
use crate::sync::{conflict_copies, contents, identity, resolutions, rollouts, snapshot_writer};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Copies the replaced files to a safety snapshot, then restores each file by one rename. Returns the name of the
/// safety snapshot, if a file was replaced. Attests the files that go to the cloud folder, because other machines wait
/// for files that no machine attests. The caller holds the lock of `replica`.
///
/// # Errors
/// See [`SyncRestoreError`].
pub fn apply(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    replica: &Replica,
    now: DateTime<Utc>,
) -> Result<Option<String>, SyncRestoreError> {
    let targets = plan.files.iter().map(|file| {
        let path = target_path(plan, config, &file.path)?;
        Ok(Destination::read(path, file.path.clone())?)
    });
    let targets: Vec<_> = targets.collect::<Result<_, SyncRestoreError>>()?;
    let other_forms = find_other_forms(plan, config)?;

    let destinations = targets.iter().chain(&other_forms);
    let replaced_files = destinations.filter_map(|to| to.to_snapshot_file(plan.target));
    let safety_snapshot = snapshot_writer::back_up_files(config, replaced_files.collect(), now)?;

    // An error now leaves some files restored, so it is reported with their number and the safety snapshot.
    let mut restored_count = 0;
    let restored = restore_files(plan, config, replica, &targets, &mut restored_count)
        .and_then(|()| remove_other_forms(&other_forms))
        .and_then(|()| match plan.target {
            Side::Local => Ok(()),
            Side::Remote => publish_own_manifest(config, replica),
        });
    match restored {
        Ok(()) => Ok(safety_snapshot),
        Err(cause) => Err(SyncRestoreError::Stopped {
            done: restored_count,
            all: plan.files.len(),
            safety: safety_snapshot,
            cause: Box::new(cause),
        }),
    }
}

/// A path that the restore writes or clears.
struct Destination {
    path: PathBuf,
    /// Path relative to the home or the cloud folder.
    relative: String,
    /// The stat of the file that is replaced or removed; `None` if there is none.
    replaced_stat: Option<Stat>,
}

impl Destination {
    fn read(path: PathBuf, relative: String) -> Result<Self, IoError> {
        Ok(Self {
            replaced_stat: Stat::read(&path)?,
            path,
            relative,
        })
    }

    /// Returns the replaced file for the safety snapshot, with its path.
    fn to_snapshot_file(&self, side: Side) -> Option<(PathBuf, SnapshotFile)> {
        let file = SnapshotFile::new(side, self.relative.clone(), self.replaced_stat?);
        Some((self.path.clone(), file))
    }
}

/// Restores the files of the plan to the `targets`, and counts them in `restored_count`. The records of a file are
/// durable before the file is in its place.
fn restore_files(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    replica: &Replica,
    targets: &[Destination],
    restored_count: &mut usize,
) -> Result<(), SyncRestoreError> {
    let mut source = SnapshotReader::open(&plan.snapshot)?;
    let mut ledger = match plan.target {
        Side::Local => None,
        Side::Remote => Some(Ledger::open(replica.run_folder())?),
    };
    let mut recorder = ResolutionRecorder::open(config, replica)?;

    for (snapshot_file, target) in plan.files.iter().zip(targets) {
        let (temp, path) = stage_file(plan, config, &mut source, snapshot_file, ledger.as_mut())?;
        if let Some(recorder) = &mut recorder {
            recorder.record_keep(snapshot_file, temp.path())?;
        }
        if !move_into_place(temp, &path, target.replaced_stat)? {
            return Err(SyncRestoreError::Changed(path));
        }
        *restored_count += 1;
    }
    Ok(())
}

/// Removes the other forms of the restored conversations. A form that changed since has no copy in the safety snapshot,
/// so it is not removed.
fn remove_other_forms(other_forms: &[Destination]) -> Result<(), SyncRestoreError> {
    for other_form in other_forms {
        let path = &other_form.path;
        if Stat::read(path)? != other_form.replaced_stat {
            return Err(SyncRestoreError::Changed(path.clone()));
        }
        tree::remove(path)?;
        atomic::sync_folder(atomic::parent_of(path))?;
    }
    Ok(())
}

/// Returns the files that the restored conversations have at other paths of the home, for example because one was
/// archived since. They are removed, because Codex 0.169 lets one of two files of a conversation replace the other when
/// it moves the conversation.
fn find_other_forms(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
) -> Result<Vec<Destination>, IoError> {
    let home = config.root(Side::Local);
    // If a folder of the home is a link, a file has two paths.
    let folder_of = |path: &Path| atomic::parent_of(path).canonical().ok();

    let mut targets_by_key: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for snapshot_file in &plan.files {
        if let Some(key) = rollouts::key(&snapshot_file.path) {
            let target = home.join(&snapshot_file.path);
            targets_by_key.entry(key).or_default().push(target);
        }
    }

    let mut other_forms = Vec::new();
    if plan.target == Side::Local && !targets_by_key.is_empty() {
        files::visit_rollouts(home, &mut |entry, relative, _| {
            let names: Vec<_> = relative.iter().map(|name| name.to_string_lossy()).collect();
            let relative = names.join("/");
            let path = entry.path();
            let is_target = |target: &PathBuf| {
                target.file_name() == path.file_name() && folder_of(target) == folder_of(&path)
            };

            let targets = rollouts::key(&relative).and_then(|key| targets_by_key.get(&key));
            if targets.is_some_and(|targets| !targets.iter().any(is_target)) {
                other_forms.push((path, relative));
            }
        });
    }
    let read = |(path, relative)| Destination::read(path, relative);
    other_forms.into_iter().map(read).collect()
}

/// Writes a file beside its destination, durable on return, and records it in the ledger if it goes to the cloud
/// folder. Returns the temp file and the destination.
fn stage_file(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    source: &mut SnapshotReader,
    snapshot_file: &SnapshotFile,
    ledger: Option<&mut Ledger>,
) -> Result<(TempFile, PathBuf), SyncRestoreError> {
    let path = target_path(plan, config, &snapshot_file.path)?;
    let folder = atomic::parent_of(&path);
    match plan.target {
        Side::Local => atomic::create_private_folder(folder)?,
        Side::Remote => atomic::create_durable_below(&config.cloud, folder)?,
    }

    let mut temp = TempFile::create_beside(&path)?;
    let path_in_snapshot = plan.snapshot.path.join(snapshot_file.path_in_snapshot());
    let file = temp.file();
    let size = source
        .read_with(snapshot_file, |content, mode| {
            let size = io::copy(content, file)?;
            set_mode(file, mode)?;
            Ok(size)
        })
        .at("read", &path_in_snapshot)?;
    set_mtime(temp.file(), snapshot_file.mtime_ns).at("set time", &path)?;
    temp.sync()?;

    if let Some(ledger) = ledger {
        let digest = contents::read_raw_digest(temp.path()).at("read", &path)?;
        let replaced = Stat::read(&path)?;
        // Other machines take the version with the earlier mtime for the older one.
        let min_mtime_ns = replaced.map_or(i64::MIN, |stat| stat.mtime_ns.saturating_add(1));
        let entry = ManifestEntry {
            size,
            mtime_ns: snapshot_file.mtime_ns.max(min_mtime_ns),
            digest,
        };
        ledger.record_upload(&snapshot_file.path, &entry)?;
        ledger.sync()?;
    }

    Ok((temp, path))
}

/// Records that the user wants the restored versions of conversations, so that earlier decisions against them
/// no longer count on any machine.
struct ResolutionRecorder {
    journal: StateJournal,
    state: SyncState,
    remote_resolutions: BTreeSet<String>,
}

impl ResolutionRecorder {
    /// Opens the state for recording; `None` before the first sync, which has no state.
    fn open(config: &SyncConfig, replica: &Replica) -> Result<Option<Self>, SyncRestoreError> {
        let mut state = replica.read().map_err(PlanError::from)?;
        if !state.file.exists {
            return Ok(None);
        }

        let remote_resolutions = identity::read_remote_manifests(config, &state)?.resolutions;
        // Torn and damaged lines have to go before the journal appends lines.
        if state.file.needs_rewrite {
            replica.write(&mut state)?;
        }

        Ok(Some(Self {
            journal: replica.open_journal()?,
            state,
            remote_resolutions,
        }))
    }

    /// Records the restored version of a conversation; does nothing for other files. `file` has the restored content.
    /// Call this before the file is renamed to its destination.
    fn record_keep(&mut self, snapshot_file: &SnapshotFile, file: &Path) -> Result<(), IoError> {
        let Some(key) = rollouts::key(&snapshot_file.path) else {
            return Ok(());
        };

        let text = contents::read_text_digest(file).at("read", file)?;
        let name = conflict_copies::format_file_name(&key, &text.digest);
        let own_resolutions = &mut self.state.resolutions;
        let added = resolutions::record_keep(&name, own_resolutions, &self.remote_resolutions);

        for record in &added {
            self.journal.record_resolution(record)?;
        }
        if !added.is_empty() {
            self.journal.sync()?;
        }
        Ok(())
    }
}

/// Publishes this machine's manifest. Does nothing before the first sync, which publishes it.
fn publish_own_manifest(config: &SyncConfig, replica: &Replica) -> Result<(), SyncRestoreError> {
    let mut state = replica.read().map_err(PlanError::from)?;
    if !state.file.exists {
        return Ok(());
    }
    let files = Ledger::read(replica.run_folder())?.files;
    Ok(identity::publish_manifest(
        &files, &mut state, config, replica,
    )?)
}
