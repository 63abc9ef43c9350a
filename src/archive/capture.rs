//! Captures a home into an archive while Codex may be running.
//!
//! The order matters: databases first, then files, then the login. If a rollout is longer than its
//! projection in a database, Codex catches up. A shorter rollout would hide turns.

use super::database_snapshots::{DatabaseSnapshot, DatabaseSnapshots};
use super::duplicates::DuplicateConversations;
use super::error::ArchiveError;
use super::format::entry::{FileEntry, FolderEntry, LinkEntry};
use super::format::entry_name::EntryName;
use super::format::file_list::FileList;
use super::format::inode_stamp::InodeStamp;
use super::format::layout::{Compression, LARGE_BYTES};
use super::format::manifest::AccountAuth;
use super::format::metadata;
use super::format::name_table::NameSet;
use super::pack::{self, FinishedArchive, ManifestDetails, PackWriter};
use super::path_note::PathNote;
use super::relocation::{FileLocator, OpenedFile};
use super::reuse::PreviousArchive;
use super::scan::{self, HomeScan};
use super::scope::CaptureScope;
use super::stable_read::{ReadDecision, StablePrefix, decide_read, wait_for_growth};
use crate::codex::auth::{AuthFile, Login};
use crate::codex::home;
use crate::codex::login_lock::{self, LoginLock};
use crate::codex::rollout::ConversationFile;
use crate::io::atomic::TempFile;
use crate::io::file_open;
use crate::io::hash::Hasher;
use crate::io::progress::is_interrupted;
use crate::io::staging::Staging;
use crate::io::{IoContext, IoError, Progress, space};
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum number of attempts to read a file that becomes shorter while it is read.
const MAX_READ_ATTEMPTS: u32 = 8;

/// Free disk space that a backup leaves for other programs.
const SPACE_MARGIN_BYTES: u64 = 4 * 1024 * 1024;

/// A captured home: an archive that is not published yet.
#[derive(Debug)]
pub struct CapturedHome {
    /// The archive as a temporary file, deleted when dropped.
    pub file: TempFile,
    /// Size, digest and manifest of the archive.
    pub packed: FinishedArchive,
    /// The archived login, or `None` if the home was signed out.
    pub login: Option<Login>,
    /// Paths that a rule or `--exclude` left out.
    pub excluded: Vec<PathNote>,
    /// Paths that could not be archived.
    pub skipped: Vec<PathNote>,
    /// Skipped databases that may be sound: they could not be read, rather than failed the check.
    pub unreadable: HashSet<PathBuf>,
    /// Files that are archived although their content is not what their name says.
    pub damaged: Vec<PathNote>,
}

/// Folders and options of a capture.
#[derive(Debug)]
pub struct CaptureOptions<'a> {
    /// Folder in which the archive is written.
    pub backups: &'a Path,
    /// Folder for snapshots of databases.
    pub tmp: &'a Path,
    /// Compression level of the archive.
    pub compression: Compression,
    /// An previous archive from which unchanged members are copied.
    pub source: Option<&'a PreviousArchive<'a>>,
}

