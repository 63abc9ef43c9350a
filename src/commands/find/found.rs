//! The result of a search.

use crate::conversations::search::evaluate::Hit;
use std::collections::HashMap;

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
    /// The archive from which to restore each conversation that is not on disk, as commands accept its name.
    pub archives: HashMap<String, String>,
}
