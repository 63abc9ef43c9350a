//! `.codex-manager/machines/<machine>-<writer>.jsonl` in the cloud folder: what a machine has written
//! there, with digests, so that others see what has arrived whole.
//!
//! One writer for each file, so that no client ever has two versions to choose from; a name that does
//! not follow the grammar is nobody's. The first line is a header, the last one the digest of all
//! lines before it: half a manifest is told from a whole one.

use super::lineage::History;
use super::rollouts;
use super::state::{Deletion, State};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, atomic, document, regular};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;

/// Our folder in the cloud folder.
pub const OURS: &str = ".codex-manager";
const MACHINES: &str = "machines";
const SCHEMA: u64 = 1;

/// A version of a file that a machine wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes on the disk.
    pub size: u64,
    /// The time that it has where it comes from: clients round times or make them anew.
    pub mtime_ns: i64,
    /// Of the bytes on the disk.
    pub digest: Sha256Digest,
    /// What came before a version of a plain file; not told of a first one. Programs that do not know
    /// it pass over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Box<History>>,
}

impl Written {
    /// What came before it.
    pub fn history(&self) -> History {
        match &self.history {
            Some(history) => history.of(&self.digest),
            None => History::first(&self.digest),
        }
    }
}

/// What one machine says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Manifest {
    /// The digest at its end.
    end: Sha256Digest,
    /// By path in the cloud folder.
    files: BTreeMap<String, Written>,
    /// Files whose deletion was asked for, by key.
    deleted: BTreeMap<String, Deletion>,
    /// See [`State::resolved`].
    resolved: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: u64,
    machine: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    File(String, Written),
    /// Key, digest, id.
    Deleted(String, String, String),
    Resolved(String),
    End(Sha256Digest),
}

/// Where manifests of all machines are, whole or not.
pub fn all_paths(cloud: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(cloud.join(OURS).join(MACHINES));
    let entries = entries.into_iter().flatten().flatten();
    entries
        .filter(|entry| is_ours(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
}

/// Where a machine's manifest is.
pub fn path_of(cloud: &Path, machine: &str, writer: &str) -> PathBuf {
    cloud
        .join(OURS)
        .join(MACHINES)
        .join(format!("{machine}-{writer}.jsonl"))
}

/// What stands in the place of a folder of ours in the cloud folder, if anything does: a link, by which
/// what is written there would land elsewhere, or a file.
pub fn unusable_folder(cloud: &Path) -> Option<PathBuf> {
    let is_other = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
    folders(cloud).into_iter().find(is_other)
}

/// The folders of ours in the cloud folder, the outermost first.
pub fn folders(cloud: &Path) -> [PathBuf; 3] {
    let ours = cloud.join(OURS);
    let (machines, forks) = (ours.join(MACHINES), ours.join(super::forks::FOLDER));
    [ours, machines, forks]
}

/// A manifest as it will stand in the cloud folder.
#[derive(Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    /// The digest of all lines but the last, which holds it.
    pub end: Sha256Digest,
}

impl Encoded {
    /// Writes it, where it is not already there as it is. The cloud folder has to be there.
    pub fn write(&self, cloud: &Path, path: &Path) -> Result<(), IoError> {
        if regular::read(path).is_ok_and(|old| old == self.bytes) {
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
pub fn says_only(torn: &[u8], words: &[Encoded]) -> bool {
    let end = torn.iter().position(|byte| *byte == 0);
    let mut left = torn[..end.unwrap_or(torn.len())].split(|byte| *byte == b'\n');
    let cut = left.next_back().unwrap_or_default();
    let known: HashSet<&[u8]> = words.iter().flat_map(Encoded::lines).collect();
    left.all(|line| known.contains(line)) && known.iter().any(|line| line.starts_with(cut))
}

/// The digest at the end of the manifest at `path`: that of its whole contents, where it is whole.
/// `None` where the end is none.
///
/// # Errors
/// It cannot be read; there is none.
pub fn end_of(path: &Path) -> std::io::Result<Option<Sha256Digest>> {
    const LINE: u64 = 128;
    let mut file = regular::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(LINE)))?;
    let mut tail = Vec::new();
    file.take(LINE).read_to_end(&mut tail)?;
    let line = tail.strip_suffix(b"\n").and_then(|tail| {
        let start = tail.iter().rposition(|byte| *byte == b'\n')? + 1;
        serde_json::from_slice(&tail[start..]).ok()
    });
    Ok(match line {
        Some(Line::End(digest)) => Some(digest),
        _ => None,
    })
}

/// A machine's manifest: the files that it vouches for, and what its state has for others.
pub fn encode(
    machine: &str,
    files: &BTreeMap<String, Written>,
    state: &State,
) -> std::io::Result<Encoded> {
    let mut bytes = Vec::new();
    let header = Header {
        schema: SCHEMA,
        machine: machine.to_owned(),
    };
    document::push_line(&mut bytes, &header)?;
    let mut push = |line: &Line| document::push_line(&mut bytes, line);
    for (path, written) in files {
        push(&Line::File(path.clone(), written.clone()))?;
    }
    let deleted: BTreeMap<_, _> = state.deleted.iter().collect();
    for (path, Deletion { digest, id }) in deleted {
        push(&Line::Deleted(path.clone(), digest.clone(), id.clone()))?;
    }
    for digest in &state.resolved {
        push(&Line::Resolved(digest.clone()))?;
    }
    let end = Sha256Digest::of(&bytes);
    document::push_line(&mut bytes, &Line::End(end))?;
    Ok(Encoded { bytes, end })
}

/// Parses a manifest; `None` when it is not whole, or of a version that is not known.
fn parse(bytes: &[u8]) -> Option<Manifest> {
    let body = bytes.strip_suffix(b"\n")?;
    let end = body.iter().rposition(|b| *b == b'\n')? + 1;
    let Line::End(digest) = serde_json::from_slice(&body[end..]).ok()? else {
        return None;
    };
    if Sha256Digest::of(&bytes[..end]) != digest {
        return None;
    }
    let mut lines = bytes[..end].split(|b| *b == b'\n');
    let header: Header = serde_json::from_slice(lines.next()?).ok()?;
    if header.schema > SCHEMA {
        return None;
    }
    let mut manifest = Manifest {
        end: digest,
        files: BTreeMap::new(),
        deleted: BTreeMap::new(),
        resolved: BTreeSet::new(),
    };
    for line in lines.filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).ok()? {
            Line::File(path, written) => {
                manifest.files.insert(path, written);
            }
            Line::Deleted(path, digest, id) => {
                manifest.deleted.insert(path, Deletion { digest, id });
            }
            Line::Resolved(digest) => {
                manifest.resolved.insert(digest);
            }
            Line::End(_) => return None,
        }
    }
    Some(manifest)
}

