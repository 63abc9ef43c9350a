//! Reads the login of a home for a backup under Codex's own locks. Reads it only once, so that the identity in the
//! manifest is that of the captured bytes.

use super::error::ArchiveError;
use super::format::{AccountAuth, FileEntry};
use super::path_note::PathNote;
use super::scan;
use crate::codex::auth::{AuthFile, Login};
use crate::codex::home;
use crate::codex::login_lock::{self, LoginLock};
use crate::io::hash::ContentDigest;
use crate::io::secret::SecretBytes;
use std::path::Path;

/// The content of the `auth.json` of a home.
pub(super) struct LoginFile {
    pub(super) bytes: SecretBytes,
    /// Size, mode and time of the file when it was read.
    pub(super) entry: FileEntry,
    pub(super) account_auth: AccountAuth,
    /// `None` if the file holds no login.
    pub(super) login: Option<Login>,
}

/// Reads the login that the scan listed as `planned`. Returns `None` if the scan found no login, if Codex has removed
/// the file since, or if the file cannot be read; adds an unreadable file to `skipped`.
///
/// # Errors
/// Codex holds its lock for too long, or the lock cannot be taken.
pub(super) fn read_login(
    home: &Path,
    planned: Option<&FileEntry>,
    skipped: &mut Vec<PathNote>,
) -> Result<Option<LoginFile>, ArchiveError> {
    let Some(planned) = planned else {
        return Ok(None);
    };

    let path = home.join(home::AUTH_JSON);
    let lock = acquire_login_lock(home)?;
    let read_result = AuthFile::read(&path);
    let meta = path.metadata();
    // Held for these two reads alone: Codex waits for this lock to renew the login.
    drop(lock);

    let snapshot = match read_result.unwrap_or_else(|e| AuthFile::from_read_error(&e)) {
        AuthFile::Missing => return Ok(None),
        AuthFile::Unreadable { reason, .. } => {
            skipped.push(PathNote::new(home::AUTH_JSON, reason));
            return Ok(None);
        }
        AuthFile::Present(snapshot) => snapshot,
    };

    // Codex may have renewed the login since the scan listed it.
    let current_entry = meta.map_or_else(
        |_| planned.clone(),
        |meta| scan::entry_from_metadata(planned.path.clone(), &meta),
    );

    Ok(Some(LoginFile {
        entry: FileEntry {
            // Of the bytes, because the file may have been replaced before its metadata was read.
            size: snapshot.bytes.expose().len() as u64,
            ..current_entry
        },
        account_auth: AccountAuth {
            path: planned.path.clone(),
            digest: ContentDigest::of(snapshot.bytes.expose()),
            identity: snapshot.login.as_ref().map(|login| login.identity.clone()),
        },
        login: snapshot.login,
        bytes: snapshot.bytes,
    }))
}

/// Takes Codex's login lock. Returns `None` in a read-only home, where Codex cannot renew a login
/// either.
fn acquire_login_lock(home: &Path) -> Result<Option<LoginLock>, ArchiveError> {
    match LoginLock::acquire(home, login_lock::REFRESH_TIMEOUT) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(login_lock::timeout_error(home).into()),
        Err(e) if e.is_access_denied() => Ok(None),
        Err(e) => Err(e.into()),
    }
}
