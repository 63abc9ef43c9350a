//! Adds the files of a home to an archive while Codex may be writing them.

use super::capture_target::{CaptureTarget, SkipReason};
use super::database_snapshots::DatabaseSnapshot;
use super::duplicates::{DuplicateConversations, RolloutKey};
use super::error::ArchiveError;
use super::format::sizes::LARGE_BYTES;
use super::format::{EntryName, FileEntry, FileList, InodeStamp, NameSet};
use super::login_read::{self, LoginFile};
use super::pack::PackWriter;
use super::path_note::PathNote;
use super::relocation::{FileLocator, OpenedFile};
use super::scan;
use super::scope::CaptureScope;
use super::stable_read::{CaptureAttempt, StablePrefix};
use crate::io::progress::is_interrupted;
use crate::io::{IoContext, Progress, file_open};
use std::collections::HashSet;
use std::io::{self, Read};

/// Writes the files of a home into an archive, and collects the files that cannot be archived.
pub(super) struct HomePacker<'a, 'w> {
    pub(super) locator: FileLocator<'a>,
    pub(super) writer: &'a mut PackWriter<'w>,
    pub(super) skipped: Vec<PathNote>,
    /// The names of the listed files that were not attempted yet.
    pub(super) pending: NameSet,
    /// The new names of files that were archived after Codex moved them. These names are not archived again.
    pub(super) moved: HashSet<EntryName>,
    pub(super) duplicates: &'a DuplicateConversations,
    /// The archived files of the conversations in `duplicates`.
    pub(super) archived_rollouts: HashSet<RolloutKey>,
    /// Start of the capture in nanoseconds since 1970, by the clock of the file system.
    pub(super) started_at: i64,
    pub(super) progress: &'a dyn Progress,
}

impl HomePacker<'_, '_> {
    pub(super) fn add_databases(
        &mut self,
        snapshots: &[DatabaseSnapshot],
    ) -> Result<(), ArchiveError> {
        for snapshot in snapshots {
            let mut file = file_open::open(&snapshot.copy).at("read", &snapshot.copy)?;
            let size = file.metadata().at("read", &snapshot.copy)?.len();
            if let Some(reason) = self.write_entry(&snapshot.planned, size, &mut file)? {
                self.skip(&snapshot.planned.path, reason.to_string());
            }
        }
        Ok(())
    }

    /// Adds `files`, ordered by name. Removes each file from the list when it is done, so that the list of a large home
    /// and the manifest are never complete in memory at the same time.
    pub(super) fn add_files(&mut self, mut files: FileList) -> Result<(), ArchiveError> {
        let mut deferred = Vec::new();
        self.pending = files.name_set();
        while !files.is_empty() {
            let reused = self.reuse_members(&files)?;
            if reused > 0 {
                for file in files.range(0..reused) {
                    self.pending.remove(file.path.as_path());
                }
                files.drop_front(reused);
            } else if let Some(planned) = files.pop_front() {
                self.pending.remove(planned.path.as_path());
                if !self.try_capture(&planned, CaptureAttempt::First)? {
                    deferred.push(planned);
                }
            }
        }
        self.capture_deferred(deferred)
    }

    /// Copies the members that hold the first of `files` from the previous archive, if these files are unchanged.
    /// Returns the number of copied files. Zero means that the first file has to be read.
    fn reuse_members(&mut self, files: &FileList) -> Result<usize, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
        let Some(reusable) = self.writer.find_reusable(files) else {
            return Ok(0);
        };
        let count = reusable.digests.len();
        let is_archived = |f: FileEntry| {
            self.moved.contains(&f.path)
                || self
                    .duplicates
                    .key(&f, f.stamp)
                    .is_some_and(|r| self.archived_rollouts.contains(&r))
        };
        if files.range(0..count).any(is_archived) {
            return Ok(0);
        }
        for file in files.range(0..count) {
            let rollout = self.duplicates.key(&file, file.stamp);
            self.archived_rollouts.extend(rollout);
            // The progress counts the file as done, although it is not read.
            self.progress.add_bytes(file.size);
        }
        self.writer.reuse(files, reusable)?;
        Ok(count)
    }

    /// Writes the first `size` bytes of `content` to the archive, under the name of `planned`. Returns a reason if the
    /// file was not archived.
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
        // After Ctrl-C the reader returns no more bytes, which looks like a file that became
        // shorter. So the interruption is checked before the result.
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

    /// Adds the login and returns it. Has to be called after all other files. Returns `None` if the home has no login,
    /// or if the login cannot be read; an unreadable login is recorded as skipped.
    pub(super) fn add_login(
        &mut self,
        scope: &CaptureScope,
        planned: Option<&FileEntry>,
    ) -> Result<Option<LoginFile>, ArchiveError> {
        let login = login_read::read_login(&scope.home, planned, &mut self.skipped)?;
        // A refresh token works once. A login that was read at the start of a long backup could be
        // used up at its end.
        if let Some(file) = &login {
            let mut content = io::Cursor::new(file.bytes.expose());
            self.write_entry(&file.entry, file.entry.size, &mut content)?;
        }
        Ok(login)
    }
}

impl CaptureTarget for HomePacker<'_, '_> {
    fn locator(&self) -> &FileLocator<'_> {
        &self.locator
    }

    fn skip(&mut self, name: &EntryName, reason: String) {
        self.skipped.push(PathNote::new(name.as_path(), reason));
    }

    /// Returns true if another listed file was archived under this name, because Codex moved it there.
    fn record_if_captured(&mut self, planned: &FileEntry) -> Result<bool, ArchiveError> {
        Ok(self.moved.contains(&planned.path))
    }

    fn add_opened(
        &mut self,
        planned: &FileEntry,
        opened: &mut OpenedFile,
        prefix: StablePrefix,
    ) -> Result<Option<SkipReason>, ArchiveError> {
        let StablePrefix { meta, size } = prefix;
        // Codex moves rollouts between folders: this inode may have been archived under another
        // name. Copies with different content have other inodes and are archived as files of their
        // own.
        let rollout = self.duplicates.key(planned, InodeStamp::of(&meta));
        if rollout.is_some_and(|key| self.archived_rollouts.contains(&key)) {
            return Ok(None);
        }
        let name = &opened.name;
        if *name != planned.path {
            let is_pending = self.pending.contains(name.as_path());
            if is_pending || self.writer.contains(name) || self.moved.contains(name) {
                return Ok(None);
            }
        }
        let entry = FileEntry {
            // A file that was cut keeps changing, so it must not count as unchanged in the next
            // backup.
            stamp: if size == meta.len() {
                InodeStamp::of(&meta).discard_if_ambiguous(self.started_at)
            } else {
                InodeStamp::default()
            },
            ..scan::entry_from_metadata(name.clone(), &meta)
        };
        let skip_reason = self.write_entry(&entry, size, &mut opened.file)?;
        if skip_reason.is_none() {
            if *name != planned.path {
                self.moved.insert(name.clone());
            }
            self.archived_rollouts.extend(rollout);
        }
        Ok(skip_reason)
    }
}

/// Reads a file for the archive writer, and reports progress. On a read error, records the error and ends the content,
/// so that the writer does not report an error of the archive.
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
