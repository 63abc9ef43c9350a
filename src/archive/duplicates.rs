//! Duplicate rollouts: of several files with the same conversation, one is archived.

use super::name_table::NameSet;
use super::scan::{HomeScan, PathNote};
use crate::codex::home::kind_of;
use crate::codex::rollout::{self, ConversationFile, Relation};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// Removes duplicate rollouts from `scan` (plain and compressed, archived and not) and lists them
/// as excluded. The most complete file stays. Files that diverged all stay, so no turn is lost.
/// Returns the conversations with more than one file.
pub(super) fn drop_duplicates(scan: &mut HomeScan) -> DuplicateConversations {
    let conversation = |i: usize| of(scan.files.name(i)?.as_path());
    // Compares hashes first: a table of all names would need as much memory as the file list.
    let hashes = RandomState::new();
    let hash = |i: usize| Some(hashes.hash_one(conversation(i)?.name));
    let mut all: Vec<u64> = Vec::with_capacity(scan.files.len());
    all.extend((0..scan.files.len()).filter_map(hash));
    all.sort_unstable();
    let twice = all.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]);
    let twice: HashSet<u64> = twice.collect();
    drop(all);
    if twice.is_empty() {
        return DuplicateConversations::default();
    }
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for i in 0..scan.files.len() {
        if let Some(found) = conversation(i)
            && twice.contains(&hashes.hash_one(&found.name))
        {
            by_name.entry(found.name).or_default().push(i);
        }
    }
    let source = |i: usize| {
        let name = scan.files.name(i);
        name.map(|n| scan.places.source(&n)).unwrap_or_default()
    };
    let mut dropped = NameSet::with_names(scan.files.names());
    let mut leave_out = |i: usize| dropped.extend(scan.files.name(i));
    for copies in by_name.into_values().filter(|c| c.len() > 1) {
        let mut best = copies[0];
        for &other in &copies[1..] {
            let relation = rollout::compare(&source(best), &source(other));
            match relation {
                // For equal texts Codex uses the plain file.
                Ok(Relation::Equal) => {
                    let zst = |i: usize| conversation(i).is_some_and(|c| c.compressed);
                    let loser = if zst(best) && !zst(other) {
                        best
                    } else {
                        other
                    };
                    leave_out(loser);
                    if loser == best {
                        best = other;
                    }
                }
                Ok(Relation::FirstExtends) => {
                    leave_out(other);
                }
                Ok(Relation::SecondExtends) => {
                    leave_out(best);
                    best = other;
                }
                Ok(Relation::Diverged) | Err(_) => {}
            }
        }
    }
    scan.files.remove_all(&dropped);
    let reason = "another file has the same conversation";
    let left_out = dropped.sorted().into_iter();
    scan.excluded
        .extend(left_out.map(|name| PathNote::new(name.as_path(), reason)));
    DuplicateConversations { hashes, twice }
}

/// The conversations of a scan that have more than one file, as hashes of their names.
#[derive(Debug, Default)]
pub(super) struct DuplicateConversations {
    hashes: RandomState,
    twice: HashSet<u64>,
}

impl DuplicateConversations {
    /// Returns true if the rollout at `path` belongs to such a conversation. A hash collision can
    /// give a false positive, never a false negative.
    pub(super) fn has(&self, path: &Path) -> bool {
        !self.twice.is_empty()
            && of(path).is_some_and(|c| self.twice.contains(&self.hashes.hash_one(c.name)))
    }
}

fn of(path: &Path) -> Option<ConversationFile> {
    let is_rollout = kind_of(path).is_rollout_folder();
    is_rollout.then(|| ConversationFile::of(path)).flatten()
}
