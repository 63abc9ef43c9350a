//! The state of the last sync of one replica, that is, of one pair of a home and a cloud folder. Stored on
//! this machine.
//!
//! `state.jsonl` has a header and a line for each file; a later line of a file replaces an earlier one. A run
//! appends what it has done, so a kill loses only the line that it tore. The end of a run rewrites the file.

use super::restore_marker;
use super::scan::Stat;
use super::version_vector::Ancestry;
use crate::io::document::push_line;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, atomic, file_open, tree};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Newest schema of the state file that this program reads.
const STATE_SCHEMA: u64 = 1;
const STATE_FILE: &str = "state.jsonl";
/// Suffix of the copy of a damaged state.
const DAMAGED_SUFFIX: &str = ".damaged";
/// Number of published manifests that the state remembers: one that was not written before a kill, and those that a
/// client may restore.
const MAX_PUBLISHED: usize = 8;

/// Path, size and mtime of a file on one side after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideFile {
    /// Path relative to the root of the side.
    pub path: String,
    /// Size and mtime after the last sync.
    pub stat: Stat,
}

/// A file as both sides had it after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedFile {
    /// The file in the home.
    pub local: SideFile,
    /// The file in the cloud folder.
    pub remote: SideFile,
    /// Length and digest of the text; `None` if it was not read.
    pub contents: Option<(u64, Sha256Digest)>,
}

/// First line of the state file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StateHeader {
    schema: u64,
    /// Distinguishes this machine's manifest from that of a machine with the same name.
    writer: String,
    local: String,
    cloud: String,
}

/// A line: key, local file, remote file, contents. A path that equals the key is stored as an empty string.
#[derive(Serialize, Deserialize)]
struct StateLine<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    u64,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    u64,
    i64,
    Option<(u64, Sha256Digest)>,
);

/// The state of one replica.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any of them may hold"
)]
#[derive(Debug, Clone, Default)]
pub struct SyncState {
    /// Synced files, by key.
    pub files: HashMap<String, SyncedFile>,
    /// Facts shared with all machines: resolutions about versions of conversations ([`super::resolutions`]),
    /// and the ids of deletions that were cancelled because the file was created again.
    pub resolutions: BTreeSet<String>,
    /// Deletions that this machine requests from the others, by key.
    pub deleted: HashMap<String, Deletion>,
    /// Ancestries of plain files, by key; absent for first versions. Kept for files that are gone: a
    /// re-created file continues from there.
    pub histories: HashMap<String, Ancestry>,
    /// Digests of the bytes of remote files with their size and mtime at that time, by key, where the digest
    /// of the text differs. Ignored once size or mtime differ.
    pub remote_digests: HashMap<String, (Stat, Sha256Digest)>,
    /// The suffix of this machine's manifest name; see [`super::manifest`].
    pub writer: String,
    /// End digests of the manifests that this machine published last, the newest last.
    pub published_manifests: Vec<Sha256Digest>,
    /// End digests of manifests that this machine wrote under other names. Their entries count, but sync
    /// never waits for these machines.
    pub former_manifests: Vec<Sha256Digest>,
    /// Manifests that were incomplete at the last run, each with its size and mtime.
    pub torn_manifests: Vec<String>,
    /// True if a state file existed.
    pub exists: bool,
    /// True once another machine has written a manifest. From then on sync waits for files to be attested.
    pub has_other_machines: bool,
    /// Digest of the notes of the last complete run; a run prints its notes only if they differ.
    pub notes_digest: Option<Sha256Digest>,
    /// The unreadable part of the file. The next write keeps a copy of the damaged file.
    pub damage: Option<StateDamage>,
    /// True if files outside of the state may have been synced: after damage or a restore of the home, until
    /// a run has processed all files.
    pub has_gaps: bool,
    /// Marker of a restore of the home from an archive. Files missing since then do not count as deleted.
    pub restore_marker: Option<String>,
    /// True if the file has to be rewritten before lines are appended.
    pub needs_rewrite: bool,
}

/// A deletion that is requested from other machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Digest of the deleted content; no other content is deleted.
    pub digest: String,
    /// Random id that distinguishes it from an earlier deletion of the same file.
    pub id: String,
}

impl Deletion {
    /// Returns a new deletion with a random id.
    pub fn of(digest: String) -> Self {
        Self {
            digest,
            id: random_id(),
        }
    }
}

/// The unreadable part of a state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDamage {
    /// The whole file, because its header is damaged.
    All,
    /// The given number of lines.
    Lines(usize),
}

