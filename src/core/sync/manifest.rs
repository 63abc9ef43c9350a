//! Manifests: `.codex-manager/machines/<machine>-<writer>.jsonl` in the cloud folder lists what one machine
//! wrote, with digests, so that other machines can tell which files arrived completely.
//!
//! Each manifest has one writer, so that a cloud client never has to choose between two versions. Names that
//! do not follow the grammar are ignored. The first line is a header, the last one holds the digest of all
//! lines before it, so an incomplete manifest is recognized.

use super::remote::folder::cloud_names;
use super::sides::Stat;
use super::state::{Deletion, SyncState};
use super::{manager_folder, rollouts};
use crate::codex::rollout;
use crate::io::document::{self, Document};
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoError, atomic, file_open};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufRead, Read, Seek, SeekFrom};
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
    pub(crate) fn stat(&self) -> Stat {
        Stat {
            size: self.size,
            mtime_ns: self.mtime_ns,
        }
    }

    /// Returns length and digest of the text, if the file at `path` is not compressed.
    pub(crate) fn text_digest(&self, path: &str) -> Option<(u64, Sha256Digest)> {
        (!path.ends_with(rollout::ZST)).then_some((self.size, self.digest))
    }
}

/// The content of one machine's manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MachineManifest {
    /// The digest in the last line, which identifies the content. `None` only during parsing.
    pub(crate) end: Option<Sha256Digest>,
    /// Listed versions, by path in the cloud folder.
    pub(crate) files: BTreeMap<String, ManifestEntry>,
    /// Deletions that the machine requests from other machines, by key.
    pub(crate) deleted: BTreeMap<String, Deletion>,
    /// Published resolutions; see [`SyncState::resolutions`].
    pub(crate) resolved: BTreeSet<String>,
    /// End digests of manifests that the machine wrote under other names.
    pub(crate) former: Vec<Sha256Digest>,
    /// Number of lines between the header and the end line.
    pub(crate) lines: usize,
}

impl MachineManifest {
    fn add_line(&mut self, line: ManifestLine) {
        match line {
            ManifestLine::File(path, entry) => {
                self.files.insert(path, entry);
            }
            ManifestLine::Deleted(path, digest, id) => {
                self.deleted.insert(path, Deletion { digest, id });
            }
            ManifestLine::Resolved(record) => {
                self.resolved.insert(record);
            }
            ManifestLine::End(digest) => self.end = Some(digest),
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
    End(Sha256Digest),
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
        is_manifest_name(&name).then(|| folder.join(name))
    })
}

/// Returns the path of the manifest with this file name.
pub fn path_of_file(cloud: &Path, name: &str) -> PathBuf {
    manager_folder::manifests_folder(cloud).join(name)
}

/// Returns the path of a machine's manifest.
pub(crate) fn path_of_machine(cloud: &Path, machine: &str, writer: &str) -> PathBuf {
    manager_folder::manifests_folder(cloud).join(format!("{machine}-{writer}.jsonl"))
}

#[derive(Debug)]
pub(crate) struct EncodedManifest {
    bytes: Vec<u8>,
    /// The digest of all lines before the last one, which contains this digest.
    pub end: Sha256Digest,
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
    let mut lines = torn[..first_zero.unwrap_or(torn.len())].split(|byte| *byte == b'\n');
    let torn_line = lines.next_back().unwrap_or_default();
    let known: HashSet<&[u8]> = manifests.iter().flat_map(EncodedManifest::lines).collect();
    let begins_known_line = || known.iter().any(|line| line.starts_with(torn_line));
    lines.all(|line| known.contains(line)) && begins_known_line()
}

