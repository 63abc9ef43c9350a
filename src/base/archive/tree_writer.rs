//! Writes captured files into a folder tree, as hard links where possible, else as copies.

use super::attributes::set_attributes;
use super::capture_target::{CaptureTarget, SkipReason};
use super::error::ArchiveError;
use super::format::{
    EntryName, FileEntry, FileList, FolderEntry, InodeStamp, LinkEntry, NameSet, NameTable,
};
use super::path_note::PathNote;
use super::relocation::{FileLocator, OpenedFile};
use super::scan::{self, HomeScan};
use super::scope::CaptureScope;
use super::stable_read::{CaptureAttempt, StablePrefix};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::disk_clock::{modified_ns, read_filesystem_clock_ns};
use crate::io::{IoContext, IoError, atomic, links, sharing, tree};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Age below which a file is copied instead of linked, because it is probably being written.
const MIN_LINK_AGE_NANOS: i64 = 60 * 1_000_000_000;

pub(super) struct TreeWriter<'a> {
    root: &'a Path,
    locator: FileLocator<'a>,
    /// The placed files: hard links and copies.
    pub(super) files: FileList,
    pub(super) hard_linked: NameSet,
    pub(super) skipped: Vec<PathNote>,
    /// The placed rollouts that name no conversation. They are copies, so that the next capture opens them again.
    pub(super) unreadable: NameSet,
    pub(super) damaged: Vec<PathNote>,
    /// The names of the placed files and symbolic links.
    placed_names: NameSet,
    placed_folders: HashSet<PathBuf>,
    /// Start of the capture in nanoseconds since 1970, by the clock of the file system.
    started_at: i64,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn open(
        root: &'a Path,
        scope: &'a CaptureScope,
        scan: &'a HomeScan,
        names: &Arc<NameTable>,
    ) -> Result<Self, IoError> {
        // The clock of the file system decides on the age of files, not the clock of this machine.
        let started_at = read_filesystem_clock_ns(root)?;

        Ok(Self {
            root,
            locator: FileLocator::new(scope, &scan.source_paths, &scan.links, names),
            files: FileList::with_name_table(names),
            hard_linked: NameSet::with_name_table(names),
            skipped: Vec::new(),
            unreadable: NameSet::with_name_table(names),
            damaged: Vec::new(),
            placed_names: NameSet::with_name_table(names),
            placed_folders: HashSet::new(),
            started_at,
        })
    }

    /// Creates the folder at the relative path `folder` and its parents. Removes files and links at these paths.
    pub(super) fn add_folder(&mut self, folder: &Path) -> Result<(), IoError> {
        if folder.as_os_str().is_empty() || self.placed_folders.contains(folder) {
            return Ok(());
        }

        if let Some(parent) = folder.parent() {
            self.add_folder(parent)?;
        }

        let path = self.root.join(folder);
        let is_folder = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if !is_folder {
            tree::remove(&path)?;
            atomic::create_unsynced_folder(&path)?;
        }

        self.placed_folders.insert(folder.to_path_buf());
        Ok(())
    }

    /// Creates the parent folders of `name`, and returns the path of `name` in the tree.
    fn prepare_path(&mut self, name: &EntryName) -> Result<PathBuf, IoError> {
        let path = name.as_path();
        self.add_folder(path.parent().unwrap_or(Path::new("")))?;
        Ok(self.root.join(path))
    }

    pub(super) fn add_folders_and_links(
        &mut self,
        folders: &[FolderEntry],
        links: &[LinkEntry],
    ) -> Result<(), IoError> {
        for folder in folders {
            self.add_folder(folder.path.as_path())?;
        }

        for link in links {
            let path = self.prepare_path(&link.path)?;
            if fs::read_link(&path).ok().as_ref() != Some(&link.target) {
                tree::remove(&path)?;
                links::make_link(&link.target, &path)?;
            }
            self.placed_names.insert(&link.path);
        }

        Ok(())
    }

    pub(super) fn add_database(
        &mut self,
        planned: &FileEntry,
        snapshot: &Path,
    ) -> Result<(), IoError> {
        let path = self.prepare_path(&planned.path)?;
        tree::remove(&path)?;

        // The file keeps the mtime of the snapshot. The mtime of the database does not change with writes to the
        // write-ahead log, so a backup program could take a file with that mtime for unchanged.
        links::link_or_copy(snapshot, &path)?;

        let size = path.symlink_metadata().at("read", &path)?.len();
        self.record_placed(&FileEntry {
            size,
            ..planned.clone()
        });
        Ok(())
    }

    /// Writes the login into the tree, with mode 0600.
    pub(super) fn add_login(&mut self, entry: &FileEntry, bytes: &[u8]) -> Result<(), IoError> {
        let path = self.prepare_path(&entry.path)?;
        tree::remove(&path)?;
        let private = FileEntry {
            mode: 0o600,
            ..entry.clone()
        };
        write_new_file(&path, &mut io::Cursor::new(bytes), &private)?;
        self.record_placed(entry);
        Ok(())
    }

    /// Adds `files`, ordered by name.
    pub(super) fn add_files(&mut self, files: &FileList) -> Result<(), ArchiveError> {
        let mut deferred = Vec::new();
        for planned in files.iter() {
            if !self.try_capture(&planned, CaptureAttempt::First)? {
                deferred.push(planned);
            }
        }
        self.capture_deferred(deferred)
    }

    /// Places an open file in the tree, as a hard link if `may_link` is true and a link is possible, else as a copy of
    /// its first `entry.size` bytes. Returns a reason if the file became shorter than `entry.size`.
    fn place_file(
        &mut self,
        opened: &mut OpenedFile,
        entry: &FileEntry,
        may_link: bool,
    ) -> Result<Option<SkipReason>, IoError> {
        let path = self.prepare_path(&entry.path)?;

        if may_link && self.can_link(entry) && self.try_hard_link(opened, &path)? {
            self.hard_linked.insert(&entry.path);
        } else {
            match copy_prefix(&path, &mut opened.file, entry) {
                Err(e) if e.source.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(Some(SkipReason::Shorter));
                }
                copied => copied?,
            }
        }

        self.record_placed(entry);
        Ok(None)
    }

    /// Makes `path` a hard link to the open file. Returns false if that is impossible, for example between file
    /// systems.
    fn try_hard_link(&self, opened: &OpenedFile, path: &Path) -> Result<bool, IoError> {
        let opened_stamp = InodeStamp::of(&opened.file.metadata().at("read", path)?);

        // Without inode numbers a link cannot be verified.
        if opened_stamp.ino == 0 {
            return Ok(false);
        }

        let is_link_to_opened = || {
            let named = path.symlink_metadata();
            named.is_ok_and(|meta| InodeStamp::of(&meta).is_same_inode(opened_stamp))
        };
        // An earlier capture may have made the link.
        if is_link_to_opened() {
            return Ok(true);
        }

        tree::remove(path)?;
        if sharing::hard_link(&self.locator.source_paths.source_path(&opened.name), path).is_err() {
            return Ok(false);
        }

        // Another file may have been renamed to this name after the file was opened.
        if is_link_to_opened() {
            return Ok(true);
        }

        tree::remove(path)?;
        Ok(false)
    }

    /// Returns true if an earlier capture left a hard link to exactly this version of a rollout in the tree. Such a
    /// rollout is not opened again, because opening half a million files takes long.
    fn is_linked_rollout(&self, planned: &FileEntry) -> bool {
        let path = planned.path.as_path();
        kind_of(path).is_rollout_folder()
            && self.can_link(planned)
            && self.root.join(path).symlink_metadata().is_ok_and(|meta| {
                InodeStamp::of(&meta).is_same_inode(planned.stamp)
                    && (meta.len(), modified_ns(&meta)) == (planned.size, planned.mtime)
            })
    }

    fn can_link(&self, entry: &FileEntry) -> bool {
        entry.mtime < self.started_at.saturating_sub(MIN_LINK_AGE_NANOS)
            && !is_always_copied(entry.path.as_path())
    }

    fn record_placed(&mut self, entry: &FileEntry) {
        self.placed_names.insert(&entry.path);
        self.files.push(entry);
    }

    /// Removes all entries below `folder`, a relative path, that this capture did not write.
    pub(super) fn remove_unplaced(&self, folder: &Path) -> Result<(), IoError> {
        let path = self.root.join(folder);
        for (name, kind) in tree::list(&path).at("list", &path)? {
            let relative = folder.join(name);
            if kind.is_dir() && self.placed_folders.contains(&relative) {
                self.remove_unplaced(&relative)?;
            } else if !self.placed_names.contains(&relative) {
                tree::remove(&self.root.join(relative))?;
            }
        }
        Ok(())
    }
}

