//! Facts about conversations: project, account and title, from the database or else the rollouts.

use super::report::MAX_LARGEST;
use super::rollout_usage::RolloutUsage;
use crate::codex::threads;
use crate::history::id::ConversationId;
use crate::history::rollout;
use crate::io::{parallel, progress};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Rollouts that are read at a time.
const MAX_OPEN_ROLLOUTS: usize = 64;

/// Interned names, because many conversations share a project and an account.
#[derive(Default)]
pub(super) struct InternedNames {
    known: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl InternedNames {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.known.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.known.insert(name, number);
        number
    }

    /// Returns the name with a number, or "unknown".
    pub(super) fn name(&self, number: u32) -> String {
        let name = self.names.get(number as usize);
        or_unknown(name.map(ToString::to_string).unwrap_or_default())
    }
}

/// Facts about conversations from the database.
#[derive(Default)]
pub(super) struct ConversationFacts {
    pub(super) projects: InternedNames,
    pub(super) accounts: InternedNames,
    /// The numbers of project and account by conversation.
    rows: HashMap<ConversationId, (u32, u32)>,
    /// The titles of the largest conversations.
    pub(super) titles: HashMap<ConversationId, String>,
}

/// Reads the facts from the database, with the titles of the [`MAX_LARGEST`] first of `rollouts`.
pub(super) fn read_facts(rollouts: &[RolloutUsage], state: Option<&Path>) -> ConversationFacts {
    let largest = rollouts
        .iter()
        .take(MAX_LARGEST)
        .filter_map(|found| found.id.as_ref());
    let largest: HashSet<_> = largest.cloned().collect();
    let folded = state.map(|path| {
        threads::fold_rows(path, ConversationFacts::default, |known, row| {
            let id = ConversationId::of(&row.id);
            if largest.contains(&id) {
                let title = row.given_name().unwrap_or(&row.title);
                let title = rollout::first_line(title).unwrap_or_default();
                known.titles.insert(id.clone(), title);
            }
            let facts = (
                known.projects.number(&row.cwd),
                known.accounts.number(&row.account_id),
            );
            known.rows.insert(id, facts);
        })
    });
    // Without a readable database, the facts come from the rollouts.
    folded
        .and_then(|table| table.ok().flatten())
        .unwrap_or_default()
}

/// Returns the name, or "unknown" if it is empty.
pub(super) fn or_unknown(name: String) -> String {
    if name.is_empty() {
        "unknown".into()
    } else {
        name
    }
}

/// Returns the numbers of project and account of each rollout, from its row, else from its first
/// line. An unreadable rollout counts as unknown.
pub(super) fn facts(rollouts: &[RolloutUsage], known: &mut ConversationFacts) -> Vec<(u32, u32)> {
    let nothing = (known.projects.number(""), known.accounts.number(""));
    let mut facts = vec![nothing; rollouts.len()];
    let mut unknown = Vec::new();
    for (i, found) in rollouts.iter().enumerate() {
        match found.id.as_ref().and_then(|id| known.rows.get(id)) {
            Some(row) => facts[i] = *row,
            None => unknown.push(i),
        }
    }
    let read = |i: usize| {
        let meta = rollout::head(&rollouts[i].path).ok().flatten()?;
        let text = |key| meta.text(key).unwrap_or_default().to_owned();
        Some((i, text("cwd"), text("creator_account_id")))
    };
    // Incomplete if the user interrupts; the caller discards it.
    let _ = parallel::ordered(
        MAX_OPEN_ROLLOUTS,
        read,
        |result| {
            if let Some((i, project, account)) = result {
                facts[i] = (
                    known.projects.number(&project),
                    known.accounts.number(&account),
                );
            }
            progress::check_interrupt()
        },
        |submitter| {
            for i in unknown {
                if submitter.submit(i).is_err() {
                    break;
                }
            }
            Ok(())
        },
    );
    facts
}
