//! What the last sync left on both sides: kept on this side of the cloud, one folder for each pair of
//! a home and a cloud folder.
//!
//! `state.jsonl`: a header, then a line for each file; a later line of a file replaces the one before,
//! so that a run appends what it has done and a kill loses nothing but the line that it tore. The
//! end of a run writes it anew.

use super::lineage::History;
use super::restored;
use super::scan::Stat;
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
const SCHEMA: u64 = 1;
const STATE: &str = "state.jsonl";
/// What a damaged state is kept as, behind its name.
const DAMAGED: &str = ".damaged";
/// How many of our manifests we know again: one that we did not come to put there, and those that a
/// client brings back.
const PUBLISHED: usize = 8;

/// Where a file is on one side, and what it looked like after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Relative to the side's root.
    pub path: String,
    /// Its size and time then.
    pub stat: Stat,
}

/// One file as both sides had it after the last sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// Here.
    pub here: Place,
    /// In the cloud folder.
    pub there: Place,
    /// How long its text is, and the digest of that; unknown where nothing had to be read.
    pub contents: Option<(u64, Sha256Digest)>,
}

/// The header.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Header {
    schema: u64,
    /// Tells this machine's files in the cloud folder from those of a machine of the same name.
    writer: String,
    local: String,
    cloud: String,
}

