//! What the last sync left on both sides: kept on this side of the cloud, one folder for each pair of
//! a home and a cloud folder.
//!
//! `state.jsonl`: a header, then a line for each file; a later line of a file replaces the one before,
//! so that a run appends what it has done and a kill loses nothing but the line that it tore. The
//! end of a run writes it anew.

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

/// The newest form of the state that this program knows.
const STATE_SCHEMA: u64 = 1;
const STATE_FILE: &str = "state.jsonl";
/// What a damaged state is kept as, behind its name.
const DAMAGED_SUFFIX: &str = ".damaged";
/// How many of our manifests we know again: one that we did not come to put there, and those that a
/// client brings back.
const MAX_PUBLISHED: usize = 8;

/// Where a file is on one side, and what it looked like after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideFile {
    /// Relative to the side's root.
    pub path: String,
    /// Its size and time then.
    pub stat: Stat,
}

/// One file as both sides had it after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncedFile {
    /// Here.
    pub local: SideFile,
    /// In the cloud folder.
    pub remote: SideFile,
    /// How long its text is, and the digest of that; unknown where nothing had to be read.
    pub contents: Option<(u64, Sha256Digest)>,
}

/// The header.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StateHeader {
    schema: u64,
    /// Tells this machine's files in the cloud folder from those of a machine of the same name.
    writer: String,
    local: String,
    cloud: String,
}

/// A line: key, place here, place there, contents. A path that is the key is written as an empty text.
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

/// The state of one pair.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any of them may hold"
)]
#[derive(Debug, Clone, Default)]
pub struct SyncState {
    /// By key.
    pub files: HashMap<String, SyncedFile>,
    /// What is settled for all machines: what was decided about versions of conversations, as
    /// [`super::decisions`] has it, and ids of deletions of files that came to life again.
    pub resolutions: BTreeSet<String>,
    /// Files that were deleted here and whose deletion was sent on, by key.
    pub deleted: HashMap<String, Deletion>,
    /// What came before the versions of plain files that the last sync left, by key; none of a first
    /// version. Kept of files that are gone: one that comes to life again goes on from there.
    pub histories: HashMap<String, Ancestry>,
    /// The bytes of files in the cloud folder as they were read, with how they looked then, by key:
    /// where the digest of the text does not tell. What looks different by now says nothing.
    pub remote_digests: HashMap<String, (Stat, Sha256Digest)>,
    /// See [`super::manifest`].
    pub writer: String,
    /// The digests at the ends of the manifests that were last published, the newest last.
    pub published_manifests: Vec<Sha256Digest>,
    /// The ends of manifests that this machine wrote under other names: what they say counts, but no
    /// word of theirs is waited for.
    pub former_manifests: Vec<Sha256Digest>,
    /// Manifests that were not whole at the last run, each with how it looked.
    pub torn_manifests: Vec<String>,
    /// Whether there was a state at all.
    pub exists: bool,
    /// Whether another machine has ever said what it wrote: its word is waited for since.
    pub has_other_machines: bool,
    /// The digest of the notes of the last complete run: a run prints them when they have changed.
    pub notes_digest: Option<Sha256Digest>,
    /// What could not be read. The file is kept aside when the state is written next.
    pub damage: Option<StateDamage>,
    /// Whether files that it does not know may have been synced: so it is from a damage on until a run
    /// has seen to all of them.
    pub has_gaps: bool,
    /// The mark of a restore of the home from an archive: what is missing here since is not deleted.
    pub restore_marker: Option<String>,
    /// Whether the file is to be written before it is appended to.
    pub needs_rewrite: bool,
}

/// A deletion that is sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The digest of the text that was deleted: no other is ever to be.
    pub digest: String,
    /// Tells it from an earlier deletion of the same.
    pub id: String,
}

impl Deletion {
    /// One that has not been before.
    pub fn of(digest: String) -> Self {
        Self {
            digest,
            id: random_id(),
        }
    }
}

/// What of a state could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateDamage {
    /// All of it: it has no header.
    All,
    /// So many lines.
    Lines(usize),
}

/// Why a state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Written by a newer version.
    #[error("written by a newer codex-manager (schema {found}, this one knows {STATE_SCHEMA}): {}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The folder and files of the state of one pair.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its folder.
    pub folder: PathBuf,
    local: String,
    cloud: String,
}

impl Replica {
    /// The one for this home and this cloud folder.
    pub fn of(manager_home: &Path, local: &Path, cloud: &Path) -> Self {
        // One that is not mounted now is still the one that it was.
        let text = |path: &Path| tree::real(path).to_string_lossy().into_owned();
        let (local, cloud) = (text(local), text(cloud));
        let id = Sha256Digest::of(format!("{local}\n{cloud}").as_bytes()).to_string();
        Self {
            folder: manager_home.join("sync").join(&id[..16]),
            local,
            cloud,
        }
    }

