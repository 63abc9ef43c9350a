//! Snapshots of the few files that a repair changes: exact copies, and restoring them.
//!
//! `history/<time>/` in the manager home holds `snapshot.json` and the copies, named by number. A
//! file that did not exist is recorded as absent. No process may use the Codex home meanwhile.

use super::{HistoryError, JOURNAL};
use crate::codex::{HomeEntryKind, database, kind_of};
use crate::io::{
    Document, DocumentState, FileLock, IoContext, atomic, document, file_open, flush, hash, modes,
    modified_ns, sharing, tree,
};
use crate::journal::{FileExchange, RecoveryPolicy};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const FOLDER: &str = "history";
const DOCUMENT: &str = "snapshot.json";

/// The operation that a snapshot precedes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotReason {
    /// A repair; `history undo` restores the newest of these.
    #[default]
    Repair,
    Undo,
}

/// The content of `snapshot.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairSnapshotFile {
    /// The Codex home whose files are in the snapshot.
    pub codex_home: PathBuf,
    pub created_at: DateTime<Utc>,
    /// The operation that followed.
    #[serde(rename = "before")]
    pub reason: SnapshotReason,
    /// The time at which the snapshot was restored; null if it never was.
    pub undone_at: Option<DateTime<Utc>>,
    /// The copied files, and the files that did not exist.
    pub files: Vec<SnapshotEntry>,
    /// `None` in the snapshots of older versions, and if Codex recreated the database.
    pub repaired: Option<RepairedValues>,
}

/// The paths, modes and names before and after a repair, by the ids of the rows that it changed or added.
pub type RepairedValues = BTreeMap<String, Vec<String>>;

impl Document for RepairSnapshotFile {
    const SCHEMA: u64 = 1;
}

impl RepairSnapshotFile {
    /// Creates the document of a snapshot that has no files yet.
    pub(super) fn new(
        codex_home: &Path,
        reason: SnapshotReason,
        repaired: Option<RepairedValues>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            codex_home: codex_home.to_path_buf(),
            created_at: now,
            reason,
            repaired,
            ..Self::default()
        }
    }
}

/// A file whose state a snapshot records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotEntry {
    /// The absolute path of the original.
    pub path: PathBuf,
    /// The copy; `None` if the original did not exist.
    pub content: Option<SnapshotContent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotContent {
    /// The name of the copy in the snapshot folder.
    pub name: String,
    /// The SHA-256 of the copy, in lower-case hex.
    pub sha256: String,
    /// The mode of the original; 0 on Windows.
    pub mode: u32,
    /// The mtime of the original in nanoseconds since 1970.
    pub modified_ns: u64,
}

#[derive(Debug, Clone)]
pub struct RepairSnapshot {
    /// `history/<time>/` in the manager home.
    pub folder: PathBuf,
    pub document: RepairSnapshotFile,
}

/// The snapshots of a manager home, locked exclusively for one change.
#[derive(Debug)]
pub(crate) struct RepairSnapshots {
    folder: PathBuf,
    _lock: FileLock,
}

impl RepairSnapshots {
    /// Locks the snapshots, waiting for another command that holds the lock. Removes incomplete snapshots.
    pub(crate) fn lock(manager_home: &Path) -> Result<Self, HistoryError> {
        let folder = manager_home.join(FOLDER);
        atomic::create_private_folder(&folder)?;
        let lock = FileLock::acquire(&folder.join(".lock"))?;
        let snapshots = Self {
            folder,
            _lock: lock,
        };
        snapshots.remove_incomplete()?;
        Ok(snapshots)
    }

