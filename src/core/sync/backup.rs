//! The snapshots in the backup folder: their names and lists, and the retention.
//!
//! A snapshot is a folder or a zip file, named `<machine>-YYYYMMDDTHHMMSSZ[-N][.zip]`. It has the files of the home
//! under their relative paths, those of the cloud folder below `.cloud/`, and a list, which marks it as made by this
//! program. It gets its name once it is complete. Retention removes only snapshots with such a list.

use super::config::{BackupOptions, SyncConfig};
use super::sides::{Side, Stat};
use crate::io::disk_clock::{self, ClockDoubt, Dated};
use crate::io::document::{self, Document, DocumentError, DocumentState};
use crate::io::retention::{RetentionItem, RetentionPolicy};
use crate::io::{IoContext, IoError, file_open, staging, tree};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) const LIST_NAME: &str = ".codex-manager-snapshot.json";
/// The folder in a snapshot with the files of the cloud folder.
const CLOUD_FOLDER: &str = ".cloud";
/// Maximum size of the list in a `.zip`, whose entries can unpack to any size.
const MAX_ZIPPED_LIST_BYTES: u64 = 64 << 20;
pub(super) const TIMESTAMP_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const TIMESTAMP_CHARS: usize = "YYYYMMDDTHHMMSSZ".len();
/// The folder in the backup folder in which snapshots are written.
pub(crate) const UNFINISHED_FOLDER: &str = ".codex-manager-unfinished";

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("cannot read the snapshot (it is not a zip file): {}", .0.display())]
    NotAZip(PathBuf),
    /// The clock cannot be trusted, so the age of snapshots is unknown.
    #[error(transparent)]
    Clock(#[from] ClockDoubt),
    /// The list of a snapshot is damaged or of a newer version.
    #[error("the file list of the snapshot is unusable ({reason}): {}", path.display())]
    List {
        /// The defect of the list, as a clause.
        reason: String,
        path: PathBuf,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotList {
    /// Position in the order of creation, because clocks jump. 0 for snapshots made before numbers existed.
    #[serde(default)]
    pub(super) number: u64,
    pub files: Vec<SnapshotFile>,
}

impl Document for SnapshotList {
    const SCHEMA: u64 = 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// True for a file of the cloud folder, false for one of the home.
    cloud: bool,
    /// Path relative to the cloud folder or the home.
    pub path: String,
    /// Mtime in nanoseconds since 1970.
    pub mtime_ns: i64,
    pub size: u64,
}

impl SnapshotFile {
    pub(super) fn new(side: Side, path: String, stat: Stat) -> Self {
        Self {
            cloud: side == Side::Remote,
            path,
            mtime_ns: stat.mtime_ns,
            size: stat.size,
        }
    }

    pub(super) fn side(&self) -> Side {
        if self.cloud {
            Side::Remote
        } else {
            Side::Local
        }
    }

    /// Returns the path of the file in the snapshot, with `/`.
    pub(crate) fn path_in_snapshot(&self) -> String {
        if self.cloud {
            format!("{CLOUD_FOLDER}/{}", self.path)
        } else {
            self.path.clone()
        }
    }
}

/// Returns the number of the next snapshot of this machine: above the numbers of its snapshots with a readable list. If
/// a list is unreadable, a number may repeat; then the times in the names order the snapshots.
pub(super) fn next_snapshot_number(config: &SyncConfig) -> Result<u64, IoError> {
    let own_snapshots = list_own_snapshots(config)?.into_iter();
    Ok(own_snapshots.map(|own| own.number).max().unwrap_or(0) + 1)
}

/// A snapshot that this machine made.
struct OwnSnapshot {
    /// See [`SnapshotList::number`].
    number: u64,
    /// The time in the name of the snapshot.
    made_at: NaiveDateTime,
    snapshot: SyncSnapshot,
}

/// Returns the snapshots of this machine that have a list, the newest first. Skips snapshots with an unreadable list,
/// so that they are never removed.
fn list_own_snapshots(config: &SyncConfig) -> Result<Vec<OwnSnapshot>, IoError> {
    let mut own_snapshots = Vec::new();
    for snapshot in list_snapshots(&config.backup.folder)? {
        if let Some(made_at) = parse_snapshot_time(&config.machine_id, &snapshot.name)
            && let Ok(Some(list)) = read_file_list(&snapshot)
        {
            own_snapshots.push(OwnSnapshot {
                number: list.number,
                made_at,
                snapshot,
            });
        }
    }

    let sort_key = |own: &OwnSnapshot| (own.number, own.made_at, own.snapshot.name.clone());
    own_snapshots.sort_by_key(|own| Reverse(sort_key(own)));
    Ok(own_snapshots)
}

#[derive(Debug, Clone)]
pub struct SyncSnapshot {
    /// The file name, with `.zip` if the snapshot is such a file.
    pub name: String,
    /// Path of the folder or the `.zip`.
    pub path: PathBuf,
    /// Mtime in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl SyncSnapshot {
    pub(crate) fn is_zip(&self) -> bool {
        self.name.to_lowercase().ends_with(".zip")
    }
}

/// Returns the snapshots in the backup folder by mtime, the newest first, including those of codexSync.
pub(crate) fn list_snapshots(folder: &Path) -> Result<Vec<SyncSnapshot>, IoError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("list", folder),
    };

    let mut snapshots = Vec::new();
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };

        let kind = entry.file_type().at("inspect", entry.path())?;
        let is_zip = name.to_lowercase().ends_with(".zip");
        // A snapshot is a folder, or a file whose name ends with `.zip`.
        let has_snapshot_kind = if kind.is_dir() { !is_zip } else { is_zip };
        // The name of the folder of unfinished snapshots begins with a dot.
        if name.starts_with('.') || kind.is_symlink() || !has_snapshot_kind {
            continue;
        }

        let meta = match entry.metadata() {
            Ok(meta) => meta,
            // Another run removed it in the meantime.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).at("inspect", entry.path()),
        };
        snapshots.push(SyncSnapshot {
            name,
            path: entry.path(),
            modified_ns: Stat::from_metadata(&meta).mtime_ns,
        });
    }

    snapshots.sort_by(|a, b| (b.modified_ns, &b.name).cmp(&(a.modified_ns, &a.name)));
    Ok(snapshots)
}

