//! Finds duplicate rollouts: of several files with the same conversation, one is archived.

use super::format::{EntryName, FileEntry, FileList, InodeStamp, NameSet};
use super::path_note::PathNote;
use super::source_paths::SourcePaths;
use crate::codex::home::kind_of;
use crate::codex::rollout::{self, Relation, RolloutName};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// Removes duplicate rollouts from `files`: a conversation may have a plain and a compressed file, in `sessions/` and
/// in `archived_sessions/`. The most complete file stays. Files with diverging content all stay, so no turn is lost.
/// Returns the conversations with more than one file, and a note for each removed file, sorted by path.
pub(super) fn drop_duplicates(
    files: &mut FileList,
    places: &SourcePaths,
) -> (DuplicateConversations, Vec<PathNote>) {
    let conversations = DuplicateConversations::find(files);
    let mut dropped = NameSet::with_names(files.name_table());

    for copies in group_by_conversation(files, &conversations).into_values() {
        // Each file is compared with the most complete file so far. A file that diverged from it stays.
        let mut most_complete = copies[0].clone();
        for copy in &copies[1..] {
            let superseded = find_superseded(&most_complete, copy, places);
            if superseded == Some(&most_complete) {
                dropped.insert(&most_complete);
                most_complete = copy.clone();
            } else if superseded.is_some() {
                dropped.insert(copy);
            }
        }
    }

    files.remove_all(&dropped);

    let reason = "another file has the same conversation";
    let sorted_names = dropped.to_sorted_names().into_iter();
    let notes = sorted_names.map(|name| PathNote::new(name.as_path(), reason));
    (conversations, notes.collect())
}

/// Returns the files of each duplicate conversation, at least two each, in the order of `files`.
fn group_by_conversation(
    files: &FileList,
    conversations: &DuplicateConversations,
) -> HashMap<String, Vec<EntryName>> {
    let mut files_by_name: HashMap<String, Vec<EntryName>> = HashMap::new();
    if conversations.name_hashes.is_empty() {
        return files_by_name;
    }

    for name in (0..files.len()).filter_map(|index| files.name_at(index)) {
        let Some(rollout) = parse_rollout_name(name.as_path()) else {
            continue;
        };

        let name_hash = conversations.hasher.hash_one(&rollout.name);
        if conversations.name_hashes.contains(&name_hash) {
            files_by_name.entry(rollout.name).or_default().push(name);
        }
    }

    // A hash collision leaves conversations with one file.
    files_by_name.retain(|_, copies| copies.len() > 1);
    files_by_name
}

/// Returns the file whose content is completely contained in the other file. Of two equal files, returns the compressed
/// one, or else `second`. Returns `None` if the files diverged or cannot be compared.
fn find_superseded<'a>(
    first: &'a EntryName,
    second: &'a EntryName,
    places: &SourcePaths,
) -> Option<&'a EntryName> {
    let is_compressed =
        |name: &EntryName| parse_rollout_name(name.as_path()).is_some_and(|r| r.compressed);

    match rollout::compare(&places.source_path(first), &places.source_path(second)) {
        // For equal texts Codex uses the plain file.
        Ok(Relation::Equal) if is_compressed(first) && !is_compressed(second) => Some(first),
        Ok(Relation::Equal | Relation::FirstExtends) => Some(second),
        Ok(Relation::SecondExtends) => Some(first),
        Ok(Relation::Diverged) | Err(_) => None,
    }
}

/// Identifies a rollout across renames. The inode alone does not suffice, because the file system may reuse its number
/// for a new file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct RolloutKey {
    conversation_hash: u64,
    device: u64,
    inode: u64,
}

/// The conversations of a scan that have more than one file, as hashes of their names. A hash collision can add a
/// conversation with a single file.
#[derive(Debug, Default)]
pub(super) struct DuplicateConversations {
    hasher: RandomState,
    name_hashes: HashSet<u64>,
}

impl DuplicateConversations {
    fn find(files: &FileList) -> Self {
        // Compares hashes first: a table of all names would need as much memory as the file list.
        let hasher = RandomState::new();
        let hash_rollout_name = |index: usize| {
            let name = files.name_at(index)?;
            Some(hasher.hash_one(parse_rollout_name(name.as_path())?.name))
        };

        let mut name_hashes: Vec<u64> = Vec::with_capacity(files.len());
        name_hashes.extend((0..files.len()).filter_map(hash_rollout_name));
        name_hashes.sort_unstable();

        // Equal hashes are adjacent, so a pair of them is a conversation with several files.
        let repeated = name_hashes.windows(2).filter(|w| w[0] == w[1]);
        let name_hashes = repeated.map(|w| w[0]).collect();
        Self {
            hasher,
            name_hashes,
        }
    }

    /// Returns the key that identifies a rollout under all its names. Returns `None` if the conversation has a single
    /// file, or the system has no inode numbers.
    pub(super) fn rollout_key(&self, file: &FileEntry, stamp: InodeStamp) -> Option<RolloutKey> {
        if stamp.ino == 0 || self.name_hashes.is_empty() {
            return None;
        }

        let rollout = parse_rollout_name(file.path.as_path())?;
        let name_hash = self.hasher.hash_one(rollout.name);
        let is_duplicate = self.name_hashes.contains(&name_hash);
        is_duplicate.then_some(RolloutKey {
            conversation_hash: name_hash,
            device: stamp.dev,
            inode: stamp.ino,
        })
    }
}

/// Parses the name of a rollout in a folder of conversations; `None` for other files.
pub fn parse_rollout_name(path: &Path) -> Option<RolloutName> {
    let in_folder = kind_of(path).is_rollout_folder();
    in_folder.then(|| RolloutName::parse(path)).flatten()
}
