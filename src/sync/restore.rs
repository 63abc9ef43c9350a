//! Restores a snapshot of a sync to the Codex home or to the cloud folder.

use super::backup::{self, BackupError, SnapshotFile, SyncSnapshot};
use super::config::SyncConfig;
use super::conflict_copies;
use super::contents;
use super::identity;
use super::ledger::{Ledger, LedgerContents};
use super::line_merge;
use super::manifest::{self, ManifestEntry};
use super::mtime::set_mtime;
use super::plan::{self, PlanError};
use super::remote_manifests::RemoteManifests;
use super::resolutions;
use super::rollouts;
use super::scan::{Side, Stat};
use super::scope;
use super::secrets;
use super::state::{Replica, StateJournal, SyncState};
use super::version_vector::Ancestry;
use crate::io::atomic::{self, TempFile};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::quantity::pluralize;
use crate::io::{IoContext, IoError};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// An error of restoring a snapshot. Nothing was changed, except for [`SyncRestoreError::Stopped`].
#[derive(Debug, thiserror::Error)]
pub enum SyncRestoreError {
    /// There is no such snapshot.
    #[error("no such snapshot: {}", .0.display())]
    None(PathBuf),
    /// The given name is not that of an entry in the backup folder.
    #[error("{name:?} is not the name of a snapshot in {}", folder.display())]
    Outside {
        /// Path of the backup folder.
        folder: PathBuf,
        /// The name as given on the command line.
        name: String,
    },
    /// The snapshot contains a path outside of itself, or one whose destination is blocked.
    #[error("{path:?} cannot be restored ({why}): {}", snapshot.display())]
    Unsafe {
        /// Path of the snapshot.
        snapshot: PathBuf,
        /// The path in it.
        path: String,
        /// The objection to the path, as a clause.
        why: String,
    },
    /// A file of the snapshot is missing or damaged.
    #[error("a file of the snapshot is damaged ({why}): {}", path.display())]
    Damaged {
        /// Path of the file in the snapshot.
        path: PathBuf,
        /// The defect of the file, as a clause.
        why: String,
    },
    /// The restore ended after some files were in place.
    #[error("{done} of {} restored, then: {cause}; {}", pluralize(*all, "file"), safety.as_ref().map_or_else(|| "no file was replaced".to_owned(), |name| format!("the replaced files are in {name}")))]
    Stopped {
        /// Number of restored files.
        done: usize,
        /// Number of files to restore.
        all: usize,
        /// Name of the snapshot of the replaced files, if any file was replaced.
        safety: Option<String>,
        /// The error that ended it.
        cause: Box<SyncRestoreError>,
    },
    /// Another process wrote to a destination after its former content was backed up.
    #[error("changed during the restore and left as it is: {}", .0.display())]
    Changed(PathBuf),
    /// The cloud folder must not be written to.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// The snapshot cannot be read, or the safety snapshot cannot be written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Reading or writing a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The files that a restore would write.
#[derive(Debug)]
pub struct SyncRestorePlan {
    /// The snapshot to restore.
    pub snapshot: SyncSnapshot,
    /// The side to restore to.
    pub target: Side,
    /// The files to restore.
    pub files: Vec<SnapshotFile>,
    /// Files that are not restored, each with the reason: logins and texts with tokens.
    pub skipped: Vec<(String, String)>,
}

/// Finds the snapshot and its files that belong to `target`. Without a target, it is the home if the snapshot
/// has files of the home, else the cloud folder. A snapshot without files of the given side, or made by
/// codexSync, is restored as a whole.
pub fn plan(
    config: &SyncConfig,
    replica: &Replica,
    from: Option<&str>,
    target: Option<Side>,
) -> Result<SyncRestorePlan, SyncRestoreError> {
    let snapshot = find_snapshot(&config.backup.folder, from)?;
    let list = backup::read_list(&snapshot)?;
    let of_cloud_alone = |list: &backup::SnapshotList| {
        !list.files.is_empty() && list.files.iter().all(|kept| kept.cloud)
    };
    let target = target.unwrap_or(match &list {
        Some(list) if of_cloud_alone(list) => Side::Remote,
        _ => Side::Local,
    });
    if target == Side::Remote {
        plan::check_cloud_identity(config, replica)?;
    }
    let mut files = match list {
        Some(list) => {
            let of_side = |kept: &&SnapshotFile| kept.cloud == (target == Side::Remote);
            let own: Vec<_> = list.files.iter().filter(of_side).cloned().collect();
            if own.is_empty() { list.files } else { own }
        }
        None => list_without_manifest(&snapshot)?,
    };
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for kept in &files {
        check_path(&snapshot, &kept.path)?;
    }
    let reasons = check_contents(&snapshot, target, &files)?;
    let (mut restorable, mut skipped) = (Vec::new(), Vec::new());
    for (kept, why) in files.into_iter().zip(reasons) {
        match why {
            Some(why) => skipped.push((kept.path, why)),
            None => restorable.push(kept),
        }
    }
    let plan = SyncRestorePlan {
        snapshot,
        target,
        files: restorable,
        skipped,
    };
    for kept in &plan.files {
        target_path(&plan, config, &kept.path)?;
    }
    Ok(plan)
}

/// Returns the snapshot of this name, or the newest one without a name.
fn find_snapshot(folder: &Path, name: Option<&str>) -> Result<SyncSnapshot, SyncRestoreError> {
    let mut all = backup::list(folder)?.into_iter();
    let snapshot = match name {
        None => all.next(),
        Some(name) => {
            let mut parts = Path::new(name).components();
            let plain = matches!(parts.next(), Some(Component::Normal(_)));
            if !plain || parts.next().is_some() || name.contains(['/', '\\']) {
                return Err(SyncRestoreError::Outside {
                    folder: folder.to_path_buf(),
                    name: name.to_owned(),
                });
            }
            all.find(|snapshot| snapshot.name == name)
        }
    };
    snapshot.ok_or_else(|| SyncRestoreError::None(folder.join(name.unwrap_or_default())))
}

/// Reads all files before anything is restored: a partial snapshot is refused, and a login is recognized
/// under any name. Returns for each file why it is not restored, if so.
fn check_contents(
    snapshot: &SyncSnapshot,
    target: Side,
    files: &[SnapshotFile],
) -> Result<Vec<Option<String>>, SyncRestoreError> {
    let mut source = SnapshotReader::open(snapshot)?;
    let mut found = Vec::with_capacity(files.len());
    for kept in files {
        let damaged = |e: &dyn std::fmt::Display| SyncRestoreError::Damaged {
            path: snapshot.path.join(kept.inside()),
            why: e.to_string(),
        };
        let size = source
            .with(kept, |from, _| io::copy(from, &mut io::sink()))
            .map_err(|e| damaged(&e))?;
        if size != kept.size && !snapshot.is_zip() {
            return Err(damaged(&"its size differs from the recorded one"));
        }
        if let Some(why) = scope::never_synced(&kept.path) {
            found.push(Some(why.to_owned()));
            continue;
        }
        if rollouts::key(&kept.path).is_some() {
            // Conversations contain the output of commands, so they may contain tokens.
            found.push(None);
            continue;
        }
        // A text with a token may return to the user's home. Prompts may quote tokens anywhere.
        let may_quote_tokens = line_merge::is_mergeable(&kept.path);
        let secret = source
            .with(kept, |from, _| match target {
                Side::Remote if !may_quote_tokens => secrets::find_in_text(from, size),
                _ => secrets::find_whole_file(from, size),
            })
            .map_err(|e| damaged(&e))?;
        found.push(secret.map(|why| format!("it contains what looks like {why}")));
    }
    Ok(found)
}

/// Reads files from a snapshot without following links in it.
enum SnapshotReader {
    Zip(zip::ZipArchive<fs::File>),
    Folder(PathBuf),
}

impl SnapshotReader {
    fn open(snapshot: &SyncSnapshot) -> Result<Self, SyncRestoreError> {
        if !snapshot.is_zip() {
            return Ok(Self::Folder(snapshot.path.clone()));
        }
        match backup::open_zip(snapshot)? {
            Some(zip) => Ok(Self::Zip(zip)),
            None => Err(BackupError::Zip {
                action: "read",
                reason: "it is not a zip file".into(),
                path: snapshot.path.clone(),
            }
            .into()),
        }
    }

