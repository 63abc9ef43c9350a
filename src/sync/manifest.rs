//! `.codex-manager/machines/<machine>-<writer>.jsonl` in the cloud folder: what a machine has written
//! there, with digests, so that others see what has arrived whole.
//!
//! One writer for each file, so that no client ever has two versions to choose from; a name that does
//! not follow the grammar is nobody's. The first line is a header, the last one the digest of all
//! lines before it: half a manifest is told from a whole one.

use super::cloud_names;
use super::rollouts;
use super::state::{Deletion, SyncState};
use super::version_vector::Ancestry;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoError, atomic, document, file_open};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Our folder in the cloud folder.
pub const MANAGER_FOLDER: &str = ".codex-manager";
const MACHINES_FOLDER: &str = "machines";
const MANIFEST_SCHEMA: u64 = 1;

/// A version of a file that a machine wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Bytes on the disk.
    pub size: u64,
    /// The time that it has where it comes from: clients round times or make them anew.
    pub mtime_ns: i64,
    /// Of the bytes on the disk.
    pub digest: Sha256Digest,
    /// What came before a version of a plain file; not told of a first one. Programs that do not know
    /// it pass over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Box<Ancestry>>,
}

impl ManifestEntry {
    /// What came before it.
    pub fn history(&self) -> Ancestry {
        match &self.history {
            Some(history) => history.with_explicit_vector(&self.digest),
            None => Ancestry::first(&self.digest),
        }
    }
}

/// What one machine says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MachineManifest {
    /// The digest at its end; there is one.
    pub(super) end: Option<Sha256Digest>,
    /// By path in the cloud folder.
    pub(super) files: BTreeMap<String, ManifestEntry>,
    /// Files whose deletion was asked for, by key.
    pub(super) deleted: BTreeMap<String, Deletion>,
    /// See [`SyncState::resolved`].
    pub(super) resolved: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct ManifestHeader {
    schema: u64,
    machine: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ManifestLine {
    File(String, ManifestEntry),
    /// Key, digest, id.
    Deleted(String, String, String),
    Resolved(String),
    End(Sha256Digest),
}

/// Where manifests of all machines are, whole or not, or would be if they were downloaded.
pub fn all_paths(cloud: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = folder(cloud);
    let entries = std::fs::read_dir(&folder);
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = cloud_names::placeholder_target(&name).unwrap_or(name);
        is_manifest_name(&name).then(|| folder.join(name))
    })
}

/// The folder of manifests.
pub(super) fn folder(cloud: &Path) -> PathBuf {
    cloud.join(MANAGER_FOLDER).join(MACHINES_FOLDER)
}

/// How a folder of ours is named to people.
pub(super) fn display_name(name: &str) -> String {
    format!("{MANAGER_FOLDER}/{MACHINES_FOLDER}/{name}")
}

/// Where the manifest of this name is.
pub fn path_of_name(cloud: &Path, name: &str) -> PathBuf {
    cloud.join(MANAGER_FOLDER).join(MACHINES_FOLDER).join(name)
}

/// Where a machine's manifest is.
pub fn path_of(cloud: &Path, machine: &str, writer: &str) -> PathBuf {
    folder(cloud).join(format!("{machine}-{writer}.jsonl"))
}

/// What stands in the place of a folder of ours in the cloud folder, if anything does: a link, by which
/// what is written there would land elsewhere, or a file.
pub fn unusable_folder(cloud: &Path) -> Option<PathBuf> {
    let is_other = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
    folders(cloud).into_iter().find(is_other)
}

/// The folders of ours in the cloud folder, the outermost first.
pub fn folders(cloud: &Path) -> [PathBuf; 3] {
    let ours = cloud.join(MANAGER_FOLDER);
    let (machines, forks) = (
        ours.join(MACHINES_FOLDER),
        ours.join(super::conflict_copies::FOLDER),
    );
    [ours, machines, forks]
}

/// A manifest as it will stand in the cloud folder.
#[derive(Debug)]
pub struct EncodedManifest {
    bytes: Vec<u8>,
    /// The digest of all lines but the last, which holds it.
    pub end: Sha256Digest,
}

