//! Lists the archives and sidecars below `backups/`, including those of the Python codex-manager.
//!
//! The folder is the source of truth; `inventory.json` is a cache of files that have not changed.

use super::records::{ArchiveProblem, ArchiveRecord, FileStamp, VerifyRecord};
use crate::archive::{
    ArchiveError, ArchiveReader, Metadata, SidecarProblem, names, python, sidecar,
};
use crate::io::{IoContext, IoError, parallel};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Lists all archives and sidecars below `backups`, ordered by path. Reuses a record of `read_known` if size and mtime
/// of its files are the same. Reads the files again if the last read failed for a reason that may have passed.
/// `read_known` runs while the folder is listed.
///
/// # Errors
/// The folder cannot be listed. A missing folder counts as empty.
pub(crate) fn list_all(
    backups: &Path,
    read_known: impl FnOnce() -> Vec<ArchiveRecord>,
) -> Result<Vec<ArchiveRecord>, IoError> {
    // Without the folder, starting a thread would take longer than the rest of the listing.
    if matches!(backups.metadata(), Err(e) if e.kind() == ErrorKind::NotFound) {
        return Ok(Vec::new());
    }

    // `read_known` runs on this thread: the heap of another thread would have to grow page by page for it.
    let (pairs, mut known_records) = parallel::run_both(|| list_archive_pairs(backups), read_known);
    let pairs = pairs?;

    // Sorted like `pairs`, so one pass finds the record of each pair. `inventory.json` is written in this order, so
    // sorting moves little.
    known_records.sort_by(|a, b| a.path.cmp(&b.path));
    let mut known_records = known_records.into_iter();

    let mut records = Vec::with_capacity(pairs.len());
    for (relative, pair) in pairs {
        let known_record = skip_to_record(&mut known_records, &relative);
        // Neither the archive nor the sidecar is a regular file.
        if pair == FilePair::default() {
            continue;
        }

        records.push(match known_record {
            Some(record) if is_current(&record, &pair) => record,
            outdated => {
                let mut record = read_pair(backups, relative, pair);
                record.verified = outdated.and_then(|known| reuse_verify_result(known, &record));
                record
            }
        });
    }

    Ok(records)
}

/// Returns the record of `path`. Skips the records before it, whose files are gone. `records` are sorted by path.
fn skip_to_record(
    records: &mut std::vec::IntoIter<ArchiveRecord>,
    path: &str,
) -> Option<ArchiveRecord> {
    let mut last_up_to_path = None;
    while let Some(next) = records.as_slice().first()
        && next.path.as_str() <= path
    {
        last_up_to_path = records.next();
    }
    last_up_to_path.filter(|record| record.path == path)
}

/// Returns true if `record` is of these files, and has no problem that may have passed.
fn is_current(record: &ArchiveRecord, pair: &FilePair) -> bool {
    let problem = record.listed_problem.as_ref();
    let may_have_passed = problem.is_some_and(ArchiveProblem::is_transient);
    record.archive == pair.archive && record.sidecar == pair.sidecar && !may_have_passed
}

/// Returns the earlier result of `verify`; `None` if the archive changed since. The result stays valid if the sidecar
/// was rewritten, unless the new sidecar describes another archive.
fn reuse_verify_result(known: ArchiveRecord, read_record: &ArchiveRecord) -> Option<VerifyRecord> {
    if known.archive != read_record.archive {
        return None;
    }
    match [&known.metadata, &read_record.metadata].map(Metadata::archive_digest) {
        [Some(a), Some(b)] if a.contradicts(&b) => None,
        _ => known.verified,
    }
}

/// The stamps of an archive and its sidecar; either file may be missing.
#[derive(Debug, Default, PartialEq)]
struct FilePair {
    archive: Option<FileStamp>,
    sidecar: Option<FileStamp>,
}

/// Lists each archive with its sidecar, ordered by the path of the archive below `backups`. Either file may be missing.
fn list_archive_pairs(backups: &Path) -> Result<BTreeMap<String, FilePair>, IoError> {
    let mut pairs: BTreeMap<String, FilePair> = BTreeMap::new();
    let entries = match fs::read_dir(backups) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(pairs),
        Err(e) => return Err(e).at("list", backups),
    };

    for entry in entries {
        let entry = entry.at("list", backups)?;
        // The names of all archives and sidecars are UTF-8.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };

        if names::is_archive_name(&name) {
            pairs.entry(name).or_default().archive = read_entry_stamp(&entry);
        } else if names::is_sidecar_name(&name) {
            let stem = name.strip_suffix(".metadata.json").unwrap_or(&name);
            let pair = pairs.entry(format!("{stem}.tar.gz")).or_default();
            pair.sidecar = read_entry_stamp(&entry);
        }
    }

    // The archives of the Python codex-manager that are in subfolders, which the loop above does not enter.
    for (archive, sidecar) in python::list_nested_archives(backups) {
        let pair = FilePair {
            archive: read_file_stamp(&archive),
            sidecar: read_file_stamp(&sidecar),
        };
        pairs.insert(relative_name(backups, &archive), pair);
    }

    Ok(pairs)
}

