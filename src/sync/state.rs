//! What the last sync left on both sides: kept on this side of the cloud, one folder for each pair of
//! a home and a cloud folder.
//!
//! `state.jsonl`: a header, then a line for each file; a later line of a file replaces the one before,
//! so that a run appends what it has done and a kill loses nothing but the line that it tore. The
//! end of a run writes it anew.

use super::scan::Stat;
use crate::io::hash::Sha256Digest;
use crate::io::regular;
use crate::io::{IoContext, IoError, atomic};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The newest form of the state that this program knows.
const SCHEMA: u64 = 1;

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

/// A line: key, place here, place there, contents. A path that is the key is written as an empty text;
/// a file that both sides have lost is a line with its key alone.
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
#[derive(Debug, Clone, Default)]
pub struct State {
    /// By key.
    pub files: HashMap<String, Last>,
    /// Digests of forks that somebody has decided about.
    pub resolved: BTreeSet<String>,
    /// Files that were deleted here and whose deletion was sent on: path → digest.
    pub deleted: HashMap<String, String>,
    /// See [`super::manifest`].
    pub writer: String,
    /// Whether there was a state at all.
    pub exists: bool,
    /// Whether another machine has ever said what it wrote: its word is waited for since.
    pub has_peers: bool,
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
        let text = |path: &Path| {
            let real = path.canonicalize();
            real.as_deref()
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned()
        };
        let (local, cloud) = (text(local), text(cloud));
        let id = Sha256Digest::of(format!("{local}\n{cloud}").as_bytes()).to_string();
        Self {
            folder: manager_home.join("sync").join(&id[..16]),
            local,
            cloud,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("state.jsonl")
    }

    /// The lock that a run holds.
    pub fn lock(&self) -> PathBuf {
        self.folder.join(".lock")
    }

    /// Where forks are kept on this side.
    pub fn forks(&self) -> PathBuf {
        self.folder.join(super::forks::FOLDER)
    }

    /// Reads the state; an empty one where there is none. One whose header is damaged counts as none:
    /// all is compared anew, and nothing is lost by that.
    pub fn read(&self) -> Result<State, StateError> {
        let path = self.file();
        let file = match regular::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::fresh()),
            Err(e) => Err(e).at("open", &path)?,
        };
        let size = file.metadata().at("look at", &path)?.len();
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).at("read", &path)?;
        let Ok(header) = serde_json::from_slice::<Header>(&line) else {
            return Ok(Self::fresh());
        };
        if header.schema > SCHEMA {
            return Err(StateError::Newer {
                path,
                found: header.schema,
            });
        }
        let mut state = State {
            writer: header.writer,
            exists: true,
            files: HashMap::with_capacity(usize::try_from(size / 330).unwrap_or(0)),
            ..State::default()
        };
        loop {
            line.clear();
            reader.read_until(b'\n', &mut line).at("read", &path)?;
            // What follows the last newline is torn.
            if line.pop() != Some(b'\n') {
                return Ok(state);
            }
            state.take_line(&line);
        }
    }

    fn fresh() -> State {
        State {
            writer: new_writer(),
            ..State::default()
        }
    }

    /// Writes the whole state.
    pub fn write(&self, state: &State) -> Result<(), IoError> {
        atomic::create_durable_folder(&self.folder)?;
        let path = self.file();
        let mut bytes = self.header(state)?;
        let mut keys: Vec<_> = state.files.keys().collect();
        keys.sort();
        for key in keys {
            push_line(&mut bytes, &known_line(key, &state.files[key]));
        }
        if state.has_peers {
            push_line(&mut bytes, &serde_json::json!({ "peers": true }));
        }
        for digest in &state.resolved {
            push_line(&mut bytes, &serde_json::json!({ "resolved": digest }));
        }
        for (path, digest) in &state.deleted {
            push_line(
                &mut bytes,
                &serde_json::json!({ "deleted": path, "digest": digest }),
            );
        }
        atomic::write(&path, &bytes)
    }

    fn header(&self, state: &State) -> Result<Vec<u8>, IoError> {
        let mut bytes = serde_json::to_vec(&Header {
            schema: SCHEMA,
            writer: state.writer.clone(),
            local: self.local.clone(),
            cloud: self.cloud.clone(),
        })
        .map_err(std::io::Error::other)
        .at("encode", self.file())?;
        bytes.push(b'\n');
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
    pub fn note(&mut self, key: &str, last: &Last) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        push_line(&mut bytes, &known_line(key, last));
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Makes what was noted durable.
    pub fn sync(&mut self) -> Result<(), IoError> {
        self.file.sync_data().at("fsync", &self.path)
    }
}

impl State {
    fn take_line(&mut self, line: &[u8]) {
        if line.first() == Some(&b'[') {
            // A line that means nothing is a file that is compared anew.
            let Ok(Line(key, here, size, mtime, there, there_size, there_mtime, contents)) =
                serde_json::from_slice(line)
            else {
                return;
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
            self.files.insert(key.into_owned(), last);
            return;
        }
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(line) else {
            return;
        };
        let text = |key: &str| value.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        if value.get("peers").is_some() {
            self.has_peers = true;
        } else if let Some(digest) = text("resolved") {
            self.resolved.insert(digest);
        } else if let (Some(path), Some(digest)) = (text("deleted"), text("digest")) {
            self.deleted.insert(path, digest);
        }
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

fn push_line(bytes: &mut Vec<u8>, line: &impl Serialize) {
    // Writing texts and numbers into memory does not fail.
    if serde_json::to_writer(&mut *bytes, line).is_ok() {
        bytes.push(b'\n');
    }
}

/// A name that no other machine has. The standard library seeds its hash maps from the system's
/// randomness, and eight digits of that are enough to tell a few machines apart.
fn new_writer() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{:08x}", random & 0xffff_ffff)
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
        state.deleted.insert("p".into(), "d".into());
        replica.write(&state).unwrap();
        let mut journal = replica.journal().unwrap();
        journal.note("a \"b\".jsonl", &last(2)).unwrap();
        journal.note("new", &last(3)).unwrap();
        journal.file.write_all(b"[\"torn\",\"\",1").unwrap();
        let read = replica.read().unwrap();
        assert!(read.exists);
        assert_eq!(read.files.len(), 2);
        assert_eq!(read.files["a \"b\".jsonl"], last(2));
        assert_eq!(read.writer, state.writer);
        assert_eq!((read.resolved.len(), read.deleted.len()), (1, 1));
    }

    #[test]
    fn a_newer_state_is_refused_and_a_damaged_one_is_none() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        replica.write(&State::default()).unwrap();
        std::fs::write(replica.file(), "\0\0\0").unwrap();
        assert!(!replica.read().unwrap().exists);
        let newer = "{\"schema\":2,\"writer\":\"\",\"local\":\"\",\"cloud\":\"\"}\n";
        std::fs::write(replica.file(), newer).unwrap();
        assert!(matches!(
            replica.read(),
            Err(StateError::Newer { found: 2, .. })
        ));
    }
}