/// Captures the files that `scope` selects. Fills in the file counts of `metadata`.
///
/// # Errors
/// The archive cannot be written, the disk has too little space, `source` is damaged, a restore
/// replaced the home meanwhile, or the user interrupted the backup. Files of the home that cannot
/// be read are no error; they are listed as skipped.
pub fn capture(
    scope: &CaptureScope,
    options: &CaptureOptions<'_>,
    mut metadata: metadata::Metadata,
    progress: &dyn Progress,
) -> Result<CapturedHome, ArchiveError> {
    let staging = Staging::inside(options.tmp)?;
    let folders = folder_ids(&scope.home);
    let names = options.source.and_then(PreviousArchive::names);
    let names = names.map(Arc::clone).unwrap_or_default();
    let mut databases = DatabaseSnapshots::default();
    {
        let before = scan::scan(scope, &names)?;
        check_space(&before, options)?;
        databases.snapshot_all(&before, &staging)?;
    }
    // Scans again: files that Codex created while the snapshots were made belong to this capture,
    // and new databases may be among them.
    let mut scan = scan::scan(scope, &names)?;
    databases.snapshot_all(&scan, &staging)?;
    scan.skipped.retain(|s| !databases.was_attempted(&s.path));
    let DatabaseSnapshots {
        snapshots,
        skipped: skip_reason,
        unreadable,
    } = databases;
    scan.skipped.extend(skip_reason);
    progress.expect_bytes(scan.bytes());

    let mut file = TempFile::inside(options.backups)?;
    let path = file.path().to_path_buf();
    let out = file.file().try_clone().at("write", &path)?;
    let started_at = InodeStamp::of(&file.file().metadata().at("read", &path)?).ctime;
    let (mut skipped, mut login) = (Vec::new(), None);
    let packed = pack::pack(
        out,
        &path,
        options.compression,
        options.source,
        &names,
        |writer| {
            let mut packer = HomePacker {
                locator: FileLocator::new(scope, &scan.places, &scan.links, &names),
                writer,
                skipped: std::mem::take(&mut scan.skipped),
                moved: HashSet::new(),
                copies: &scan.copies,
                rollouts: HashSet::new(),
                started_at,
                progress,
            };
            packer.add_structure(&scan.folders, &scan.links)?;
            packer.add_databases(&snapshots)?;
            let tops = scan.top_entries();
            let mut files = std::mem::take(&mut scan.files);
            // A file that was a database at the first scan may not be one now. Its snapshot is
            // archived.
            let mut snapshot_names = NameSet::with_names(&names);
            snapshot_names.extend(snapshots.iter().map(|s| s.planned.path.clone()));
            files.remove_all(&snapshot_names);
            scan.damaged
                .retain(|found| !snapshot_names.contains(&found.path));
            packer.add_files(files)?;
            let auth = packer.add_login(scope, scan.login.as_ref())?;
            if folder_ids(&scope.home) != folders {
                return Err(ArchiveError::Replaced(scope.home.clone()));
            }
            skipped = packer.skipped;
            skipped.sort();
            skipped.dedup_by(|again, first| again.path == first.path);
            metadata.captured_files = tops;
            metadata.skipped = skipped.len() as u64;
            metadata.limit_size();
            let (captured, account_auth) = auth.map_or((None, None), |(l, a)| (l, Some(a)));
            login = captured;
            Ok(ManifestDetails {
                metadata,
                account_auth,
                excluded_globs: scope.excludes.globs().to_vec(),
                skipped: skipped
                    .iter()
                    .filter_map(|s| EntryName::of_path(&s.path).ok())
                    .collect(),
                linked: std::mem::take(&mut scan.linked),
                partial: scope.only.is_some(),
                undo_removes: scope.undo_removes.clone(),
            })
        },
    )?;
    Ok(CapturedHome {
        file,
        packed,
        login,
        excluded: scan.excluded,
        skipped,
        unreadable,
        damaged: scan.damaged,
    })
}

/// Returns the identity of the home and of its `sessions/`. Codex never replaces these folders, a
/// restore does.
#[cfg(unix)]
fn folder_ids(home: &Path) -> Vec<Option<(u64, u64)>> {
    use std::os::unix::fs::MetadataExt;
    [Path::new(""), Path::new(home::SESSIONS)]
        .map(|name| home.join(name).metadata().ok().map(|m| (m.dev(), m.ino())))
        .into()
}

#[cfg(not(unix))]
fn folder_ids(_home: &Path) -> Vec<Option<(u64, u64)>> {
    Vec::new()
}

/// Refuses early if the archive would fill the disk. Assumes that stored content compresses by
/// eight; an archive that compresses worse fails later, at the write, and leaves no file behind.
fn check_space(scan: &HomeScan, options: &CaptureOptions<'_>) -> Result<(), ArchiveError> {
    let databases: u64 = scan.databases.iter().map(|f| f.size).sum();
    let needs = [
        (options.tmp, databases),
        (options.backups, scan.stored_bytes / 8),
    ];
    for (folder, needed) in needs {
        let needed_bytes = needed.saturating_add(SPACE_MARGIN_BYTES.min(needed));
        if let Some(free_bytes) = space::free_bytes(folder).filter(|free| *free < needed_bytes) {
            return Err(ArchiveError::NoSpace {
                folder: folder.to_path_buf(),
                needed_bytes,
                free_bytes,
            });
        }
    }
    Ok(())
}