    /// The folders of all states of this home. One whose header cannot be read may be of it.
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

    /// The file of the state.
    pub fn state_file(&self) -> PathBuf {
        self.folder.join(STATE_FILE)
    }

    /// The lock that a run holds.
    pub fn lock_file(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    /// Where forks are kept on this side.
    pub fn conflict_copies(&self) -> PathBuf {
        self.folder.join(super::conflict_copies::FOLDER)
    }

    /// Reads the state, and whether the home was put back from an archive since the last run; an empty
    /// one where there is none, or where its header is damaged. What is damaged is named in
    /// [`SyncState::damage`].
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
            // What follows the last newline is torn, as a kill leaves it.
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

    /// Writes the whole state. One that is damaged stays beside it, as `state.jsonl.damaged`.
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
        for word in &state.resolutions {
            push_line(&mut bytes, &resolved_line(word))?;
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
        for word in &state.torn_manifests {
            push_line(&mut bytes, &serde_json::json!({ "torn": word }))?;
        }
        if let Some(notes_digest) = &state.notes_digest {
            push_line(&mut bytes, &serde_json::json!({ "notes": notes_digest }))?;
        }
        Ok(bytes)
    }

    /// Opens the state for appending; it must have been written before.
    pub fn journal(&self) -> Result<StateJournal, IoError> {
        let path = self.state_file();
        let mut options = OpenOptions::new();
        let file = options.append(true).open(&path).at("open", &path)?;
        Ok(StateJournal { file, path })
    }
}

/// Appends to a state while a run is under way.
#[derive(Debug)]
pub struct StateJournal {
    file: File,
    path: PathBuf,
}

impl StateJournal {
    /// Notes that a file is now like this on both sides. Durable after [`StateJournal::sync`].
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

    /// Notes that neither side has a file any more.
    pub fn record_gone(&mut self, key: &str) -> Result<(), IoError> {
        self.push(&serde_json::json!({ "gone": key }))
    }

    /// Notes what is settled; see [`SyncState::resolved`].
    pub fn record_resolution(&mut self, word: &str) -> Result<(), IoError> {
        self.push(&resolved_line(word))
    }

    fn push(&mut self, line: &impl Serialize) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        push_line(&mut bytes, line).at("encode", &self.path)?;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Makes what was noted durable.
    pub fn sync(&mut self) -> Result<(), IoError> {
        self.file.sync_data().at("fsync", &self.path)
    }
}

impl SyncState {
    /// Notes what is about to be published: it is this machine's own from now on.
    pub fn record_published(&mut self, end: Sha256Digest) {
        if self.published_manifests.last() == Some(&end) {
            return;
        }
        self.published_manifests.retain(|known| *known != end);
        self.published_manifests.push(end);
        let old = self.published_manifests.len().saturating_sub(MAX_PUBLISHED);
        self.published_manifests.drain(..old);
    }

    /// Takes a name in the cloud folder that nobody has.
    pub fn take_new_name(&mut self) {
        self.writer = new_writer();
        // Whatever of it a client brings back is this machine's.
        for end in std::mem::take(&mut self.published_manifests) {
            if !self.former_manifests.contains(&end) {
                self.former_manifests.push(end);
            }
        }
        self.needs_rewrite = true;
    }

    /// Takes a line; whether it means something. One that does not is a file that is compared anew.
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
            // Noted after its deletion, it is there again.
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
        } else if let Some(word) = text("torn") {
            self.torn_manifests.push(word);
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

fn resolved_line(word: &str) -> impl Serialize {
    serde_json::json!({ "resolved": word })
}

fn deletion_line(key: &str, Deletion { digest, id }: &Deletion) -> impl Serialize {
    serde_json::json!({ "deleted": key, "digest": digest, "id": id })
}

/// A name that no other machine has: eight digits are enough to tell a few machines apart.
fn new_writer() -> String {
    random_id()[..8].to_owned()
}

/// Sixteen hex digits. The standard library seeds its hash maps from the system's randomness.
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
    fn a_state_comes_back_and_survives_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        assert!(!replica.read().unwrap().exists);
        let mut state = replica.read().unwrap();
        state.files.insert("a \"b\".jsonl".into(), last(1));
        state.resolutions.insert("d".into());
        let deletion = Deletion::of("d".into());
        state.deleted.insert("p".into(), deletion.clone());
        // One that is about to be deleted, and one that is there again.
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
        // A kill is no damage; what follows is not to be lost with the torn line.
        assert_eq!((read.damage, read.needs_rewrite), (None, true));
    }

    #[test]
    fn what_is_damaged_is_counted_and_kept_aside() {
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
    fn a_newer_state_is_refused_and_a_damaged_one_is_none() {
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
