//! Checks that Codex can store a login that it renews.
//!
//! Codex 0.169 writes the renewed login beside auth.json, and renames it. By then the server has spent the old refresh
//! token, so the login is lost if Codex cannot write or rename. Codex 0.171 also loses it if it may not write auth.json
//! itself, although it replaces that file, or one of its two lock files.

use super::auth::AuthFile;
use super::config::CredentialStore;
use super::home::AUTH_JSON;
use super::login_lock::AUTH_LOCK;
use crate::io::replacement::{Irreplaceable, check_replaceable, is_writable_file};
use crate::io::{OrdinaryPath, atomic, file_id, space};
use std::path::{Path, PathBuf};

/// The free disk space that Codex needs for the login and for what else it writes when it starts.
const MIN_FREE_BYTES: u64 = 32 << 20;

/// The free inodes that Codex needs for the same. Codex 0.171 creates more than 22 files and folders in a new home.
const MIN_FREE_INODES: u64 = 64;

/// The reason why Codex might be unable to store a renewed login in this folder, or in place of this file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginStorageError {
    #[error("not enough free disk space, so Codex cannot store a renewed login: {}", .0.display())]
    DiskFull(PathBuf),
    #[error("not enough free inodes, so Codex cannot store a renewed login: {}", .0.display())]
    OutOfInodes(PathBuf),
    #[error("the folder is not writable, so Codex cannot store a renewed login: {}", .0.display())]
    NotWritable(PathBuf),
    /// Codex 0.171 refuses to replace such a file, after it has spent the refresh token.
    #[error("auth.json has a second hard link, so Codex cannot store a renewed login: {}", .0.display())]
    HardLinked(PathBuf),
    /// auth.json, or a lock file.
    #[error("Codex may not write this file, so it cannot store a renewed login: {}", .0.display())]
    FileNotWritable(PathBuf),
    #[error("auth.json {reason}, so Codex cannot store a renewed login: {}", path.display())]
    Irreplaceable {
        path: PathBuf,
        reason: Irreplaceable,
    },
}

/// Checks that Codex can store the login of `home` if it renews it. A login that Codex does not renew, and one that
/// Codex does not read, need no check.
///
/// # Errors
/// Codex would spend the refresh token and lose the renewed login.
pub fn check_login_of(home: &Path) -> Result<(), LoginStorageError> {
    let path = home.join(AUTH_JSON);
    let may_be_renewed = || match AuthFile::read(&path) {
        Ok(AuthFile::Missing) | Err(_) => false,
        // An unknown kind of login counts as renewable, because it may be of a newer Codex.
        Ok(auth) => auth.login().is_none_or(|l| l.identity.kind.is_renewable()),
    };
    if !CredentialStore::read(home).may_read_auth_json() || !may_be_renewed() {
        return Ok(());
    }

    // If auth.json is a link, Codex replaces its target.
    let path = path.canonical_or_self();
    if file_id::has_second_link(&path) {
        return Err(LoginStorageError::HardLinked(path));
    }
    check_login_replaceable(&path)?;
    check_login_storage(home)?;
    check_login_storage(atomic::parent_of(&path))?;
    for file in [
        path.clone(),
        home.join(AUTH_LOCK),
        atomic::with_suffix(&path, ".lock"),
    ] {
        if !is_writable_file(&file) {
            return Err(LoginStorageError::FileNotWritable(file));
        }
    }
    Ok(())
}

/// Checks that a rename can replace the auth.json at `path`, or a link there.
///
/// # Errors
/// See [`Irreplaceable`].
pub fn check_login_replaceable(path: &Path) -> Result<(), LoginStorageError> {
    check_replaceable(path).map_err(|reason| LoginStorageError::Irreplaceable {
        path: path.to_path_buf(),
        reason,
    })
}

/// Checks that Codex can store a renewed login in `folder`, or can create `folder`.
///
/// # Errors
/// The disk has too little free space or too few free inodes, or the folder is not writable.
pub fn check_login_storage(folder: &Path) -> Result<(), LoginStorageError> {
    let existing = folder.ancestors().find(|folder| folder.exists());
    let folder = existing.unwrap_or(folder);
    let (bytes, inodes) = (space::free_bytes(folder), space::free_inodes(folder));
    check_free_space(folder, bytes, inodes)?;
    if !space::is_writable(folder) {
        return Err(LoginStorageError::NotWritable(folder.to_path_buf()));
    }
    Ok(())
}

/// Checks what the disk of `folder` reports as free; `None` for what it does not report.
fn check_free_space(
    folder: &Path,
    free_bytes: Option<u64>,
    free_inodes: Option<u64>,
) -> Result<(), LoginStorageError> {
    if free_bytes.is_some_and(|free| free < MIN_FREE_BYTES) {
        return Err(LoginStorageError::DiskFull(folder.to_path_buf()));
    }
    if free_inodes.is_some_and(|free| free < MIN_FREE_INODES) {
        return Err(LoginStorageError::OutOfInodes(folder.to_path_buf()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_needs_free_space_and_inodes_if_the_disk_reports_their_number() {
        let folder = Path::new("/home");
        let check = |bytes, inodes| check_free_space(folder, bytes, inodes);
        let enough = Some(u64::MAX);
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some(MIN_FREE_BYTES), Some(MIN_FREE_INODES)), Ok(()));
        let no_inodes = LoginStorageError::OutOfInodes(folder.into());
        assert_eq!(check(enough, Some(MIN_FREE_INODES - 1)), Err(no_inodes));
        let full = LoginStorageError::DiskFull(folder.into());
        assert_eq!(check(Some(0), enough), Err(full));
    }
}