    /// Removes incomplete snapshots of killed commands, which had changed nothing yet.
    fn remove_incomplete(&self) -> Result<(), HistoryError> {
        // A pending exchange still needs the copies, and may be about to replace `snapshot.json`.
        if FileExchange::is_pending(atomic::parent_of(&self.folder), JOURNAL) {
            return Ok(());
        }

        atomic::remove_stale_temps(&self.folder);
        for (name, kind) in tree::list(&self.folder).at("list", &self.folder)? {
            let folder = self.folder.join(name);
            if !kind.is_dir() {
                continue;
            }

            if folder.join(DOCUMENT).exists() {
                atomic::remove_stale_temps(&folder);
            } else {
                tree::remove(&folder)?;
            }
        }
        Ok(())
    }

    /// Copies files into a new snapshot with this `document`. Durable on return; an error leaves no snapshot.
    pub(crate) fn create(
        &self,
        document: RepairSnapshotFile,
        files: Vec<PathBuf>,
    ) -> Result<RepairSnapshot, HistoryError> {
        let name = document.created_at.format("%Y%m%dT%H%M%SZ").to_string();
        let folder = atomic::find_free_path(&self.folder.join(name));
        atomic::make_folder(&folder).at("create folder", &folder)?;

        let mut snapshot = RepairSnapshot { folder, document };
        let result = snapshot
            .copy_files(files)
            .and_then(|()| Ok(atomic::sync_folder(&self.folder)?));
        result.inspect_err(|_| snapshot.discard())?;

        Ok(snapshot)
    }
}

/// Restores a snapshot and records in it that it was restored, or changes nothing. Applies a saved `-wal` or rollback
/// journal to its database instead of restoring it, because a log would damage a database to which it does not belong.
/// Calls `adapt_staged` with the path of each restored file and its staged copy.
pub(super) fn restore(
    snapshot: &mut RepairSnapshot,
    adapt_staged: &dyn Fn(&Path, &Path) -> Result<(), HistoryError>,
    mut exchange: FileExchange,
    policy: &dyn RecoveryPolicy,
    now: DateTime<Utc>,
) -> Result<(), HistoryError> {
    // All copies are checked before the first is staged, because one damaged copy ends the restore.
    check_digests(snapshot)?;

    // `snapshot.json` is replaced in the same exchange, so that a kill cannot leave an undo that is not recorded.
    snapshot.document.undone_at = Some(now);
    let (folder, document) = (&snapshot.folder, &snapshot.document);

    for file in &document.files {
        match &file.content {
            Some(content) if !is_sidecar(&file.path) => {
                exchange.add_replacement(&file.path, |staged| {
                    stage_file(snapshot, &file.path, content, staged)?;
                    adapt_staged(&file.path, staged)
                })?;
            }
            // The file did not exist, or is a sidecar: `stage_file` applies logs to their database.
            _ => exchange.add_removal(&file.path)?,
        }
    }

    exchange.add_replacement(
        &folder.join(DOCUMENT),
        |staged| -> Result<(), HistoryError> { Ok(document::write(staged, document)?) },
    )?;
    Ok(exchange.commit(policy)?)
}

impl RepairSnapshot {
    /// Returns the name of the folder: the time of the snapshot, with a number if there are several of that second.
    pub fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Returns the time of the last copy in nanoseconds since 1970, by the clock of the disk.
    pub(super) fn copied_ns(&self) -> i64 {
        let copy_paths = self.contents().map(|c| self.folder.join(&c.name));
        let copies = copy_paths.filter_map(|path| path.metadata().ok());
        copies.map(|meta| modified_ns(&meta)).max().unwrap_or(0)
    }

    /// Copies the files into the folder. The document comes last: a folder without it is no snapshot.
    fn copy_files(&mut self, files: Vec<PathBuf>) -> Result<(), HistoryError> {
        for (i, path) in files.into_iter().enumerate() {
            let content = copy_into_snapshot(&path, &self.folder, &i.to_string())?;
            self.document.files.push(SnapshotEntry { path, content });
        }
        let path = self.folder.join(DOCUMENT);
        Ok(document::write(&path, &self.document)?)
    }

