//! Snapshots of the files that a sync overwrites, as a folder or a `.zip`, and their retention.
//!
//! A snapshot is named `<machine>-YYYYMMDDTHHMMSSZ[-N][.zip]`. It has files under their relative paths, those
//! of the cloud folder below `.cloud/`, and a list that marks it as made by this program. It gets its name
//! once it is complete. Retention removes only snapshots with such a list.

use super::config::{Compression, SyncConfig};
use super::mtime::set_mtime;
use super::plan::{ObservedFile, Op, SyncPlan};
use super::scan::{Side, Stat};
use crate::io::atomic::{self, TempFile};
use crate::io::document::{self, Document, DocumentError, DocumentState};
use crate::io::file_open;
use crate::io::lock::{self, FileLock};
use crate::io::retention::{RetentionItem, RetentionPolicy};
use crate::io::{IoContext, IoError, tree};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zip::write::SimpleFileOptions;

/// Name of the list in a snapshot.
pub(crate) const LIST_NAME: &str = ".codex-manager-snapshot.json";
/// Folder of the cloud folder's files in a snapshot.
const CLOUD_FOLDER: &str = ".cloud";
/// Maximum size of a list in a `.zip`, which can unpack to any size.
const MAX_ZIPPED_LIST_BYTES: u64 = 64 << 20;
const TIMESTAMP_FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// Prefix of the names of unfinished snapshots.
const UNFINISHED_PREFIX: &str = ".codex-manager-unfinished-";
/// Name of the lock file in an unfinished snapshot.
const UNFINISHED_LOCK: &str = ".lock";
/// A younger unfinished snapshot without a lock may be about to get one.
const MIN_UNLOCKED_AGE: Duration = Duration::from_secs(60);

/// A longer time between two snapshots is attributed to a wrong clock.
const MAX_PLAUSIBLE_INTERVAL: TimeDelta = TimeDelta::days(90);

/// An error of making or reading a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Writing or reading a `.zip` failed.
    #[error("cannot {action} the snapshot ({reason}): {}", path.display())]
    Zip {
        /// The failed operation, as a verb.
        action: &'static str,
        /// The message of the zip library.
        reason: String,
        /// Path of the `.zip`.
        path: PathBuf,
    },
    /// The list of a snapshot is damaged or of a newer version.
    #[error("the list of the snapshot is unusable ({reason}): {}", path.display())]
    List {
        /// The defect of the list, as a clause.
        reason: String,
        /// Path of the snapshot.
        path: PathBuf,
    },
}

/// The list in a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotList {
    /// Position in the order of creation, because clocks jump. 0 for snapshots made before numbers existed.
    #[serde(default)]
    number: u64,
    /// The files in the snapshot.
    pub files: Vec<SnapshotFile>,
}

impl Document for SnapshotList {
    const SCHEMA: u64 = 1;
}

/// A file in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotFile {
    /// True if it was a file of the cloud folder, false if one of the home.
    pub cloud: bool,
    /// Path relative to the root of its side.
    pub path: String,
    /// Mtime in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Size of the file in bytes.
    pub size: u64,
}

impl SnapshotFile {
    /// Returns its path in the snapshot.
    pub(crate) fn inside(&self) -> String {
        if self.cloud {
            format!("{CLOUD_FOLDER}/{}", self.path)
        } else {
            self.path.clone()
        }
    }
}

/// The result of making a snapshot.
#[derive(Debug, Default)]
pub(crate) struct SnapshotResult {
    /// Name of the snapshot; `None` if there was nothing to copy.
    pub name: Option<String>,
    /// Files that are not in the snapshot, each with the reason. They must not be overwritten.
    pub not_copied: Vec<(SnapshotFile, String)>,
}

/// Copies what the plan overwrites or removes to a new snapshot.
///
/// # Errors
/// The snapshot could not be written; it does not exist then.
pub(crate) fn back_up_plan(
    plan: &SyncPlan,
    config: &SyncConfig,
    now: DateTime<Utc>,
) -> Result<SnapshotResult, BackupError> {
    let mut overwritten: BTreeMap<(bool, String), ObservedFile> = BTreeMap::new();
    for seen in plan.steps.iter().flat_map(|s| &s.ops).flat_map(Op::victims) {
        overwritten.insert((seen.side == Side::Remote, seen.path.clone()), seen);
    }
    let roots = |cloud: bool| if cloud { &config.cloud } else { &config.local };
    let files: Vec<_> = overwritten
        .into_iter()
        .map(|((cloud, path), seen)| {
            let file_entry = SnapshotFile {
                cloud,
                mtime_ns: seen.stat.mtime_ns,
                size: seen.stat.size,
                path,
            };
            (roots(cloud).join(&file_entry.path), file_entry)
        })
        .collect();
    back_up_readable(config, files, now)
}

