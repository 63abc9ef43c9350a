//! The manifest of a snapshot: all synced files of one machine, with digests and version ids.
//!
//! The lines are like those of a manifest in a cloud folder: a header, the files, the deletions, the resolutions, the
//! unmerged versions, the publication, and last the digest of all lines before it ([`crate::sync::sealed_lines`]).
//!
//! The file that changed last is listed last, and the header never changes, because restic stores each changed chunk of
//! the manifest, of about 1.5 MB, again. So one turn of a conversation changes one chunk. With the files in the order
//! of their names it changed three.

use super::causality::{Knowledge, VersionId};
use super::error::RemoteError;
use crate::io::document::Document;
use crate::sync::conflict_copies;
use crate::sync::file_group::state_key;
use crate::sync::manager_folder::{CONFLICT_COPIES_FOLDER, MANAGER_FOLDER};
use crate::sync::manifest::ManifestEntry;
use crate::sync::sealed_lines::{self, SealedLines};
use crate::sync::state::{Deletion, SyncedFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

/// The files of one key on one machine: one or several for a conversation, one for any other file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileVersions {
    /// Entries by path below the Codex home.
    pub(super) files: BTreeMap<String, ManifestEntry>,
    pub(super) version: VersionId,
}

impl FileVersions {
    /// Returns true if both have the same contents at the same paths, whatever their versions.
    pub(super) fn has_same_files(&self, other: &Self) -> bool {
        let own = self.files.iter().map(|(path, entry)| (path, entry.digest));
        let others = other.files.iter().map(|(path, entry)| (path, entry.digest));
        own.eq(others)
    }