/// Reads the list of a snapshot; `None` if this program did not make the snapshot.
///
/// # Errors
/// The list cannot be read, is damaged, or is of a newer version.
pub(crate) fn read_file_list(snapshot: &SyncSnapshot) -> Result<Option<SnapshotList>, BackupError> {
    let unusable = |reason: String| BackupError::List {
        reason,
        path: snapshot.path.clone(),
    };

    let path = &snapshot.path;
    let list_result = if snapshot.is_zip() {
        let mut zip = match open_zip(snapshot) {
            // Snapshots of this program are complete when they get their names, so another program made this file.
            Err(BackupError::NotAZip(_)) => return Ok(None),
            opened => opened?,
        };
        let mut file = match zip.by_name(LIST_NAME) {
            Ok(file) => file,
            Err(zip::result::ZipError::FileNotFound) => return Ok(None),
            Err(e) => return Err(unusable(e.to_string())),
        };
        document::parse_stream(path, &mut file, MAX_ZIPPED_LIST_BYTES)
    } else {
        document::read(&path.join(LIST_NAME))
    };

    match list_result {
        Ok(DocumentState::Good(list)) => Ok(Some(list)),
        Ok(DocumentState::Absent) => Ok(None),
        Ok(DocumentState::Damaged(reason)) => Err(unusable(reason)),
        Err(DocumentError::Newer { found, known, .. }) => Err(unusable(format!(
            "written by a newer codex-manager: schema {found}, this version reads up to {known}"
        ))),
        Err(DocumentError::Io(e)) => Err(unusable(e.source.to_string())),
    }
}

