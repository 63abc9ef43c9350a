//! `arrived.jsonl` in the folder of the state: conversations and names that Codex's index may not have yet.
//!
//! They are recorded before the first file is written and cleared after the index was updated. If a run is
//! killed in between, the next one finds both sides equal and would have nothing to update without this file.
//! It has a line for each changed rollout and each renamed conversation. A recorded file may never have been written,
//! so readers check the file.

use super::index_updates::{ContentChange, IndexUpdate};
use super::state::Replica;
use crate::history::session_index::{self, ThreadNameIndex};
use crate::io::json_lines::{self, JsonLines};
use crate::io::{IoContext, IoError, atomic, document, tree};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const PENDING_FILE: &str = "arrived.jsonl";

/// Returns the updates for the conversations that have another name in the `session_index.jsonl` at `new_path` than in
/// the one at `old_path`. A missing file counts as empty.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn find_renamed(old_path: &Path, new_path: &Path) -> Result<Vec<IndexUpdate>, IoError> {
    let old = ThreadNameIndex::open(old_path)?;
    let new = ThreadNameIndex::open(new_path)?;
    let mut renamed = Vec::new();
    for id in new.ids() {
        let read_name = |index: &ThreadNameIndex| Ok(index.get(id)?.map(|line| line.thread_name));
        if read_name(&old)? != read_name(&new)? {
            renamed.push(IndexUpdate {
                id: id.to_string(),
                path: session_index::FILE_NAME.to_owned(),
                change: ContentChange::Renamed,
            });
        }
    }
    Ok(renamed)
}

/// The pending updates of one replica. The caller holds the lock of its state.
#[derive(Debug)]
pub struct PendingIndexUpdates {
    path: PathBuf,
}

impl PendingIndexUpdates {
    pub fn new(replica: &Replica) -> Self {
        Self {
            path: replica.folder.join(PENDING_FILE),
        }
    }

    /// Adds updates; durable on return.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&self, updates: &[IndexUpdate]) -> Result<(), IoError> {
        if updates.is_empty() {
            return Ok(());
        }
        atomic::create_private_folder(atomic::parent_of(&self.path))?;
        let mut file = JsonLines::open_or_create(self.path.clone())?;
        updates.iter().try_for_each(|update| file.push(update))?;
        file.sync_with_name()
    }

    /// Returns the pending updates, one for each rollout and each renamed conversation, with the last recorded path and
    /// the greatest recorded change.
    ///
    /// # Errors
    /// The file exists but cannot be read.
    pub fn read(&self) -> Result<Vec<IndexUpdate>, IoError> {
        Ok(merge_updates(json_lines::read::<IndexUpdate>(&self.path)?))
    }

    /// Removes all but the renamed conversations, because Codex has no index yet that could get their names.
    ///
    /// # Errors
    /// The file cannot be read or replaced.
    pub fn keep_names_only(&self) -> Result<(), IoError> {
        let updates = self.read()?;
        let is_renamed = |update: &&IndexUpdate| update.change == ContentChange::Renamed;
        let names: Vec<_> = updates.iter().filter(is_renamed).collect();
        if names.is_empty() {
            return self.clear();
        }
        if names.len() == updates.len() {
            return Ok(());
        }

        let mut bytes = Vec::new();
        for name in names {
            document::push_line(&mut bytes, name).at("encode", &self.path)?;
        }
        atomic::write(&self.path, &bytes)
    }

    /// Removes the file after Codex's index was updated.
    ///
    /// # Errors
    /// The file cannot be removed; the index is then updated once more.
    pub fn clear(&self) -> Result<(), IoError> {
        tree::remove(&self.path)
    }
}

/// Combines the updates of each rollout, and those of each name.
fn merge_updates(updates: Vec<IndexUpdate>) -> Vec<IndexUpdate> {
    let mut merged: Vec<IndexUpdate> = Vec::new();
    let mut positions: HashMap<(String, Option<String>, bool), usize> = HashMap::new();
    for update in updates {
        let is_renamed = update.change == ContentChange::Renamed;
        let key = (update.id.clone(), update.rollout_id(), is_renamed);
        if let Some(&position) = positions.get(&key) {
            let earlier = &mut merged[position];
            earlier.change = earlier.change.followed_by(update.change);
            earlier.path = update.path;
        } else {
            positions.insert(key, merged.len());
            merged.push(update);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn updates_of_one_file_are_combined_and_pending_until_cleared_even_after_a_torn_line() {
        let home = tempfile::tempdir().unwrap();
        let replica = Replica::of(home.path(), Path::new("/a"), Path::new("/b"));
        let updates = PendingIndexUpdates::new(&replica);
        let one = |id: &str, path: &str, change| IndexUpdate {
            id: id.into(),
            path: path.into(),
            change,
        };
        updates.clear().unwrap();
        updates.record(&[]).unwrap();
        assert!(!updates.path.exists());
        updates
            .record(&[one("x", "sessions/x", ContentChange::Replaced)])
            .unwrap();
        let mut torn = fs::read(&updates.path).unwrap();
        torn.extend(b"{\"id\":\"to");
        fs::write(&updates.path, torn).unwrap();
        let renamed = ["z", "x"].map(|id| one(id, "names", ContentChange::Renamed));
        updates.record(&renamed).unwrap();
        updates
            .record(&[
                one("y", "sessions/y", ContentChange::New),
                one("x", "archived_sessions/x", ContentChange::Extended),
            ])
            .unwrap();
        let moved = one("x", "archived_sessions/x", ContentChange::Replaced);
        let y = one("y", "sessions/y", ContentChange::New);
        let [z_name, x_name] = renamed.clone();
        assert_eq!(updates.read().unwrap(), [moved, z_name, x_name, y]);
        let deleted = one("y", "sessions/y", ContentChange::Deleted);
        let back = one("y", "sessions/y", ContentChange::New);
        updates.record(&[deleted, back]).unwrap();
        assert_eq!(updates.read().unwrap()[3].change, ContentChange::Replaced);
        updates.keep_names_only().unwrap();
        assert_eq!(updates.read().unwrap(), renamed);
        updates.clear().unwrap();
        assert_eq!(updates.read().unwrap(), []);
    }
}