/// What all machines say.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Whether this machine's own is there, whole or not.
    pub has_own: bool,
    /// What the others say, by key.
    others: HashMap<String, Vec<Written>>,
    /// Deletions that others ask for, by key.
    deleted: HashMap<String, Vec<Deletion>>,
    /// What others call settled.
    pub resolved: BTreeSet<String>,
    /// Names of manifests that have not arrived whole.
    pub incomplete: Vec<String>,
    /// How many other machines there are.
    pub machines: usize,
    /// Names in our folder that are nobody's.
    pub foreign: Vec<String>,
}

impl Manifests {
    /// Reads them all. `own` is the path of this machine's; `former` are the ends of those that it wrote
    /// under other names.
    pub fn read(cloud: &Path, own: &Path, former: &[Sha256Digest]) -> Result<Self, IoError> {
        let mut all = Self::default();
        let folder = cloud.join(OURS).join(MACHINES);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(all),
            Err(e) => return Err(e).at("list", &folder),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            if path == own {
                all.has_own = true;
                continue;
            }
            let is_ours = is_ours(&name);
            let parsed = regular::read(&path).ok().and_then(|bytes| parse(&bytes));
            let is_former = parsed.as_ref().is_some_and(|m| former.contains(&m.end));
            match parsed {
                Some(manifest) => all.take(manifest, is_ours),
                None if is_ours => all.incomplete.push(name.clone()),
                None => {}
            }
            if is_ours {
                all.machines += usize::from(!is_former);
            } else {
                all.foreign.push(format!("{OURS}/{MACHINES}/{name}"));
            }
        }
        Ok(all)
    }

    /// What a client has put aside under another name still tells which files are whole; what it asks
    /// for may be of yesterday.
    fn take(&mut self, manifest: Manifest, is_current: bool) {
        for (path, written) in manifest.files {
            let versions = self.others.entry(key_of(&path)).or_default();
            if is_current || !versions.contains(&written) {
                versions.push(written);
            }
        }
        if is_current {
            for (path, deletion) in manifest.deleted {
                let key = folded(&path);
                self.deleted.entry(key).or_default().push(deletion);
            }
            self.resolved.extend(manifest.resolved);
        }
    }

    /// The versions of a file that other machines say they wrote; `key` in any spelling.
    pub fn of_others(&self, key: &str) -> &[Written] {
        self.others.get(&folded(key)).map_or(&[], Vec::as_slice)
    }

    /// The deletions of a file that other machines ask for and nobody has called settled.
    pub fn deletions(&self, key: &str) -> impl Iterator<Item = &Deletion> {
        let asked = self.deleted.get(&folded(key)).into_iter().flatten();
        asked.filter(|deletion| !self.resolved.contains(&deletion.id))
    }
}

