//! The names of archives in lists and on the command line.

pub use crate::archive::names::strip_archive_suffix;
use crate::archive::{Metadata, names};
use crate::inventory::records::ArchiveRecord;
use crate::io::{Environment, atomic};
use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// Returns the last component of a path as text; empty for a path without one.
pub fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Returns the kind of an archive for lists: its mode, or "safety" for an archive that `restore` made. Adds "(partial)"
/// to a single login and to a backup of only the files that a restore changed, and "(--exclude)" to a backup that left
/// files out.
pub fn format_kind(metadata: &Metadata) -> String {
    match metadata.mode.name() {
        _ if metadata.is_safety() && metadata.holds_changes_only => format_partial_kind("safety"),
        _ if metadata.is_safety() => "safety".into(),
        mode if metadata.is_single_login() => format_partial_kind(mode),
        mode if metadata.excludes => format!("{mode} (--exclude)"),
        mode => mode.into(),
    }
}

/// Returns the label of an archive with less content than its kind usually has.
pub fn format_partial_kind(kind: &str) -> String {
    format!("{kind} (partial)")
}

/// Returns the archives in the order of their numbers in `list-backups`: newest first, from 1. Records without an
/// archive have no number.
pub fn list_numbered(records: &[ArchiveRecord]) -> Vec<&ArchiveRecord> {
    let mut archives: Vec<_> = records.iter().filter(|r| r.archive.is_some()).collect();
    archives.sort_by_key(|r| Reverse((r.metadata.created_at, &r.path)));
    archives
}

/// Returns the shortest name of an archive that commands accept.
pub fn shortest_name(record: &ArchiveRecord) -> String {
    strip_archive_suffix(&record.path).to_owned()
}

/// The argument that denotes the newest archive of a home; see [`parse_latest_offset`].
pub const LATEST: &str = "latest";

/// Parses `latest` into 0 and `latest~N` into N, the number of newer archives. `None` for any other text.
pub fn parse_latest_offset(text: &str) -> Option<usize> {
    let suffix = text.strip_prefix(LATEST)?;
    if suffix.is_empty() {
        return Some(0);
    }
    suffix.strip_prefix('~')?.parse().ok()
}

/// Returns the archive with the number `text` in `list-backups`.
pub fn find_by_number<'r>(records: &'r [ArchiveRecord], text: &str) -> Option<&'r ArchiveRecord> {
    let index = text.parse::<usize>().ok()?.checked_sub(1)?;
    list_numbered(records).get(index).copied()
}

/// Returns the archive that a sidecar belongs to, if `name` is that of a sidecar. Returns any other name unchanged.
pub fn of_sidecar(name: &Path) -> PathBuf {
    let file_name = file_name(name);
    match file_name.strip_suffix(".metadata.json") {
        Some(stem) if names::is_sidecar_name(&file_name) => {
            name.with_file_name(format!("{stem}.tar.gz"))
        }
        _ => name.to_path_buf(),
    }
}

/// Finds the file of an archive: a path, or a name in `backups/`, with or without `.tar.gz`. A single component is
/// looked up in `backups/` first, then in the current folder; any other path the other way round.
pub fn find_archive_file(backups: &Path, env: &Environment, name: &Path) -> Option<PathBuf> {
    let in_backups = backups.join(name);
    let given_path = env.absolute(name);
    let is_name = name.components().count() == 1;
    let order = if is_name {
        [in_backups, given_path]
    } else {
        [given_path, in_backups]
    };

    let with_suffix = |path: &PathBuf| atomic::with_suffix(path, names::ARCHIVE_SUFFIX);
    let mut candidates = order.iter().cloned().chain(order.iter().map(with_suffix));
    let file = candidates.clone().find(|p| p.is_file());

    let denotes_file = name.to_string_lossy().ends_with(".tar.gz") || !is_name;
    if file.is_some() || !denotes_file {
        return file;
    }
    // A folder or pipe with an archive's name is returned as well, so that opening it gives the precise error.
    candidates.find(|p| p.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_denotes_its_archive() {
        let of = |name: &str| of_sidecar(Path::new(name));
        let sidecar = "x/2026-11-20-100000-a@x.com-codex.metadata.json";
        let archive = Path::new("x/2026-11-20-100000-a@x.com-codex.tar.gz");
        assert_eq!(of(sidecar), archive);
        for other in ["latest", "x/", "notes.metadata.json"] {
            assert_eq!(of(other), Path::new(other));
        }
    }

    #[test]
    fn latest_and_latest_tilde_number_are_offsets() {
        assert_eq!(parse_latest_offset("latest"), Some(0));
        assert_eq!(parse_latest_offset("latest~2"), Some(2));
        for other in ["lates", "latest~", "latest~x", "latest2", "Latest"] {
            assert_eq!(parse_latest_offset(other), None, "{other}");
        }
    }
}
