//! The result of a search.

use crate::conversations::search::evaluate::{Hit, SearchResult};
use crate::conversations::search::relaxation::Relaxation;
use crate::io::clock::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

/// An archive that has a found conversation.
pub(super) struct FoundArchive {
    pub name: String,
    pub created_at: Timestamp,
}

/// Another machine that has a found conversation.
#[derive(Clone)]
pub(super) struct FoundMachine {
    pub name: String,
    /// A folder like a Codex home, with the conversations fetched from the machine.
    pub home: PathBuf,
    /// True if this machine has the conversation too, in another state.
    pub is_here_too: bool,
}

#[derive(Default)]
pub(super) struct Found {
    pub hits: Vec<Hit>,
    /// The number of conversations that match; `None` if they were not counted.
    pub total: Option<usize>,
    /// The number of conversations that were read into the index.
    pub refreshed: usize,
    /// The number of conversations that were searched.
    pub conversations: i64,
    /// True if not all conversations could be searched.
    pub is_partial: bool,
    /// The archive from which to restore each conversation that is not on disk. Commands accept its name.
    pub archives: HashMap<String, FoundArchive>,
    /// The machine with the found version, for each conversation that this machine does not have in that version.
    pub machines: HashMap<String, FoundMachine>,
    /// The part of the query that was ignored to find something.
    pub relaxation: Option<Relaxation>,
    /// Words without a match, with the spellings that were searched instead.
    pub spellings: BTreeMap<String, String>,
}

impl Found {
    /// Adds the hits of another machine, without conversations that were found before.
    pub(super) fn add_machine(&mut self, mut other: Self, machine: impl Fn(&str) -> FoundMachine) {
        let known = self.hits.iter().map(|hit| hit.conversation.session.clone());
        let known: HashSet<_> = known.collect();
        let count = other.hits.len();
        other
            .hits
            .retain(|hit| !known.contains(&hit.conversation.session));
        let again = count - other.hits.len();
        let totals = self.total.zip(other.total);
        self.total = totals.map(|(here, there)| here + there - again);
        self.refreshed += other.refreshed;
        self.conversations += other.conversations;
        self.is_partial |= other.is_partial;
        let ids = other.hits.iter().map(|hit| &hit.conversation.session);
        self.machines
            .extend(ids.map(|id| (id.clone(), machine(id))));
        self.hits.extend(other.hits);
    }
}

impl From<SearchResult> for Found {
    fn from(result: SearchResult) -> Self {
        Self {
            hits: result.hits,
            total: result.total,
            relaxation: result.relaxation,
            spellings: result.spellings,
            ..Self::default()
        }
    }
}