/// A line: key, place here, place there, contents. A path that is the key is written as an empty text.
#[derive(Serialize, Deserialize)]
struct Line<'a>(
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
pub struct State {
    /// By key.
    pub files: HashMap<String, Last>,
    /// What is settled for all machines: what was decided about versions of conversations, as
    /// [`super::decisions`] has it, and ids of deletions of files that came to life again.
    pub resolved: BTreeSet<String>,
    /// Files that were deleted here and whose deletion was sent on, by key.
    pub deleted: HashMap<String, Deletion>,
    /// What came before the versions of plain files that the last sync left, by key; none of a first
    /// version. Kept of files that are gone: one that comes to life again goes on from there.
    pub histories: HashMap<String, History>,
    /// The bytes of files in the cloud folder as they were read, with how they looked then, by key:
    /// where the digest of the text does not tell. What looks different by now says nothing.
    pub bytes_there: HashMap<String, (Stat, Sha256Digest)>,
    /// See [`super::manifest`].
    pub writer: String,
    /// The digests at the ends of the manifests that were last published, the newest last.
    pub published: Vec<Sha256Digest>,
    /// The ends of manifests that this machine wrote under other names: what they say counts, but no
    /// word of theirs is waited for.
    pub former: Vec<Sha256Digest>,
    /// Manifests that were not whole at the last run, each with how it looked.
    pub torn: Vec<String>,
    /// Whether there was a state at all.
    pub exists: bool,
    /// Whether another machine has ever said what it wrote: its word is waited for since.
    pub has_peers: bool,
    /// The digest of the notes of the last complete run: a run prints them when they have changed.
    pub notes: Option<Sha256Digest>,
    /// What could not be read. The file is kept aside when the state is written next.
    pub damage: Option<Damage>,
    /// Whether files that it does not know may have been synced: so it is from a damage on until a run
    /// has seen to all of them.
    pub has_gaps: bool,
    /// The mark of a restore of the home from an archive: what is missing here since is not deleted.
    pub restored: Option<String>,
    /// Whether the file is to be written before it is appended to.
    pub must_be_written: bool,
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
pub enum Damage {
    /// All of it: it has no header.
    All,
    /// So many lines.
    Lines(usize),
}

/// Why a state could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Written by a newer version.
    #[error("written by a newer codex-manager (schema {found}, this one knows {SCHEMA}): {}", path.display())]
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
            let Ok(file) = file_open::open(folder.join(STATE)) else {
                continue;
            };
            let mut line = Vec::new();
            let read = BufReader::new(file).read_until(b'\n', &mut line);
            let header = serde_json::from_slice::<Header>(&line);
            if read.is_err() || header.map_or(true, |header| header.local == local) {
                folders.push(folder);
            }
        }
        Ok(folders)
    }

    /// The file of the state.
    pub fn file(&self) -> PathBuf {
        self.folder.join(STATE)
    }

    /// The lock that a run holds.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    /// Where forks are kept on this side.
    pub fn forks(&self) -> PathBuf {
        self.folder.join(super::forks::FOLDER)
    }

    /// Reads the state, and whether the home was put back from an archive since the last run; an empty
    /// one where there is none, or where its header is damaged. What is damaged is named in
    /// [`State::damage`].
    pub fn read(&self) -> Result<State, StateError> {
        let mut state = self.read_file()?;
        state.restored = restored::read(&self.folder)?;
        state.has_gaps |= state.restored.is_some();
        Ok(state)
    }

    fn read_file(&self) -> Result<State, StateError> {
        let path = self.file();
        let file = match file_open::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::fresh()),
            Err(e) => Err(e).at("open", &path)?,
        };
        let size = file.metadata().at("look at", &path)?.len();
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).at("read", &path)?;
        let Ok(header) = serde_json::from_slice::<Header>(&line) else {
            return Ok(State {
                damage: Some(Damage::All),
                has_gaps: true,
                ..Self::fresh()
            });
        };
        if header.schema > SCHEMA {
            return Err(StateError::Newer {
                path,
                found: header.schema,
            });
        }
        let mut damaged = 0;
        let mut state = State {
            writer: header.writer,
            exists: true,
            files: HashMap::with_capacity(usize::try_from(size / 330).unwrap_or(0)),
            ..State::default()
        };
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).at("read", &path)?;
            // What follows the last newline is torn, as a kill leaves it.
            if line.pop() != Some(b'\n') {
                state.must_be_written = !line.is_empty();
                break;
            }
            damaged += usize::from(!state.take_line(&line));
        }
        if damaged > 0 {
            state.damage = Some(Damage::Lines(damaged));
            state.has_gaps = true;
            state.must_be_written = true;
        }
        Ok(state)
    }

    fn fresh() -> State {
        State {
            writer: new_writer(),
            must_be_written: true,
            ..State::default()
        }
    }

    /// Writes the whole state. One that is damaged stays beside it, as `state.jsonl.damaged`.
    pub fn write(&self, state: &mut State) -> Result<(), IoError> {
        atomic::create_durable_folder(&self.folder)?;
        let path = self.file();
        if state.damage.is_some() {
            atomic::keep_copy(&path, DAMAGED)?;
            state.damage = None;
        }
        let bytes = self.encode(state).at("encode", &path)?;
        atomic::write(&path, &bytes)?;
        state.must_be_written = false;
        Ok(())
    }

    fn encode(&self, state: &State) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let header = Header {
            schema: SCHEMA,
            writer: state.writer.clone(),
            local: self.local.clone(),
            cloud: self.cloud.clone(),
        };
        push_line(&mut bytes, &header)?;
        let mut keys: Vec<_> = state.files.keys().collect();
        keys.sort();
        for key in keys {
            push_line(&mut bytes, &known_line(key, &state.files[key]))?;
        }
        if state.has_peers {
            push_line(&mut bytes, &serde_json::json!({ "peers": true }))?;
        }
        if state.has_gaps {
            push_line(&mut bytes, &serde_json::json!({ "gaps": true }))?;
        }
        for word in &state.resolved {
            push_line(&mut bytes, &resolved_line(word))?;
        }
        for (key, deletion) in &state.deleted {
            push_line(&mut bytes, &deletion_line(key, deletion))?;
        }
        let histories: BTreeMap<_, _> = state.histories.iter().collect();
        for (key, history) in histories {
            push_line(&mut bytes, &history_line(key, history))?;
        }
        let bytes_there: BTreeMap<_, _> = state.bytes_there.iter().collect();
        for (key, (stat, digest)) in bytes_there {
            let is_as = |last: &Last| last.there.stat == *stat;
            if state.files.get(key).is_some_and(is_as) {
                let line = serde_json::json!({
                    "bytes": key, "size": stat.size, "mtime": stat.mtime_ns, "digest": digest
                });
                push_line(&mut bytes, &line)?;
            }
        }
        for end in &state.published {
            push_line(&mut bytes, &serde_json::json!({ "published": end }))?;
        }
        for end in &state.former {
            push_line(&mut bytes, &serde_json::json!({ "former": end }))?;
        }
        for word in &state.torn {
            push_line(&mut bytes, &serde_json::json!({ "torn": word }))?;
        }
        if let Some(notes) = &state.notes {
            push_line(&mut bytes, &serde_json::json!({ "notes": notes }))?;
        }
        Ok(bytes)
    }

    /// Opens the state for appending; it must have been written before.
    pub fn journal(&self) -> Result<Journal, IoError> {
        let path = self.file();
        let mut options = OpenOptions::new();
        let file = options.append(true).open(&path).at("open", &path)?;
        Ok(Journal { file, path })
    }
}

