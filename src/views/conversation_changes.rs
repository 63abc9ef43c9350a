//! The conversations that a restore brings and removes, for its question and its report.

use crate::context::Context;
use crate::views::account::shown_title;
use codex_manager_core::archive::{NameSet, parse_rollout_name};
use codex_manager_core::codex::rollout::uuid_time_ms;
use codex_manager_core::history::thread_titles::read_titles;
use codex_manager_core::io::pluralize;
use codex_manager_core::io::similar::{MAX_SUGGESTIONS, join_first_names};
use codex_manager_core::restore::RestoreRequest;
use codex_manager_core::restore::plan::RestorePlan;
use std::collections::BTreeSet;
use std::path::Path;

/// The length of a title, in characters, above which it is cut.
const MAX_TITLE_CHARS: usize = 40;

/// The conversations of a plan. Made before the restore, which removes the titles too.
pub(crate) struct ConversationChanges {
    /// The number of conversations of the archive that the home has after the restore.
    pub(crate) restored: usize,
    /// The ids of the conversations that only the home has and that the restore removes, in lower case.
    removed_ids: BTreeSet<String>,
    /// The titles of the removed conversations, the newest first; empty texts after the first few.
    removed_titles: Vec<String>,
    /// True if all removed conversations began after the archive was made.
    are_removed_newer: bool,
}

impl ConversationChanges {
    pub(crate) fn find(
        request: &RestoreRequest<'_>,
        plan: &RestorePlan,
        context: &Context,
    ) -> Self {
        let restored_ids = thread_ids(&plan.writes);
        let mut removed_ids = thread_ids(&plan.removed);
        removed_ids.retain(|id| !restored_ids.contains(id));

        // Newer ids sort later.
        let named_ids = removed_ids.iter().rev().take(MAX_SUGGESTIONS).cloned();
        let titles = read_titles(&request.folder, &context.env, named_ids.collect());
        let title_of = |id: &String| titles.get(id).map(String::as_str).unwrap_or_default();
        let made_ms = request.archive.metadata().created_at.timestamp_millis();
        let is_newer = |id: &String| uuid_time_ms(id).is_some_and(|time_ms| time_ms > made_ms);
        Self {
            restored: restored_ids.len(),
            removed_titles: removed_ids
                .iter()
                .rev()
                .map(|id| shorten(title_of(id)))
                .collect(),
            are_removed_newer: removed_ids.iter().all(is_newer),
            removed_ids,
        }
    }

    /// Returns true if the restore neither brings nor removes a conversation.
    pub(crate) fn is_empty(&self) -> bool {
        self.restored == 0 && self.removed_ids.is_empty()
    }

    /// Describes what the restore brings: "188 conversations and the login".
    pub(crate) fn describe_restored(&self, brings_login: bool) -> String {
        let conversations = pluralize(self.restored, "conversation");
        let login = if brings_login { " and the login" } else { "" };
        format!("{conversations}{login}")
    }

    /// Describes the removed conversations with the first titles; `None` if there are none.
    pub(crate) fn describe_removed(&self) -> Option<String> {
        let conversations = match self.removed_ids.len() {
            0 => return None,
            1 => "1 conversation that is".to_owned(),
            count => format!("{} that are", pluralize(count, "conversation")),
        };
        let relation = if self.are_removed_newer {
            "newer than the archive"
        } else {
            "not in the archive"
        };
        let titles = join_first_names(&self.removed_titles);
        Some(format!("{conversations} {relation} ({titles})"))
    }

    /// Describes the removal that a plan contains, with the option that prevents it.
    pub(crate) fn describe_removal(&self) -> Option<String> {
        let removed = self.describe_removed()?;
        let object = if self.removed_ids.len() == 1 {
            "it"
        } else {
            "them"
        };
        Some(format!("removes {removed}; keep {object} with --merge"))
    }

    /// Returns the names of the removed files that do not belong to a removed conversation.
    pub(crate) fn list_other_removed(&self, removed_names: &[String]) -> Vec<String> {
        let is_other = |name: &&String| {
            let id = thread_id(Path::new(name));
            id.is_none_or(|id| !self.removed_ids.contains(&id))
        };
        removed_names.iter().filter(is_other).cloned().collect()
    }
}

/// Returns the ids of the conversations with a rollout in `names`, in lower case.
pub(crate) fn thread_ids(names: &NameSet) -> BTreeSet<String> {
    names
        .iter()
        .filter_map(|name| thread_id(name.as_path()))
        .collect()
}

fn thread_id(path: &Path) -> Option<String> {
    Some(parse_rollout_name(path)?.id()?.to_lowercase())
}

/// Returns a title in quotes.
fn shorten(title: &str) -> String {
    let title = shown_title(title);
    let start: String = title.chars().take(MAX_TITLE_CHARS).collect();
    let end = if start.len() < title.len() { "…" } else { "" };
    format!("\"{start}{end}\"")
}
