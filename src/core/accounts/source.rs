//! Reads a login from a file: an auth.json, a legacy `*_auth.json`, or an archive.

use crate::archive::{ArchiveError, ArchiveReader, file_extract};
use crate::codex::{AuthFile, AuthSnapshot, HomeEntryKind};
use crate::io::{IoContext, IoError};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The reason why a file yields no login.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file does not exist, or the archive contains no auth.json.
    #[error("no auth.json found: {}", .0.display())]
    Missing(PathBuf),
    #[error("not a valid auth.json ({reason}): {}", path.display())]
    Unreadable {
        path: PathBuf,
        /// The defect, without any content of the file.
        reason: String,
    },
}

/// Reads the auth.json at `path`. If the name of `path` ends in `.tar.gz`, reads the auth.json in that archive. A valid
/// auth.json may have no login.
///
/// # Errors
/// The file has no valid auth.json, or an I/O error.
pub fn read_auth_or_archive(path: &Path) -> Result<AuthSnapshot, SourceError> {
    let is_archive = path.to_string_lossy().ends_with(".tar.gz");
    let auth = if is_archive {
        read_archived_auth(path)?
    } else {
        AuthFile::read(path)?
    };
    match auth {
        AuthFile::Present(snapshot) => Ok(snapshot),
        AuthFile::Missing => Err(SourceError::Missing(path.to_path_buf())),
        AuthFile::Unreadable { reason, .. } => Err(SourceError::Unreadable {
            path: path.to_path_buf(),
            reason,
        }),
    }
}

fn read_archived_auth(path: &Path) -> Result<AuthFile, SourceError> {
    let archive = ArchiveReader::open(path)?;
    let mut file = file_extract::extract_to_temp_file(&archive, HomeEntryKind::Auth)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).at("read", path)?;
    // The archive has no auth.json.
    if bytes.is_empty() {
        return Ok(AuthFile::Missing);
    }
    Ok(AuthFile::parse(bytes))
}
