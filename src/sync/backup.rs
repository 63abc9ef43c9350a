//! What a sync overwrites is kept first: a snapshot as a folder or as one `.zip`, and retention that
//! touches only what this program made.
//!
//! `<machine>-YYYYMMDDTHHMMSSZ[-N][.zip]`: files under the paths they had, those of the cloud folder
//! below `.cloud/`, and a list that marks the snapshot as ours. It gets its name when it is whole.

use super::apply::ApplyRequest;
use super::apply::copying::set_time;
use super::config::{Compression, SyncConfig};
use super::plan::{ObservedFile, Op, SyncPlan};
use super::scan::{Side, Stat};
use crate::io::atomic::{self, TempFile};
use crate::io::file_open;
use crate::io::lock::{self, FileLock};
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

/// The list of a snapshot of ours.
pub const LIST_NAME: &str = ".codex-manager-snapshot.json";
/// Where files of the cloud folder are in a snapshot.
const CLOUD_FOLDER: &str = ".cloud";
const LIST_SCHEMA: u64 = 1;
const TIMESTAMP_FORMAT: &str = "%Y%m%dT%H%M%SZ";
/// How the names of unfinished snapshots begin.
const UNFINISHED_PREFIX: &str = ".codex-manager-unfinished-";
/// The lock in one that is being made.
const UNFINISHED_LOCK: &str = ".lock";
/// How long one without a lock may be one that is about to get it.
const MIN_UNLOCKED_AGE: Duration = Duration::from_secs(60);

/// The longest time between two snapshots that a clock is believed.
const MAX_PLAUSIBLE_INTERVAL: TimeDelta = TimeDelta::days(90);

/// Why what would be overwritten could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A `.zip` could not be written or read.
    #[error("cannot {action} the snapshot ({reason}): {}", path.display())]
    Zip {
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// A snapshot of ours whose list says nothing that can be used.
    #[error("the list of the snapshot cannot be used ({reason}): {}", path.display())]
    List {
        /// What is wrong with it.
        reason: String,
        /// The snapshot.
        path: PathBuf,
    },
}

/// The list of a snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SnapshotList {
    schema: u64,
    /// Which one it is of those in its folder, in the order in which they were made: clocks jump. 0 of
    /// those that were made before there were numbers.
    #[serde(default)]
    number: u64,
    /// Its files.
    pub files: Vec<SnapshotFile>,
}

/// A file in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Whether it was overwritten in the cloud folder, not here.
    pub cloud: bool,
    /// Relative to its side's root.
    pub path: String,
    /// Its time, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Its bytes.
    pub size: u64,
}

impl SnapshotFile {
    /// Where it is in the snapshot.
    pub fn inside(&self) -> String {
        if self.cloud {
            format!("{CLOUD_FOLDER}/{}", self.path)
        } else {
            self.path.clone()
        }
    }
}

/// What was kept.
#[derive(Debug, Default)]
pub struct SnapshotResult {
    /// The name of the snapshot, where one was needed.
    pub name: Option<String>,
    /// What is in no snapshot, and why: it cannot be read, or is gone. It must not be overwritten.
    pub left: Vec<(SnapshotFile, String)>,
}

/// Keeps what the plan overwrites or removes.
///
/// # Errors
/// It could not be written; there is no snapshot then.
pub fn back_up_plan(
    plan: &SyncPlan,
    request: &ApplyRequest<'_>,
) -> Result<SnapshotResult, BackupError> {
    let mut victims: BTreeMap<(bool, String), ObservedFile> = BTreeMap::new();
    for seen in plan.steps.iter().flat_map(|s| &s.ops).flat_map(Op::victims) {
        victims.insert((seen.side == Side::Remote, seen.path.clone()), seen);
    }
    let config = request.config;
    let roots = |cloud: bool| if cloud { &config.cloud } else { &config.local };
    let files: Vec<_> = victims
        .into_iter()
        .map(|((cloud, path), seen)| {
            let kept = SnapshotFile {
                cloud,
                mtime_ns: seen.stat.mtime_ns,
                size: seen.stat.size,
                path,
            };
            (roots(cloud).join(&kept.path), kept)
        })
        .collect();
    back_up_readable(config, files, request.now)
}