    fn contents(&self) -> impl Iterator<Item = &SnapshotContent> {
        let files = self.document.files.iter();
        files.filter_map(|file| file.content.as_ref())
    }

    /// Returns the copy of the file at `path`; `None` if the snapshot has no copy of it.
    fn find_content(&self, path: &Path) -> Option<&SnapshotContent> {
        let mut files = self.document.files.iter();
        files.find(|file| file.path == path)?.content.as_ref()
    }

    /// Copies the database `path` into `folder`, with its logs applied; `None` if the snapshot has no copy of it.
    pub(super) fn extract_database(
        &self,
        path: &Path,
        folder: &Path,
    ) -> Result<Option<PathBuf>, HistoryError> {
        let Some(content) = self.find_content(path) else {
            return Ok(None);
        };
        let copy = folder.join("extracted.sqlite");
        stage_file(self, path, content, &copy)?;
        Ok(Some(copy))
    }

    /// Removes the snapshot of a change that was not made, `snapshot.json` first. Ignores errors.
    pub(crate) fn discard(&self) {
        if remove_file_durably(&self.folder.join(DOCUMENT)).is_ok() {
            // A failure only wastes disk space: the next `lock` removes the rest.
            let _ = tree::remove(&self.folder);
        }
    }
}

/// Returns the snapshot `name` of `codex_home`. Without a name, returns the newest snapshot of a repair that was not
/// undone yet.
pub fn find_snapshot(
    manager_home: &Path,
    codex_home: &Path,
    name: Option<&str>,
) -> Result<RepairSnapshot, HistoryError> {
    let mut candidates = Vec::new();
    for folder in tree::list_folders(&manager_home.join(FOLDER))? {
        if let DocumentState::Good(document) =
            document::read::<RepairSnapshotFile>(&folder.join(DOCUMENT))?
        {
            candidates.push(RepairSnapshot { folder, document });
        }
    }

    candidates.retain(|snapshot| {
        let document = &snapshot.document;
        document.codex_home == codex_home
            && match name {
                Some(name) => snapshot.name() == name,
                None => document.reason == SnapshotReason::Repair && document.undone_at.is_none(),
            }
    });

    // `find_free_path` numbers the folders of one second, and `-10` comes after `-9`.
    let creation_order = |s: &RepairSnapshot| (s.document.created_at, s.name().len(), s.name());
    let describe_missing = || name.unwrap_or("no repair of this home to undo").to_owned();

    candidates
        .into_iter()
        .max_by_key(creation_order)
        .ok_or_else(|| HistoryError::NoSnapshot(describe_missing()))
}

fn check_digests(snapshot: &RepairSnapshot) -> Result<(), HistoryError> {
    for content in snapshot.contents() {
        let path = snapshot.folder.join(&content.name);
        let mut copy = file_open::open(&path).at("read", &path)?;
        let (digest, _size) = hash::sha256_of_reader(&mut copy).at("read", &path)?;

        if digest != content.sha256 {
            return Err(HistoryError::DamagedSnapshot {
                path,
                detail: "its SHA-256 differs from the recorded one".into(),
            });
        }
    }
    Ok(())
}

/// Removes WAL and shm files that did not exist before a transaction that was rolled back. They
/// hold no committed data. A rollback journal stays, because SQLite may still need it.
pub(crate) fn remove_new_logs(snapshot: &RepairSnapshot) -> Result<(), HistoryError> {
    let is_log = |path: &Path| {
        let name = path.as_os_str().as_encoded_bytes();
        name.ends_with(b"-wal") || name.ends_with(b"-shm")
    };
    let files = snapshot.document.files.iter();
    let mut new_logs = files.filter(|f| f.content.is_none() && is_log(&f.path));
    new_logs.try_for_each(|file| remove_file_durably(&file.path))
}