/// Appends to a state while a run is under way.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Notes that a file is now like this on both sides. Durable after [`Journal::sync`].
    pub fn note(
        &mut self,
        key: &str,
        last: &Last,
        history: Option<&History>,
    ) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        if let Some(history) = history {
            push_line(&mut bytes, &history_line(key, history)).at("encode", &self.path)?;
        }
        push_line(&mut bytes, &known_line(key, last)).at("encode", &self.path)?;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Notes that neither side has a file any more.
    pub fn gone(&mut self, key: &str) -> Result<(), IoError> {
        self.push(&serde_json::json!({ "gone": key }))
    }

    /// Notes what is settled; see [`State::resolved`].
    pub fn resolved(&mut self, word: &str) -> Result<(), IoError> {
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

impl State {
    /// Notes what is about to be published: it is this machine's own from now on.
    pub fn note_published(&mut self, end: Sha256Digest) {
        if self.published.last() == Some(&end) {
            return;
        }
        self.published.retain(|known| *known != end);
        self.published.push(end);
        let old = self.published.len().saturating_sub(PUBLISHED);
        self.published.drain(..old);
    }

    /// Takes a name in the cloud folder that nobody has.
    pub fn rename(&mut self) {
        self.writer = new_writer();
        // Whatever of it a client brings back is this machine's.
        for end in std::mem::take(&mut self.published) {
            if !self.former.contains(&end) {
                self.former.push(end);
            }
        }
        self.must_be_written = true;
    }

    /// Takes a line; whether it means something. One that does not is a file that is compared anew.
    fn take_line(&mut self, line: &[u8]) -> bool {
        if line.first() == Some(&b'[') {
            let Ok(Line(key, here, size, mtime, there, there_size, there_mtime, contents)) =
                serde_json::from_slice(line)
            else {
                return false;
            };
            let place = |path: Cow<'_, str>, size, mtime_ns| Place {
                path: if path.is_empty() {
                    key.clone().into_owned()
                } else {
                    path.into_owned()
                },
                stat: Stat { size, mtime_ns },
            };
            let last = Last {
                here: place(here, size, mtime),
                there: place(there, there_size, there_mtime),
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
            self.has_peers = true;
        } else if value.get("gaps").is_some() {
            self.has_gaps = true;
        } else if let Some(digest) = text("resolved") {
            self.resolved.insert(digest);
        } else if let Some(key) = text("gone") {
            self.files.remove(&key);
        } else if let Some(key) = text("history") {
            let Ok(history) = History::deserialize(&value) else {
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
            self.bytes_there
                .insert(key, (Stat { size, mtime_ns }, digest));
        } else if let (Some(path), Some(digest)) = (text("deleted"), text("digest")) {
            let deletion = match text("id") {
                Some(id) => Deletion { digest, id },
                None => Deletion::of(digest),
            };
            self.deleted.insert(path, deletion);
        } else if let Some(end) = value.get("published") {
            let end = Sha256Digest::deserialize(end);
            return end.map(|end| self.published.push(end)).is_ok();
        } else if let Some(end) = value.get("former") {
            let end = Sha256Digest::deserialize(end);
            return end.map(|end| self.former.push(end)).is_ok();
        } else if let Some(word) = text("torn") {
            self.torn.push(word);
        } else if let Some(notes) = value.get("notes") {
            self.notes = Sha256Digest::deserialize(notes).ok();
        }
        true
    }
}

fn known_line<'a>(key: &'a str, last: &'a Last) -> Line<'a> {
    let path = |place: &'a Place| {
        if place.path == key {
            Cow::Borrowed("")
        } else {
            Cow::Borrowed(place.path.as_str())
        }
    };
    Line(
        Cow::Borrowed(key),
        path(&last.here),
        last.here.stat.size,
        last.here.stat.mtime_ns,
        path(&last.there),
        last.there.stat.size,
        last.there.stat.mtime_ns,
        last.contents,
    )
}

fn history_line(key: &str, history: &History) -> impl Serialize {
    serde_json::json!({ "history": key, "lineage": history.lineage, "over": history.over })
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

    fn last(n: u64) -> Last {
        let stat = Stat {
            size: n,
            mtime_ns: -5,
        };
        Last {
            here: Place {
                path: "sessions/2026/a \"b\".jsonl".into(),
                stat,
            },
            there: Place {
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
        state.resolved.insert("d".into());
        let deletion = Deletion::of("d".into());
        state.deleted.insert("p".into(), deletion.clone());
        // One that is about to be deleted, and one that is there again.
        state.files.insert("gone".into(), last(3));
        for key in ["gone", "new"] {
            state.deleted.insert(key.into(), deletion.clone());
        }
        state.note_published(Sha256Digest::of(b"m"));
        replica.write(&mut state).unwrap();
        let read = replica.read().unwrap();
        assert_eq!((read.files.len(), read.deleted.len()), (2, 3));
        assert!(!replica.read().unwrap().must_be_written);
        let mut journal = replica.journal().unwrap();
        let history = History::first(&Sha256Digest::of(b"x"));
        journal.note("a \"b\".jsonl", &last(2), None).unwrap();
        journal.note("new", &last(3), Some(&history)).unwrap();
        journal.gone("gone").unwrap();
        journal.resolved("mark").unwrap();
        journal.file.write_all(b"[\"torn\",\"\",1").unwrap();
        let read = replica.read().unwrap();
        assert!(read.exists);
        assert_eq!(read.files.len(), 2);
        assert_eq!(read.files["a \"b\".jsonl"], last(2));
        assert_eq!(read.histories, HashMap::from([("new".into(), history)]));
        assert_eq!(read.writer, state.writer);
        assert_eq!((read.resolved.len(), &read.deleted["p"]), (2, &deletion));
        assert_eq!((read.deleted.len(), &read.deleted["gone"]), (2, &deletion));
        assert_eq!(read.published, [Sha256Digest::of(b"m")]);
        // A kill is no damage; what follows is not to be lost with the torn line.
        assert_eq!((read.damage, read.must_be_written), (None, true));
    }

    #[test]
    fn what_is_damaged_is_counted_and_kept_aside() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        let mut state = State::default();
        for key in ["k1", "k2", "k3"] {
            state.files.insert(key.into(), last(1));
        }
        replica.write(&mut state).unwrap();
        let text = file_open::read_to_string(replica.file()).unwrap();
        let damaged = text.replace("[\"k2\"", "[\"k\0\0");
        std::fs::write(replica.file(), &damaged).unwrap();
        let mut read = replica.read().unwrap();
        assert_eq!((read.damage, read.has_gaps), (Some(Damage::Lines(1)), true));
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
        replica.write(&mut State::default()).unwrap();
        std::fs::write(replica.file(), "\0\0\0").unwrap();
        let read = replica.read().unwrap();
        assert_eq!((read.exists, read.damage), (false, Some(Damage::All)));
        let newer = "{\"schema\":2,\"writer\":\"\",\"local\":\"\",\"cloud\":\"\"}\n";
        std::fs::write(replica.file(), newer).unwrap();
        assert!(matches!(
            replica.read(),
            Err(StateError::Newer { found: 2, .. })
        ));
    }
}