    /// Calls `read` with the content of a file and its mode, if known.
    fn with<T>(
        &mut self,
        kept: &SnapshotFile,
        read: impl FnOnce(&mut dyn io::Read, Option<u32>) -> io::Result<T>,
    ) -> io::Result<T> {
        let root = match self {
            Self::Zip(zip) => {
                let mut file = zip.by_name(&kept.inside()).map_err(io::Error::other)?;
                let mode = file.unix_mode();
                return read(&mut file, mode);
            }
            Self::Folder(root) => root,
        };
        let mut path = root.clone();
        for part in Path::new(&kept.inside()).components() {
            path.push(part);
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(io::Error::other("a link in a snapshot is not followed"));
            }
        }
        let mut file = file_open::open_no_link(&path)?;
        let mode = mode_of(&file.metadata()?);
        read(&mut file, mode)
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "not all systems have one")]
fn mode_of(meta: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(meta.permissions().mode())
}

#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> Option<u32> {
    None
}

fn check_path(snapshot: &SyncSnapshot, path: &str) -> Result<(), SyncRestoreError> {
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    // On other systems, `\` is an ordinary character in file names.
    let parts = path.split(['/', '\\']).any(|part| part == "..");
    let outside = parts || (cfg!(windows) && path.contains('\\'));
    if inside && !path.is_empty() && !outside {
        return Ok(());
    }
    Err(SyncRestoreError::Unsafe {
        snapshot: snapshot.path.clone(),
        path: path.to_owned(),
        why: "it leads outside the snapshot".to_owned(),
    })
}

