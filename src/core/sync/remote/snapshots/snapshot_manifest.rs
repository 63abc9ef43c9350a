//! The manifest of a snapshot: all synced files of one machine, with digests and version ids.
//!
//! The lines are like those of a manifest in a cloud folder: a header, the files, the deletions and the resolutions,
//! the publication, and last the digest of all lines before it.
//!
//! The file that changed last is listed last, and the header never changes, because restic stores each changed chunk of
//! the manifest, of about 1.5 MB, again. So one turn of a conversation changes one chunk. With the files in the order
//! of their names it changed three.

use super::causality::{Knowledge, VersionId};
use super::error::RemoteError;
use crate::io::document::{self, Document};
use crate::io::hash::{Hasher, Sha256Digest};
use crate::sync::conflict_copies;
use crate::sync::file_group::state_key;
use crate::sync::manager_folder::{CONFLICT_COPIES_FOLDER, MANAGER_FOLDER};
use crate::sync::manifest::ManifestEntry;
use crate::sync::state::{Deletion, SyncedFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

/// Maximum length of a line, which has a path and a digest. A longer line counts as damage.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// The files of one key on one machine: several for a conversation, one for any other file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileVersions {
    /// Entries by path below the Codex home.
    pub(super) files: BTreeMap<String, ManifestEntry>,
    pub(super) version: VersionId,
}

impl FileVersions {
    /// Returns true if both have the same contents at the same paths, whatever their versions.
    pub(super) fn has_same_files(&self, other: &Self) -> bool {
        let digests = |file: &Self| {
            let files = file.files.iter();
            files
                .map(|(path, entry)| (path.clone(), entry.digest))
                .collect::<Vec<_>>()
        };
        digests(self) == digests(other)
    }

    /// Returns true if one of these files is the remote file of the last sync.
    pub(super) fn is_synced_as(&self, last: &SyncedFile) -> bool {
        let path = &last.remote.path;
        let entry = self.files.get(path);
        entry.is_some_and(|entry| match (last.contents, entry.text_digest(path)) {
            (Some(synced), Some(listed)) => synced == listed,
            _ => entry.stat() == last.remote.stat,
        })
    }
}

