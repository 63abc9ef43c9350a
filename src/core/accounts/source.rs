//! Reads a login from a file: an auth.json, a legacy `*_auth.json`, or an archive.

use crate::archive::{ArchiveError, ArchiveReader, file_extract};
use crate::codex::{AuthFile, HomeEntryKind};
use crate::io::IoContext;
use std::io::Read;
use std::path::Path;

/// Reads the auth.json at `path`. If the name of `path` ends in `.tar.gz`, reads the auth.json in that archive.
///
/// # Errors
/// The path cannot be read, or is no archive.
pub fn read_auth_or_archive(path: &Path) -> Result<AuthFile, ArchiveError> {
    if !path.to_string_lossy().ends_with(".tar.gz") {
        return Ok(AuthFile::read(path)?);
    }

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
