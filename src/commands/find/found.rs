//! The result of a search.

use crate::conversations::search::evaluate::{Hit, SearchResult};
use crate::conversations::search::relaxation::Relaxation;
use crate::io::clock::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// An archive as a hit shows it.
pub(super) struct FoundArchive {
    pub name: String,
    pub created_at: Timestamp,
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
    /// The part of the query that was ignored to find something.
    pub relaxation: Option<Relaxation>,
    /// Words that nothing has, with the spellings that were searched instead.
    pub spellings: BTreeMap<String, String>,
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
