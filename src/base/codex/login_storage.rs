//! Checks that Codex can store a login that it renews.
//!
//! Codex 0.169 writes the renewed login beside auth.json, and renames it. The server has spent the old refresh token
//! before, so a Codex that cannot write there loses the login.

use crate::io::space;
use std::path::{Path, PathBuf};

/// The free disk space that Codex needs for the login and for what else it writes when it starts.
const MIN_FREE_BYTES: u64 = 32 << 20;

/// The reason why Codex might be unable to store a renewed login in this folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginStorageError {
    #[error("not enough free disk space for a login that Codex may renew: {}", .0.display())]
    DiskFull(PathBuf),
    #[error("the folder of a login that Codex may renew is not writable: {}", .0.display())]
    NotWritable(PathBuf),
}

/// Checks that Codex can store a renewed login in `folder`.
///
/// # Errors
/// The disk has too little free space, or the folder is not writable.
pub fn check_login_storage(folder: &Path) -> Result<(), LoginStorageError> {
    if space::free_bytes(folder).is_some_and(|free| free < MIN_FREE_BYTES) {
        return Err(LoginStorageError::DiskFull(folder.to_path_buf()));
    }
    if !space::is_writable(folder) {
        return Err(LoginStorageError::NotWritable(folder.to_path_buf()));
    }
    Ok(())
}