/// Keeps all of these files, each given with where it is now.
///
/// # Errors
/// The snapshot could not be made whole; there is none then.
pub fn back_up_files(
    config: &SyncConfig,
    mut files: Vec<(PathBuf, SnapshotFile)>,
    now: DateTime<Utc>,
) -> Result<Option<String>, BackupError> {
    // What has gone since needs no keeping.
    files.retain(|(path, _)| path.exists());
    let paths: Vec<_> = files.iter().map(|(path, _)| path.clone()).collect();
    let made = back_up_readable(config, files, now)?;
    match (&*made.left, &*paths) {
        ([], _) => Ok(made.name),
        ([(kept, why), ..], paths) => {
            let path = paths.iter().find(|path| path.ends_with(&kept.path));
            Err(BackupError::Io(IoError {
                action: "keep",
                path: path.cloned().unwrap_or_else(|| PathBuf::from(&kept.path)),
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
    let mut made = SnapshotResult::default();
    if files.is_empty() {
        return Ok(made);
    }
    let folder = &config.backup_dir;
    atomic::create_durable_folder(folder)?;
    let unfinished = tempfile::Builder::new()
        .prefix(UNFINISHED_PREFIX)
        .tempdir_in(folder)
        .at("create a folder in", folder)?;
    // It tells a sweep that somebody is at work here, and ends with us.
    let _at_work = FileLock::exclusive(&unfinished.path().join(UNFINISHED_LOCK))?;
    let list = SnapshotList {
        schema: LIST_SCHEMA,
        number: next_number(config)?,
        files: Vec::new(),
    };
    let base = format!("{}-{}", config.machine_id, now.format(TIMESTAMP_FORMAT));
    let (path, end) = match config.backup.compression {
        Compression::None => (unfinished.path().join("snapshot"), ""),
        Compression::Zip => (unfinished.path().join("snapshot.zip"), ".zip"),
    };
    made.left = match config.backup.compression {
        Compression::None => write_folder(&path, files, list)?,
        Compression::Zip => write_zip(&path, files, list)?,
    };
    if path.exists() {
        made.name = Some(publish(&path, folder, &base, end)?);
    }
    Ok(made)
}

/// The number of the next snapshot of this machine.
fn next_number(config: &SyncConfig) -> Result<u64, IoError> {
    let ours = own_snapshots(config)?.into_iter();
    Ok(ours.map(|ours| ours.number).max().unwrap_or(0) + 1)
}

/// A snapshot that this machine made.
struct OwnSnapshot {
    /// See [`SnapshotList`].
    number: u64,
    /// When, by the clock of then.
    made: NaiveDateTime,
    snapshot: SyncSnapshot,
}

/// The snapshots of this machine that carry our list, the one made last first. One that cannot be read is
/// nobody's to remove.
fn own_snapshots(config: &SyncConfig) -> Result<Vec<OwnSnapshot>, IoError> {
    let mut ours = Vec::new();
    for snapshot in list(&config.backup_dir)? {
        if let Some(made) = parse_timestamp(&config.machine_id, &snapshot.name)
            && let Ok(Some(list)) = read_list(&snapshot)
        {
            ours.push(OwnSnapshot {
                number: list.number,
                made,
                snapshot,
            });
        }
    }
    let order = |ours: &OwnSnapshot| (ours.number, ours.made, ours.snapshot.name.clone());
    ours.sort_by_key(|ours| Reverse(order(ours)));
    Ok(ours)
}

/// Gives a snapshot the first name that is free. Another run may take names in the same second.
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

/// Why a file is not in a snapshot.
enum CopyFailure {
    /// It cannot be read: the others are none the worse for it.
    Left(String),
    /// Nothing can be written.
    Fatal(BackupError),
}

impl From<IoError> for CopyFailure {
    fn from(e: IoError) -> Self {
        Self::Fatal(e.into())
    }
}

impl CopyFailure {
    fn left(e: &io::Error) -> Self {
        Self::Left(if e.kind() == io::ErrorKind::NotFound {
            "removed meanwhile".to_owned()
        } else {
            format!("it cannot be kept first ({e})")
        })
    }
}

/// What a snapshot holds, and what it does not.
#[derive(Default)]
struct SnapshotContents {
    kept: Vec<SnapshotFile>,
    left: Vec<(SnapshotFile, String)>,
}

impl SnapshotContents {
    /// Takes what became of a file.
    fn take(
        &mut self,
        mut kept: SnapshotFile,
        copied: Result<u64, CopyFailure>,
    ) -> Result<(), BackupError> {
        match copied {
            Ok(size) => {
                kept.size = size;
                self.kept.push(kept);
            }
            Err(CopyFailure::Left(why)) => self.left.push((kept, why)),
            Err(CopyFailure::Fatal(error)) => return Err(error),
        }
        Ok(())
    }
}

/// Copies a file; that it cannot be read is another thing than that nothing can be written.
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
            Err(e) => return Err(CopyFailure::left(&e)),
        }
    }
}

/// Makes a folder of the files, unless none can be kept; returns those that are not in it.
fn write_folder(
    root: &Path,
    files: Vec<(PathBuf, SnapshotFile)>,
    mut list: SnapshotList,
) -> Result<Vec<(SnapshotFile, String)>, BackupError> {
    let mut sorted = SnapshotContents::default();
    for (source, kept) in files {
        let copied = copy_into_folder(root, &source, &kept);
        sorted.take(kept, copied)?;
    }
    list.files = sorted.kept;
    if !list.files.is_empty() {
        atomic::write(&root.join(LIST_NAME), &encode_list(&list, root)?)?;
    } else if root.exists() {
        tree::remove(root)?;
    }
    Ok(sorted.left)
}

fn encode_list(list: &SnapshotList, path: &Path) -> Result<Vec<u8>, IoError> {
    let encode_list = serde_json::to_vec_pretty(list);
    encode_list.map_err(io::Error::other).at("encode", path)
}

fn copy_into_folder(root: &Path, source: &Path, kept: &SnapshotFile) -> Result<u64, CopyFailure> {
    let mut from = file_open::open(source).map_err(|e| CopyFailure::left(&e))?;
    let mode = from
        .metadata()
        .map_err(|e| CopyFailure::left(&e))?
        .permissions();
    let target = root.join(kept.inside());
    atomic::create_durable_folder(atomic::parent_of(&target))?;
    let mut to = TempFile::beside(&target)?;
    let size = copy_bytes(&mut from, to.file(), source)?;
    set_time(to.file(), kept.mtime_ns).at("set time", &target)?;
    to.file().set_permissions(mode).at("set mode", &target)?;
    to.replace(&target)?;
    Ok(size)
}

/// The same as one `.zip`.
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
        for (source, kept) in files {
            let copied = copy_into_zip(&mut zip, options, &source, &kept, &failed);
            sorted.take(kept, copied)?;
        }
        list.files = sorted.kept;
        zip.start_file(LIST_NAME, options).map_err(failed)?;
        zip.write_all(&encode_list(&list, path)?)
            .at("write", path)?;
        zip.finish().map_err(failed)?;
    }
    if !list.files.is_empty() {
        temp.replace(path)?;
    }
    Ok(sorted.left)
}

