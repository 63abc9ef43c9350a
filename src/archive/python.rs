//! Archives and sidecars of the Python codex-manager (1.x to 23.x), read in place.
//!
//! An archive is a tar.gz of the home's top-level entries with a copy of its sidecar as the last
//! entry. It has no digests; instead, gzip's CRC, names, kinds and SQLite's integrity check are
//! checked.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::manifest::{FileEntry, FolderEntry, InodeStamp, LinkEntry};
use super::metadata::{BackupMode, Metadata};
use super::path_checks::{CaseClashScope, check_names};
use super::reader::ArchiveContents;
use super::sidecar;
use super::tar_stream::{EntryContent, RawEntry, RawKind};
use crate::codex::window::{CODEX_LIMIT, WEEKLY_MINUTES, Window};
use crate::io::clock::Timestamp;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// An archive that unpacks to more than this and to more than [`MAX_RATIO`] times its size is
/// refused. Conversations compress by ten, zeros by a thousand.
const RATIO_COUNTS_FROM_BYTES: u64 = 1 << 30;
const MAX_RATIO: u64 = 300;

/// An archive with more entries than this and fewer than [`MIN_ENTRY_BYTES`] bytes per entry is
/// refused, because every name is kept in memory. Real headers, which differ in name and checksum,
/// need more.
const ENTRIES_COUNT_FROM: u64 = 20_000;
const MIN_ENTRY_BYTES: u64 = 4;

/// Description and entries of an archive of the Python tool.
#[derive(Debug)]
pub struct PythonArchive {
    /// The sidecar converted to this program's metadata.
    pub metadata: Metadata,
    /// The entries of the archive, without digests.
    pub contents: ArchiveContents,
}

/// Returns true if this entry is the copy of the sidecar inside the archive.
pub(super) fn is_description(name: &EntryName) -> bool {
    name.as_path().components().count() == 1
        && name.as_path().to_string_lossy().ends_with(".metadata.json")
}

/// Collects the entries of an archive without a manifest.
pub(super) struct PythonScan<'a> {
    archive: &'a Path,
    packed: u64,
    bytes: u64,
    entries: u64,
    contents: ArchiveContents,
    description: Option<Metadata>,
    /// The first entry with a name that is reserved for this program.
    reserved: Option<EntryName>,
}

impl<'a> PythonScan<'a> {
    /// Creates a scan of an archive with `packed` compressed bytes.
    pub(super) fn new(archive: &'a Path, packed: u64) -> Self {
        Self {
            archive,
            packed,
            bytes: 0,
            entries: 0,
            contents: ArchiveContents::default(),
            description: None,
            reserved: None,
        }
    }

    pub(super) fn entry(
        &mut self,
        entry: &RawEntry,
        content: &mut EntryContent<'_>,
    ) -> Result<(), ArchiveError> {
        let name = entry.name.clone();
        // Uses the size in the header, before any content is unpacked.
        self.bytes = entry.content_at.saturating_add(entry.size);
        self.entries += 1;
        if self.entries > ENTRIES_COUNT_FROM && self.entries > self.packed / MIN_ENTRY_BYTES {
            return Err(ArchiveError::damaged(
                self.archive,
                format!(
                    "{} bytes claim to hold {} entries",
                    self.packed, self.entries
                ),
            ));
        }
        if self.bytes > RATIO_COUNTS_FROM_BYTES && self.bytes / self.packed.max(1) > MAX_RATIO {
            return Err(ArchiveError::damaged(
                self.archive,
                format!("{} bytes claim to hold {}", self.packed, self.bytes),
            ));
        }
        if name.is_reserved() {
            // An archive of this program that another tool compressed again: its manifest comes
            // last.
            self.reserved.get_or_insert(name);
            return Ok(());
        }
        match &entry.kind {
            RawKind::File if is_description(&name) => {
                let bytes = content.read_all(sidecar::MAX_BYTES)?;
                self.description = bytes.and_then(|b| parse_sidecar(&b));
            }
            RawKind::File => self.contents.files.push(&FileEntry {
                path: name,
                size: entry.size,
                mode: entry.mode & 0o777,
                mtime: entry.mtime_ns,
                sha256: None,
                stamp: InodeStamp::default(),
            }),
            RawKind::Folder => self.contents.folders.push(FolderEntry {
                path: name,
                mode: entry.mode & 0o777,
                mtime: entry.mtime_ns,
            }),
            RawKind::Link(target) => {
                self.contents.links.push(LinkEntry {
                    path: name,
                    target: target.clone(),
                });
            }
        }
        Ok(())
    }