/// What this machine's manifest at `own` says, by key: the client may have brought back one of an earlier
/// day. Nothing where it is not whole.
pub fn own_there(own: &Path) -> HashMap<String, Vec<Written>> {
    let mut by_key: HashMap<String, Vec<Written>> = HashMap::new();
    let manifest = regular::read(own).ok().and_then(|bytes| parse(&bytes));
    for (path, written) in manifest.into_iter().flat_map(|manifest| manifest.files) {
        by_key.entry(key_of(&path)).or_default().push(written);
    }
    by_key
}

/// What the versions of a file are kept under: one key for all forms and places of a conversation, and
/// for all spellings of a name.
pub fn key_of(path: &str) -> String {
    folded(rollouts::key(path).as_deref().unwrap_or(path))
}

/// One spelling for all that a client or a disk may make of a name: letter case, forms of Unicode. Two
/// files whose names differ by that alone may share what is said of them: digests tell them apart.
pub fn folded(key: &str) -> String {
    if key.is_ascii() {
        key.to_ascii_lowercase()
    } else {
        key.nfc().flat_map(char::to_lowercase).nfc().collect()
    }
}

/// `<machine>-<8 hex>.jsonl`: what a client adds to a name of ours makes it nobody's.
fn is_ours(name: &str) -> bool {
    let Some((machine, writer)) = name
        .strip_suffix(".jsonl")
        .and_then(|stem| stem.rsplit_once('-'))
    else {
        return false;
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    !machine.is_empty()
        && machine.chars().all(plain)
        && writer.len() == 8
        && writer.bytes().all(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(end: Sha256Digest) -> Manifest {
        let written = Written {
            size: 3,
            mtime_ns: 5,
            digest: Sha256Digest::of(b"abc"),
            history: None,
        };
        Manifest {
            end,
            files: BTreeMap::from([("sessions/a.jsonl".to_owned(), written)]),
            deleted: BTreeMap::from([("x".to_owned(), Deletion::of("d".to_owned()))]),
            resolved: BTreeSet::from(["r".to_owned()]),
        }
    }

    #[test]
    fn half_a_manifest_is_none_wherever_it_ends() {
        let mut sample = sample(Sha256Digest::of(b""));
        let state = State {
            deleted: sample.deleted.clone().into_iter().collect(),
            resolved: sample.resolved.clone(),
            ..State::default()
        };
        let Encoded { bytes, end } = encode("desk", &sample.files, &state).unwrap();
        sample.end = end;
        assert_eq!(parse(&bytes), Some(sample));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        assert!(end_of(&path).is_err());
        for (bytes, found) in [
            (&bytes[..], Some(end)),
            (&bytes[..bytes.len() - 1], None),
            (&bytes[..9], None),
            (b"", None),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(end_of(&path).unwrap(), found, "{}", bytes.len());
        }
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), None, "{cut}");
        }
        let mut zeros = bytes.clone();
        zeros[40..60].fill(0);
        assert_eq!(parse(&zeros), None);
    }

    #[test]
    fn what_is_left_of_a_word_is_told_from_what_another_one_said() {
        let sample = sample(Sha256Digest::of(b""));
        let state = State::default();
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
                assert!(says_only(torn, &[word("skills/mine")]), "{cut}");
                let is_known = says_only(torn, &[word("skills/other")]);
                assert_eq!(is_known, cut <= shared, "{cut}");
            }
        }
        let torn = own.bytes[..shared + 3].to_vec();
        assert!(says_only(&torn, &[other, own]));
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
            assert_eq!(is_ours(name), ours, "{name}");
        }
    }
}