/// Result of one attempt to add a file.
enum AddOutcome {
    /// The file was archived, was skipped, or does not exist any more.
    Handled,
    /// The last line is incomplete. The file is tried again after all others.
    Deferred,
}

/// The reason why a listed file is not in the archive.
#[derive(Debug, thiserror::Error)]
enum SkipReason {
    #[error("the file became shorter while it was read")]
    Shorter,
    #[error("{0}")]
    Permanent(String),
}

struct HomePacker<'a, 'w> {
    locator: FileLocator<'a>,
    writer: &'a mut PackWriter<'w>,
    skipped: Vec<PathNote>,
    /// Files that were archived under a new name after Codex moved them. They are not added a
    /// second time.
    moved: HashSet<EntryName>,
    /// Conversations with more than one file.
    copies: &'a DuplicateConversations,
    /// Files of those conversations that are in the archive.
    rollouts: HashSet<RolloutKey>,
    /// Start of the capture in nanoseconds since 1970, by the clock of the file system.
    started_at: i64,
    progress: &'a dyn Progress,
}

impl HomePacker<'_, '_> {
    fn add_structure(
        &mut self,
        folders: &[FolderEntry],
        links: &[(EntryName, PathBuf)],
    ) -> Result<(), ArchiveError> {
        for folder in folders {
            self.writer.add_folder(folder.clone())?;
        }
        for (name, target) in links {
            let entry = LinkEntry {
                path: name.clone(),
                target: target.clone(),
            };
            self.writer.add_link(entry)?;
        }
        Ok(())
    }

    fn add_databases(&mut self, snapshots: &[DatabaseSnapshot]) -> Result<(), ArchiveError> {
        for snapshot in snapshots {
            let mut file = file_open::open(&snapshot.copy).at("read", &snapshot.copy)?;
            let size = file.metadata().at("read", &snapshot.copy)?.len();
            if let Some(reason) = self.write_entry(&snapshot.planned, size, &mut file)? {
                self.skip(&snapshot.planned.path, reason.to_string());
            }
        }
        Ok(())
    }

    /// Adds `files`, ordered by name. Removes each file from the list when it is done: the list of
    /// a large home and the manifest built from it are never complete in memory at the same time.
    fn add_files(&mut self, mut files: FileList) -> Result<(), ArchiveError> {
        let mut deferred = Vec::new();
        let mut pending = files.name_set();
        while !files.is_empty() {
            let reused = self.reuse_members(&files)?;
            if reused > 0 {
                for file in files.range(0..reused) {
                    pending.remove(file.path.as_path());
                }
                files.drop_front(reused);
            } else if let Some(planned) = files.pop_front() {
                pending.remove(planned.path.as_path());
                match self.add_file(&planned, &pending, true)? {
                    AddOutcome::Handled => {}
                    AddOutcome::Deferred => deferred.push(planned),
                }
            }
        }
        // A deferred file that does not change for a while has a line that was cut off; one that
        // grew is being written and is cut at its last newline.
        for planned in deferred {
            wait_for_growth(&planned, &self.locator.listed(&planned.path));
            self.add_file(&planned, &pending, false)?;
        }
        Ok(())
    }