/// Lists the files of a snapshot that this program did not make. Files that are never synced (logins) are
/// skipped, although codexSync copied them.
fn list_without_manifest(snapshot: &SyncSnapshot) -> Result<Vec<SnapshotFile>, SyncRestoreError> {
    let mut files = if snapshot.is_zip() {
        list_zip(snapshot)?
    } else {
        list_folder(snapshot)?
    };
    files.retain(|file| scope::never_synced(&file.path).is_none());
    Ok(files)
}

/// Lists the files in a `.zip`.
fn list_zip(snapshot: &SyncSnapshot) -> Result<Vec<SnapshotFile>, SyncRestoreError> {
    let unreadable = |reason: String| BackupError::Zip {
        action: "read",
        reason,
        path: snapshot.path.clone(),
    };
    let Some(mut zip) = backup::open_zip(snapshot)? else {
        return Err(unreadable("it is not a zip file".into()).into());
    };
    let mut files = Vec::new();
    for index in 0..zip.len() {
        let file = zip.by_index(index).map_err(|e| unreadable(e.to_string()))?;
        let name = file.name().map(std::borrow::Cow::into_owned);
        if file.is_file()
            && let Ok(path) = name
        {
            files.push(SnapshotFile {
                cloud: false,
                path,
                mtime_ns: snapshot.modified_ns,
                size: file.size(),
            });
        }
    }
    Ok(files)
}

/// Lists the files in a folder.
fn list_folder(snapshot: &SyncSnapshot) -> Result<Vec<SnapshotFile>, IoError> {
    let root = &snapshot.path;
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry
            .map_err(|e| {
                e.into_io_error()
                    .unwrap_or_else(|| io::ErrorKind::Other.into())
            })
            .at("walk", root)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let stat = Stat::of(&fs::symlink_metadata(entry.path()).at("look at", entry.path())?);
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        if let Some(path) = relative.to_str() {
            files.push(SnapshotFile {
                cloud: false,
                path: if cfg!(windows) {
                    path.replace('\\', "/")
                } else {
                    path.to_owned()
                },
                mtime_ns: stat.mtime_ns,
                size: stat.size,
            });
        }
    }
    Ok(files)
}

