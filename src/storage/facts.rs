//! The projects and titles of conversations, from the database or else the rollouts.

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

/// The names of projects, each stored once, because many conversations share a project.
#[derive(Default)]
struct ProjectNames(HashSet<Arc<str>>);

impl ProjectNames {
    /// Returns the shared name, or "unknown" if it is empty.
    fn share(&mut self, name: &str) -> Arc<str> {
        let name = if name.is_empty() { "unknown" } else { name };
        if let Some(shared) = self.0.get(name) {
            return Arc::clone(shared);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

type Titles = HashMap<ConversationId, String>;

/// Facts about conversations from the database.
#[derive(Default)]
struct ListedFacts {
    names: ProjectNames,
    projects: HashMap<ConversationId, Arc<str>>,
    /// The titles of the largest conversations.
    titles: Titles,
}

/// Reads the facts from the database, with the titles of the [`MAX_LARGEST`] first of `rollouts`.
fn read_listed(rollouts: &[RolloutUsage], state_database: Option<&Path>) -> ListedFacts {
    let largest = rollouts.iter().take(MAX_LARGEST);
    let largest: HashSet<_> = largest.filter_map(|rollout| rollout.id.clone()).collect();
    let folded = state_database.map(|path| {
        threads::fold_rows(path, ListedFacts::default, |facts, row| {
            let id = ConversationId::of(&row.id);
            if largest.contains(&id) {
                facts.titles.insert(id.clone(), title_of(&row));
            }
            facts.projects.insert(id, facts.names.share(&row.cwd));
        })
    });
    // Without a readable database, the facts come from the rollouts.
    folded
        .and_then(|table| table.ok().flatten())
        .unwrap_or_default()
}

/// Returns the project of each rollout, from the row of its conversation or else its metadata, and the titles of the
/// [`MAX_LARGEST`] first ones. A project that cannot be read is "unknown".
pub(super) fn read(
    rollouts: &[RolloutUsage],
    state_database: Option<&Path>,
) -> (Vec<Arc<str>>, Titles) {
    let mut listed = read_listed(rollouts, state_database);
    let mut projects = vec![listed.names.share(""); rollouts.len()];
    let mut unlisted = Vec::new();
    for (i, rollout) in rollouts.iter().enumerate() {
        match rollout.id.as_ref().and_then(|id| listed.projects.get(id)) {
            Some(project) => projects[i] = Arc::clone(project),
            None => unlisted.push(i),
        }
    }
    let read_project = |i: usize| {
        let meta = rollout::read_head(&rollouts[i].path).ok().flatten()?;
        Some((i, meta.text("cwd").unwrap_or_default().to_owned()))
    };
    // Incomplete if the user interrupts; the caller discards it.
    let _ = parallel::run_each_ordered(MAX_OPEN_ROLLOUTS, unlisted, read_project, |result| {
        if let Some((i, project)) = result {
            projects[i] = listed.names.share(&project);
        }
        progress::check_interrupt()
    });
    (projects, listed.titles)
}