impl EncodedManifest {
    /// Writes it, where it is not already there as it is. The cloud folder has to be there.
    pub fn write(&self, cloud: &Path, path: &Path) -> Result<(), IoError> {
        let size = path.metadata().map(|meta| meta.len());
        let is_as_large = size.is_ok_and(|size| size == self.bytes.len() as u64);
        if is_as_large && file_open::read(path).is_ok_and(|old| old == self.bytes) {
            return Ok(());
        }
        atomic::create_durable_below(cloud, atomic::parent_of(path))?;
        atomic::write(path, &self.bytes)
    }

    /// Its lines, without their ends.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == b'\n')
    }
}

/// Whether what is left of a torn manifest says nothing that none of `words` says: the last line may be
/// cut, and zeros say nothing.
pub fn contains_only(torn: &[u8], words: &[EncodedManifest]) -> bool {
    let end = torn.iter().position(|byte| *byte == 0);
    let mut left = torn[..end.unwrap_or(torn.len())].split(|byte| *byte == b'\n');
    let cut = left.next_back().unwrap_or_default();
    let known: HashSet<&[u8]> = words.iter().flat_map(EncodedManifest::lines).collect();
    left.all(|line| known.contains(line)) && known.iter().any(|line| line.starts_with(cut))
}

/// The digest at the end of the manifest at `path`: that of its whole contents, where it is whole.
/// `None` where the end is none.
///
/// # Errors
/// It cannot be read; there is none.
pub fn end_digest(path: &Path) -> io::Result<Option<Sha256Digest>> {
    const LINE: u64 = 128;
    let mut file = file_open::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LINE)))?;
    let mut tail = Vec::new();
    file.take(LINE).read_to_end(&mut tail)?;
    let line = tail.strip_suffix(b"\n").and_then(|tail| {
        let start = tail.iter().rposition(|byte| *byte == b'\n')? + 1;
        serde_json::from_slice(&tail[start..]).ok()
    });
    Ok(match line {
        Some(ManifestLine::End(digest)) => Some(digest),
        _ => None,
    })
}

/// A machine's manifest: the files that it vouches for, and what its state has for others.
pub fn encode(
    machine: &str,
    files: &BTreeMap<String, ManifestEntry>,
    state: &SyncState,
) -> io::Result<EncodedManifest> {
    let mut bytes = Vec::new();
    let header = ManifestHeader {
        schema: MANIFEST_SCHEMA,
        machine: machine.to_owned(),
    };
    document::push_line(&mut bytes, &header)?;
    let mut push = |line: &ManifestLine| document::push_line(&mut bytes, line);
    for (path, written) in files {
        push(&ManifestLine::File(path.clone(), written.clone()))?;
    }
    let deleted: BTreeMap<_, _> = state.deleted.iter().collect();
    for (path, Deletion { digest, id }) in deleted {
        push(&ManifestLine::Deleted(
            path.clone(),
            digest.clone(),
            id.clone(),
        ))?;
    }
    for digest in &state.resolutions {
        push(&ManifestLine::Resolved(digest.clone()))?;
    }
    let end = Sha256Digest::of(&bytes);
    document::push_line(&mut bytes, &ManifestLine::End(end))?;
    Ok(EncodedManifest { bytes, end })
}

/// Why a manifest is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManifestRejection {
    /// It is not whole, or of a version that is not known.
    Incomplete,
    /// It is more than is read, and why.
    OverLimit(&'static str),
}

