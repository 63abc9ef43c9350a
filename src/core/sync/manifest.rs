//! Manifests: `.codex-manager/machines/<machine>-<writer>.jsonl` in the cloud folder lists what one machine
//! wrote, with digests, so that other machines can tell which files arrived completely.
//!
//! Each manifest has one writer, so that a cloud client never has to choose between two versions. Names that
//! do not follow the grammar are ignored. An incomplete manifest is recognized ([`super::sealed_lines`]).

use super::cloud_names;
use super::contents::TextDigest;
use super::sealed_lines::{self, SealedLines};
use super::sides::Stat;
use super::state::{Deletion, SyncState};
use super::{manager_folder, rollouts};
use crate::codex::rollout;
use crate::io::document::Document;
use crate::io::hash::Sha256Digest;
use crate::io::{IoError, atomic, file_open};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// A version of a file, as a manifest lists it. Manifests of 0.1.0 have a further key, `history`, for plain files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Size in bytes, compressed if the file is.
    pub size: u64,
    /// Mtime on the machine of origin, in nanoseconds since 1970. Clients round mtimes or set new ones.
    pub mtime_ns: i64,
    /// SHA-256 of the file's bytes, compressed if the file is.
    pub digest: Sha256Digest,
}

impl ManifestEntry {
    pub(crate) fn new(stat: Stat, digest: Sha256Digest) -> Self {
        Self {
            size: stat.size,
            mtime_ns: stat.mtime_ns,
            digest,
        }
    }

    pub(crate) fn stat(&self) -> Stat {
        Stat {
            size: self.size,
            mtime_ns: self.mtime_ns,
        }
    }

    /// Returns length and digest of the text, if the file at `path` is not compressed.
    pub(crate) fn text_digest(&self, path: &str) -> Option<TextDigest> {
        let (len, digest) = (self.size, self.digest);
        (!path.ends_with(rollout::ZST)).then_some(TextDigest { len, digest })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineManifest {
    /// The digest in the last line, which identifies the content. `None` only during parsing.
    pub(crate) end_digest: Option<Sha256Digest>,
    /// Listed versions, by path in the cloud folder.
    pub(crate) files: BTreeMap<String, ManifestEntry>,
    /// Deletions that the machine requests from other machines, by key.
    pub(crate) deleted: BTreeMap<String, Deletion>,
    /// Published resolutions; see [`SyncState::resolutions`].
    pub(crate) resolved: BTreeSet<String>,
    /// End digests of manifests that the machine wrote under other names.
    pub(crate) former_digests: Vec<Sha256Digest>,
}

impl MachineManifest {
    fn add_line(&mut self, line: ManifestLine) {
        match line {
            ManifestLine::File(path, entry) => {
                self.files.insert(path, entry);
            }
            ManifestLine::Deleted(key, digest, id) => {
                self.deleted.insert(key, Deletion { digest, id });
            }
            ManifestLine::Resolved(record) => {
                self.resolved.insert(record);
            }
        }
    }
}

/// First line of a manifest.
#[derive(Serialize, Deserialize)]
struct ManifestHeader {
    machine: String,
    /// End digests of manifests that this machine wrote under other names. Older programs skip the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<Sha256Digest>,
}

/// Maximum number of former manifests in a header, which is one line.
const MAX_FORMER: usize = 200;

impl Document for ManifestHeader {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ManifestLine {
    File(String, ManifestEntry),
    /// Key, digest of the deleted content, id of the deletion.
    Deleted(String, String, String),
    Resolved(String),
}

/// Returns the paths of all manifests, complete or not, including those that exist only as placeholders; none if the
/// folder cannot be read.
pub(crate) fn list_paths(cloud: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = manager_folder::manifests_folder(cloud);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = cloud_names::placeholder_target(&name).unwrap_or(name);
        parse_machine_name(&name)?;
        Some(folder.join(name))
    })
}

pub fn path_of_file(cloud: &Path, name: &str) -> PathBuf {
    manager_folder::manifests_folder(cloud).join(name)
}

pub(crate) fn path_of_machine(cloud: &Path, machine: &str, writer: &str) -> PathBuf {
    manager_folder::manifests_folder(cloud).join(format!("{machine}-{writer}.jsonl"))
}

#[derive(Debug)]
pub(crate) struct EncodedManifest {
    bytes: Vec<u8>,
    /// The digest of all lines before the last one, which contains this digest.
    pub end_digest: Sha256Digest,
}

impl EncodedManifest {
    /// Writes the manifest durably, unless `path` already has these bytes. The cloud folder has to exist.
    pub(crate) fn write(&self, cloud: &Path, path: &Path) -> Result<(), IoError> {
        let current_size = path.metadata().map(|meta| meta.len());
        // A manifest that did not change keeps its time, so that clients do not upload it again.
        let is_as_large = current_size.is_ok_and(|size| size == self.bytes.len() as u64);
        if is_as_large && file_open::read(path).is_ok_and(|old| old == self.bytes) {
            return Ok(());
        }
        atomic::create_durable_below(cloud, atomic::parent_of(path))?;
        atomic::write(path, &self.bytes)
    }

