//! What lies under `backups/`: archives and sidecars, ours and the Python tool's.
//!
//! The folder is the truth; `inventory.json` only saves reading what has not changed.

use super::records::{ArchiveProblem, ArchiveRecord, FileStamp, VerifyRecord};
use crate::archive::ArchiveError;
use crate::archive::metadata::Metadata;
use crate::archive::names;
use crate::archive::python;
use crate::archive::reader::Archive;
use crate::archive::sidecar::{self, SidecarProblem};
use crate::io::{IoContext, IoError, parallel};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// Lists every archive and record under `backups`, ordered by path. What `known` gives with the same
/// stamps is not read again, unless it could not be read; it is asked while the folder is looked at.
///
/// # Errors
/// The folder cannot be listed. One that does not exist is empty.
pub fn list(
    backups: &Path,
    known: impl FnOnce() -> Vec<ArchiveRecord>,
) -> Result<Vec<ArchiveRecord>, IoError> {
    // `known` on this thread: another one's heap would have to grow for it page by page.
    let (pairs, known) = parallel::both(|| pairs(backups), known);
    let mut known: HashMap<String, ArchiveRecord> = known
        .into_iter()
        .map(|record| (record.path.clone(), record))
        .collect();
    let mut records = Vec::new();
    for (relative, pair) in pairs? {
        if pair == Pair::default() {
            continue;
        }
        let before = known.remove(&relative);
        let is_known =
            |r: &ArchiveRecord| !r.seen.as_ref().is_some_and(ArchiveProblem::is_transient);
        records.push(match before {
            Some(r) if r.archive == pair.archive && r.sidecar == pair.sidecar && is_known(&r) => r,
            before => {
                let before = before.filter(|r| r.archive == pair.archive);
                let now = read(backups, relative, pair);
                ArchiveRecord {
                    verified: before.and_then(|before| still_verified(before, &now)),
                    ..now
                }
            }
        });
    }
    Ok(records)
}

/// What `verify` found of an archive whose file is the same. A sidecar that was written again says nothing
/// new of it, unless it describes another. Where it could not be read, or what was wrong is noted in words
/// as it was once, "damaged" may have meant no more than that, or a lost sidecar.
fn still_verified(before: ArchiveRecord, now: &ArchiveRecord) -> Option<VerifyRecord> {
    let digests = [&before.metadata, &now.metadata].map(|m| &m.archive_sha256);
    let is_other = digests[0] != digests[1] && digests.iter().all(|digest| !digest.is_empty());
    let is_doubtful = matches!(before.seen, Some(ArchiveProblem::Unreadable(_)));
    before
        .verified
        .filter(|verified| !is_other && (verified.ok || !is_doubtful))
}

/// An archive and its sidecar; either may be missing.
#[derive(Debug, Default, PartialEq)]
struct Pair {
    archive: Option<FileStamp>,
    sidecar: Option<FileStamp>,
}

/// By the archive's path below `backups`. The order is that of the text: `inventory.json` is
/// searched by it.
fn pairs(backups: &Path) -> Result<BTreeMap<String, Pair>, IoError> {
    let mut pairs: BTreeMap<String, Pair> = BTreeMap::new();
    let entries = match fs::read_dir(backups) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(pairs),
        Err(e) => return Err(e).at("list", backups),
    };
    for entry in entries {
        let entry = entry.at("list", backups)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if names::is_archive_name(&name) {
            pairs.entry(name).or_default().archive = stamp_in(&entry);
        } else if names::is_sidecar_name(&name) {
            let base = name.strip_suffix(".metadata.json").unwrap_or(&name);
            let pair = pairs.entry(format!("{base}.tar.gz")).or_default();
            pair.sidecar = stamp_in(&entry);
        }
    }
    for (archive, sidecar) in python::nested_archives(backups) {
        let pair = Pair {
            archive: stamp(&archive),
            sidecar: stamp(&sidecar),
        };
        pairs.insert(relative_name(backups, &archive), pair);
    }
    Ok(pairs)
}

/// As [`stamp`], without walking the whole path again.
fn stamp_in(entry: &fs::DirEntry) -> Option<FileStamp> {
    match entry.metadata() {
        Ok(meta) if !meta.is_symlink() => meta.is_file().then(|| FileStamp::of(&meta)),
        _ => stamp(&entry.path()),
    }
}

/// The path of `path` below `backups`, with `/` on every system.
pub fn relative_name(backups: &Path, path: &Path) -> String {
    let relative = path.strip_prefix(backups).unwrap_or(path);
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Size and time of a regular file.
pub fn stamp(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(FileStamp::of(&meta))
}

/// Reads one pair: the sidecar where it is good, else the archive itself.
fn read(backups: &Path, path: String, pair: Pair) -> ArchiveRecord {
    let archive_path = backups.join(&path);
    let told = names::sidecar_path(&archive_path)
        .filter(|_| pair.sidecar.is_some())
        .map_or(Err(SidecarProblem::Missing), |path| sidecar::read(&path));
    let (metadata, seen) = match &pair.archive {
        None => record_alone(told),
        Some(stamp) => archive(&archive_path, stamp, told),
    };
    ArchiveRecord {
        path,
        archive: pair.archive,
        sidecar: pair.sidecar,
        metadata,
        seen,
        verified: None,
    }
}

/// A sidecar without an archive: no problem where there never was one (a normalized legacy file).
fn record_alone(told: Result<Metadata, SidecarProblem>) -> (Metadata, Option<ArchiveProblem>) {
    match told {
        Ok(told) => {
            let had_one = !told.archive_sha256.is_empty();
            (told, had_one.then_some(ArchiveProblem::NoArchive))
        }
        Err(problem) => (Metadata::default(), Some(ArchiveProblem::Sidecar(problem))),
    }
}

fn archive(
    path: &Path,
    stamp: &FileStamp,
    told: Result<Metadata, SidecarProblem>,
) -> (Metadata, Option<ArchiveProblem>) {
    let (told, problem) = match told {
        Ok(told) if told.archive_bytes != 0 && told.archive_bytes != stamp.bytes => {
            (Some(told), SidecarProblem::OfAnother)
        }
        Ok(told) => {
            let is_empty = stamp.bytes == 0;
            return (
                told,
                is_empty.then(|| ArchiveProblem::Damaged("empty".into())),
            );
        }
        Err(problem) => (None, problem),
    };
    match (Archive::open(path), told) {
        (Ok(opened), _) => (
            opened.metadata().clone(),
            Some(ArchiveProblem::Sidecar(problem)),
        ),
        (Err(e), told) => {
            let problem = match (problem_of(&e), &told) {
                (ArchiveProblem::Damaged(_), Some(told)) => ArchiveProblem::Damaged(format!(
                    "{} bytes, the sidecar says {}",
                    stamp.bytes, told.archive_bytes
                )),
                (problem, _) => problem,
            };
            (told.unwrap_or_default(), Some(problem))
        }
    }
}

/// The paths of the archives under `backups`, relative to it with `/`, in order. Opens none of them.
///
/// # Errors
/// The folder cannot be listed. One that does not exist is empty.
pub fn archive_paths(backups: &Path) -> Result<Vec<String>, IoError> {
    let pairs = pairs(backups)?.into_iter();
    let archives = pairs.filter(|(_, pair)| pair.archive.is_some());
    Ok(archives.map(|(path, _)| path).collect())
}

/// What it means for an archive that it could not be opened.
pub fn problem_of(error: &ArchiveError) -> ArchiveProblem {
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