/// Like [`read_file_stamp`], but faster: resolves the path of a directory entry only if it is a link.
fn read_entry_stamp(entry: &fs::DirEntry) -> Option<FileStamp> {
    match entry.metadata() {
        Ok(meta) if !meta.is_symlink() => meta.is_file().then(|| FileStamp::of(&meta)),
        _ => read_file_stamp(&entry.path()),
    }
}

/// Returns `path` relative to `backups`, with `/` on every system.
pub fn relative_name(backups: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(backups).unwrap_or(path);
    let components: Vec<_> = relative.iter().map(|name| name.to_string_lossy()).collect();
    components.join("/")
}

/// Returns size and mtime of a regular file; `None` for anything else.
pub fn read_file_stamp(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(FileStamp::of(&meta))
}

/// Reads the metadata of an archive: from its sidecar if that is good, else from the archive itself.
fn read_pair(backups: &Path, path: String, pair: FilePair) -> ArchiveRecord {
    let archive_path = backups.join(&path);
    let read_sidecar = match names::sidecar_path(&archive_path) {
        Some(sidecar_path) if pair.sidecar.is_some() => sidecar::read(&sidecar_path),
        _ => Err(SidecarProblem::Missing),
    };

    let (metadata, listed_problem) = match &pair.archive {
        None => evaluate_lone_sidecar(read_sidecar),
        Some(stamp) => evaluate_archive(&archive_path, stamp, read_sidecar),
    };

    ArchiveRecord {
        path,
        archive: pair.archive,
        sidecar: pair.sidecar,
        metadata,
        listed_problem,
        verified: None,
    }
}

/// Evaluates a sidecar without an archive. A legacy file that `normalize` recorded never had an archive, so this is no
/// problem.
fn evaluate_lone_sidecar(
    sidecar: Result<Metadata, SidecarProblem>,
) -> (Metadata, Option<ArchiveProblem>) {
    match sidecar {
        Ok(metadata) => {
            let had_archive = metadata.archive_digest().is_some();
            (metadata, had_archive.then_some(ArchiveProblem::NoArchive))
        }
        // A sidecar is repaired from its archive, so the missing archive is the problem.
        Err(SidecarProblem::Damaged(_)) => (Metadata::default(), Some(ArchiveProblem::NoArchive)),
        Err(problem) => (Metadata::default(), Some(ArchiveProblem::Sidecar(problem))),
    }
}

/// Returns the metadata in the sidecar of an archive, else in the archive itself, and the problem of either.
fn evaluate_archive(
    path: &Path,
    stamp: &FileStamp,
    sidecar: Result<Metadata, SidecarProblem>,
) -> (Metadata, Option<ArchiveProblem>) {
    let (sidecar_metadata, problem) = match sidecar {
        // The size is 0 if the sidecar does not record it.
        Ok(metadata) if metadata.archive_bytes != 0 && metadata.archive_bytes != stamp.bytes => {
            (Some(metadata), SidecarProblem::Mismatch)
        }
        Ok(metadata) => {
            let is_empty = stamp.bytes == 0;
            let damage = is_empty.then(|| ArchiveProblem::Damaged("empty".into()));
            return (metadata, damage);
        }
        Err(problem) => (None, problem),
    };

    // Without a usable sidecar, the archive itself is read.
    match ArchiveReader::open(path) {
        Ok(opened) => (
            opened.metadata().clone(),
            Some(ArchiveProblem::Sidecar(problem)),
        ),
        Err(e) => (
            sidecar_metadata.unwrap_or_default(),
            Some(classify_open_error(&e)),
        ),
    }
}

/// Returns the paths of all archives below `backups`, sorted, relative to `backups` and with `/`. Opens no file.
///
/// # Errors
/// The folder cannot be listed. A missing folder counts as empty.
pub(crate) fn list_archive_paths(backups: &Path) -> Result<Vec<String>, IoError> {
    let pairs = list_archive_pairs(backups)?.into_iter();
    let archives = pairs.filter(|(_, pair)| pair.archive.is_some());
    Ok(archives.map(|(path, _)| path).collect())
}

/// Classifies the error of opening an archive as damage or as a failed read.
pub fn classify_open_error(error: &ArchiveError) -> ArchiveProblem {
    match error {
        ArchiveError::Damaged { detail, .. } => ArchiveProblem::Damaged(detail.clone()),
        ArchiveError::Foreign(_) => {
            ArchiveProblem::Damaged("not an archive of codex-manager".into())
        }
        ArchiveError::Unsafe { .. } => ArchiveProblem::Damaged(error.to_string()),
        ArchiveError::Io(e) => ArchiveProblem::Unreadable(e.source.to_string()),
        _ => ArchiveProblem::Unreadable(error.to_string()),
    }
}