/// Copies all of these files, each given with its current path, to a new snapshot.
///
/// # Errors
/// The snapshot could not be completed; it does not exist then.
pub(crate) fn back_up_files(
    config: &SyncConfig,
    mut files: Vec<(PathBuf, SnapshotFile)>,
    now: DateTime<Utc>,
) -> Result<Option<String>, BackupError> {
    // Files that are gone in the meantime need no copy.
    files.retain(|(path, _)| path.exists());
    let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let snapshot_result = back_up_readable(config, files, now)?;
    match (&*snapshot_result.not_copied, &*paths) {
        ([], _) => Ok(snapshot_result.name),
        ([(file_entry, why), ..], paths) => {
            let path = paths.iter().find(|path| path.ends_with(&file_entry.path));
            Err(BackupError::Io(IoError {
                action: "keep",
                path: path
                    .cloned()
                    .unwrap_or_else(|| PathBuf::from(&file_entry.path)),
                source: io::Error::other(why.clone()),
            }))
        }
    }
}

fn back_up_readable(
    config: &SyncConfig,
    files: Vec<(PathBuf, SnapshotFile)>,
    now: DateTime<Utc>,
) -> Result<SnapshotResult, BackupError> {
    let mut snapshot_result = SnapshotResult::default();
    if files.is_empty() {
        return Ok(snapshot_result);
    }
    let folder = &config.backup.folder;
    atomic::create_durable_folder(folder)?;
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED_PREFIX)
        .tempdir_in(folder)
        .at("create a folder in", folder)?;
    // The lock shows other processes that the snapshot is being written. It ends with this process.
    let _lock = FileLock::exclusive(&unfinished.path().join(UNFINISHED_LOCK))?;
    let list = SnapshotList {
        number: next_number(config)?,
        files: Vec::new(),
    };
    let base = format!("{}-{}", config.machine_id, now.format(TIMESTAMP_FORMAT));
    let (path, end) = match config.backup.compression {
        Compression::None => (unfinished.path().join("snapshot"), ""),
        Compression::Zip => (unfinished.path().join("snapshot.zip"), ".zip"),
    };
    snapshot_result.not_copied = match config.backup.compression {
        Compression::None => write_folder(&path, files, list)?,
        Compression::Zip => write_zip(&path, files, list)?,
    };
    if path.exists() {
        snapshot_result.name = Some(publish(&path, folder, &base, end)?);
    }
    Ok(snapshot_result)
}

/// Returns the number of the next snapshot of this machine.
fn next_number(config: &SyncConfig) -> Result<u64, IoError> {
    let own = own_snapshots(config)?.into_iter();
    Ok(own.map(|own| own.number).max().unwrap_or(0) + 1)
}

/// A snapshot that this machine made.
struct OwnSnapshot {
    /// Position in the order of creation.
    number: u64,
    /// Time in its name, by the clock at that time.
    made_at: NaiveDateTime,
    snapshot: SyncSnapshot,
}

/// Returns the snapshots of this machine that have a list, the newest first. One whose list cannot be read is
/// skipped, so that it is never removed.
fn own_snapshots(config: &SyncConfig) -> Result<Vec<OwnSnapshot>, IoError> {
    let mut own = Vec::new();
    for snapshot in list(&config.backup.folder)? {
        if let Some(made_at) = parse_timestamp(&config.machine_id, &snapshot.name)
            && let Ok(Some(list)) = read_list(&snapshot)
        {
            own.push(OwnSnapshot {
                number: list.number,
                made_at,
                snapshot,
            });
        }
    }
    let order = |own: &OwnSnapshot| (own.number, own.made_at, own.snapshot.name.clone());
    own.sort_by_key(|own| Reverse(order(own)));
    Ok(own)
}

/// Renames a finished snapshot to the first free name. Another run may create one in the same second.
fn publish(finished: &Path, folder: &Path, base: &str, end: &str) -> Result<String, BackupError> {
    let mut name = format!("{base}{end}");
    for n in 2.. {
        match atomic::rename_new(finished, &folder.join(&name)) {
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                name = format!("{base}-{n}{end}");
            }
            done => return Ok(done.map(|()| name)?),
        }
    }
    unreachable!("numbers have no end")
}