    /// Completes the scan and checks all names.
    ///
    /// # Errors
    /// The archive is not one of the Python tool, or has an unsafe entry.
    pub(super) fn finish(self) -> Result<PythonArchive, ArchiveError> {
        let Self {
            archive,
            contents,
            description,
            reserved,
            ..
        } = self;
        if let Some(name) = reserved {
            return Err(ArchiveError::unsafe_entry(
                archive,
                &name,
                "a name reserved for codex-manager",
            ));
        }
        // Early versions wrote the metadata only beside the archive, later ones also inside.
        let metadata = description
            .or_else(|| super::names::sidecar_path(archive).and_then(|p| read_sidecar(&p)))
            .ok_or_else(|| ArchiveError::Foreign(archive.to_path_buf()))?;
        let (files, folders) = (&contents.files, &contents.folders);
        check_names(
            archive,
            files,
            folders,
            &contents.links,
            CaseClashScope::AllNames,
        )?;
        Ok(PythonArchive { metadata, contents })
    }
}

/// The keys of the Python tool's sidecars that are converted.
#[derive(Debug, Deserialize)]
struct PythonSidecar {
    product: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    chatgpt_account_id: Option<String>,
    #[serde(default)]
    chatgpt_user_id: Option<String>,
    #[serde(default)]
    plan_type: Option<String>,
    #[serde(default)]
    session_start_at: Option<String>,
    #[serde(default)]
    reset_at: Option<String>,
    #[serde(default)]
    quota_percent_left: Option<f64>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    source_codex_home: Option<String>,
    #[serde(default)]
    status_source: Option<String>,
    #[serde(default)]
    backup_mode: Option<String>,
    #[serde(default)]
    archive_name: Option<String>,
    #[serde(default)]
    metadata_only: bool,
}

/// Converts a sidecar of the Python tool. Returns `None` for other documents.
pub fn parse_sidecar(bytes: &[u8]) -> Option<Metadata> {
    let sidecar: PythonSidecar = serde_json::from_slice(bytes).ok()?;
    // Sidecars of the Python tool name their archive; those of this program have "schema" and
    // "manager_version".
    if sidecar.product != "codex" || sidecar.archive_name.is_none() {
        return None;
    }
    let time = |text: &Option<String>| {
        text.as_deref()
            .and_then(|t| Timestamp::parse_from_rfc3339(t).ok())
    };
    let reset_at = time(&sidecar.reset_at);
    // Without a quota value the Python tool wrote "now + 7 days" as the reset, which is no
    // observation.
    let observed = sidecar
        .quota_percent_left
        .filter(|p| (0.0..=100.0).contains(p));
    let windows = match (observed, reset_at) {
        (Some(left), Some(_)) => vec![Window {
            limit_id: CODEX_LIMIT.into(),
            minutes: Some(WEEKLY_MINUTES),
            used_percent: 100.0 - left,
            resets_at: reset_at,
        }],
        _ => Vec::new(),
    };
    let week = chrono::Duration::days(7);
    let session_start_at = time(&sidecar.session_start_at).or_else(|| reset_at.map(|at| at - week));
    let known = |text: Option<String>| text.filter(|t| !t.is_empty() && t != "unknown");
    Some(Metadata {
        email: known(sidecar.email),
        account_id: known(sidecar.chatgpt_account_id),
        user_id: known(sidecar.chatgpt_user_id),
        plan: known(sidecar.plan_type),
        session_start_at,
        next_available_at: session_start_at.map(|at| at + week),
        reset_at,
        inference_basis: "sidecar of the Python codex-manager".into(),
        source_codex_home: sidecar.source_codex_home.unwrap_or_default(),
        created_at: time(&sidecar.created_at).unwrap_or_default(),
        manager_version: "python".into(),
        status_source: sidecar.status_source.unwrap_or_else(|| "none".into()),
        windows,
        mode: match sidecar.backup_mode.as_deref() {
            Some("auth-only") => BackupMode::Auth,
            Some("session-only") => BackupMode::Sessions,
            _ => BackupMode::Full,
        },
        label: sidecar.metadata_only.then(|| "record".to_owned()),
        ..Metadata::default()
    })
}

/// Reads a sidecar of the Python tool. Returns `None` if it is missing or another document.
pub fn read_sidecar(path: &Path) -> Option<Metadata> {
    let bytes = sidecar::read_bytes(path).ok()?;
    parse_sidecar(&bytes)
}

/// Returns the archives in the subfolders of `backups/` that the Python tool uses, as pairs of
/// archive and sidecar. At least one file of each pair exists.
pub fn nested_archives(backups: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for folder in ["auth", "sessions"] {
        for account in folders_in(&backups.join(folder)) {
            let Ok(entries) = fs::read_dir(&account) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let base = name
                    .strip_suffix(".tar.gz")
                    .or_else(|| name.strip_suffix(".metadata.json"))
                    .filter(|base| *base == "latest" || base.starts_with("backup-"));
                if let Some(base) = base {
                    found.push((
                        account.join(format!("{base}.tar.gz")),
                        account.join(format!("{base}.metadata.json")),
                    ));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.is_dir())
                .collect()
        })
        .unwrap_or_default()
}