/// Parses a manifest of at most `lines` lines, none of which has more than `line_bytes` bytes; along with the
/// number of its lines. What goes beyond that is not read.
///
/// # Errors
/// It cannot be read.
pub(super) fn parse(
    mut from: impl BufRead,
    lines: usize,
    line_bytes: u64,
) -> io::Result<Result<(MachineManifest, usize), ManifestRejection>> {
    let mut hasher = Hasher::default();
    let mut manifest: Option<MachineManifest> = None;
    let mut line = Vec::new();
    let mut parsed = 0;
    for count in 0.. {
        line.clear();
        let read = (&mut from)
            .take(line_bytes.saturating_add(1))
            .read_until(b'\n', &mut line)? as u64;
        let Some(text) = line.strip_suffix(b"\n") else {
            // Zeros are what a power cut or a client leaves where the rest is to come.
            let is_long = read > line_bytes && line.last() != Some(&0);
            return Ok(Err(if is_long {
                ManifestRejection::OverLimit("a line of it is longer than any that is written")
            } else {
                ManifestRejection::Incomplete
            }));
        };
        // The first and the last say nothing of files.
        if count > lines.saturating_add(1) {
            return Ok(Err(ManifestRejection::OverLimit(
                "it has more lines than are read",
            )));
        }
        let Some(said) = &mut manifest else {
            match serde_json::from_slice::<ManifestHeader>(text) {
                Ok(header) if header.schema <= MANIFEST_SCHEMA => {
                    manifest = Some(MachineManifest::default())
                }
                _ => return Ok(Err(ManifestRejection::Incomplete)),
            }
            hasher.update(&line);
            continue;
        };
        match serde_json::from_slice(text) {
            _ if text.is_empty() => {}
            Ok(ManifestLine::File(path, written)) => {
                said.files.insert(path, written);
            }
            Ok(ManifestLine::Deleted(path, digest, id)) => {
                said.deleted.insert(path, Deletion { digest, id });
            }
            Ok(ManifestLine::Resolved(digest)) => {
                said.resolved.insert(digest);
            }
            Ok(ManifestLine::End(digest))
                if digest == hasher.digest() && from.fill_buf()?.is_empty() =>
            {
                said.end = Some(digest);
                break;
            }
            Ok(ManifestLine::End(_)) | Err(_) => return Ok(Err(ManifestRejection::Incomplete)),
        }
        hasher.update(&line);
        parsed = count;
    }
    Ok(manifest
        .map(|manifest| (manifest, parsed))
        .ok_or(ManifestRejection::Incomplete))
}

/// What the versions of a file are kept under: one key for all forms and places of a conversation, and
/// for all spellings of a name.
pub fn key_of(path: &str) -> String {
    fold_name(rollouts::key(path).as_deref().unwrap_or(path))
}

/// One spelling for all that a client or a disk may make of a name: letter case, forms of Unicode. Two
/// files whose names differ by that alone may share what is said of them: digests tell them apart.
pub fn fold_name(key: &str) -> String {
    if key.is_ascii() {
        key.to_ascii_lowercase()
    } else {
        key.nfc().flat_map(char::to_lowercase).nfc().collect()
    }
}

/// Whether a name is one of a manifest: what a client adds to it makes it nobody's.
pub(super) fn is_manifest_name(name: &str) -> bool {
    machine_name(name).is_some()
}