    /// Returns the lines without their newlines.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == b'\n')
    }
}

/// Returns true if each line of a torn manifest is a line of one of `manifests`, and the torn last line is the
/// beginning of one. Zeros at the end of `torn` are ignored.
pub(crate) fn is_remainder_of(torn: &[u8], manifests: &[EncodedManifest]) -> bool {
    // After a power cut, the rest of the file reads as zeros.
    let first_zero = torn.iter().position(|byte| *byte == 0);
    let text = &torn[..first_zero.unwrap_or(torn.len())];
    let mut lines = text.split(|byte| *byte == b'\n');
    let torn_line = lines.next_back().unwrap_or_default();
    let known: HashSet<&[u8]> = manifests.iter().flat_map(EncodedManifest::lines).collect();
    let begins_known_line = || known.iter().any(|line| line.starts_with(torn_line));
    lines.all(|line| known.contains(line)) && begins_known_line()
}

/// Encodes the manifest of a machine: the attested files, and the deletions and resolutions of its state.
pub(crate) fn encode(
    machine: &str,
    files: &BTreeMap<String, ManifestEntry>,
    state: &SyncState,
) -> io::Result<EncodedManifest> {
    let former_digests = &state.own.former_digests;
    let skipped = former_digests.len().saturating_sub(MAX_FORMER);
    let header = ManifestHeader {
        machine: machine.to_owned(),
        former: former_digests[skipped..].to_vec(),
    };

    let file_lines = files
        .iter()
        .map(|(path, entry)| ManifestLine::File(path.clone(), entry.clone()));
    let sorted_deletions: BTreeMap<_, _> = state.deleted.iter().collect();
    let deletion_lines = sorted_deletions.into_iter().map(|(key, deletion)| {
        ManifestLine::Deleted(key.clone(), deletion.digest.clone(), deletion.id.clone())
    });
    let resolution_lines = state.resolutions.iter().cloned();
    let resolution_lines = resolution_lines.map(ManifestLine::Resolved);

    let lines = file_lines.chain(deletion_lines).chain(resolution_lines);
    let (bytes, end_digest) = sealed_lines::encode(&header, lines)?;
    Ok(EncodedManifest { bytes, end_digest })
}

/// Parses a manifest; `None` if it is incomplete, has an unknown schema, or is no manifest.
///
/// # Errors
/// The reader fails.
pub(crate) fn parse(from: impl BufRead) -> io::Result<Option<MachineManifest>> {
    let mut manifest = MachineManifest::default();
    let parsed = sealed_lines::parse::<ManifestHeader, _>(from, |line| manifest.add_line(line))?;
    let SealedLines::Complete { header, end_digest } = parsed else {
        return Ok(None);
    };
    manifest.end_digest = Some(end_digest);
    manifest.former_digests = header.former;
    Ok(Some(manifest))
}

/// Returns the key by which the versions of a file are grouped. All forms and places of a conversation have the same
/// key, and so have all spellings that [`fold_name`] makes equal.
pub fn folded_key(path: &str) -> String {
    fold_name(rollouts::key(path).as_deref().unwrap_or(path))
}

/// Folds the letter case and the Unicode form of a key, because cloud clients and file systems change both. Two files
/// whose names differ only in these share their entries; the digests distinguish the files.
pub(crate) fn fold_name(key: &str) -> String {
    if key.is_ascii() {
        key.to_ascii_lowercase()
    } else {
        // Lower case can decompose a character, so it is composed again.
        key.nfc().flat_map(char::to_lowercase).nfc().collect()
    }
}