    /// Copies unchanged members from the previous archive. Returns the number of files, from the
    /// start of `files`, that they cover.
    fn reuse_members(&mut self, files: &FileList) -> Result<usize, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        let count = self.writer.count_reusable(|i| files.get(i));
        let is_taken = |f: FileEntry| {
            self.moved.contains(&f.path)
                || self
                    .rollout_key(&f, f.stamp)
                    .is_some_and(|r| self.rollouts.contains(&r))
        };
        if count == 0 || files.range(0..count).any(is_taken) {
            return Ok(0);
        }
        for file in files.range(0..count) {
            let rollout = self.rollout_key(&file, file.stamp);
            self.rollouts.extend(rollout);
            self.progress.add_bytes(file.size);
        }
        self.writer.reuse(files)?;
        Ok(count)
    }

    /// Adds one file. `pending` are the listed files that were not tried yet.
    fn add_file(
        &mut self,
        planned: &FileEntry,
        pending: &NameSet,
        may_defer: bool,
    ) -> Result<AddOutcome, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        if self.moved.contains(&planned.path) {
            return Ok(AddOutcome::Handled);
        }
        let mut opened = match self.locator.open(&planned.path) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(AddOutcome::Handled),
            Err(e) => {
                self.skip(&planned.path, e.source.to_string());
                return Ok(AddOutcome::Handled);
            }
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let reason = match decide_read(&mut opened.file, planned, may_defer) {
                Ok(ReadDecision::Defer) => return Ok(AddOutcome::Deferred),
                Ok(ReadDecision::Read(seen)) => {
                    match self.add_opened(planned, &mut opened, seen, pending)? {
                        None => return Ok(AddOutcome::Handled),
                        Some(reason) => reason,
                    }
                }
                Ok(ReadDecision::Skip(reason)) => SkipReason::Permanent(reason.to_owned()),
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => SkipReason::Shorter,
                Err(e) => SkipReason::Permanent(e.to_string()),
            };
            // Another process rewrites the file; the next attempt may find it complete.
            if attempts == MAX_READ_ATTEMPTS || !matches!(reason, SkipReason::Shorter) {
                self.skip(&opened.name, reason.to_string());
                return Ok(AddOutcome::Handled);
            }
        }
    }

    /// Adds the stable prefix of an open file. Returns the reason if it is not in the archive.
    fn add_opened(
        &mut self,
        planned: &FileEntry,
        opened: &mut OpenedFile,
        seen: StablePrefix,
        pending: &NameSet,
    ) -> Result<Option<SkipReason>, ArchiveError> {
        let StablePrefix { meta, size } = seen;
        // Codex moves rollouts between folders: this inode may have been archived under another
        // name. Copies with different content have other inodes and are archived as files of their
        // own.
        let rollout = self.rollout_key(planned, InodeStamp::of(&meta));
        if rollout.as_ref().is_some_and(|r| self.rollouts.contains(r)) {
            return Ok(None);
        }
        let name = &opened.name;
        if *name != planned.path {
            let is_pending = pending.contains(name.as_path());
            if is_pending || self.writer.contains(name) || self.moved.contains(name) {
                return Ok(None);
            }
        }
        let entry = FileEntry {
            // A file that was cut keeps changing, so it must not count as unchanged in the next
            // backup.
            stamp: if size == meta.len() {
                InodeStamp::of(&meta).if_unambiguous(self.started_at)
            } else {
                InodeStamp::default()
            },
            ..scan::entry_of(name.clone(), &meta)
        };
        let skip_reason = self.write_entry(&entry, size, &mut opened.file)?;
        if skip_reason.is_none() {
            if *name != planned.path {
                self.moved.insert(name.clone());
            }
            self.rollouts.extend(rollout);
        }
        Ok(skip_reason)
    }

    fn skip(&mut self, name: &EntryName, reason: String) {
        self.skipped.push(PathNote::new(name.as_path(), reason));
    }

    /// Returns the key that identifies a rollout under every name, or `None` for files that can be
    /// listed only once.
    fn rollout_key(&self, file: &FileEntry, stamp: InodeStamp) -> Option<RolloutKey> {
        // Systems without inode numbers report zero.
        if stamp.ino == 0 || !self.copies.has(file.path.as_path()) {
            return None;
        }
        let conversation = ConversationFile::of(file.path.as_path())?;
        let mut hasher = Hasher::default();
        hasher.update(&stamp.dev.to_le_bytes());
        hasher.update(&stamp.ino.to_le_bytes());
        hasher.update(conversation.name.as_bytes());
        Some(hasher.digest().beginning())
    }

    /// Writes a file of `size` bytes to the archive. Returns the reason if it is not in the
    /// archive.
    fn write_entry(
        &mut self,
        planned: &FileEntry,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<Option<SkipReason>, ArchiveError> {
        let entry = FileEntry {
            size,
            ..planned.clone()
        };
        let mut reading = ProgressReader {
            content,
            error: None,
            progress: self.progress,
        };
        let added = self.writer.add_file(entry, &mut reading)?;
        let error = reading.error.take();
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        Ok((!added).then(|| match error {
            Some(error) => SkipReason::Permanent(error.to_string()),
            None if size < LARGE_BYTES => SkipReason::Shorter,
            // The start of the file is in the archive as a void entry. A second entry of the same
            // name would be refused by readers, so there is no other attempt.
            None => SkipReason::Permanent(SkipReason::Shorter.to_string()),
        }))
    }

    /// Adds the login, last and under Codex's own locks. Reads its bytes once, so that the identity
    /// in the manifest is that of the archived bytes.
    fn add_login(
        &mut self,
        scope: &CaptureScope,
        planned: Option<&FileEntry>,
    ) -> Result<Option<(Option<Login>, AccountAuth)>, ArchiveError> {
        let Some(planned) = planned else {
            return Ok(None);
        };
        let path = scope.home.join(home::AUTH_JSON);
        let lock = take_lock(&scope.home)?;
        let read = AuthFile::read(&path);
        let meta = path.metadata();
        drop(lock);
        let snapshot = match read.unwrap_or_else(|e| AuthFile::from_read_error(&e)) {
            AuthFile::Missing => return Ok(None),
            AuthFile::Unreadable { reason, .. } => {
                self.skipped.push(PathNote::new(home::AUTH_JSON, reason));
                return Ok(None);
            }
            AuthFile::Present(snapshot) => snapshot,
        };
        let bytes = snapshot.bytes.expose();
        // Codex may have renewed the login since the scan listed it.
        let planned = &FileEntry {
            path: planned.path.clone(),
            ..meta.map_or_else(
                |_| planned.clone(),
                |m| scan::entry_of(planned.path.clone(), &m),
            )
        };
        self.write_entry(planned, bytes.len() as u64, &mut io::Cursor::new(bytes))?;
        let account_auth = AccountAuth {
            path: planned.path.clone(),
            sha256: snapshot.sha256(),
            identity: snapshot.login.as_ref().map(|l| l.identity.clone()),
        };
        Ok(Some((snapshot.login, account_auth)))
    }
}