/// The machine of `<machine>-<8 hex>.jsonl`.
pub fn machine_name(name: &str) -> Option<&str> {
    let (machine, writer) = name.strip_suffix(".jsonl")?.rsplit_once('-')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let fits = !machine.is_empty()
        && machine.chars().all(plain)
        && writer.len() == 8
        && writer.bytes().all(hex);
    fits.then_some(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole manifest, else nothing.
    fn parsed(bytes: &[u8]) -> Option<MachineManifest> {
        let parsed = parse(bytes, 9, 1 << 10).unwrap();
        parsed.ok().map(|(manifest, _)| manifest)
    }

    fn sample() -> MachineManifest {
        let written = ManifestEntry {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(b"abc"),
            history: None,
        };
        MachineManifest {
            end: None,
            files: BTreeMap::from([("sessions/a.jsonl".to_owned(), written)]),
            deleted: BTreeMap::from([("x".to_owned(), Deletion::of("d".to_owned()))]),
            resolved: BTreeSet::from(["r".to_owned()]),
        }
    }

    #[test]
    fn half_a_manifest_is_none_wherever_it_ends() {
        let mut sample = sample();
        let state = SyncState {
            deleted: sample.deleted.clone().into_iter().collect(),
            resolutions: sample.resolved.clone(),
            ..SyncState::default()
        };
        let EncodedManifest { bytes, end } = encode("desk", &sample.files, &state).unwrap();
        sample.end = Some(end);
        assert_eq!(parsed(&bytes), Some(sample));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        assert!(end_digest(&path).is_err());
        for (bytes, found) in [
            (&bytes[..], Some(end)),
            (&bytes[..bytes.len() - 1], None),
            (&bytes[..9], None),
            (b"", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(end_digest(&path).unwrap(), found, "{}", bytes.len());
        }
        for cut in 0..bytes.len() {
            assert_eq!(parsed(&bytes[..cut]), None, "{cut}");
        }
        let mut zeros = bytes.clone();
        zeros[40..60].fill(0);
        assert_eq!(parsed(&zeros), None);
    }

    #[test]
    fn more_than_is_read_is_told_from_what_has_not_arrived() {
        let sample = sample();
        let EncodedManifest { bytes, .. } =
            encode("desk", &sample.files, &SyncState::default()).unwrap();
        let judge = |bytes: &[u8], lines, line_bytes| {
            let parsed = parse(bytes, lines, line_bytes).unwrap();
            parsed.map(|(_, lines)| lines)
        };
        let lines = bytes.split(|byte| *byte == b'\n');
        let longest = lines.map(<[u8]>::len).max().unwrap() as u64;
        assert_eq!(judge(&bytes, 1, longest), Ok(1));
        let too_much = |judged| matches!(judged, Err(ManifestRejection::OverLimit(_)));
        assert!(too_much(judge(&bytes, 2, longest - 1)));
        assert!(too_much(judge(&bytes, 0, longest)));
        assert!(too_much(judge(&[b'x'; 4096], 2, longest)));
        for partial in [&[0; 4096][..], b"", b"{}", b"\n\n\n"] {
            assert_eq!(
                judge(partial, 2, longest),
                Err(ManifestRejection::Incomplete)
            );
        }
        // What stands behind the end, and an end of other lines.
        let twice = [&bytes[..], b"\n"].concat();
        assert_eq!(
            judge(&twice, 9, longest),
            Err(ManifestRejection::Incomplete)
        );
        let other = String::from_utf8(bytes)
            .unwrap()
            .replace("\"size\":3", "\"size\":4");
        assert_eq!(
            judge(other.as_bytes(), 9, longest),
            Err(ManifestRejection::Incomplete)
        );
    }

    #[test]
    fn what_is_left_of_a_word_is_told_from_what_another_one_said() {
        let sample = sample();
        let state = SyncState::default();
        let word = |path: &str| {
            let written = sample.files["sessions/a.jsonl"].clone();
            let files = BTreeMap::from([("AGENTS.md".to_owned(), written.clone())]);
            let other = BTreeMap::from([(path.to_owned(), written)]);
            encode("desk", &files.into_iter().chain(other).collect(), &state).unwrap()
        };
        let (own, other) = (word("skills/mine"), word("skills/other"));
        let shared = own.bytes.iter().zip(&other.bytes);
        let shared = shared.take_while(|(own, other)| own == other).count();
        for cut in 0..own.bytes.len() {
            let mut zeros = own.bytes.clone();
            zeros[cut..].fill(0);
            for torn in [&own.bytes[..cut], &zeros] {
                assert!(contains_only(torn, &[word("skills/mine")]), "{cut}");
                let is_known = contains_only(torn, &[word("skills/other")]);
                assert_eq!(is_known, cut <= shared, "{cut}");
            }
        }
        let torn = own.bytes[..shared + 3].to_vec();
        assert!(contains_only(&torn, &[other, own]));
    }

    #[test]
    fn a_clients_copy_of_a_manifest_is_no_second_machine() {
        for (name, ours) in [
            ("desk-1-0123abcd.jsonl", true),
            ("desk-0123abcd (1).jsonl", false),
            ("desk-0123abcd-LAPTOP.jsonl", false),
            (
                "desk-0123abcd.sync-conflict-20261118-101010-ABCDEF7.jsonl",
                false,
            ),
            ("desk.jsonl", false),
        ] {
            assert_eq!(is_manifest_name(name), ours, "{name}");
        }
    }
}
