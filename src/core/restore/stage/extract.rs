//! Writes the planned files of an archive into the stage.

use super::staged_home::{ArchivedLogin, Stage};
use crate::archive::file_extract::open_for_chunks;
use crate::archive::{ArchiveError, FileEntry, Sink, set_attributes};
use crate::codex::{HomeEntryKind, kind_of};
use crate::io::{IoContext, SecretBytes, atomic, events, position};
use crate::restore::plan::restore_plan::RestorePlan;
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

/// The largest login that is read from an archive, in bytes.
pub(crate) const MAX_LOGIN_BYTES: usize = 16 * 1024 * 1024;

/// The size from which a chunk of a file bypasses the page cache, so that the disk writes it while other chunks are
/// unpacked.
const LARGE_CHUNK_BYTES: usize = 512 * 1024;

/// Writes the files that the plan takes from an archive into the stage. Keeps the login in memory.
pub(crate) struct ExtractSink<'a> {
    stage: &'a Stage,
    plan: &'a RestorePlan,
    /// The bytes and the modification time of the archived login.
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

    /// Returns the archived login; `None` if the plan does not want it or the archive has none. Has to be called after
    /// the archive was read.
    pub(crate) fn into_login(self) -> Option<ArchivedLogin> {
        let login = self.login.into_inner();
        let (bytes, mtime_ns) = login.unwrap_or_else(PoisonError::into_inner)?;
        Some(ArchivedLogin {
            bytes: SecretBytes::new(bytes),
            mtime_ns,
        })
    }

    fn is_wanted_login(&self, entry: &FileEntry) -> bool {
        kind_of(entry.path.as_path()) == HomeEntryKind::Auth && self.plan.wants_login
    }
}

impl Sink for ExtractSink<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        let path = entry.path.as_path();
        self.is_wanted_login(entry)
            || (self.plan.writes.contains(path) && !self.stage.equal_rollouts.contains(path))
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        if self.is_wanted_login(entry) {
            let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            let (login_bytes, _) = login.get_or_insert_with(|| (Vec::new(), entry.mtime));
            // A login has a few kilobytes and is a single chunk. Of a larger file, the rest is ignored: it is no login.
            let read_len = login_bytes.len();
            if offset == read_len as u64 && read_len + bytes.len() <= MAX_LOGIN_BYTES {
                login_bytes.extend_from_slice(bytes);
            }
            return Ok(());
        }

        let path = self.stage.staged_path(entry.path.as_path());
        let file = match open_for_chunks(&path) {
            // The first file in a folder creates the folder.
            Err(e) if e.is_not_found() => {
                atomic::create_unsynced_folder(atomic::parent_of(&path))?;
                open_for_chunks(&path)?
            }
            other => other?,
        };

        Ok(write_at(&file, bytes, offset).at("write", &path)?)
    }

    fn finish_file(&self, entry: &FileEntry) -> Result<(), ArchiveError> {
        if self.is_wanted_login(entry) {
            return Ok(());
        }
        let staged = self.stage.staged_path(entry.path.as_path());
        events::trace!("unpacked {}", staged.display());
        // Legacy login files are the user's own and keep their modes.
        let is_private = kind_of(entry.path.as_path()) == HomeEntryKind::AccountSessions;
        let allowed_mode = if is_private { 0o600 } else { 0o777 };
        let mode = entry.mode & allowed_mode;
        Ok(set_attributes(&staged, mode, entry.mtime)?)
    }
}

/// Writes `bytes` at `offset`. A large chunk bypasses the page cache.
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    match bytes.len() {
        LARGE_CHUNK_BYTES.. => position::write_past_cache(file, bytes, offset),
        _ => position::write_all_at(file, bytes, offset),
    }
}
