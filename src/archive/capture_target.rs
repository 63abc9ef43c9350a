//! Captures files that Codex may be writing, for archives and for folder trees. Each file gets several attempts.

use super::error::ArchiveError;
use super::format::{EntryName, FileEntry};
use super::relocation::{FileLocator, OpenedFile};
use super::stable_read::{CaptureAttempt, StablePrefix, find_stable_prefix, wait_for_growth};
use crate::io::progress::is_interrupted;
use std::io;

/// The reason why a listed file is not captured.
#[derive(Debug, thiserror::Error)]
pub(super) enum SkipReason {
    #[error("the file became shorter while it was read")]
    Shorter,
    #[error("{0}")]
    Permanent(String),
}

/// Receives the files of a home.
pub(super) trait CaptureTarget {
    fn locator(&self) -> &FileLocator<'_>;

    fn skip(&mut self, name: &EntryName, reason: String);

    /// Returns true if the file needs no reading, because this capture or an earlier one has it already. Records the
    /// file then.
    fn record_if_captured(&mut self, planned: &FileEntry) -> Result<bool, ArchiveError>;

    /// Captures the stable prefix of an open file. Returns a reason if the file was not captured.
    fn add_opened(
        &mut self,
        planned: &FileEntry,
        opened: &mut OpenedFile,
        prefix: StablePrefix,
    ) -> Result<Option<SkipReason>, ArchiveError>;

    /// Captures or skips a file. Returns false if the first attempt defers the file, because its last line is incomplete
    /// or it became shorter while it was read; see [`CaptureTarget::capture_deferred`].
    fn try_capture(
        &mut self,
        planned: &FileEntry,
        attempt: CaptureAttempt,
    ) -> Result<bool, ArchiveError> {
        if is_interrupted() {
            return Err(ArchiveError::Interrupted);
        }
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
        let skip_reason = match find_stable_prefix(&mut opened.file, planned, attempt) {
            Ok(None) => return Ok(false),
            Ok(Some(prefix)) => self.add_opened(planned, &mut opened, prefix)?,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Some(SkipReason::Shorter),
            Err(e) => Some(SkipReason::Permanent(e.to_string())),
        };
        match skip_reason {
            None => {}
            // Another process rewrites the file; the final attempt may find it complete.
            Some(SkipReason::Shorter) if attempt == CaptureAttempt::First => return Ok(false),
            Some(reason) => self.skip(&opened.name, reason.to_string()),
        }
        Ok(true)
    }

    /// Captures the files that [`CaptureTarget::try_capture`] deferred. Has to be called after all other files.
    fn capture_deferred(&mut self, deferred: Vec<FileEntry>) -> Result<(), ArchiveError> {
        // A file that does not change for a while has a line that was cut off; one that grew is
        // being written and is cut at its last newline.
        for planned in deferred {
            wait_for_growth(&planned, &self.locator().places.source(&planned.path));
            self.try_capture(&planned, CaptureAttempt::Final)?;
        }
        Ok(())
    }
}