fn copy_into_zip(
    zip: &mut zip::ZipWriter<&mut File>,
    options: SimpleFileOptions,
    source: &Path,
    kept: &SnapshotFile,
    failed: &impl Fn(zip::result::ZipError) -> BackupError,
) -> Result<u64, CopyFailure> {
    let mut from = file_open::open(source).map_err(|e| CopyFailure::left(&e))?;
    let meta = from.metadata().map_err(|e| CopyFailure::left(&e))?;
    let fatal = |e| CopyFailure::Fatal(failed(e));
    zip.start_file(kept.inside(), with_mode(options, &meta))
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
pub struct SyncSnapshot {
    /// Its file name.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// When it was last changed.
    pub modified_ns: i64,
}

impl SyncSnapshot {
    /// Whether it is one `.zip`.
    pub fn is_zip(&self) -> bool {
        self.name.to_lowercase().ends_with(".zip")
    }
}

/// The snapshots in the backup folder, codexSync's too, the latest first.
pub fn list(folder: &Path) -> Result<Vec<SyncSnapshot>, IoError> {
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
            // Another run has just removed it.
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

/// The list of a snapshot of ours; `None` for one that this program did not make.
///
/// # Errors
/// It has a list, and that is damaged or of a newer version: what it holds is not to be guessed.
pub fn read_list(snapshot: &SyncSnapshot) -> Result<Option<SnapshotList>, BackupError> {
    let unusable = |reason: String| BackupError::List {
        reason,
        path: snapshot.path.clone(),
    };
    let mut text = Vec::new();
    if snapshot.is_zip() {
        let Some(mut zip) = open_zip(snapshot)? else {
            return Ok(None);
        };
        let file = match zip.by_name(LIST_NAME) {
            Ok(file) => file,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(e) => return Err(unusable(e.to_string())),
        };
        file.take(64 << 20)
            .read_to_end(&mut text)
            .map_err(|e| unusable(e.to_string()))?;
    } else {
        match file_open::read(snapshot.path.join(LIST_NAME)) {
            Ok(bytes) => text = bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(unusable(e.to_string())),
        }
    }
    let list: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| unusable(e.to_string()))?;
    let schema = list.get("schema").and_then(serde_json::Value::as_u64);
    if let Some(found) = schema.filter(|found| *found > LIST_SCHEMA) {
        return Err(unusable(format!(
            "written by a newer codex-manager: schema {found}, this one knows {LIST_SCHEMA}"
        )));
    }
    let list = serde_json::from_value(list).map_err(|e| unusable(e.to_string()))?;
    Ok(Some(list))
}

/// Opens a `.zip`; `None` when it is none.
pub(super) fn open_zip(snapshot: &SyncSnapshot) -> Result<Option<zip::ZipArchive<File>>, IoError> {
    let file = file_open::open(&snapshot.path).at("open", &snapshot.path)?;
    Ok(zip::ZipArchive::new(file).ok())
}

/// Snapshots in `folder` that were not finished, and whose maker is gone.
///
/// # Errors
/// The folder cannot be listed.
pub fn list_unfinished(folder: &Path, now: SystemTime) -> Result<Vec<PathBuf>, IoError> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", folder)?,
    };
    let is_left = |path: &PathBuf| {
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
    Ok(unfinished.filter(is_left).collect())
}

