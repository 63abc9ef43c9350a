//! What lies under `backups/`: archives and sidecars, ours and the Python tool's.
//!
//! The folder is the truth; `inventory.json` only saves reading what has not changed.

use super::records::{ArchiveRecord, FileStamp};
use crate::archive::metadata::Metadata;
use crate::archive::names;
use crate::archive::python;
use crate::archive::reader::Archive;
use crate::io::document::{self, Found};
use crate::io::{IoContext, IoError, parallel, regular};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::Path;

/// The problem of an archive whose sidecar is gone. It describes itself.
pub const NO_SIDECAR: &str = "no sidecar (codex-manager verify --repair makes it)";

/// The problem of an archive that `verify` read through.
const FOUND_DAMAGED: &str = "damaged: codex-manager verify found it so";

/// The largest sidecar that is looked at: ours are below 16 kB.
const MAX_SIDECAR_BYTES: u64 = 1024 * 1024;

/// Lists every archive and record under `backups`, ordered by path. What `known` gives with the same
/// stamps is not read again; it is asked while the folder is looked at.
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
        let mut record = match before {
            Some(r) if r.archive == pair.archive && r.sidecar == pair.sidecar => r,
            before => {
                // A sidecar that was written again says nothing new of the archive.
                let verified = before
                    .filter(|r| r.archive == pair.archive)
                    .and_then(|r| r.verified);
                ArchiveRecord {
                    verified,
                    ..read(backups, relative, pair)
                }
            }
        };
        judge(&mut record);
        records.push(record);
    }
    Ok(records)
}

/// What the last `verify` found is a problem like any other, until the next one finds otherwise.
fn judge(record: &mut ArchiveRecord) {
    let is_bad = record.verified.as_ref().map(|verified| !verified.ok);
    match (record.problem.as_deref(), is_bad) {
        (None | Some(NO_SIDECAR), Some(true)) => record.problem = Some(FOUND_DAMAGED.into()),
        (Some(FOUND_DAMAGED), None | Some(false)) => {
            record.problem = record.sidecar.is_none().then(|| NO_SIDECAR.into());
        }
        _ => {}
    }
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
    let Pair { archive, sidecar } = pair;
    let archive_path = backups.join(&path);
    let sidecar_path = names::sidecar_path(&archive_path).unwrap_or_default();
    let mut problem = None;
    let mut metadata = sidecar
        .as_ref()
        .and_then(|_| match read_sidecar(&sidecar_path) {
            Ok(metadata) => Some(metadata),
            Err(detail) => {
                problem = Some(format!("the sidecar is damaged: {detail}"));
                None
            }
        });
    match (&archive, &metadata) {
        (Some(_), None) => match Archive::open(&archive_path) {
            Ok(opened) => {
                problem.get_or_insert_with(|| NO_SIDECAR.into());
                metadata = Some(opened.metadata().clone());
            }
            Err(e) => problem = Some(e.to_string()),
        },
        (Some(stamp), Some(told))
            if told.archive_bytes != 0 && told.archive_bytes != stamp.bytes =>
        {
            problem = Some(format!(
                "damaged: {} bytes, the sidecar says {}",
                stamp.bytes, told.archive_bytes
            ));
        }
        (Some(stamp), _) if stamp.bytes == 0 => problem = Some("damaged: empty".into()),
        // A record alone (a normalized legacy file) has no archive and is no problem.
        (None, Some(told)) if !told.archive_sha256.is_empty() => {
            problem = Some("the archive is missing".into());
        }
        _ => {}
    }
    ArchiveRecord {
        path,
        archive,
        sidecar,
        metadata: metadata.unwrap_or_default(),
        problem,
        verified: None,
    }
}

/// Reads a sidecar of ours or of the Python tool.
///
/// # Errors
/// What is wrong with it.
pub fn read_sidecar(path: &Path) -> Result<Metadata, String> {
    let mut bytes = Vec::new();
    regular::open(path)
        .and_then(|file| file.take(MAX_SIDECAR_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_SIDECAR_BYTES {
        return Err("too large".into());
    }
    if let Some(metadata) = python::parse_sidecar(&bytes) {
        return Ok(metadata);
    }
    match document::parse(path, &bytes) {
        Ok(Found::Good(metadata)) => Ok(metadata),
        Ok(Found::Damaged(detail)) => Err(detail),
        Ok(Found::Absent) => Err("empty".into()),
        Err(e) => Err(e.to_string()),
    }
}