/// Takes Codex's login lock. Returns `None` in a read-only home, where Codex cannot renew a login
/// either.
fn take_lock(home: &Path) -> Result<Option<LoginLock>, ArchiveError> {
    use crate::io::lock::LockError;
    match LoginLock::acquire(home, login_lock::REFRESH_TIMEOUT) {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Io(e)) if is_read_only(&e) => Ok(None),
        Err(LockError::Io(e)) => Err(e.into()),
        Err(LockError::Held(path)) => Err(IoError {
            action: "lock",
            path,
            source: io::Error::new(io::ErrorKind::TimedOut, "Codex holds the lock for too long"),
        }
        .into()),
    }
}

fn is_read_only(error: &IoError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Identifies a rollout across renames: half a digest of the conversation's name, device and inode.
/// An inode number alone may be reused for a new file.
type RolloutKey = [u8; 16];

/// Reads a file for the archive writer. Reports progress, and records read errors instead of
/// returning them, so that the writer does not take them for errors of the archive.
struct ProgressReader<'a> {
    content: &'a mut dyn Read,
    error: Option<io::Error>,
    progress: &'a dyn Progress,
}

impl Read for ProgressReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.error.is_some() || is_interrupted() {
            return Ok(0);
        }
        match self.content.read(buffer) {
            Ok(n) => {
                self.progress.add_bytes(n as u64);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                self.error = Some(e);
                Ok(0)
            }
        }
    }
}