/// Removes what killed runs left of snapshots that they did not finish.
///
/// # Errors
/// The folder cannot be listed. What cannot be removed stays.
pub fn remove_unfinished(folder: &Path, now: SystemTime) -> Result<usize, IoError> {
    let left = list_unfinished(folder, now)?.into_iter();
    Ok(left.filter(|path| tree::remove(path).is_ok()).count())
}

/// Removes snapshots that are too old or too many: only those of this machine that carry our list, and
/// never `just_made`. Returns their names, the one made last first.
///
/// They go in the order in which they were made, and age by the time from each to the next, where that
/// can be believed: a clock that was years off for a while makes nothing old.
///
/// # Errors
/// The folder cannot be listed. A snapshot that cannot be removed stays.
pub fn prune(
    config: &SyncConfig,
    now: DateTime<Utc>,
    just_made: Option<&str>,
) -> Result<Vec<String>, BackupError> {
    let options = &config.backup;
    remove_unfinished(&config.backup_dir, SystemTime::from(now))?;
    if options.retention_days == 0 && options.max_backups == 0 {
        return Ok(Vec::new());
    }
    let days = i64::try_from(options.retention_days).unwrap_or(i64::MAX);
    let max = usize::try_from(options.max_backups).unwrap_or(usize::MAX);
    let (mut age, mut next) = (TimeDelta::zero(), now.naive_utc());
    let mut removed = Vec::new();
    for (index, ours) in own_snapshots(config)?.into_iter().enumerate() {
        age += plausible_interval(next - ours.made);
        next = ours.made;
        let too_old = days > 0 && age.num_days() >= days;
        // The latest one is the way back from what was just done.
        let goes = index > 0 && (too_old || (max > 0 && index >= max));
        let is_new = Some(&*ours.snapshot.name) == just_made;
        if goes && !is_new && tree::remove(&ours.snapshot.path).is_ok() {
            removed.push(ours.snapshot.name);
        }
    }
    Ok(removed)
}

/// How much of the time between two snapshots has passed: a clock that went back, or far ahead, was set.
/// After a pause that was as long, what was there stays until as much time has passed again.
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
    fn a_name_that_is_taken_is_not_taken_again() {
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
