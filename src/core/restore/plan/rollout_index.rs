//! Finds the rollouts of a conversation by its id. Stores hashes of the ids, because a home can have half a million
//! conversations.

use crate::archive::{EntryName, NameId, NameSet, NameTable, parse_rollout_name};
use crate::codex::RolloutName;
use crate::codex::rollout::{is_later_rollout, parse_rollout_id};
use crate::codex::threads::staged;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(crate) struct RolloutIndex {
    name_table: Arc<NameTable>,
    /// The newest rollout of each conversation, by a hash of the conversation's id. A hash collision can hide a
    /// conversation, but never returns another one, because [`RolloutIndex::find_newest`] compares the id.
    newest_by_id: HashMap<u64, NameId>,
    /// The earlier rollouts of rewound conversations, by a hash of the rollout's id.
    earlier_by_id: HashMap<u64, NameId>,
    hashes: RandomState,
    files: NameSet,
}

impl RolloutIndex {
    /// Indexes the rollouts among `files`.
    pub(crate) fn from_files(files: &NameSet) -> Self {
        let mut rollouts = Self {
            name_table: Arc::clone(files.name_table()),
            files: NameSet::with_name_table(files.name_table()),
            ..Self::default()
        };

        for name in files.iter() {
            let file = parse_rollout_name(name.as_path());
            if let Some(id) = file.as_ref().and_then(RolloutName::id) {
                rollouts.insert(id, &name);
            }
        }

        rollouts
    }

    /// Adds the rollout file `name` of the conversation `id`. Of two files of one rollout, the one added last is found.
    pub(crate) fn insert(&mut self, id: &str, name: &EntryName) {
        self.files.insert(name);

        let indexed = self.find_newest(id);
        let is_later = |a: &EntryName, b: &EntryName| is_later_rollout(a.as_path(), b.as_path());
        // Codex's database has one row for a conversation, with the path of the newest rollout.
        let (newest, earlier) = match &indexed {
            Some(indexed) if is_later(indexed, name) => (indexed, Some(name)),
            Some(indexed) if is_later(name, indexed) => (name, Some(indexed)),
            _ => (name, None),
        };

        let name_id = self.name_table.intern(newest);
        self.newest_by_id.insert(self.hashes.hash_one(id), name_id);

        if let Some(earlier) = earlier
            && let Some(earlier_id) = parse_rollout_id(earlier.as_path())
        {
            let name_id = self.name_table.intern(earlier);
            self.earlier_by_id
                .insert(self.hashes.hash_one(earlier_id), name_id);
        }
    }

    /// Replaces the file `old` of the conversation `id` by another file of the same rollout.
    pub(crate) fn replace(&mut self, id: &str, old: &EntryName, new: &EntryName) {
        self.files.remove(old.as_path());
        self.insert(id, new);
    }

    pub(crate) fn has(&self, path: &Path) -> bool {
        self.files.contains(path)
    }

    /// Returns the ids of all conversations, as the names of their rollouts spell them.
    pub(crate) fn ids(&self) -> HashSet<String> {
        let files = self.files.iter();
        let ids = files.filter_map(|f| Some(parse_rollout_name(f.as_path())?.id()?.to_owned()));
        ids.collect()
    }

    /// Returns the ids of all rollouts, as their names spell them.
    pub(crate) fn rollout_ids(&self) -> HashSet<String> {
        let files = self.files.iter();
        let rollout_id =
            |f: EntryName| Some(parse_rollout_name(f.as_path())?.rollout_id()?.to_owned());
        files.filter_map(rollout_id).collect()
    }

    /// Returns the newest rollout of a conversation. Returns `None` also after a hash collision.
    pub(crate) fn find_newest(&self, id: &str) -> Option<EntryName> {
        let name_id = self.newest_by_id.get(&self.hashes.hash_one(id))?;
        let name = self.name_table.name(*name_id);
        let has_id = RolloutName::parse(name.as_path()).is_some_and(|c| c.id() == Some(id));
        has_id.then_some(name)
    }

    /// Returns the indexed file of the same rollout as `file`. It may be in another folder than `file`, and compressed
    /// or not.
    pub(crate) fn find_same_rollout(&self, file: &RolloutName) -> Option<EntryName> {
        let rollout_id = file.rollout_id()?.to_lowercase();
        let is_same_rollout =
            |name: &EntryName| parse_rollout_id(name.as_path()).as_ref() == Some(&rollout_id);
        let newest = self.find_newest(file.id()?).filter(is_same_rollout);
        newest.or_else(|| {
            let name_id = self.earlier_by_id.get(&self.hashes.hash_one(&rollout_id))?;
            Some(self.name_table.name(*name_id)).filter(is_same_rollout)
        })
    }
}

/// Several indexes that are searched as one. Returns the newest rollout of a conversation; if several indexes have it,
/// the one of the first index.
pub(crate) struct RolloutIndexes<'a>(pub(crate) Vec<&'a RolloutIndex>);

impl staged::RolloutLocations for RolloutIndexes<'_> {
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        let candidates = self.0.iter().filter_map(|index| index.find_newest(id));
        let newest = candidates.reduce(|newest, other| {
            if is_later_rollout(other.as_path(), newest.as_path()) {
                other
            } else {
                newest
            }
        });
        newest.map(|name| name.as_path().to_path_buf())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|rollouts| rollouts.has(path))
    }
}
