//! Facts about conversations: project, account and title, from the database or else the rollouts.

use super::walk::RolloutUsage;
use crate::codex::threads;
use crate::history::thread_titles::title_of;
use crate::history::{ConversationId, rollout};
use crate::io::{parallel, progress};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The number of largest conversations in a report.
pub(super) const MAX_LARGEST: usize = 10;

/// The number of rollouts that are read at a time.
const MAX_OPEN_ROLLOUTS: usize = 64;

/// Interned names, because many conversations share a project and an account.
#[derive(Default)]
struct InternedNames(HashSet<Arc<str>>);

impl InternedNames {
    /// Returns the name, or "unknown" if it is empty.
    fn intern(&mut self, name: &str) -> Arc<str> {
        let name = if name.is_empty() { "unknown" } else { name };
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

type Titles = HashMap<ConversationId, String>;

/// The project and the account of a conversation.
pub(super) type ProjectAndAccount = (Arc<str>, Arc<str>);

/// Facts about conversations from the database.
#[derive(Default)]
struct ConversationFacts {
    names: InternedNames,
    rows: HashMap<ConversationId, ProjectAndAccount>,
    /// The titles of the largest conversations.
    titles: Titles,
}

/// Reads the facts from the database, with the titles of the [`MAX_LARGEST`] first of `rollouts`.
fn read_database_facts(
    rollouts: &[RolloutUsage],
    state_database: Option<&Path>,
) -> ConversationFacts {
    let largest = rollouts
        .iter()
        .take(MAX_LARGEST)
        .filter_map(|rollout| rollout.id.as_ref());
    let largest: HashSet<_> = largest.cloned().collect();

    let facts_from_rows = state_database.map(|path| {
        threads::fold_rows(path, ConversationFacts::default, |known, row| {
            let id = ConversationId::of(&row.id);
            if largest.contains(&id) {
                known.titles.insert(id.clone(), title_of(&row));
            }
            let project_and_account = (
                known.names.intern(&row.cwd),
                known.names.intern(&row.account_id),
            );
            known.rows.insert(id, project_and_account);
        })
    });

    // Without a readable database, the facts come from the rollouts.
    facts_from_rows
        .and_then(|table| table.ok().flatten())
        .unwrap_or_default()
}

/// Returns the project and account of each rollout, from the row of its conversation or else its metadata, and the
/// titles of the [`MAX_LARGEST`] first ones. Facts that cannot be read are "unknown".
pub(super) fn read_facts(
    rollouts: &[RolloutUsage],
    state_database: Option<&Path>,
) -> (Vec<ProjectAndAccount>, Titles) {
    let mut known = read_database_facts(rollouts, state_database);

    // An empty name is interned as "unknown".
    let unknown_names = (known.names.intern(""), known.names.intern(""));
    let mut facts = vec![unknown_names; rollouts.len()];

    let mut without_row = Vec::new();
    for (i, rollout) in rollouts.iter().enumerate() {
        match rollout.id.as_ref().and_then(|id| known.rows.get(id)) {
            Some(row) => facts[i] = row.clone(),
            None => without_row.push(i),
        }
    }

    let read_head = |i: usize| {
        let meta = rollout::read_head(&rollouts[i].path).ok().flatten()?;
        let text = |key| meta.text(key).unwrap_or_default().to_owned();
        Some((i, text("cwd"), text("creator_account_id")))
    };

    // Incomplete if the user interrupts; the caller discards it.
    let _ = parallel::run_each_ordered(MAX_OPEN_ROLLOUTS, without_row, read_head, |result| {
        if let Some((i, project, account)) = result {
            facts[i] = (known.names.intern(&project), known.names.intern(&account));
        }
        progress::check_interrupt()
    });

    (facts, known.titles)
}
