//! A modeled conversation.

use crate::codex::rollout_lines::Role;
use std::path::PathBuf;

/// A conversation with the texts that a search has to find.
#[derive(Clone)]
pub(super) struct Modeled {
    pub(super) session: String,
    pub(super) texts: Vec<(Role, String)>,
    pub(super) lines: Vec<String>,
    pub(super) title: String,
    /// The name in `session_index.jsonl`, which is shown instead of the title.
    pub(super) name: Option<String>,
    pub(super) path: PathBuf,
    pub(super) is_listed: bool,
    pub(super) updated_ms: i64,
}

impl Modeled {
    /// Returns the title that a search has to find. `None` if there is neither a name nor a row: then the title is the
    /// first message, which `texts` has.
    pub(super) fn searched_title(&self) -> Option<&str> {
        let name = self.name.as_deref();
        name.or(self.is_listed.then_some(&*self.title))
    }
}
