//! Adds the files of a home to an archive while Codex may be writing them.

use super::capture_target::{CaptureTarget, SkipReason};
use super::database_snapshots::DatabaseSnapshot;
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
use crate::io::progress::check_interrupt;
use crate::io::{IoContext, Progress, ReportingReader, file_open};
use std::collections::HashMap;
use std::io::{self, Read};

/// Writes the files of a home into an archive, and collects the files that cannot be archived.
pub(super) struct HomePacker<'a, 'w> {
    pub(super) locator: FileLocator<'a>,
    pub(super) writer: &'a mut PackWriter<'w>,
    pub(super) skipped: Vec<PathNote>,
    /// The archived rollouts that name no conversation.
    pub(super) unreadable: NameSet,
    pub(super) damaged: Vec<PathNote>,
    /// The names of the listed files that are not archived yet, including deferred files.
    pub(super) pending: NameSet,
    /// For each device, a time in nanoseconds since 1970 that its clock had reached when the capture began.
    pub(super) reached_times: HashMap<u64, i64>,
    pub(super) progress: &'a dyn Progress,
}

impl HomePacker<'_, '_> {
    pub(super) fn add_databases(
        &mut self,
        snapshots: &[DatabaseSnapshot],
    ) -> Result<(), ArchiveError> {
        for snapshot in snapshots {
            let mut snapshot_file = file_open::open(&snapshot.path).at("read", &snapshot.path)?;
            let size = snapshot_file.metadata().at("read", &snapshot.path)?.len();
            if let Some(reason) = self.write_entry(&snapshot.planned, size, &mut snapshot_file)? {
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
            check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
            let copied_count = self.writer.add_unchanged_files(&files)?;
            if copied_count > 0 {
                for file in files.range(0..copied_count) {
                    self.pending.remove(file.path.as_path());
                    self.damaged
                        .extend(self.writer.find_known_damage(&file.path));
                    // The progress counts the file as done, although it is not read.
                    self.progress.add_bytes(file.size);
                }
                files.remove_front(copied_count);
            } else if let Some(planned) = files.pop_front() {
                if self.try_capture(&planned, CaptureAttempt::First)? {
                    self.pending.remove(planned.path.as_path());
                } else {
                    deferred.push(planned);
                }
            }
        }

        self.capture_deferred(deferred)
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
        let mut reader = ReportingReader {
            reader: content,
            progress: self.progress,
        };

        // The reader fails after Ctrl-C, so the interruption is checked before the result.
        let read_result = self.writer.add_file(entry, &mut reader)?;
        check_interrupt().map_err(|_| ArchiveError::Interrupted)?;

        Ok(read_result.err().map(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof if size < LARGE_BYTES => SkipReason::Shorter,
            // The start of the file is in the archive as a void entry. A second entry of the same
            // name would be refused by readers, so there is no other attempt.
            io::ErrorKind::UnexpectedEof => SkipReason::Permanent(SkipReason::Shorter.to_string()),
            _ => SkipReason::Permanent(e.to_string()),
        }))
    }

    /// Adds the login and returns it. Has to be called after all other files. Returns `None` if the home has no login,
    /// or if the login cannot be read; an unreadable login is recorded as skipped.
    pub(super) fn add_login(
        &mut self,
        scope: &CaptureScope,
        planned: Option<&FileEntry>,
    ) -> Result<Option<LoginFile>, ArchiveError> {
        // Read last, because a refresh token works once: a login that was read at the start of a long backup could be
        // used up at its end.
        let login = login_read::read_login(&scope.home, planned, &mut self.skipped)?;
        if let Some(login_file) = &login {
            // A read from memory cannot fail or end early, so there is no reason to record.
            let mut content = io::Cursor::new(login_file.bytes.expose());
            self.write_entry(&login_file.entry, login_file.entry.size, &mut content)?;
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

    fn damaged(&mut self) -> &mut Vec<PathNote> {
        &mut self.damaged
    }

    fn add_opened_file(
        &mut self,
        planned: &FileEntry,
        opened: &mut OpenedFile,
        prefix: StablePrefix,
    ) -> Result<Option<SkipReason>, ArchiveError> {
        let StablePrefix {
            meta,
            size,
            is_unreadable_rollout,
        } = prefix;

        let name = &opened.name;
        let is_moved = *name != planned.path;
        // Codex moved the file to a name that is archived already, or will be. It must not be archived twice.
        if is_moved && (self.pending.contains(name.as_path()) || self.writer.contains(name)) {
            return Ok(None);
        }

        let mut entry = scan::entry_from_metadata(name.clone(), &meta);
        // A file that was cut keeps changing, so it must not count as unchanged in the next backup. Neither must an
        // unreadable rollout: the next backup has to find it unreadable again.
        let is_whole = size == meta.len() && !is_unreadable_rollout;
        let reached_time = self.reached_times.get(&entry.stamp.dev);
        entry.stamp = match reached_time.filter(|_| is_whole) {
            Some(reached_time) => entry.stamp.discard_if_ambiguous(*reached_time),
            None => InodeStamp::default(),
        };

        let reason = self.write_entry(&entry, size, &mut opened.file)?;
        if is_unreadable_rollout && reason.is_none() {
            self.unreadable.insert(&entry.path);
        }
        Ok(reason)
    }
}