    /// Returns true if one of these files is the remote file of the last sync.
    pub(super) fn is_synced_as(&self, last: &SyncedFile) -> bool {
        let path = &last.remote.path;
        let entry = self.files.get(path);
        entry.is_some_and(|entry| match (last.text, entry.text_digest(path)) {
            (Some(synced), Some(listed)) => synced == listed,
            _ => entry.stat() == last.remote.stat,
        })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotManifest {
    /// Id of the replica that published the snapshot.
    pub(super) replica: String,
    pub(super) machine: String,
    /// Number of the publication.
    pub(super) number: u64,
    pub(super) knowledge: Knowledge,
    /// Files by their key in the state; see [`crate::sync::file_group::state_key`].
    pub(super) files: BTreeMap<String, FileVersions>,
    /// Deletions of this and of other machines, by key.
    pub(super) deleted: BTreeMap<String, Deletion>,
    /// See [`crate::sync::state::SyncState::resolutions`].
    pub(super) resolved: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotHeader {
    replica: String,
    machine: String,
}

impl Document for SnapshotHeader {
    const SCHEMA: u64 = 2;
    const INDENTED: bool = false;
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SnapshotLine {
    File(String, ManifestEntry, VersionId),
    /// Key, digest of the deleted content, id of the deletion.
    Deleted(String, String, String),
    Resolved(String),
    /// Key, and a version that waits for a decision.
    Unmerged(String, VersionId),
    /// The number of this publication, and the number of the newest known publication of each replica.
    Publication(u64, BTreeMap<String, u64>),
}

impl SnapshotManifest {
    pub fn files(&self) -> impl Iterator<Item = (&str, &ManifestEntry)> {
        let files = self.files.values().flat_map(|file| &file.files);
        files.map(|(path, entry)| (&**path, entry))
    }

    /// Returns true if both list the same files, deletions and decisions. Ignores the publisher and the number.
    pub(super) fn has_same_content(&self, other: &Self) -> bool {
        self.files == other.files
            && self.deleted == other.deleted
            && self.resolved == other.resolved
            && self.knowledge.unmerged == other.knowledge.unmerged
    }

    /// Encodes the manifest, with the files in the order of their mtimes.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let header = SnapshotHeader {
            replica: self.replica.clone(),
            machine: self.machine.clone(),
        };

        let mut entries: Vec<(&String, &ManifestEntry, &VersionId)> = Vec::new();
        for FileVersions { files, version } in self.files.values() {
            entries.extend(files.iter().map(|(path, entry)| (path, entry, version)));
        }
        entries.sort_by_key(|(_, entry, _)| entry.mtime_ns);
        let file_lines = entries.into_iter().map(|(path, entry, version)| {
            SnapshotLine::File(path.clone(), entry.clone(), version.clone())
        });

        let deletion_lines = self.deleted.iter().map(|(key, deletion)| {
            SnapshotLine::Deleted(key.clone(), deletion.digest.clone(), deletion.id.clone())
        });
        let resolution_lines = self.resolved.iter().cloned().map(SnapshotLine::Resolved);
        let unmerged_lines = self.knowledge.unmerged.iter().flat_map(|(key, versions)| {
            let versions = versions.iter();
            versions.map(|version| SnapshotLine::Unmerged(key.clone(), version.clone()))
        });
        let publication = SnapshotLine::Publication(self.number, self.knowledge.seen.clone());

        let lines = file_lines.chain(deletion_lines).chain(resolution_lines);
        let lines = lines.chain(unmerged_lines).chain([publication]);
        let (bytes, _end_digest) = sealed_lines::encode(&header, lines)?;
        Ok(bytes)
    }

    /// Parses a manifest; error messages name `machine`.
    ///
    /// # Errors
    /// The manifest is damaged, names a path that no sync may write, or was written by a newer version of this program.
    pub fn parse(from: impl Read, machine: &str) -> Result<Self, RemoteError> {
        let damaged = |detail: &str| RemoteError::Damaged {
            machine: machine.to_owned(),
            detail: detail.to_owned(),
        };

        let mut manifest = Self::default();
        let mut outside_path = None;
        let parsed = sealed_lines::parse(BufReader::new(from), |line| match line {
            SnapshotLine::File(path, ..) if is_unsupported_name(&path) => {}
            SnapshotLine::File(path, ..) if !is_allowed_path(&path) => outside_path = Some(path),
            line => manifest.add_line(line),
        });

        let header: SnapshotHeader = match parsed {
            Ok(SealedLines::Complete { header, .. }) => header,
            Ok(SealedLines::Newer) => return Err(RemoteError::Newer(machine.to_owned())),
            Ok(SealedLines::Damaged) => {
                return Err(damaged("its manifest is incomplete or was changed"));
            }
            Err(e) => return Err(damaged(&format!("its manifest cannot be read: {e}"))),
        };
        if let Some(path) = outside_path {
            let detail = format!("it lists a path outside of the Codex home: {path:?}");
            return Err(damaged(&detail));
        }

        manifest.replica = header.replica;
        manifest.machine = header.machine;
        Ok(manifest)
    }

    fn add_line(&mut self, line: SnapshotLine) {
        match line {
            SnapshotLine::File(path, entry, version) => {
                // All files of a key have one version.
                let file = self.files.entry(state_key(&path));
                let file = file.or_insert_with(|| FileVersions {
                    files: BTreeMap::new(),
                    version,
                });
                file.files.insert(path, entry);
            }
            SnapshotLine::Deleted(key, digest, id) => {
                self.deleted.insert(key, Deletion { digest, id });
            }
            SnapshotLine::Resolved(id) => {
                self.resolved.insert(id);
            }
            SnapshotLine::Unmerged(key, version) => self.knowledge.add_unmerged(&key, version),
            SnapshotLine::Publication(number, seen) => {
                self.number = number;
                self.knowledge.seen = seen;
            }
        }
    }
}

/// Returns true for a path that a snapshot may have: a relative path inside the home. A path in the manager's folder
/// must be that of a conflict copy. A backslash is part of a name.
pub(super) fn is_allowed_path(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let is_inside = parts.all(|part| matches!(part, Component::Normal(_)));
    let is_plain = !path.contains('\0') && !path.ends_with('/') && !path.contains("//");
    let is_in_manager_folder = Path::new(path).starts_with(MANAGER_FOLDER);
    let is_allowed_there = !is_in_manager_folder || is_conflict_copy_path(path);
    is_inside && is_plain && !path.is_empty() && is_allowed_there
}

/// Returns true if this system can have no file of this name. On Windows, a backslash separates folders, so such a file
/// stays in the snapshots of other machines.
fn is_unsupported_name(path: &str) -> bool {
    cfg!(windows) && path.contains('\\')
}

/// Returns true for the path of a conflict copy in a snapshot.
pub(super) fn is_conflict_copy_path(path: &str) -> bool {
    parse_copy_name(path).is_some()
}

/// Returns the name of the conflict copy at a path of a snapshot; `None` for other paths.
pub(super) fn parse_copy_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(MANAGER_FOLDER)?.strip_prefix('/')?;
    let name = name
        .strip_prefix(CONFLICT_COPIES_FOLDER)?
        .strip_prefix('/')?;
    conflict_copies::is_copy_name(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::hash::Sha256Digest;

    fn sample() -> SnapshotManifest {
        let entry = ManifestEntry {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(b"abc"),
        };
        let version = VersionId("f00d".to_owned(), 2);
        let files = [("skills/a".to_owned(), entry)].into();
        let file = FileVersions {
            files,
            version: version.clone(),
        };
        let mut manifest = SnapshotManifest {
            replica: "f00d".to_owned(),
            machine: "desk".to_owned(),
            number: 2,
            files: [("skills/a".to_owned(), file)].into(),
            deleted: [("x".to_owned(), Deletion::with_random_id("d".to_owned()))].into(),
            resolved: ["r".to_owned()].into(),
            ..SnapshotManifest::default()
        };
        manifest.knowledge.seen.insert("f00d".to_owned(), 2);
        manifest.knowledge.add_unmerged("skills/a", version);
        manifest
    }

    #[test]
    fn an_incomplete_or_changed_manifest_is_refused() {
        let bytes = sample().encode().unwrap();
        assert_eq!(
            SnapshotManifest::parse(&bytes[..], "desk").unwrap(),
            sample_with(&bytes)
        );
        for cut in 0..bytes.len() {
            assert!(
                SnapshotManifest::parse(&bytes[..cut], "desk").is_err(),
                "{cut}"
            );
        }
        let text = String::from_utf8(bytes).unwrap();
        let changed = text.replace("\"size\":3", "\"size\":4");
        let refused = SnapshotManifest::parse(changed.as_bytes(), "desk").unwrap_err();
        assert!(refused.to_string().contains("was changed"), "{refused}");
        let newer = text.replacen("\"schema\":2", "\"schema\":3", 1);
        let refused = SnapshotManifest::parse(newer.as_bytes(), "desk").unwrap_err();
        assert!(matches!(refused, RemoteError::Newer(_)), "{refused}");
    }

    /// The sample with the random id that `bytes` has.
    fn sample_with(bytes: &[u8]) -> SnapshotManifest {
        let parsed = SnapshotManifest::parse(bytes, "desk").unwrap();
        SnapshotManifest {
            deleted: parsed.deleted,
            ..sample()
        }
    }

    #[test]
    fn a_later_change_of_a_file_changes_only_the_end_of_the_manifest() {
        let mut manifest = sample();
        let file = manifest.files["skills/a"].clone();
        let mut encode_with = |number: u64| {
            let name = format!("skills/{}", number % 1000);
            let mut file = file.clone();
            let mut entry = file.files["skills/a"].clone();
            entry.mtime_ns = i64::try_from(number).unwrap() + 10;
            entry.digest = Sha256Digest::of(&number.to_le_bytes());
            file.files = [(name.clone(), entry)].into();
            manifest.files.insert(name, file);
            manifest.number = number;
            manifest.encode().unwrap()
        };
        for number in 0..1000 {
            let _ = encode_with(number);
        }
        let _ = encode_with(1003);
        let (before, after) = (encode_with(2003), encode_with(3003));
        let same = before
            .iter()
            .zip(&after)
            .take_while(|(a, b)| a == b)
            .count();
        assert!(before.len() - same < 1000, "{same} of {}", before.len());
    }

    #[test]
    fn paths_that_leave_the_home_are_refused() {
        for (path, allowed) in [
            ("sessions/2026/a.jsonl", true),
            ("../a", false),
            ("/etc/passwd", false),
            ("a/../../b", false),
            ("skills/zip\\tool.md", true),
            ("..\\a", !cfg!(windows)),
            ("", false),
            (".codex-manager/machines/x", false),
            (".codex-manager/forks/../../x.fork", false),
        ] {
            assert_eq!(is_allowed_path(path), allowed, "{path}");
        }
    }
}
