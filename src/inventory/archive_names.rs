//! The names of archives in lists and on the command line.

use crate::archive::{Metadata, names};
use crate::inventory::ArchiveRecord;
use std::cmp::Reverse;
use std::path::Path;

/// Returns the name of the file of an archive.
pub(crate) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Returns the kind of an archive for lists: its mode, "safety" for one that `restore` made, or with
/// "partial" one that holds a single login.
pub(crate) fn kind(metadata: &Metadata) -> String {
    match metadata.mode.name() {
        _ if metadata.is_safety() => "safety".into(),
        mode if metadata.is_single_login() => partial(mode),
        mode => mode.into(),
    }
}

/// Labels the kind of an archive that holds a single login.
pub(crate) fn partial(kind: &str) -> String {
    format!("{kind} (partial)")
}

/// Returns the archives in the order of their numbers in `list-backups`: newest first, from 1.
pub(crate) fn numbered(records: &[ArchiveRecord]) -> Vec<&ArchiveRecord> {
    let mut archives: Vec<_> = records.iter().filter(|r| r.archive.is_some()).collect();
    archives.sort_by_key(|r| Reverse((r.metadata.created_at, &r.path)));
    archives
}

/// Returns the shortest name of an archive that commands accept.
pub(crate) fn typed_name(record: &ArchiveRecord) -> String {
    without_suffix(&record.path).to_owned()
}

/// Returns the name of an archive as commands accept it: without the suffix that all archives have.
pub(crate) fn without_suffix(name: &str) -> &str {
    name.strip_suffix(names::ARCHIVE_SUFFIX).unwrap_or(name)
}