pub(super) fn open_zip(snapshot: &SyncSnapshot) -> Result<zip::ZipArchive<File>, BackupError> {
    let path = &snapshot.path;
    let file = file_open::open(path).at("open", path)?;
    zip::ZipArchive::new(file).map_err(|_| BackupError::NotAZip(path.clone()))
}

/// The snapshots that [`prune_snapshots`] removed.
#[derive(Debug, Default)]
pub(crate) struct PrunedSnapshots {
    /// Names of the complete snapshots, the newest first.
    pub(crate) names: Vec<String>,
    /// The reason not to trust the clock, so that no snapshot was removed because of its age.
    pub(crate) clock_doubt: Option<ClockDoubt>,
}

/// Removes unfinished snapshots, and snapshots of this machine that are too old or too many. Keeps the newest one and
/// `just_created`. If the clock cannot be trusted, removes no snapshot because of its age.
///
/// # Errors
/// The folder cannot be listed. A snapshot that cannot be removed stays.
pub(crate) fn prune_snapshots(
    config: &SyncConfig,
    now: DateTime<Utc>,
    just_created: Option<&str>,
) -> Result<PrunedSnapshots, BackupError> {
    let options = &config.backup;
    // An unfinished snapshot that cannot be removed stays.
    let _ = staging::remove_stale(&options.folder.join(UNFINISHED_FOLDER));

    let mut policy = build_policy(options);
    // `max_backups` and `retention_days` of 0 keep all snapshots.
    if policy.is_empty() {
        return Ok(PrunedSnapshots::default());
    }

    let own_snapshots = list_own_snapshots(config)?;
    let dated = own_snapshots.iter().map(|own| Dated {
        path: own.snapshot.path.clone(),
        at: own.made_at.and_utc(),
    });
    let dated: Vec<_> = dated.collect();

    let age_limit = policy.max_age.unwrap_or(TimeDelta::MAX);
    let ages = disk_clock::confirm_ages(&options.folder, now, age_limit, &dated);
    let (ages, clock_doubt) = match ages {
        Ok(ages) => (ages, None),
        Err(doubt) => {
            policy.max_age = None;
            // Without a maximum age, the ages decide nothing.
            (vec![TimeDelta::zero(); own_snapshots.len()], Some(doubt))
        }
    };

    let items = own_snapshots.iter().zip(ages);
    let items = items.map(|(own, age)| RetentionItem {
        age,
        date: own.made_at.date(),
    });
    let keep_reasons = policy.apply(&items.collect::<Vec<_>>());

    let mut names = Vec::new();
    for (index, (own, keep_reason)) in own_snapshots.into_iter().zip(keep_reasons).enumerate() {
        // The newest snapshot is needed to undo the last run.
        let is_newest = index == 0;
        let is_needed = is_newest || Some(&*own.snapshot.name) == just_created;
        if keep_reason.is_none() && !is_needed && tree::remove(&own.snapshot.path).is_ok() {
            names.push(own.snapshot.name);
        }
    }
    Ok(PrunedSnapshots { names, clock_doubt })
}

fn build_policy(options: &BackupOptions) -> RetentionPolicy {
    // A number of days that is too large for `TimeDelta` is no limit.
    let days = i64::try_from(options.retention_days).ok();
    RetentionPolicy {
        max_count: usize::try_from(options.max_backups).unwrap_or(usize::MAX),
        max_age: days.filter(|days| *days > 0).and_then(TimeDelta::try_days),
        ..RetentionPolicy::default()
    }
}

/// Parses the time in the file name of a snapshot of `machine`; `None` for any other name.
fn parse_snapshot_time(machine: &str, name: &str) -> Option<NaiveDateTime> {
    let name = name.strip_suffix(".zip").unwrap_or(name);
    let (stamp, suffix) = name
        .strip_prefix(machine)?
        .strip_prefix('-')?
        .split_at_checked(TIMESTAMP_CHARS)?;

    let has_number = suffix
        .strip_prefix('-')
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    if !(suffix.is_empty() || has_number) {
        return None;
    }
    NaiveDateTime::parse_from_str(stamp, TIMESTAMP_FORMAT).ok()
}
