//! Writes the planned files of an archive into the stage.

use super::staged_home::{ArchivedLogin, Stage};
use crate::archive::{ArchiveError, FileEntry, Sink, set_attributes};
use crate::codex::{HomeEntryKind, kind_of};
use crate::io::{IoContext, IoError, SecretBytes, atomic, events, position, sharing};
use crate::restore::RestorePlan;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The largest login that is read from an archive, in bytes.
const MAX_LOGIN_BYTES: usize = 16 * 1024 * 1024;

/// The size from which a part of a file bypasses the page cache, so that the disk works while other
/// parts are unpacked.
const LARGE_PART_BYTES: usize = 512 * 1024;

/// The sink of [`ArchiveReader::read`](crate::archive::reader::ArchiveReader::read) for a restore.
pub(crate) struct ExtractSink<'a> {
    stage: &'a Stage,
    plan: &'a RestorePlan,
    login: Mutex<Option<(Vec<u8>, i64)>>,
}

impl<'a> ExtractSink<'a> {
    pub(crate) fn new(stage: &'a Stage, plan: &'a RestorePlan) -> Self {
        Self {
            stage,
            plan,
            login: Mutex::new(None),
        }
    }

    /// Returns the archive's login, if the plan wants it. Call this after reading the archive.
    pub(crate) fn into_login(self) -> Option<ArchivedLogin> {
        let login = self
            .login
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)?;
        Some(ArchivedLogin {
            bytes: SecretBytes::new(login.0),
            mtime_ns: login.1,
        })
    }

    fn is_login(&self, entry: &FileEntry) -> bool {
        kind_of(entry.path.as_path()) == HomeEntryKind::Auth && self.plan.wants_login
    }
}

impl Sink for ExtractSink<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        let path = entry.path.as_path();
        self.is_login(entry)
            || (self.plan.writes.contains(path) && !self.stage.equal.contains(path))
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        if self.is_login(entry) {
            let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            let (whole, _) = login.get_or_insert_with(|| (Vec::new(), entry.mtime));
            // A login is a few kilobytes and comes in one part. A larger file is not a login.
            if offset == whole.len() as u64 && whole.len() + bytes.len() <= MAX_LOGIN_BYTES {
                whole.extend_from_slice(bytes);
            }
            return Ok(());
        }
        let path = self.stage.staged_path(entry.path.as_path());
        let file = match open_private(&path) {
            Err(e) if e.is_not_found() => {
                atomic::create_unsynced_folder(atomic::parent_of(&path))?;
                open_private(&path)?
            }
            other => other?,
        };
        Ok(write_part(&file, bytes, offset).at("write", &path)?)
    }

    fn finish_file(&self, entry: &FileEntry) -> Result<(), ArchiveError> {
        if self.is_login(entry) {
            return Ok(());
        }
        let staged = self.stage.staged_path(entry.path.as_path());
        events::trace!("unpacked {}", staged.display());
        // Old login files are the user's, and keep their modes.
        let is_private = kind_of(entry.path.as_path()) == HomeEntryKind::AccountSessions;
        let mode = entry.mode & if is_private { 0o600 } else { 0o777 };
        Ok(set_attributes(&staged, mode, entry.mtime)?)
    }
}

/// Writes `bytes` at `offset`; a large part past the page cache.
fn write_part(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    match bytes.len() {
        LARGE_PART_BYTES.. => position::write_past_cache(file, bytes, offset),
        _ => position::write_all_at(file, bytes, offset),
    }
}

/// Opens or creates a staged file (0600) without truncating it: several threads write parts of it.
fn open_private(path: &Path) -> Result<File, IoError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).truncate(false);
    sharing::open_or_create(&mut options, path).at("create", path)
}