/// The reason why a file is not in a snapshot.
enum CopyFailure {
    /// The file cannot be read; the snapshot continues without it.
    Left(String),
    /// The snapshot cannot be written.
    Fatal(BackupError),
}

impl From<IoError> for CopyFailure {
    fn from(e: IoError) -> Self {
        Self::Fatal(e.into())
    }
}

impl CopyFailure {
    fn not_copied(e: &io::Error) -> Self {
        Self::Left(if e.kind() == io::ErrorKind::NotFound {
            "it was removed in the meantime".to_owned()
        } else {
            format!("it cannot be backed up ({e})")
        })
    }
}

/// The files that were copied to a snapshot, and those that were not.
#[derive(Default)]
struct SnapshotContents {
    file_entry: Vec<SnapshotFile>,
    not_copied: Vec<(SnapshotFile, String)>,
}

impl SnapshotContents {
    /// Records the result for one file.
    fn take(
        &mut self,
        mut file_entry: SnapshotFile,
        copied: Result<u64, CopyFailure>,
    ) -> Result<(), BackupError> {
        match copied {
            Ok(size) => {
                file_entry.size = size;
                self.file_entry.push(file_entry);
            }
            Err(CopyFailure::Left(why)) => self.not_copied.push((file_entry, why)),
            Err(CopyFailure::Fatal(error)) => return Err(error),
        }
        Ok(())
    }
}

/// Copies a file. A read error concerns only this file; a write error ends the snapshot.
fn copy_bytes(source: &mut File, target: &mut dyn Write, path: &Path) -> Result<u64, CopyFailure> {
    let mut buffer = vec![0; 128 * 1024];
    let mut size = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(n) => {
                target.write_all(&buffer[..n]).at("copy", path)?;
                size += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(CopyFailure::not_copied(&e)),
        }
    }
}

/// Writes the files to a folder, unless none can be read; returns those that are missing in it.
fn write_folder(
    root: &Path,
    files: Vec<(PathBuf, SnapshotFile)>,
    mut list: SnapshotList,
) -> Result<Vec<(SnapshotFile, String)>, BackupError> {
    let mut sorted = SnapshotContents::default();
    for (source, file_entry) in files {
        let copied = copy_into_folder(root, &source, &file_entry);
        sorted.take(file_entry, copied)?;
    }
    list.files = sorted.file_entry;
    if !list.files.is_empty() {
        atomic::write(&root.join(LIST_NAME), &document::encode(root, &list)?)?;
    } else if root.exists() {
        tree::remove(root)?;
    }
    Ok(sorted.not_copied)
}

fn copy_into_folder(
    root: &Path,
    source: &Path,
    file_entry: &SnapshotFile,
) -> Result<u64, CopyFailure> {
    let mut from = file_open::open(source).map_err(|e| CopyFailure::not_copied(&e))?;
    let mode = from
        .metadata()
        .map_err(|e| CopyFailure::not_copied(&e))?
        .permissions();
    let target = root.join(file_entry.inside());
    atomic::create_durable_folder(atomic::parent_of(&target))?;
    let mut to = TempFile::beside(&target)?;
    let size = copy_bytes(&mut from, to.file(), source)?;
    set_mtime(to.file(), file_entry.mtime_ns).at("set time", &target)?;
    to.file().set_permissions(mode).at("set mode", &target)?;
    to.replace(&target)?;
    Ok(size)
}

/// Writes the files to one `.zip`; returns those that are missing in it.
fn write_zip(
    path: &Path,
    files: Vec<(PathBuf, SnapshotFile)>,
    mut list: SnapshotList,
) -> Result<Vec<(SnapshotFile, String)>, BackupError> {
    let failed = |e: zip::result::ZipError| BackupError::Zip {
        action: "write",
        reason: e.to_string(),
        path: path.to_path_buf(),
    };
    let mut temp = TempFile::beside(path)?;
    let mut sorted = SnapshotContents::default();
    {
        let mut zip = zip::ZipWriter::new(temp.file());
        let options = SimpleFileOptions::default().large_file(true);
        for (source, file_entry) in files {
            let copied = copy_into_zip(&mut zip, options, &source, &file_entry, &failed);
            sorted.take(file_entry, copied)?;
        }
        list.files = sorted.file_entry;
        zip.start_file(LIST_NAME, options).map_err(failed)?;
        zip.write_all(&document::encode(path, &list)?)
            .at("write", path)?;
        zip.finish().map_err(failed)?;
    }
    if !list.files.is_empty() {
        temp.replace(path)?;
    }
    Ok(sorted.not_copied)
}