/// An error of reading the state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file was written by a newer version of this program.
    #[error("written by a newer codex-manager (schema {found}, this one knows {STATE_SCHEMA}): {}", path.display())]
    Newer {
        /// Path of the state file.
        path: PathBuf,
        /// Schema found in the file.
        found: u64,
    },
    /// Reading or writing the state file failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The state folder of one pair of a home and a cloud folder.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Path of the state folder, below the manager home.
    pub folder: PathBuf,
    local: String,
    cloud: String,
}

impl Replica {
    /// Returns the replica for this home and this cloud folder. Creates nothing.
    pub fn of(manager_home: &Path, local: &Path, cloud: &Path) -> Self {
        // Paths are resolved as far as they exist, so that an unmounted folder keeps its replica.
        let text = |path: &Path| tree::real(path).to_string_lossy().into_owned();
        let (local, cloud) = (text(local), text(cloud));
        let id = Sha256Digest::of(format!("{local}\n{cloud}").as_bytes()).to_string();
        Self {
            folder: manager_home.join("sync").join(&id[..16]),
            local,
            cloud,
        }
    }

    /// Returns the folders of all states of this home, including those whose header cannot be read.
    pub fn folders_of(manager_home: &Path, local: &Path) -> Result<Vec<PathBuf>, IoError> {
        let all = manager_home.join("sync");
        let local = tree::real(local).to_string_lossy().into_owned();
        let entries = match std::fs::read_dir(&all) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("list", &all)?,
        };
        let mut folders = Vec::new();
        for entry in entries {
            let folder = entry.at("list", &all)?.path();
            let Ok(file) = file_open::open(folder.join(STATE_FILE)) else {
                continue;
            };
            let mut line = Vec::new();
            let read = BufReader::new(file).read_until(b'\n', &mut line);
            let header = serde_json::from_slice::<StateHeader>(&line);
            if read.is_err() || header.map_or(true, |header| header.local == local) {
                folders.push(folder);
            }
        }
        Ok(folders)
    }

    /// Returns the path of `state.jsonl`.
    pub fn state_file(&self) -> PathBuf {
        self.folder.join(STATE_FILE)
    }

    /// Returns the path of the lock file that a run holds.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    /// Returns the folder of local conflict copies.
    pub fn conflict_copies(&self) -> PathBuf {
        self.folder
            .join(super::conflict_copies::CONFLICT_COPIES_FOLDER)
    }

    /// Reads the state, and the marker of a restore since the last run. A missing state, or one with a
    /// damaged header, is read as empty; [`SyncState::damage`] names the damage.
    pub fn read(&self) -> Result<SyncState, StateError> {
        let mut state = self.read_file()?;
        state.restore_marker = restore_marker::read(&self.folder)?;
        state.has_gaps |= state.restore_marker.is_some();
        Ok(state)
    }

    fn read_file(&self) -> Result<SyncState, StateError> {
        let path = self.state_file();
        let file = match file_open::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new_state()),
            Err(e) => Err(e).at("open", &path)?,
        };
        let size = file.metadata().at("look at", &path)?.len();
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).at("read", &path)?;
        let Ok(header) = serde_json::from_slice::<StateHeader>(&line) else {
            return Ok(SyncState {
                damage: Some(StateDamage::All),
                has_gaps: true,
                ..Self::new_state()
            });
        };
        if header.schema > STATE_SCHEMA {
            return Err(StateError::Newer {
                path,
                found: header.schema,
            });
        }
        let mut damaged = 0;
        let mut state = SyncState {
            writer: header.writer,
            exists: true,
            files: HashMap::with_capacity(usize::try_from(size / 330).unwrap_or(0)),
            ..SyncState::default()
        };
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).at("read", &path)?;
            // Text after the last newline was torn by a kill.
            if line.pop() != Some(b'\n') {
                state.needs_rewrite = !line.is_empty();
                break;
            }
            damaged += usize::from(!state.parse_line(&line));
        }
        if damaged > 0 {
            state.damage = Some(StateDamage::Lines(damaged));
            state.has_gaps = true;
            state.needs_rewrite = true;
        }
        Ok(state)
    }

    fn new_state() -> SyncState {
        SyncState {
            writer: new_writer(),
            needs_rewrite: true,
            ..SyncState::default()
        }
    }

    /// Writes the whole state durably. Keeps a copy of a damaged file as `state.jsonl.damaged`.
    pub fn write(&self, state: &mut SyncState) -> Result<(), IoError> {
        atomic::create_durable_folder(&self.folder)?;
        let path = self.state_file();
        if state.damage.is_some() {
            atomic::keep_copy(&path, DAMAGED_SUFFIX)?;
            state.damage = None;
        }
        let bytes = self.encode(state).at("encode", &path)?;
        atomic::write(&path, &bytes)?;
        state.needs_rewrite = false;
        Ok(())
    }

    fn encode(&self, state: &SyncState) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let header = StateHeader {
            schema: STATE_SCHEMA,
            writer: state.writer.clone(),
            local: self.local.clone(),
            cloud: self.cloud.clone(),
        };
        push_line(&mut bytes, &header)?;
        let mut keys: Vec<_> = state.files.keys().collect();
        keys.sort();
        for key in keys {
            push_line(&mut bytes, &synced_line(key, &state.files[key]))?;
        }
        if state.has_other_machines {
            push_line(&mut bytes, &serde_json::json!({ "peers": true }))?;
        }
        if state.has_gaps {
            push_line(&mut bytes, &serde_json::json!({ "gaps": true }))?;
        }
        for resolution in &state.resolutions {
            push_line(&mut bytes, &resolved_line(resolution))?;
        }
        for (key, deletion) in &state.deleted {
            push_line(&mut bytes, &deletion_line(key, deletion))?;
        }
        let histories: BTreeMap<_, _> = state.histories.iter().collect();
        for (key, history) in histories {
            push_line(&mut bytes, &history_line(key, history))?;
        }
        let remote_digests: BTreeMap<_, _> = state.remote_digests.iter().collect();
        for (key, (stat, digest)) in remote_digests {
            let is_as = |last: &SyncedFile| last.remote.stat == *stat;
            if state.files.get(key).is_some_and(is_as) {
                let line = serde_json::json!({
                    "bytes": key, "size": stat.size, "mtime": stat.mtime_ns, "digest": digest
                });
                push_line(&mut bytes, &line)?;
            }
        }
        for end in &state.published_manifests {
            push_line(&mut bytes, &serde_json::json!({ "published": end }))?;
        }
        for end in &state.former_manifests {
            push_line(&mut bytes, &serde_json::json!({ "former": end }))?;
        }
        for resolution in &state.torn_manifests {
            push_line(&mut bytes, &serde_json::json!({ "torn": resolution }))?;
        }
        if let Some(notes_digest) = &state.notes_digest {
            push_line(&mut bytes, &serde_json::json!({ "notes": notes_digest }))?;
        }
        Ok(bytes)
    }

    /// Opens the state file for appending; it must exist.
    pub fn journal(&self) -> Result<StateJournal, IoError> {
        let path = self.state_file();
        let mut options = OpenOptions::new();
        let file = options.append(true).open(&path).at("open", &path)?;
        Ok(StateJournal { file, path })
    }
}