/// Reads the digest in the last line of the manifest at `path`, which identifies its content. `None` if the
/// last line is not an end line.
///
/// # Errors
/// The file does not exist or cannot be read.
pub(crate) fn read_end_digest(path: &Path) -> io::Result<Option<Sha256Digest>> {
    const END_LINE_BYTES: u64 = 128;
    let mut file = file_open::open(path)?;
    let size = file.metadata()?.len();

    // Reads only the end, because a manifest can have many megabytes, and this runs for each manifest.
    file.seek(SeekFrom::Start(size.saturating_sub(END_LINE_BYTES)))?;
    let mut tail = Vec::new();
    file.take(END_LINE_BYTES).read_to_end(&mut tail)?;

    let line = tail.strip_suffix(b"\n").and_then(|tail| {
        let start = tail.iter().rposition(|byte| *byte == b'\n')? + 1;
        serde_json::from_slice(&tail[start..]).ok()
    });

    Ok(match line {
        Some(ManifestLine::End(digest)) => Some(digest),
        _ => None,
    })
}

/// Encodes the manifest of a machine: the attested files, and the deletions and resolutions of its state.
pub(crate) fn encode(
    machine: &str,
    files: &BTreeMap<String, ManifestEntry>,
    state: &SyncState,
) -> io::Result<EncodedManifest> {
    let mut bytes = Vec::new();
    let header = ManifestHeader {
        machine: machine.to_owned(),
        former: state.own.former[state.own.former.len().saturating_sub(MAX_FORMER)..].to_vec(),
    };
    document::encode_to(&mut bytes, &header)?;
    bytes.push(b'\n');

    let mut push = |line: &ManifestLine| document::push_line(&mut bytes, line);
    for (path, entry) in files {
        push(&ManifestLine::File(path.clone(), entry.clone()))?;
    }

    let sorted_deletions: BTreeMap<_, _> = state.deleted.iter().collect();
    for (path, Deletion { digest, id }) in sorted_deletions {
        push(&ManifestLine::Deleted(
            path.clone(),
            digest.clone(),
            id.clone(),
        ))?;
    }

    for record in &state.resolutions {
        push(&ManifestLine::Resolved(record.clone()))?;
    }

    // Without the end line itself, which has the digest.
    let end = Sha256Digest::of(&bytes);
    document::push_line(&mut bytes, &ManifestLine::End(end))?;
    Ok(EncodedManifest { bytes, end })
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ManifestRead {
    Complete(Box<MachineManifest>),
    /// The manifest is incomplete, has an unknown schema, or is no manifest.
    Unusable,
    NotDownloaded,
    /// The manifest exceeds a limit. The text is the reason, as a clause for output.
    OverLimit(&'static str),
}

/// Parses a manifest. Stops reading at more than `max_lines` lines, without the header and the end line, and at a line
/// of more than `max_line_bytes` bytes.
///
/// # Errors
/// The reader fails.
pub(crate) fn parse(
    mut from: impl BufRead,
    max_lines: usize,
    max_line_bytes: u64,
) -> io::Result<ManifestRead> {
    let mut hasher = Hasher::default();
    let mut manifest = MachineManifest::default();
    let mut line = Vec::new();

    for line_index in 0.. {
        line.clear();
        let limit = max_line_bytes.saturating_add(1);
        let read_bytes = (&mut from).take(limit).read_until(b'\n', &mut line)? as u64;
        let Some(line_text) = line.strip_suffix(b"\n") else {
            // A power cut or a client leaves zeros where the rest of the file belongs.
            if read_bytes > max_line_bytes && line.last() != Some(&0) {
                let why = "one of its lines is longer than the limit";
                return Ok(ManifestRead::OverLimit(why));
            }
            break;
        };

        // The header and the end line do not count.
        if line_index > max_lines.saturating_add(1) {
            let why = "it has more lines than the limit";
            return Ok(ManifestRead::OverLimit(why));
        }

        if line_index == 0 {
            let Some(header) = parse_header(line_text) else {
                break;
            };
            manifest.former = header.former;
        } else if !line_text.is_empty() {
            match serde_json::from_slice(line_text) {
                Ok(ManifestLine::End(digest)) => {
                    // Nothing may follow the end line.
                    if digest != hasher.digest() || !from.fill_buf()?.is_empty() {
                        break;
                    }
                    manifest.end = Some(digest);
                    manifest.lines = line_index - 1;
                    return Ok(ManifestRead::Complete(Box::new(manifest)));
                }
                Ok(entry) => manifest.add_line(entry),
                Err(_) => break,
            }
        }

        hasher.update(&line);
    }

    Ok(ManifestRead::Unusable)
}

/// Parses the first line; `None` if it is not the header of a manifest, or its schema is unknown.
fn parse_header(text: &[u8]) -> Option<ManifestHeader> {
    document::parse(Path::new(""), text).ok()?.good()
}

/// Returns the key by which the versions of a file are grouped. All forms and places of a conversation have the same
/// key, and so have all spellings that [`fold_name`] makes equal.
pub(crate) fn folded_key(path: &str) -> String {
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

/// Returns true for the name of a manifest. A name with a client's suffix is not one.
pub(crate) fn is_manifest_name(name: &str) -> bool {
    parse_machine_name(name).is_some()
}

/// Returns the machine of a name `<machine>-<8 hex>.jsonl`.
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
        match parse(bytes, 9, 1 << 10).unwrap() {
            ManifestRead::Complete(manifest) => Some(*manifest),
            _ => None,
        }
    }

    fn sample() -> MachineManifest {
        let entry = ManifestEntry {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(b"abc"),
        };
        MachineManifest {
            end: None,
            files: BTreeMap::from([("sessions/a.jsonl".to_owned(), entry)]),
            deleted: BTreeMap::from([("x".to_owned(), Deletion::with_random_id("d".to_owned()))]),
            resolved: BTreeSet::from(["r".to_owned()]),
            former: vec![Sha256Digest::of(b"former")],
            lines: 3,
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
        state.own.former.clone_from(&sample.former);
        let EncodedManifest { bytes, end } = encode("desk", &sample.files, &state).unwrap();
        sample.end = Some(end);
        assert_eq!(parsed(&bytes), Some(sample));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        assert!(read_end_digest(&path).is_err());
        for (bytes, found) in [
            (&bytes[..], Some(end)),
            (&bytes[..bytes.len() - 1], None),
            (&bytes[..9], None),
            (b"", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read_end_digest(&path).unwrap(), found, "{}", bytes.len());
        }
        for cut in 0..bytes.len() {
            assert_eq!(parsed(&bytes[..cut]), None, "{cut}");
        }
        let mut zeros = bytes.clone();
        zeros[40..60].fill(0);
        assert_eq!(parsed(&zeros), None);
    }

    #[test]
    fn a_manifest_over_a_limit_is_not_reported_as_incomplete() {
        let sample = sample();
        let EncodedManifest { bytes, .. } =
            encode("desk", &sample.files, &SyncState::default()).unwrap();
        let parse_with_limits =
            |bytes: &[u8], lines, line_bytes| parse(bytes, lines, line_bytes).unwrap();
        let lines = bytes.split(|byte| *byte == b'\n');
        let longest = lines.map(<[u8]>::len).max().unwrap() as u64;
        let complete = parse_with_limits(&bytes, 1, longest);
        assert!(matches!(complete, ManifestRead::Complete(manifest) if manifest.lines == 1));
        let too_much = |result| matches!(result, ManifestRead::OverLimit(_));
        assert!(too_much(parse_with_limits(&bytes, 2, longest - 1)));
        assert!(too_much(parse_with_limits(&bytes, 0, longest)));
        assert!(too_much(parse_with_limits(&[b'x'; 4096], 2, longest)));
        for partial in [&[0; 4096][..], b"", b"{}", b"\n\n\n"] {
            assert_eq!(
                parse_with_limits(partial, 2, longest),
                ManifestRead::Unusable
            );
        }
        // Bytes after the end line, and an end line of other lines.
        let twice = [&bytes[..], b"\n"].concat();
        assert_eq!(
            parse_with_limits(&twice, 9, longest),
            ManifestRead::Unusable
        );
        let other = String::from_utf8(bytes)
            .unwrap()
            .replace("\"size\":3", "\"size\":4");
        assert_eq!(
            parse_with_limits(other.as_bytes(), 9, longest),
            ManifestRead::Unusable
        );
    }

    #[test]
    fn a_torn_manifest_is_recognized_by_its_lines() {
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
    fn a_clients_copy_of_a_manifest_has_no_machine_name() {
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
            assert_eq!(is_manifest_name(name), is_manifest, "{name}");
        }
    }
}
