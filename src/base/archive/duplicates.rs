//! Removes duplicate rollouts from the files to archive: of the files with the same conversation, the most complete one
//! stays, and each one that diverges from it.

use super::format::{FileEntry, FileList, NameSet};
use super::path_note::PathNote;
use super::source_paths::SourcePaths;
use crate::codex::home::kind_of;
use crate::codex::rollout::{self, Relation, RolloutName};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// Removes duplicate rollouts from `files`: a conversation may have a plain and a compressed file, in `sessions/` and
/// in `archived_sessions/`. The most complete file stays. Files with diverging content all stay, so no turn is lost.
/// Returns a note for each removed file, sorted by path.
pub(super) fn drop_duplicates(files: &mut FileList, source_paths: &SourcePaths) -> Vec<PathNote> {
    let mut dropped = NameSet::with_name_table(files.name_table());

    for copies in group_by_conversation(files) {
        // Each file is compared with the most complete file so far. A file that diverged from it stays.
        let mut most_complete = &copies[0];
        for copy in &copies[1..] {
            if let Some(superseded) = find_superseded(most_complete, copy, source_paths) {
                dropped.insert(&superseded.path);
                if superseded.path == most_complete.path {
                    most_complete = copy;
                }
            }
        }
    }

    files.remove_all(&dropped);

    let reason = "another file has the same conversation";
    let sorted_names = dropped.to_sorted_names().into_iter();
    let notes = sorted_names.map(|name| PathNote::new(name.as_path(), reason));
    notes.collect()
}

/// Returns the files of each conversation that has more than one. Only the files of a group are in the order of
/// `files`.
fn group_by_conversation(files: &FileList) -> Vec<Vec<FileEntry>> {
    // Compares hashes: a table of all names would need as much memory as the file list. Conversations with equal hashes
    // share a group, and all of them stay, because their contents differ.
    let hasher = RandomState::new();
    let hash_and_index = |index: usize| {
        let name = files.name_at(index)?;
        let conversation = parse_rollout_name(name.as_path())?;
        Some((hasher.hash_one(conversation.name), index))
    };

    let mut indices_by_hash: Vec<(u64, usize)> = Vec::with_capacity(files.len());
    indices_by_hash.extend((0..files.len()).filter_map(hash_and_index));
    indices_by_hash.sort_unstable();

    let groups = indices_by_hash.chunk_by(|a, b| a.0 == b.0);
    let repeated = groups.filter(|group| group.len() > 1);
    let files_of =
        |group: &[(u64, usize)]| group.iter().filter_map(|(_, i)| files.get(*i)).collect();
    repeated.map(files_of).collect()
}

/// Returns the file whose content is completely contained in the other file. Of two equal files, returns the compressed
/// one, or else `second`. Returns `None` if the files diverged or cannot be compared.
fn find_superseded<'a>(
    first: &'a FileEntry,
    second: &'a FileEntry,
    source_paths: &SourcePaths,
) -> Option<&'a FileEntry> {
    let is_compressed =
        |file: &FileEntry| parse_rollout_name(file.path.as_path()).is_some_and(|r| r.compressed);
    let source = |file: &FileEntry| source_paths.source_path(&file.path);

    match rollout::compare(&source(first), &source(second)) {
        // For equal texts Codex uses the plain file.
        Ok(Relation::Equal) if is_compressed(first) && !is_compressed(second) => Some(first),
        Ok(Relation::Equal | Relation::FirstExtends) => Some(second),
        Ok(Relation::SecondExtends) => Some(first),
        // Codex moved the file during the scan, which found it under both names.
        Err(_) if first.stamp.is_same_inode(second.stamp) => {
            let is_missing = |file: &&FileEntry| matches!(source(file).try_exists(), Ok(false));
            [first, second].into_iter().find(is_missing)
        }
        Ok(Relation::Diverged) | Err(_) => None,
    }
}

/// Parses the name of a rollout in a folder of conversations; `None` for other files.
pub fn parse_rollout_name(path: &Path) -> Option<RolloutName> {
    let in_folder = kind_of(path).is_rollout_folder();
    in_folder.then(|| RolloutName::parse(path)).flatten()
}

/// Returns the number of conversations with a rollout in `files` that is not in `unreadable`, a set of the same name
/// table. Those with an id in `child_ids` do not count: they are subagents and side conversations, and Codex lists each
/// at the conversation that started it. A rollout without an id in its name is one conversation.
pub(super) fn count_conversations(
    files: &FileList,
    unreadable: &NameSet,
    child_ids: &HashSet<String>,
) -> u64 {
    let hash_keys = RandomState::new();
    let names = files.name_ids().filter(|id| !unreadable.contains_id(*id));
    let hash_conversation = |id| {
        let rollout = parse_rollout_name(files.name_table().name(id).as_path())?;
        let conversation = rollout.id().unwrap_or(&rollout.name).to_lowercase();
        let is_child = child_ids.contains(&conversation);
        (!is_child).then(|| hash_keys.hash_one(conversation))
    };
    // Hashes, because the ids of all conversations would need much memory.
    let mut hashes: Vec<u64> = names.filter_map(hash_conversation).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes.len() as u64
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::format::{EntryName, InodeStamp};
    use std::fs;

    #[test]
    fn of_a_file_that_moved_during_the_scan_the_present_name_stays() {
        let home = tempfile::tempdir().unwrap();
        let name = "rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl";
        let paths = ["archived_sessions", "sessions"].map(|folder| Path::new(folder).join(name));
        for present in &paths {
            let source = home.path().join(present);
            fs::create_dir_all(source.parent().unwrap()).unwrap();
            fs::write(&source, "x").unwrap();
            let list = |ino_of_first: u64| {
                let mut files = FileList::default();
                for (path, ino) in paths.iter().zip([ino_of_first, 7]) {
                    let path = EntryName::from_path(path).unwrap();
                    files.push(&FileEntry {
                        path,
                        size: 1,
                        mode: 0o600,
                        mtime: 0,
                        digest: None,
                        stamp: InodeStamp {
                            ctime: 1,
                            ino,
                            dev: 1,
                        },
                    });
                }
                drop_duplicates(&mut files, &SourcePaths::new(home.path(), None));
                files.iter().map(|file| file.path).collect::<Vec<_>>()
            };
            assert_eq!(list(7), [EntryName::from_path(present).unwrap()]);
            // Of another file, the missing name may have moved to a place that is not listed.
            assert_eq!(list(8).len(), 2);
            fs::remove_file(&source).unwrap();
        }
    }
}