fn copy_into_zip(
    zip: &mut zip::ZipWriter<&mut File>,
    options: SimpleFileOptions,
    source: &Path,
    file_entry: &SnapshotFile,
    failed: &impl Fn(zip::result::ZipError) -> BackupError,
) -> Result<u64, CopyFailure> {
    let mut from = file_open::open(source).map_err(|e| CopyFailure::not_copied(&e))?;
    let meta = from.metadata().map_err(|e| CopyFailure::not_copied(&e))?;
    let fatal = |e| CopyFailure::Fatal(failed(e));
    zip.start_file(file_entry.inside(), with_mode(options, &meta))
        .map_err(fatal)?;
    let copied = copy_bytes(&mut from, zip, source);
    if matches!(copied, Err(CopyFailure::Left(_))) {
        zip.abort_file().map_err(fatal)?;
    }
    copied
}

#[cfg(unix)]
fn with_mode(options: SimpleFileOptions, meta: &fs::Metadata) -> SimpleFileOptions {
    use std::os::unix::fs::PermissionsExt;
    options.unix_permissions(meta.permissions().mode() & 0o777)
}

#[cfg(not(unix))]
fn with_mode(options: SimpleFileOptions, _: &fs::Metadata) -> SimpleFileOptions {
    options
}

/// A snapshot in the backup folder.
#[derive(Debug, Clone)]
pub(crate) struct SyncSnapshot {
    /// File name of the snapshot.
    pub name: String,
    /// Path of its folder or `.zip`.
    pub path: PathBuf,
    /// Mtime in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl SyncSnapshot {
    /// Returns true if the snapshot is a `.zip`.
    pub(crate) fn is_zip(&self) -> bool {
        self.name.to_lowercase().ends_with(".zip")
    }
}

/// Returns the snapshots in the backup folder by mtime, the newest first, including those of codexSync.
pub(crate) fn list(folder: &Path) -> Result<Vec<SyncSnapshot>, IoError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("list", folder),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type().at("look at", entry.path())?;
        let is_zip = name.to_lowercase().ends_with(".zip");
        if name.starts_with('.') || kind.is_symlink() || kind.is_dir() == is_zip {
            continue;
        }
        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Another run removed it in the meantime.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).at("look at", entry.path()),
        };
        found.push(SyncSnapshot {
            name,
            path: entry.path(),
            modified_ns: Stat::of(&meta).mtime_ns,
        });
    }
    found.sort_by(|a, b| (b.modified_ns, &b.name).cmp(&(a.modified_ns, &a.name)));
    Ok(found)
}

/// Reads the list of a snapshot; `None` if this program did not make the snapshot.
///
/// # Errors
/// The list is damaged or of a newer version. Its files cannot be guessed then.
pub(crate) fn read_list(snapshot: &SyncSnapshot) -> Result<Option<SnapshotList>, BackupError> {
    let unusable = |reason: String| BackupError::List {
        reason,
        path: snapshot.path.clone(),
    };
    let path = &snapshot.path;
    let state = if snapshot.is_zip() {
        let Some(mut zip) = open_zip(snapshot)? else {
            return Ok(None);
        };
        let file = match zip.by_name(LIST_NAME) {
            Ok(file) => file,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(e) => return Err(unusable(e.to_string())),
        };
        document::parse_stream(path, file, MAX_ZIPPED_LIST_BYTES)
    } else {
        document::read(&path.join(LIST_NAME))
    };
    match state {
        Ok(DocumentState::Good(list)) => Ok(Some(list)),
        Ok(DocumentState::Absent) => Ok(None),
        Ok(DocumentState::Damaged(reason)) => Err(unusable(reason)),
        Err(DocumentError::Newer { found, known, .. }) => Err(unusable(format!(
            "written by a newer codex-manager: schema {found}, this one knows {known}"
        ))),
        Err(DocumentError::Io(e)) => Err(unusable(e.source.to_string())),
    }
}

/// Opens a `.zip`; `None` if the file is not one.
pub(super) fn open_zip(snapshot: &SyncSnapshot) -> Result<Option<zip::ZipArchive<File>>, IoError> {
    let file = file_open::open(&snapshot.path).at("open", &snapshot.path)?;
    Ok(zip::ZipArchive::new(file).ok())
}