/// Restores the files, each by one rename, after copying what they replace to a safety snapshot. Returns the
/// name of that snapshot. Files in the cloud folder are recorded as written by this machine, because other
/// machines wait for files that no machine attests. The caller holds the lock of `replica`.
///
/// # Errors
/// See [`SyncRestoreError`].
pub fn apply(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    replica: &Replica,
    now: DateTime<Utc>,
) -> Result<Option<String>, SyncRestoreError> {
    let mut replaced_files = Vec::new();
    let mut over = Vec::with_capacity(plan.files.len());
    for kept in &plan.files {
        let path = target_path(plan, config, &kept.path)?;
        let remote = Stat::at(&path)?;
        over.push(remote);
        if let Some(stat) = remote {
            let replaced = SnapshotFile {
                cloud: plan.target == Side::Remote,
                path: kept.path.clone(),
                mtime_ns: stat.mtime_ns,
                size: stat.size,
            };
            replaced_files.push((path, replaced));
        }
    }
    let safety = backup::back_up_files(config, replaced_files, now)?;
    let put = || -> Result<usize, (usize, SyncRestoreError)> {
        let mut source = SnapshotReader::open(&plan.snapshot).map_err(|e| (0, e))?;
        let mut ledger = match plan.target {
            Side::Local => None,
            Side::Remote => Some(EntryRecorder::of(config, replica).map_err(|e| (0, e))?),
        };
        let mut resolution_recorder =
            ResolutionRecorder::of(config, replica).map_err(|e| (0, e))?;
        for (done, (kept, over)) in plan.files.iter().zip(over).enumerate() {
            let staged = stage(plan, config, &mut source, kept, ledger.as_mut());
            staged
                .and_then(|staged| {
                    resolution_recorder.record_keep(kept, staged.temp.path())?;
                    staged.put(over)
                })
                .map_err(|e| (done, e))?;
        }
        Ok(plan.files.len())
    };
    let stopped = |(done, cause): (usize, SyncRestoreError)| SyncRestoreError::Stopped {
        done,
        all: plan.files.len(),
        safety: safety.clone(),
        cause: Box::new(cause),
    };
    let done = put().map_err(stopped)?;
    if plan.target == Side::Remote {
        publish(config, replica).map_err(|e| stopped((done, e)))?;
    }
    Ok(safety)
}

/// Records that the user wants the restored versions of conversations, so that earlier decisions against them
/// no longer count on any machine. Does nothing before the first sync.
struct ResolutionRecorder {
    noted: Option<(StateJournal, SyncState)>,
    others: BTreeSet<String>,
}