/// Stages the copy of the file at `original`. Applies the logs of a database to it.
fn stage_file(
    snapshot: &RepairSnapshot,
    original: &Path,
    content: &SnapshotContent,
    staged: &Path,
) -> Result<(), HistoryError> {
    let copy_of = |content: &SnapshotContent| snapshot.folder.join(&content.name);
    copy_out(&copy_of(content), content, staged)?;

    let mut has_logs = false;
    // The `-shm` is left out: it is an index of the `-wal`, and SQLite creates it again.
    for suffix in ["-wal", "-journal"] {
        if let Some(log) = snapshot.find_content(&atomic::with_suffix(original, suffix)) {
            copy_out(&copy_of(log), log, &atomic::with_suffix(staged, suffix))?;
            has_logs = true;
        }
    }

    if has_logs {
        database::checkpoint_wal(staged).map_err(|e| HistoryError::DamagedSnapshot {
            path: copy_of(content),
            detail: format!("its log cannot be applied: {e}"),
        })?;

        // Applying the log has changed the mtime of the file.
        let file = sharing::open_to_write(fs::OpenOptions::new().write(true), staged);
        let file = file.at("open", staged)?;
        set_attributes(&file, content).at("write", staged)?;
        flush::sync_all(&file).at("fsync", staged)?;
    }
    Ok(())
}

fn is_sidecar(path: &Path) -> bool {
    let name = Path::new(path.file_name().unwrap_or_default());
    kind_of(name) == HomeEntryKind::DatabaseSidecar
}

/// Gives `file` the mode and mtime that `content` recorded of the original.
fn set_attributes(file: &File, content: &SnapshotContent) -> io::Result<()> {
    modes::apply_mode(content.mode, |mode| file.set_permissions(mode))?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(content.modified_ns))
}

/// Copies a file out of a snapshot, with its mode and mtime.
fn copy_out(from: &Path, content: &SnapshotContent, target: &Path) -> Result<(), HistoryError> {
    copy_file_with(from, target, |copy| set_attributes(copy, content))
}

/// Copies a file durably over `target`, whole or not at all.
pub(super) fn copy_file(from: &Path, target: &Path) -> Result<(), HistoryError> {
    copy_file_with(from, target, |_| Ok(()))
}

/// Like [`copy_file`], and passes the copy to `finish` before it replaces `target`.
fn copy_file_with(
    from: &Path,
    target: &Path,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), HistoryError> {
    let mut source = file_open::open(from).at("read", from)?;
    let mut temp = atomic::TempFile::create_beside(target)?;
    io::copy(&mut source, temp.file()).at("write", target)?;
    finish(temp.file()).at("write", target)?;
    Ok(temp.replace(target)?)
}

/// Removes a file. A folder that took its place stays.
fn remove_file_durably(path: &Path) -> Result<(), HistoryError> {
    match sharing::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", path)?,
        _ => {}
    }
    Ok(atomic::sync_folder(atomic::parent_of(path))?)
}

/// Copies a file into a snapshot. Returns `None` if it does not exist.
fn copy_into_snapshot(
    path: &Path,
    folder: &Path,
    name: &str,
) -> Result<Option<SnapshotContent>, HistoryError> {
    let Some(mut source) = file_open::open_if_exists(path)? else {
        return Ok(None);
    };

    let meta = source.metadata().at("read", path)?;
    let target = folder.join(name);
    let mut temp = atomic::TempFile::create_in(folder)?;
    io::copy(&mut source, temp.file()).at("write", &target)?;
    temp.file().rewind().at("read", &target)?;

    // The copy is hashed, not the original, because another program may have changed the original after the copy.
    let (sha256, _size) = hash::sha256_of_reader(temp.file()).at("read", &target)?;
    temp.replace(&target)?;

    let modified = meta.modified().ok();
    let since_epoch = modified.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(Some(SnapshotContent {
        name: name.to_owned(),
        sha256,
        mode: modes::mode_of(&meta),
        modified_ns: since_epoch.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(0)),
    }))
}
