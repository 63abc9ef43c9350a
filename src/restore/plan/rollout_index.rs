//! The rollout of each conversation, by id. Stores hashes of ids, because a home can have half a
//! million conversations.

use crate::archive::{EntryName, NameId, NameSet, NameTable};
use crate::codex::threads::staged;
use crate::codex::{RolloutName, kind_of};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rollouts by the id of their conversation.
#[derive(Debug, Default)]
pub(crate) struct RolloutIndex {
    names: Arc<NameTable>,
    /// By a hash of the id. A collision only hides an entry, because [`RolloutIndex::get`] compares
    /// the id.
    by_id: HashMap<u64, NameId>,
    hashes: RandomState,
    files: NameSet,
}

impl RolloutIndex {
    /// Indexes the rollouts among `files`.
    pub(crate) fn of_files(files: &NameSet) -> Self {
        let mut rollouts = Self {
            names: Arc::clone(files.names()),
            files: NameSet::with_names(files.names()),
            ..Self::default()
        };
        for name in files.iter() {
            let Some(file) = conversation_of(name.as_path()) else {
                continue;
            };
            let Some(id) = file.id() else { continue };
            // The row of a conversation that was rewound names its newest rollout.
            let is_newer = rollouts.get(id).is_none_or(|known| {
                let known = conversation_of(known.as_path());
                known.is_none_or(|known| known.rollout_id() <= file.rollout_id())
            });
            if is_newer {
                rollouts.insert(id, &name);
            } else {
                rollouts.files.insert(&name);
            }
        }
        rollouts
    }

    /// Sets the file of a conversation.
    pub(crate) fn insert(&mut self, id: &str, name: &EntryName) {
        let number = self.names.add(name);
        // A hash of 64 bits instead of the id saves about 60 bytes per conversation.
        self.by_id.insert(self.hashes.hash_one(id), number);
        self.files.insert(name);
    }

    /// Returns true if the index is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the ids that are part of the files' names.
    pub(crate) fn ids(&self) -> HashSet<String> {
        let files = self.files.iter();
        files.filter_map(|f| conversation_id(f.as_path())).collect()
    }

    /// Returns the file of a conversation by its id. A hash collision returns `None`.
    pub(crate) fn get(&self, id: &str) -> Option<EntryName> {
        let name = self.names.name(*self.by_id.get(&self.hashes.hash_one(id))?);
        let is_it = RolloutName::of(name.as_path()).is_some_and(|c| c.id() == Some(id));
        is_it.then_some(name)
    }
}

/// Returns the conversation of a rollout in the home; `None` for other files.
pub(crate) fn conversation_of(path: &Path) -> Option<RolloutName> {
    let is_rollout = kind_of(path).is_rollout_folder();
    is_rollout.then(|| RolloutName::of(path)).flatten()
}

/// Returns the id of the conversation of a rollout in the home; `None` for other files.
pub(crate) fn conversation_id(path: &Path) -> Option<String> {
    Some(conversation_of(path)?.id()?.to_owned())
}

/// Several indexes as one. The first that has a conversation wins.
pub(crate) struct RolloutOverlay<'a>(pub(crate) Vec<&'a RolloutIndex>);

impl staged::RolloutLocations for RolloutOverlay<'_> {
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        let found = self.0.iter().find_map(|rollouts| rollouts.get(id));
        found.map(|name| name.as_path().to_path_buf())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|rollouts| rollouts.files.contains(path))
    }
}
