//! Facts about conversations: project, account and title, from the database or else the rollouts.

use super::walk::RolloutUsage;
use crate::codex::folder_key::FolderSpellings;
use crate::codex::threads;
use crate::history::{ConversationId, rollout};
use crate::io::{parallel, progress};
use hashbrown::HashSet;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The number of largest conversations in a report.
pub(super) const MAX_LARGEST: usize = 10;

/// The number of rollouts that are read at a time.
const MAX_OPEN_ROLLOUTS: usize = 64;

/// Interned names, because many conversations share a project and an account.
#[derive(Default)]
struct InternedNames {
    names: HashSet<Arc<str>>,
    folders: FolderSpellings,
}

impl InternedNames {
    /// Returns the name, or "unknown" if it is empty.
    fn intern(&mut self, name: &str) -> Arc<str> {
        let name = if name.is_empty() { "unknown" } else { name };
        Arc::clone(self.names.get_or_insert_with(name, |_| name.into()))
    }

    fn intern_facts(&mut self, project: &str, account: &str) -> ConversationFacts {
        let project = self.folders.unify(project).to_owned();
        ConversationFacts {
            project: self.intern(&project),
            account: self.intern(account),
            title: String::new(),
        }
    }
}

#[derive(Clone)]
pub(super) struct ConversationFacts {
    pub(super) project: Arc<str>,
    pub(super) account: Arc<str>,
    /// Empty if the conversation has no row, if its texts cannot be read, or if it is not among the first
    /// [`MAX_LARGEST`] rollouts.
    pub(super) title: String,
}

#[derive(Default)]
struct DatabaseFacts {
    names: InternedNames,
    rows: HashMap<ConversationId, ConversationFacts>,
    /// The ids of the largest conversations, as their rows spell them.
    largest: Vec<String>,
}

/// Reads the facts from the database, with the titles of the first [`MAX_LARGEST`] of `rollouts`. Returns no facts if
/// the database is missing or cannot be read.
fn read_database_facts(rollouts: &[RolloutUsage], state_database: Option<&Path>) -> DatabaseFacts {
    let Some(state_database) = state_database else {
        return DatabaseFacts::default();
    };

    let largest = rollouts.iter().take(MAX_LARGEST);
    let largest_ids = largest.filter_map(|rollout| rollout.id.as_ref());
    let largest_ids: HashSet<_> = largest_ids.cloned().collect();

    let facts_from_rows =
        threads::fold_owners(state_database, DatabaseFacts::default, |database, row| {
            let id = ConversationId::of(&row.id);
            let facts = database.names.intern_facts(&row.cwd, &row.account_id);
            if largest_ids.contains(&id) {
                database.largest.push(row.id);
            }
            database.rows.insert(id, facts);
        });
    // Without a readable database, the facts come from the rollouts.
    let Ok(Some(mut database)) = facts_from_rows else {
        return DatabaseFacts::default();
    };
    let largest_rows = threads::read_rows(state_database, &database.largest);
    for row in largest_rows.unwrap_or_default() {
        if let Some(facts) = database.rows.get_mut(&ConversationId::of(&row.id)) {
            facts.title = row.shown_title();
        }
    }
    database
}

/// Returns the facts of each rollout, from the row of its conversation or else its metadata. A project or account that
/// cannot be read is "unknown". Only the first [`MAX_LARGEST`] rollouts get their title.
pub(super) fn read_facts(
    rollouts: &[RolloutUsage],
    state_database: Option<&Path>,
) -> Vec<ConversationFacts> {
    let mut database = read_database_facts(rollouts, state_database);

    // An empty name is interned as "unknown".
    let unknown = database.names.intern_facts("", "");
    let mut facts = vec![unknown; rollouts.len()];

    let mut indexes_without_row = Vec::new();
    for (index, rollout) in rollouts.iter().enumerate() {
        match rollout.id.as_ref().and_then(|id| database.rows.get(id)) {
            Some(row) => facts[index] = row.clone(),
            None => indexes_without_row.push(index),
        }
    }

    let read_head = |index: usize| {
        let meta = rollout::read_head(&rollouts[index].path).ok().flatten()?;
        let text = |key| meta.text(key).unwrap_or_default().to_owned();
        Some((index, text("cwd"), text("creator_account_id")))
    };

    let add_facts = |head: Option<(usize, String, String)>| {
        if let Some((index, project, account)) = head {
            facts[index] = database.names.intern_facts(&project, &account);
        }
        progress::check_interrupt()
    };
    // Incomplete if the user interrupts; the caller discards it.
    let _ =
        parallel::run_each_ordered(MAX_OPEN_ROLLOUTS, indexes_without_row, read_head, add_facts);
    facts
}