impl CaptureTarget for TreeWriter<'_> {
    fn locator(&self) -> &FileLocator<'_> {
        &self.locator
    }

    fn skip(&mut self, name: &EntryName, reason: String) {
        self.skipped.push(PathNote::new(name.as_path(), reason));
    }

    fn damaged(&mut self) -> &mut Vec<PathNote> {
        &mut self.damaged
    }

    /// Returns true for a rollout that an earlier capture hard-linked. Records each rollout once.
    fn record_if_captured(&mut self, planned: &FileEntry) -> Result<bool, ArchiveError> {
        if !self.is_linked_rollout(planned) {
            return Ok(false);
        }

        if !self.placed_names.contains(planned.path.as_path()) {
            self.add_folder(atomic::parent_of(planned.path.as_path()))?;
            self.hard_linked.insert(&planned.path);
            self.record_placed(planned);
        }

        Ok(true)
    }

    fn add_opened_file(
        &mut self,
        _planned: &FileEntry,
        opened: &mut OpenedFile,
        prefix: StablePrefix,
    ) -> Result<Option<SkipReason>, ArchiveError> {
        let StablePrefix {
            meta,
            size,
            is_unreadable_rollout,
        } = prefix;
        if self.placed_names.contains(opened.name.as_path()) {
            return Ok(None);
        }

        let entry = FileEntry {
            size,
            ..scan::entry_from_metadata(opened.name.clone(), &meta)
        };
        let may_link = size == meta.len() && !is_unreadable_rollout;
        let reason = self.place_file(opened, &entry, may_link)?;
        if is_unreadable_rollout && reason.is_none() {
            self.unreadable.insert(&entry.path);
        }
        Ok(reason)
    }
}