/// Returns unfinished snapshots in `folder` that no process is writing.
///
/// # Errors
/// The folder cannot be listed.
pub(crate) fn list_unfinished(folder: &Path, now: SystemTime) -> Result<Vec<PathBuf>, IoError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", folder)?,
    };
    let is_abandoned = |path: &PathBuf| {
        let lock = path.join(UNFINISHED_LOCK);
        let Ok(meta) = path.symlink_metadata() else {
            return false;
        };
        let age = meta
            .modified()
            .ok()
            .and_then(|at| now.duration_since(at).ok());
        let is_young = !lock.exists() && age.is_none_or(|age| age < MIN_UNLOCKED_AGE);
        meta.is_dir() && !is_young && !lock::is_held(&lock)
    };
    let entries = entries.flatten();
    let unfinished = entries
        .filter(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with(UNFINISHED_PREFIX)
        })
        .map(|entry| entry.path());
    Ok(unfinished.filter(is_abandoned).collect())
}

/// Removes unfinished snapshots of killed runs; returns their number.
///
/// # Errors
/// The folder cannot be listed. A snapshot that cannot be removed stays.
pub(crate) fn remove_unfinished(folder: &Path, now: SystemTime) -> Result<usize, IoError> {
    let unfinished = list_unfinished(folder, now)?.into_iter();
    Ok(unfinished.filter(|path| tree::remove(path).is_ok()).count())
}

/// Removes this machine's snapshots that are too old or too many, but never `just_created`. Returns their names,
/// the newest first.
///
/// The order is that of creation. The age is the sum of the plausible times between consecutive snapshots, so
/// that a clock that was years off for a while makes no snapshot old.
///
/// # Errors
/// The folder cannot be listed. A snapshot that cannot be removed stays.
pub(crate) fn prune(
    config: &SyncConfig,
    now: DateTime<Utc>,
    just_created: Option<&str>,
) -> Result<Vec<String>, BackupError> {
    let options = &config.backup;
    remove_unfinished(&config.backup.folder, SystemTime::from(now))?;
    let policy = RetentionPolicy {
        max_count: usize::try_from(options.max_backups).unwrap_or(usize::MAX),
        max_age: i64::try_from(options.retention_days)
            .ok()
            .filter(|days| *days > 0)
            .and_then(TimeDelta::try_days),
        ..RetentionPolicy::default()
    };
    if policy.is_empty() {
        return Ok(Vec::new());
    }
    let own = own_snapshots(config)?;
    let (mut age, mut next) = (TimeDelta::zero(), now.naive_utc());
    let items = own.iter().map(|own| {
        age += plausible_interval(next - own.made_at);
        next = own.made_at;
        RetentionItem {
            age,
            date: own.made_at.date(),
        }
    });
    let kept = policy.apply(&items.collect::<Vec<_>>());
    let mut removed = Vec::new();
    for (index, (own, kept)) in own.into_iter().zip(kept).enumerate() {
        // The newest snapshot is needed to undo the last run.
        let is_needed = index == 0 || Some(&*own.snapshot.name) == just_created;
        if kept.is_none() && !is_needed && tree::remove(&own.snapshot.path).is_ok() {
            removed.push(own.snapshot.name);
        }
    }
    Ok(removed)
}

/// Returns the time between two snapshots as far as it is plausible. A negative or very long time comes from
/// a changed clock and counts as zero. So after a real pause of that length, old snapshots stay longer.
fn plausible_interval(passed: TimeDelta) -> TimeDelta {
    if passed < TimeDelta::zero() || passed > MAX_PLAUSIBLE_INTERVAL {
        TimeDelta::zero()
    } else {
        passed
    }
}

fn parse_timestamp(machine: &str, name: &str) -> Option<NaiveDateTime> {
    let rest = name.strip_prefix(machine)?.strip_prefix('-')?;
    let stamp = rest.get(..16)?;
    let tail = rest[16..].strip_suffix(".zip").unwrap_or(&rest[16..]);
    let own_snapshots = tail
        .strip_prefix('-')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if !(tail.is_empty() || own_snapshots) {
        return None;
    }
    NaiveDateTime::parse_from_str(stamp, TIMESTAMP_FORMAT).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_snapshot_names_are_not_reused() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|n| {
                let finished = folder.path().join("finished");
                atomic::write(&finished, n.to_string().as_bytes()).unwrap();
                publish(&finished, folder.path(), "a-1", ".zip").unwrap()
            })
            .collect();
        assert_eq!(names, ["a-1.zip", "a-1-2.zip", "a-1-3.zip"]);
        for (n, name) in names.iter().enumerate() {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(text, n.to_string());
        }
    }
}