/// Appends to the state file during a run.
#[derive(Debug)]
pub struct StateJournal {
    file: File,
    path: PathBuf,
}

impl StateJournal {
    /// Records the version of a file on both sides. Durable after [`StateJournal::sync`].
    pub fn record(
        &mut self,
        key: &str,
        last: &SyncedFile,
        history: Option<&Ancestry>,
    ) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        if let Some(history) = history {
            push_line(&mut bytes, &history_line(key, history)).at("encode", &self.path)?;
        }
        push_line(&mut bytes, &synced_line(key, last)).at("encode", &self.path)?;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Records that neither side has the file any more.
    pub fn record_gone(&mut self, key: &str) -> Result<(), IoError> {
        self.push(&serde_json::json!({ "gone": key }))
    }

    /// Records an entry of [`SyncState::resolutions`].
    pub fn record_resolution(&mut self, resolution: &str) -> Result<(), IoError> {
        self.push(&resolved_line(resolution))
    }

    fn push(&mut self, line: &impl Serialize) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        push_line(&mut bytes, line).at("encode", &self.path)?;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Flushes the recorded lines to disk.
    pub fn sync(&mut self) -> Result<(), IoError> {
        self.file.sync_data().at("fsync", &self.path)
    }
}

impl SyncState {
    /// Records the end digest of a manifest that is about to be published, so that it counts as this
    /// machine's own.
    pub fn record_published(&mut self, end: Sha256Digest) {
        if self.published_manifests.last() == Some(&end) {
            return;
        }
        self.published_manifests.retain(|known| *known != end);
        self.published_manifests.push(end);
        let old = self.published_manifests.len().saturating_sub(MAX_PUBLISHED);
        self.published_manifests.drain(..old);
    }

