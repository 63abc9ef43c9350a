//! The filter of a search, for conversations with and without a row in Codex's list.

use crate::codex::threads::{ListedThread, ThreadFilter};
use crate::conversations::index::usage_query::UsageConversation;
use crate::conversations::search::evaluate::FoundConversation;
use std::collections::HashSet;
use std::path::Path;

/// The filters of the command line, applied to one list of conversations.
pub(crate) struct ConversationFilter {
    filter: ThreadFilter,
    /// The ids of the listed conversations that it selects; `None` if it selects all.
    listed: Option<HashSet<String>>,
}

impl ConversationFilter {
    /// Evaluates the filter in the list that `read` queries.
    ///
    /// # Errors
    /// The list cannot be read.
    pub(crate) fn new<E>(
        filter: ThreadFilter,
        read: impl FnOnce(&ThreadFilter) -> Result<Vec<ListedThread>, E>,
    ) -> Result<Self, E> {
        let mut listed = None;
        if filter.is_restricted() {
            let ids = read(&filter)?.into_iter().map(|row| row.id.to_lowercase());
            listed = Some(ids.collect());
        }
        Ok(Self { filter, listed })
    }

    /// Returns true for conversations that may be found.
    pub(crate) fn accepts(&self, found: &FoundConversation) -> bool {
        match &self.listed {
            Some(listed) if found.listed => listed.contains(&found.session),
            Some(_) => {
                let ids = self.filter.ids.as_ref();
                (found.archived || !self.filter.only_archived)
                    && ids.is_none_or(|ids| ids.contains(&found.session))
                    && self.accepts_unlisted(&found.cwd, found.updated_ms)
            }
            None => true,
        }
    }

    /// Returns true for conversations whose usage counts. Times select requests, not conversations.
    pub(crate) fn accepts_usage(&self, found: &UsageConversation) -> bool {
        match &self.listed {
            Some(listed) if found.listed => listed.contains(&found.session),
            Some(_) => self.accepts_unlisted(&found.cwd, None),
            None => true,
        }
    }

    fn accepts_unlisted(&self, cwd: &str, updated_ms: Option<i64>) -> bool {
        self.filter.accepts_unlisted(Path::new(cwd), updated_ms)
    }
}