/// Returns true for files that are never hard-linked: Codex writes databases in place, and a hard link would keep a
/// login or a key that Codex deletes. Includes all unknown top-level files, because `.credentials.json` (logins of MCP
/// servers), `.env` and copies of auth.json have no kind of their own.
pub fn is_always_copied(path: &Path) -> bool {
    match kind_of(path) {
        HomeEntryKind::Database | HomeEntryKind::Config => true,
        kind if kind.is_login() => true,
        HomeEntryKind::Unknown => path.components().count() == 1,
        _ => false,
    }
}

/// Removes the captured `files` below `root`, except those that are hard links.
pub(super) fn remove_copies(root: &Path, files: &FileList, hard_linked: &NameSet) {
    let copies = files.iter().map(|entry| entry.path);
    for name in copies.filter(|name| !hard_linked.contains(name.as_path())) {
        let _ = sharing::remove_file(root.join(name.as_path()));
    }
}

/// Replaces the entry at `path` with a copy of the first `entry.size` bytes of `file`, which may be this entry itself.
///
/// # Errors
/// `file` is shorter (`UnexpectedEof`) or cannot be read, or the copy cannot be written.
pub(super) fn copy_prefix(path: &Path, file: &mut File, entry: &FileEntry) -> Result<(), IoError> {
    file.rewind().at("read", path)?;
    tree::remove(path)?;
    let written = write_new_file(path, &mut Read::by_ref(file).take(entry.size), entry)?;
    if written < entry.size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).at("read", path);
    }
    Ok(())
}

/// Writes a new file with the mode and time of `entry`, and returns its size in bytes. The file is not durable, because
/// the next capture replaces a tree that a crash left.
fn write_new_file(path: &Path, content: &mut impl Read, entry: &FileEntry) -> Result<u64, IoError> {
    let mut file = atomic::create_private(path)?;
    let write_result = io::copy(content, &mut file).at("write", path);
    // Closed first: Windows sets the time of the last write again when a written file is closed.
    drop(file);
    let result = write_result.and_then(|written| {
        set_attributes(path, entry.mode, entry.mtime)?;
        Ok(written)
    });
    if result.is_err() {
        let _ = sharing::remove_file(path);
    }
    result
}