/// Returns the machine of a name `<machine>-<8 hex>.jsonl`; `None` for other names, such as one with a client's suffix.
pub fn parse_machine_name(name: &str) -> Option<&str> {
    let (machine, writer) = name.strip_suffix(".jsonl")?.rsplit_once('-')?;
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let is_manifest_name = !machine.is_empty()
        && machine.chars().all(is_name_char)
        && writer.len() == 8
        && writer.bytes().all(is_lower_hex);
    is_manifest_name.then_some(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> Option<MachineManifest> {
        parse(bytes).unwrap()
    }

    fn sample() -> MachineManifest {
        let entry = ManifestEntry {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(b"abc"),
        };
        MachineManifest {
            end_digest: None,
            files: BTreeMap::from([("sessions/a.jsonl".to_owned(), entry)]),
            deleted: BTreeMap::from([("x".to_owned(), Deletion::with_random_id("d".to_owned()))]),
            resolved: BTreeSet::from(["r".to_owned()]),
            former_digests: vec![Sha256Digest::of(b"former")],
        }
    }

    #[test]
    fn an_incomplete_manifest_is_never_parsed() {
        let mut sample = sample();
        let mut state = SyncState {
            deleted: sample.deleted.clone().into_iter().collect(),
            resolutions: sample.resolved.clone(),
            ..SyncState::default()
        };
        state.own.former_digests.clone_from(&sample.former_digests);
        let EncodedManifest { bytes, end_digest } = encode("desk", &sample.files, &state).unwrap();
        sample.end_digest = Some(end_digest);
        assert_eq!(parsed(&bytes), Some(sample));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        assert!(sealed_lines::read_end_digest(&path).is_err());
        for (bytes, found) in [
            (&bytes[..], Some(end_digest)),
            (&bytes[..bytes.len() - 1], None),
            (&bytes[..9], None),
            (b"", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(
                sealed_lines::read_end_digest(&path).unwrap(),
                found,
                "{}",
                bytes.len()
            );
        }
        for cut in 0..bytes.len() {
            assert_eq!(parsed(&bytes[..cut]), None, "{cut}");
        }
        let mut zeros = bytes.clone();
        zeros[40..60].fill(0);
        assert_eq!(parsed(&zeros), None);
    }

    #[test]
    fn a_manifest_with_other_lines_than_its_digest_says_is_unusable() {
        let EncodedManifest { bytes, .. } =
            encode("desk", &sample().files, &SyncState::default()).unwrap();
        assert!(parsed(&bytes).is_some());
        for partial in [&[0; 4096][..], &b"x".repeat(1 << 17), b"", b"{}", b"\n\n\n"] {
            assert_eq!(parsed(partial), None);
        }
        // Bytes after the end line, and an end line of other lines.
        assert_eq!(parsed(&[&bytes[..], b"\n"].concat()), None);
        let other = String::from_utf8(bytes)
            .unwrap()
            .replace("\"size\":3", "\"size\":4");
        assert_eq!(parsed(other.as_bytes()), None);
    }

    #[test]
    fn a_torn_manifest_is_recognized_as_the_remainder_of_a_known_one() {
        let sample = sample();
        let state = SyncState::default();
        let manifest_with = |path: &str| {
            let entry = sample.files["sessions/a.jsonl"].clone();
            let files = BTreeMap::from([("AGENTS.md".to_owned(), entry.clone())]);
            let other = BTreeMap::from([(path.to_owned(), entry)]);
            encode("desk", &files.into_iter().chain(other).collect(), &state).unwrap()
        };
        let (own, other) = (manifest_with("skills/mine"), manifest_with("skills/other"));
        let shared = own.bytes.iter().zip(&other.bytes);
        let shared = shared.take_while(|(own, other)| own == other).count();
        for cut in 0..own.bytes.len() {
            let mut zeros = own.bytes.clone();
            zeros[cut..].fill(0);
            for torn in [&own.bytes[..cut], &zeros] {
                assert!(
                    is_remainder_of(torn, &[manifest_with("skills/mine")]),
                    "{cut}"
                );
                let is_known = is_remainder_of(torn, &[manifest_with("skills/other")]);
                assert_eq!(is_known, cut <= shared, "{cut}");
            }
        }
        let torn = own.bytes[..shared + 3].to_vec();
        assert!(is_remainder_of(&torn, &[other, own]));
    }

    #[test]
    fn a_cloud_clients_copy_of_a_manifest_is_not_a_manifest() {
        for (name, is_manifest) in [
            ("desk-1-0123abcd.jsonl", true),
            ("desk-0123abcd (1).jsonl", false),
            ("desk-0123abcd-LAPTOP.jsonl", false),
            (
                "desk-0123abcd.sync-conflict-20261118-101010-ABCDEF7.jsonl",
                false,
            ),
            ("desk.jsonl", false),
        ] {
            assert_eq!(parse_machine_name(name).is_some(), is_manifest, "{name}");
        }
    }
}