    /// Takes a new random name for this machine's manifest.
    pub fn take_new_name(&mut self) {
        self.writer = new_writer();
        // A client may restore any of them later; they all count as this machine's.
        for end in std::mem::take(&mut self.published_manifests) {
            if !self.former_manifests.contains(&end) {
                self.former_manifests.push(end);
            }
        }
        self.needs_rewrite = true;
    }

    /// Applies a line. Returns false for an unreadable one; its file is compared as new.
    fn parse_line(&mut self, line: &[u8]) -> bool {
        if line.first() == Some(&b'[') {
            let Ok(StateLine(key, local, size, mtime, remote, there_size, there_mtime, contents)) =
                serde_json::from_slice(line)
            else {
                return false;
            };
            let place = |path: Cow<'_, str>, size, mtime_ns| SideFile {
                path: if path.is_empty() {
                    key.clone().into_owned()
                } else {
                    path.into_owned()
                },
                stat: Stat { size, mtime_ns },
            };
            let last = SyncedFile {
                local: place(local, size, mtime),
                remote: place(remote, there_size, there_mtime),
                contents,
            };
            let key = key.into_owned();
            // Recorded after its deletion, the file exists again.
            self.deleted.remove(&key);
            self.files.insert(key, last);
            return true;
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else {
            return false;
        };
        let text = |key: &str| value.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        if value.get("peers").is_some() {
            self.has_other_machines = true;
        } else if value.get("gaps").is_some() {
            self.has_gaps = true;
        } else if let Some(digest) = text("resolved") {
            self.resolutions.insert(digest);
        } else if let Some(key) = text("gone") {
            self.files.remove(&key);
        } else if let Some(key) = text("history") {
            let Ok(history) = Ancestry::deserialize(&value) else {
                return false;
            };
            self.histories.insert(key, history);
        } else if let Some(key) = text("bytes") {
            let size = value.get("size").and_then(serde_json::Value::as_u64);
            let mtime_ns = value.get("mtime").and_then(serde_json::Value::as_i64);
            let digest = value.get("digest").map(Sha256Digest::deserialize);
            let (Some(size), Some(mtime_ns), Some(Ok(digest))) = (size, mtime_ns, digest) else {
                return false;
            };
            self.remote_digests
                .insert(key, (Stat { size, mtime_ns }, digest));
        } else if let (Some(path), Some(digest)) = (text("deleted"), text("digest")) {
            let deletion = match text("id") {
                Some(id) => Deletion { digest, id },
                None => Deletion::of(digest),
            };
            self.deleted.insert(path, deletion);
        } else if let Some(end) = value.get("published") {
            let end = Sha256Digest::deserialize(end);
            return end.map(|end| self.published_manifests.push(end)).is_ok();
        } else if let Some(end) = value.get("former") {
            let end = Sha256Digest::deserialize(end);
            return end.map(|end| self.former_manifests.push(end)).is_ok();
        } else if let Some(resolution) = text("torn") {
            self.torn_manifests.push(resolution);
        } else if let Some(notes_digest) = value.get("notes") {
            self.notes_digest = Sha256Digest::deserialize(notes_digest).ok();
        }
        true
    }
}

fn synced_line<'a>(key: &'a str, last: &'a SyncedFile) -> StateLine<'a> {
    let path = |place: &'a SideFile| {
        if place.path == key {
            Cow::Borrowed("")
        } else {
            Cow::Borrowed(place.path.as_str())
        }
    };
    StateLine(
        Cow::Borrowed(key),
        path(&last.local),
        last.local.stat.size,
        last.local.stat.mtime_ns,
        path(&last.remote),
        last.remote.stat.size,
        last.remote.stat.mtime_ns,
        last.contents,
    )
}

fn history_line(key: &str, history: &Ancestry) -> impl Serialize {
    serde_json::json!({ "history": key, "lineage": history.vector, "over": history.replaced })
}

fn resolved_line(resolution: &str) -> impl Serialize {
    serde_json::json!({ "resolved": resolution })
}

fn deletion_line(key: &str, Deletion { digest, id }: &Deletion) -> impl Serialize {
    serde_json::json!({ "deleted": key, "digest": digest, "id": id })
}

