//! What came here and Codex may not know of yet: noted before the first file gets its name, forgotten
//! when it was made known. A run that ends in between leaves it for the next one, which finds both sides
//! equal and would have nothing to tell.
//!
//! `arrived.jsonl` in the folder of the state, a line for each conversation and for each name. It says what was to come, not
//! what has: whoever reads it looks at the files.

use super::register::Arrival;
use super::state::Replica;
use crate::history::session_index::ThreadNameIndex;
use crate::io::{IoContext, IoError, atomic, document, file_open};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const NAME: &str = "arrived.jsonl";

/// A conversation whose name came from elsewhere.
#[derive(Debug, Serialize, Deserialize)]
struct Name {
    named: String,
}

/// The ids whose last lines in `new`, an index of names, are not those of the one at `old`: Codex takes
/// the last line of an id, and there may be no `old`.
///
/// # Errors
/// One of them is there and cannot be read.
pub fn renamed(old: &Path, new: &Path) -> Result<Vec<String>, IoError> {
    let (old, new) = (ThreadNameIndex::open(old)?, ThreadNameIndex::open(new)?);
    let mut ids = Vec::new();
    for id in new.ids() {
        let name = |index: &ThreadNameIndex| Ok(index.get(id)?.map(|line| line.thread_name));
        if name(&old)? != name(&new)? {
            ids.push(id.to_string());
        }
    }
    ids.sort();
    Ok(ids)
}

/// The note of one pair; the caller holds the lock of its state.
#[derive(Debug)]
pub struct Arrivals {
    path: PathBuf,
}

impl Arrivals {
    /// The one beside this state.
    pub fn of(replica: &Replica) -> Self {
        Self {
            path: replica.folder.join(NAME),
        }
    }

    /// Adds to what was noted; durable on return.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&self, arrivals: &[Arrival]) -> Result<(), IoError> {
        self.add(arrivals)
    }

    /// Adds conversations whose names come from elsewhere; durable on return.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note_named(&self, ids: Vec<String>) -> Result<(), IoError> {
        let lines: Vec<_> = ids.into_iter().map(|named| Name { named }).collect();
        self.add(&lines)
    }

    fn add(&self, lines: &[impl Serialize]) -> Result<(), IoError> {
        if lines.is_empty() {
            return Ok(());
        }
        // What a kill tore is ended first.
        let mut bytes = vec![b'\n'];
        for line in lines {
            document::push_line(&mut bytes, line).at("encode", &self.path)?;
        }
        let folder = atomic::parent_of(&self.path);
        atomic::create_durable_folder(folder)?;
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(&self.path);
        let mut file = file.at("open", &self.path)?;
        file.write_all(&bytes).at("write", &self.path)?;
        file.sync_all().at("fsync", &self.path)?;
        atomic::sync_folder(folder)
    }

    /// What was noted and not forgotten, a conversation once. Lines that mean nothing are passed over.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self) -> Result<Vec<Arrival>, IoError> {
        Ok(joined(self.lines()?))
    }

    /// The conversations whose names came from elsewhere, each once.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn named(&self) -> Result<BTreeSet<String>, IoError> {
        let lines = self.lines()?.into_iter();
        Ok(lines.map(|line: Name| line.named).collect())
    }

    fn lines<T: DeserializeOwned>(&self) -> Result<Vec<T>, IoError> {
        let text = match file_open::read(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).at("read", &self.path),
        };
        let lines = text.split(|byte| *byte == b'\n');
        let noted = lines.filter_map(|line| serde_json::from_slice(line).ok());
        Ok(noted.collect())
    }

    /// Codex knows of it.
    ///
    /// # Errors
    /// It cannot be removed; it is made known once more then.
    pub fn forget(&self) -> Result<(), IoError> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", &self.path),
            _ => Ok(()),
        }
    }
}

/// One arrival for each conversation: where it came to be last, and all that became of it on the way.
pub fn joined(arrivals: impl IntoIterator<Item = Arrival>) -> Vec<Arrival> {
    let mut all: Vec<Arrival> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for arrival in arrivals {
        if let Some(&place) = places.get(&arrival.id) {
            let known = &mut all[place];
            known.change = known.change.max(arrival.change);
            known.moved |= arrival.moved || known.path != arrival.path;
            known.path = arrival.path;
        } else {
            places.insert(arrival.id.clone(), all.len());
            all.push(arrival);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::register::Change;

    #[test]
    fn what_was_noted_is_there_until_it_is_forgotten_also_behind_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        let arrivals = Arrivals::of(&replica);
        let one = |id: &str, path: &str, change| Arrival {
            id: id.into(),
            path: path.into(),
            change,
            moved: false,
        };
        arrivals.forget().unwrap();
        arrivals.note(&[]).unwrap();
        assert!(!arrivals.path.exists());
        arrivals
            .note(&[one("x", "sessions/x", Change::Replaced)])
            .unwrap();
        let mut torn = fs::read(&arrivals.path).unwrap();
        torn.extend(b"{\"id\":\"to");
        fs::write(&arrivals.path, torn).unwrap();
        arrivals.note_named(vec!["z".into(), "x".into()]).unwrap();
        arrivals
            .note(&[
                one("y", "sessions/y", Change::New),
                one("x", "archived_sessions/x", Change::Extended),
            ])
            .unwrap();
        let moved = Arrival {
            moved: true,
            ..one("x", "archived_sessions/x", Change::Replaced)
        };
        let y = one("y", "sessions/y", Change::New);
        assert_eq!(arrivals.read().unwrap(), [moved, y]);
        let named = arrivals.named().unwrap();
        assert!(named.iter().eq(["x", "z"]), "{named:?}");
        arrivals.forget().unwrap();
        assert_eq!(arrivals.read().unwrap(), []);
        assert!(arrivals.named().unwrap().is_empty());
    }
}