impl ResolutionRecorder {
    fn of(config: &SyncConfig, replica: &Replica) -> Result<Self, SyncRestoreError> {
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
    fn record_keep(&mut self, kept: &SnapshotFile, file: &Path) -> Result<(), IoError> {
        let Some((journal, state)) = &mut self.noted else {
            return Ok(());
        };
        let Some(key) = rollouts::key(&kept.path) else {
            return Ok(());
        };
        let read = contents::read(file, None).at("read", file)?;
        let name = conflict_copies::file_name(&key, &read.digest);
        let news = resolutions::record_keep(&name, &mut state.resolutions, &self.others);
        for entry_recorder in &news {
            journal.record_resolution(entry_recorder)?;
        }
        if news.is_empty() {
            Ok(())
        } else {
            journal.sync()
        }
    }
}

/// Records the files that this machine puts into the cloud folder.
struct EntryRecorder {
    ledger: Ledger,
    noted: LedgerContents,
    others: RemoteManifests,
    state: SyncState,
}

impl EntryRecorder {
    fn of(config: &SyncConfig, replica: &Replica) -> Result<Self, SyncRestoreError> {
        let state = replica.read().map_err(PlanError::from)?;
        Ok(Self {
            ledger: Ledger::open(&replica.folder)?,
            noted: Ledger::read(&replica.folder)?,
            others: identity::read_remote_manifests(config, &state)?,
            state,
        })
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

/// A restored file, complete and durable, beside its destination.
struct StagedFile {
    temp: TempFile,
    path: PathBuf,
}

impl StagedFile {
    /// Renames the file to its destination, if that still is as `over`.
    fn put(self, over: Option<Stat>) -> Result<(), SyncRestoreError> {
        let Self { temp, path } = self;
        if Stat::at(&path)? != over {
            return Err(SyncRestoreError::Changed(path));
        }
        if over.is_some() {
            return Ok(temp.replace_synced(&path)?);
        }
        match temp.publish_unsynced(&path) {
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(SyncRestoreError::Changed(path))
            }
            named => {
                named?;
                Ok(atomic::sync_folder(atomic::parent_of(&path))?)
            }
        }
    }
}

/// Writes a file beside its destination, and records it in the ledger if it goes to the cloud folder.
fn stage(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    source: &mut SnapshotReader,
    kept: &SnapshotFile,
    entry_recorder: Option<&mut EntryRecorder>,
) -> Result<StagedFile, SyncRestoreError> {
    let path = target_path(plan, config, &kept.path)?;
    let folder = atomic::parent_of(&path);
    match plan.target {
        Side::Local => atomic::create_durable_folder(folder)?,
        Side::Remote => atomic::create_durable_below(&config.cloud, folder)?,
    }
    let mut temp = TempFile::beside(&path)?;
    let from = plan.snapshot.path.join(kept.inside());
    let file = temp.file();
    let size = source
        .with(kept, |from, mode| {
            let size = io::copy(from, file)?;
            set_mode(file, mode)?;
            Ok(size)
        })
        .at("read", &from)?;
    set_mtime(temp.file(), kept.mtime_ns).at("set time", &path)?;
    temp.sync()?;
    if let Some(entry_recorder) = entry_recorder {
        let digest = contents::raw_digest(temp.path()).at("read", &path)?;
        let entry = ManifestEntry {
            size,
            mtime_ns: kept.mtime_ns,
            digest,
            history: entry_recorder.ancestry_of(&kept.path, &digest),
        };
        entry_recorder.ledger.record(&kept.path, &entry)?;
        entry_recorder.ledger.sync()?;
    }
    Ok(StagedFile { temp, path })
}

/// Applies the recorded mode, restricted to the permissions that files of the user may have.
fn set_mode(file: &fs::File, mode: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = mode {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o755 | 0o600))?;
    }
    #[cfg(not(unix))]
    let _ = (file, mode);
    Ok(())
}

/// Publishes this machine's manifest. Before the first sync, that sync will do it.
fn publish(config: &SyncConfig, replica: &Replica) -> Result<(), SyncRestoreError> {
    let mut state = match replica.read() {
        Ok(state) if state.file.exists => state,
        _ => return Ok(()),
    };
    let files = Ledger::read(&replica.folder)?.files;
    Ok(identity::publish_manifest(
        &files, &mut state, config, replica,
    )?)
}

/// Returns the destination of a file. Refuses destinations behind a link in the cloud folder, or below a
/// file.
fn target_path(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    path: &str,
) -> Result<PathBuf, SyncRestoreError> {
    let blocked = |why: &str| SyncRestoreError::Unsafe {
        snapshot: plan.snapshot.path.clone(),
        path: path.to_owned(),
        why: format!("{why} blocks its destination"),
    };
    let mut full = config.root(plan.target).to_path_buf();
    let depths = path.matches('/').count();
    for (depth, part) in path.split('/').enumerate() {
        full.push(part);
        let Ok(meta) = fs::symlink_metadata(&full) else {
            continue;
        };
        if meta.is_symlink() && (plan.target == Side::Remote || depth > 0) {
            return Err(blocked("a link"));
        }
        if depth < depths && !full.is_dir() {
            return Err(blocked("a file"));
        }
    }
    let place = config.file_path(plan.target, path);
    if place.is_dir() {
        return Err(blocked("a folder"));
    }
    Ok(place)
}