/// The content of the manifest of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotManifest {
    /// Id of the replica that published the snapshot.
    pub(super) replica: String,
    pub(super) machine: String,
    /// Number of the publication.
    pub(super) number: u64,
    pub(super) knowledge: Knowledge,
    /// Files by the key of the state.
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
    /// Only in schema 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    /// Only in schema 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    seen: BTreeMap<String, u64>,
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
    End(Sha256Digest),
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
        let mut bytes = Vec::new();
        let header = SnapshotHeader {
            replica: self.replica.clone(),
            machine: self.machine.clone(),
            number: None,
            seen: BTreeMap::new(),
        };
        document::encode_to(&mut bytes, &header)?;
        bytes.push(b'\n');

        let mut push_line = |line: &SnapshotLine| document::push_line(&mut bytes, line);
        let files = self.files.values();
        let files = files.flat_map(|file| {
            file.files
                .iter()
                .map(move |(path, entry)| (path, entry, file))
        });
        let mut files: Vec<_> = files.collect();
        files.sort_by_key(|(_, entry, _)| entry.mtime_ns);
        for (path, entry, file) in files {
            let (path, entry) = (path.clone(), entry.clone());
            push_line(&SnapshotLine::File(path, entry, file.version.clone()))?;
        }

        for (key, Deletion { digest, id }) in &self.deleted {
            push_line(&SnapshotLine::Deleted(
                key.clone(),
                digest.clone(),
                id.clone(),
            ))?;
        }

        for id in &self.resolved {
            push_line(&SnapshotLine::Resolved(id.clone()))?;
        }
        for (key, versions) in &self.knowledge.unmerged {
            for version in versions {
                push_line(&SnapshotLine::Unmerged(key.clone(), version.clone()))?;
            }
        }

        let seen = self.knowledge.seen.clone();
        push_line(&SnapshotLine::Publication(self.number, seen))?;
        let end_digest = Sha256Digest::of(&bytes);
        document::push_line(&mut bytes, &SnapshotLine::End(end_digest))?;
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

        let mut reader = BufReader::new(from);
        let mut hasher = Hasher::default();
        let mut line = Vec::new();
        let mut manifest: Option<Self> = None;

        loop {
            line.clear();
            let read_result = (&mut reader)
                .take(MAX_LINE_BYTES)
                .read_until(b'\n', &mut line);
            read_result.map_err(|e| damaged(&format!("it cannot be read: {e}")))?;

            let Some(line_text) = line.strip_suffix(b"\n") else {
                return Err(damaged("its manifest is incomplete"));
            };

            // The first line is the header.
            let Some(manifest) = &mut manifest else {
                manifest = Some(Self::parse_header(line_text, machine)?);
                hasher.update(&line);
                continue;
            };

            match serde_json::from_slice::<SnapshotLine>(line_text) {
                Ok(SnapshotLine::End(digest)) if digest == hasher.digest() => {
                    return Ok(std::mem::take(manifest));
                }
                Ok(SnapshotLine::End(_)) => return Err(damaged("its manifest was changed")),
                Ok(entry) => manifest.add_line(entry).map_err(|e| damaged(&e))?,
                Err(e) => {
                    return Err(damaged(&format!("its manifest has a damaged line: {e}")));
                }
            }

            hasher.update(&line);
        }
    }

    fn parse_header(text: &[u8], machine: &str) -> Result<Self, RemoteError> {
        let header = document::parse::<SnapshotHeader>(Path::new("manifest.jsonl"), text);
        let header = header.map_err(|_| RemoteError::Newer(machine.to_owned()))?;
        let header = header.good().ok_or_else(|| RemoteError::Damaged {
            machine: machine.to_owned(),
            detail: "its manifest has no header".to_owned(),
        })?;

        Ok(Self {
            replica: header.replica,
            machine: header.machine,
            // Schema 2 has the number in the line of the publication.
            number: header.number.unwrap_or_default(),
            knowledge: Knowledge {
                seen: header.seen,
                ..Knowledge::default()
            },
            ..Self::default()
        })
    }

    fn add_line(&mut self, line: SnapshotLine) -> Result<(), String> {
        match line {
            SnapshotLine::File(path, entry, version) => {
                if !is_allowed_path(&path) {
                    return Err(format!(
                        "it lists a path outside of the Codex home: {path:?}"
                    ));
                }

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
            SnapshotLine::End(_) => {}
        }
        Ok(())
    }
}

/// Returns true for a relative path inside the home; a path in the manager's folder must be that of a conflict copy.
fn is_allowed_path(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let is_inside = parts.all(|part| matches!(part, Component::Normal(_)));
    let is_plain = !path.contains(['\\', '\0']) && !path.ends_with('/') && !path.contains("//");
    let of_manager = Path::new(path).starts_with(MANAGER_FOLDER);
    is_inside && is_plain && !path.is_empty() && (!of_manager || is_conflict_copy_path(path))
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
    fn a_later_change_of_a_file_changes_only_the_end() {
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
    fn a_manifest_of_schema_1_is_read() {
        let end = |text: &str| {
            let digest = serde_json::to_string(&Sha256Digest::of(text.as_bytes())).unwrap();
            format!("{text}{{\"end\":{digest}}}\n")
        };
        let text = end(
            "{\"schema\":1,\"replica\":\"f00d\",\"machine\":\"desk\",\"number\":2,\"seen\":{\"f00d\":2}}\n",
        );
        let read = SnapshotManifest::parse(text.as_bytes(), "desk").unwrap();
        assert_eq!((read.number, &*read.replica), (2, "f00d"));
        assert_eq!(read.knowledge.seen, [("f00d".to_owned(), 2)].into());
    }

    #[test]
    fn paths_that_leave_the_home_are_refused() {
        for (path, allowed) in [
            ("sessions/2026/a.jsonl", true),
            ("../a", false),
            ("/etc/passwd", false),
            ("a/../../b", false),
            ("a\\b", false),
            ("", false),
            (".codex-manager/machines/x", false),
            (".codex-manager/forks/../../x.fork", false),
        ] {
            assert_eq!(is_allowed_path(path), allowed, "{path}");
        }
    }
}
