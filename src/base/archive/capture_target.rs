//! Captures files that Codex may be writing, for archives and for folder trees. Each file gets several attempts.

use super::error::ArchiveError;
use super::format::{EntryName, FileEntry};
use super::path_note::PathNote;
use super::relocation::{FileLocator, OpenedFile};
use super::stable_read::{CaptureAttempt, StablePrefix, find_stable_prefix, wait_for_growth};
use crate::codex::text_damage::find_text_damage;
use crate::io::progress::check_interrupt;
use std::io;

/// Maximum number of attempts to read a file that becomes shorter while it is read.
const MAX_READ_ATTEMPTS: u32 = 8;

/// The reason why a listed file is not captured.
#[derive(Debug, thiserror::Error)]
pub(super) enum SkipReason {
    #[error("the file became shorter while it was read")]
    Shorter,
    #[error("{0}")]
    Permanent(String),
}

pub(super) trait CaptureTarget {
    fn locator(&self) -> &FileLocator<'_>;

    fn skip(&mut self, name: &EntryName, reason: String);

    /// The captured texts of the user that look damaged.
    fn damaged(&mut self) -> &mut Vec<PathNote>;

    /// Returns true if the file needs no reading, because this capture or an earlier one has it already. Records the
    /// file then.
    fn record_if_captured(&mut self, _planned: &FileEntry) -> Result<bool, ArchiveError> {
        Ok(false)
    }

    /// Captures the stable prefix of an open file. Returns a reason if that failed. Does nothing, and returns `None`,
    /// for a file that Codex moved to a name that is captured separately.
    fn add_opened_file(
        &mut self,
        planned: &FileEntry,
        opened: &mut OpenedFile,
        prefix: StablePrefix,
    ) -> Result<Option<SkipReason>, ArchiveError>;

    /// Captures or skips a file. Returns false if the file is deferred, because its last line is incomplete at the
    /// first attempt; see [`CaptureTarget::capture_deferred`].
    fn try_capture(
        &mut self,
        planned: &FileEntry,
        attempt: CaptureAttempt,
    ) -> Result<bool, ArchiveError> {
        check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
        if self.record_if_captured(planned)? {
            return Ok(true);
        }

        let mut opened = match self.locator().open(&planned.path) {
            Ok(Some(opened)) => opened,
            // Deleted since the scan, which is no gap in the archive.
            Ok(None) => return Ok(true),
            Err(e) => {
                self.skip(&planned.path, e.source.to_string());
                return Ok(true);
            }
        };

        // All attempts read the same open file, because a rollout that Codex moves meanwhile stays readable.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let reason = match find_stable_prefix(&mut opened.file, planned, attempt) {
                Ok(None) => return Ok(false),
                Ok(Some(prefix)) => {
                    let size = prefix.size;
                    match self.add_opened_file(planned, &mut opened, prefix)? {
                        None => {
                            self.note_if_damaged(&opened.name, size);
                            return Ok(true);
                        }
                        Some(reason) => reason,
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => SkipReason::Shorter,
                Err(e) => SkipReason::Permanent(e.to_string()),
            };

            // Only a file that became shorter is read again: another process rewrites it, and may have completed it.
            if attempts == MAX_READ_ATTEMPTS || !matches!(reason, SkipReason::Shorter) {
                self.skip(&opened.name, reason.to_string());
                return Ok(true);
            }
        }
    }

    /// Notes a text of the user of which `size` bytes were captured, if it looks damaged. Ignores a file that has another
    /// size now, because another process is writing it.
    fn note_if_damaged(&mut self, name: &EntryName, size: u64) {
        let path = self.locator().source_paths.source_path(name);
        // A file that cannot be read again was captured before.
        let damage = find_text_damage(name.as_path(), &path).unwrap_or_default();
        if let Some(reason) = damage
            && path.metadata().is_ok_and(|meta| meta.len() == size)
        {
            self.damaged().push(PathNote::new(name.as_path(), reason));
        }
    }

    /// Captures the files that [`CaptureTarget::try_capture`] deferred. Has to be called after all other files.
    fn capture_deferred(&mut self, deferred: Vec<FileEntry>) -> Result<(), ArchiveError> {
        // If the file does not grow meanwhile, a crash has cut off its last line, and the file is captured whole. If it
        // grows, Codex is writing it, and it is cut at its last newline.
        for planned in deferred {
            let source = self.locator().source_paths.source_path(&planned.path);
            wait_for_growth(&planned, &source);
            self.try_capture(&planned, CaptureAttempt::Final)?;
        }
        Ok(())
    }
}
