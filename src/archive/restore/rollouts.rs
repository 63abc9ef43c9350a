//! Where the file of each conversation is, by the conversation's id, without a text for each.

use crate::archive::entry_name::EntryName;
use crate::archive::name_table::{NameId, NameSet, NameTable};
use crate::codex::home::kind_of;
use crate::codex::rollout::ConversationFile;
use crate::codex::thread_rows;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rollouts by id.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    names: Arc<NameTable>,
    /// By a hash of the id.
    by_id: HashMap<u64, NameId>,
    hashes: RandomState,
    files: NameSet,
}

impl Rollouts {
    /// The rollouts among `files`.
    pub(super) fn among(files: &NameSet) -> Self {
        let mut rollouts = Self {
            names: Arc::clone(files.names()),
            files: NameSet::sharing(files.names()),
            ..Self::default()
        };
        for name in files.iter() {
            if let Some(id) = conversation_of(name.as_path())
                .as_ref()
                .and_then(|c| c.id())
            {
                rollouts.insert(id, &name);
            }
        }
        rollouts
    }

    /// Notes where the file of a conversation is.
    pub(super) fn insert(&mut self, id: &str, name: &EntryName) {
        let number = self.names.add(name);
        self.by_id.insert(self.hashes.hash_one(id), number);
        self.files.insert(name);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The ids of all whose files bear them.
    pub(super) fn ids(&self) -> HashSet<String> {
        let conversations = self
            .files
            .iter()
            .filter_map(|f| conversation_of(f.as_path()));
        conversations
            .filter_map(|c| Some(c.id()?.to_owned()))
            .collect()
    }

    /// The file of a conversation.
    pub(super) fn get(&self, id: &str) -> Option<EntryName> {
        let name = self.names.name(*self.by_id.get(&self.hashes.hash_one(id))?);
        let is_it = ConversationFile::of(name.as_path()).is_some_and(|c| c.id() == Some(id));
        is_it.then_some(name)
    }
}

/// The conversation that a file of the home holds.
pub(super) fn conversation_of(path: &Path) -> Option<ConversationFile> {
    let is_rollout = kind_of(path).is_rollout_folder();
    is_rollout.then(|| ConversationFile::of(path)).flatten()
}

/// Several lists of rollouts: the first that knows a conversation counts.
pub(super) struct FirstOf<'a>(pub(super) Vec<&'a Rollouts>);

impl thread_rows::RolloutLocations for FirstOf<'_> {
    fn path_of(&self, id: &str) -> Option<PathBuf> {
        let found = self.0.iter().find_map(|rollouts| rollouts.get(id));
        found.map(|name| name.as_path().to_path_buf())
    }

    fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|rollouts| rollouts.files.contains(path))
    }
}