/// Returns a random name of 8 hex digits, enough to distinguish a few machines.
fn new_writer() -> String {
    random_id()[..8].to_owned()
}

/// Returns 16 random hex digits. The standard library seeds its hash maps from the system's randomness.
pub(super) fn random_id() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(n: u64) -> SyncedFile {
        let stat = Stat {
            size: n,
            mtime_ns: -5,
        };
        SyncedFile {
            local: SideFile {
                path: "sessions/2026/a \"b\".jsonl".into(),
                stat,
            },
            remote: SideFile {
                path: "a \"b\".jsonl".into(),
                stat,
            },
            contents: Some((n, Sha256Digest::of(b"x"))),
        }
    }

    #[test]
    fn a_state_round_trips_and_survives_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        assert!(!replica.read().unwrap().exists);
        let mut state = replica.read().unwrap();
        state.files.insert("a \"b\".jsonl".into(), last(1));
        state.resolutions.insert("d".into());
        let deletion = Deletion::of("d".into());
        state.deleted.insert("p".into(), deletion.clone());
        // One file that is about to be deleted, and one that was created again.
        state.files.insert("gone".into(), last(3));
        for key in ["gone", "new"] {
            state.deleted.insert(key.into(), deletion.clone());
        }
        state.record_published(Sha256Digest::of(b"m"));
        replica.write(&mut state).unwrap();
        let read = replica.read().unwrap();
        assert_eq!((read.files.len(), read.deleted.len()), (2, 3));
        assert!(!replica.read().unwrap().needs_rewrite);
        let mut journal = replica.journal().unwrap();
        let history = Ancestry::first(&Sha256Digest::of(b"x"));
        journal.record("a \"b\".jsonl", &last(2), None).unwrap();
        journal.record("new", &last(3), Some(&history)).unwrap();
        journal.record_gone("gone").unwrap();
        journal.record_resolution("mark").unwrap();
        journal.file.write_all(b"[\"torn\",\"\",1").unwrap();
        let read = replica.read().unwrap();
        assert!(read.exists);
        assert_eq!(read.files.len(), 2);
        assert_eq!(read.files["a \"b\".jsonl"], last(2));
        assert_eq!(read.histories, HashMap::from([("new".into(), history)]));
        assert_eq!(read.writer, state.writer);
        assert_eq!((read.resolutions.len(), &read.deleted["p"]), (2, &deletion));
        assert_eq!((read.deleted.len(), &read.deleted["gone"]), (2, &deletion));
        assert_eq!(read.published_manifests, [Sha256Digest::of(b"m")]);
        // A torn line is no damage. The file is rewritten, so that the next line is not lost with it.
        assert_eq!((read.damage, read.needs_rewrite), (None, true));
    }

    #[test]
    fn damaged_lines_are_counted_and_a_copy_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        let mut state = SyncState::default();
        for key in ["k1", "k2", "k3"] {
            state.files.insert(key.into(), last(1));
        }
        replica.write(&mut state).unwrap();
        let text = file_open::read_to_string(replica.state_file()).unwrap();
        let damaged = text.replace("[\"k2\"", "[\"k\0\0");
        std::fs::write(replica.state_file(), &damaged).unwrap();
        let mut read = replica.read().unwrap();
        assert_eq!(
            (read.damage, read.has_gaps),
            (Some(StateDamage::Lines(1)), true)
        );
        assert_eq!((read.files.len(), read.exists), (2, true));
        replica.write(&mut read).unwrap();
        let aside = replica.folder.join("state.jsonl.damaged");
        assert_eq!(file_open::read_to_string(&aside).unwrap(), damaged);
        replica.write(&mut read).unwrap();
        assert!(!replica.folder.join("state.jsonl.damaged-2").exists());
        let again = replica.read().unwrap();
        assert_eq!((again.damage, again.has_gaps), (None, true));
    }

    #[test]
    fn a_newer_state_is_refused_and_a_damaged_header_reads_as_empty() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        replica.write(&mut SyncState::default()).unwrap();
        std::fs::write(replica.state_file(), "\0\0\0").unwrap();
        let read = replica.read().unwrap();
        assert_eq!((read.exists, read.damage), (false, Some(StateDamage::All)));
        let newer = "{\"schema\":2,\"writer\":\"\",\"local\":\"\",\"cloud\":\"\"}\n";
        std::fs::write(replica.state_file(), newer).unwrap();
        assert!(matches!(
            replica.read(),
            Err(StateError::Newer { found: 2, .. })
        ));
    }
}
