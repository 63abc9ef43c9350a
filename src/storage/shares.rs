//! The shares of projects, months and accounts in the disk usage of conversations.

use super::report::{LargeConversation, MAX_LARGEST, StorageReport, UsageShare};
use super::rollout_usage::RolloutUsage;
use crate::codex::threads;
use crate::history::id::ConversationId;
use crate::history::rollout;
use crate::io::parallel;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

/// Rollouts that are read at a time.
const MAX_OPEN_ROLLOUTS: usize = 64;

/// Interned names, because many conversations share a project and an account.
#[derive(Default)]
struct InternedNames {
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

    fn name(&self, number: u32) -> String {
        let name = self.names.get(number as usize);
        or_unknown(name.map(ToString::to_string).unwrap_or_default())
    }
}

/// Facts about conversations from the database.
#[derive(Default)]
struct ConversationFacts {
    projects: InternedNames,
    accounts: InternedNames,
    /// The numbers of project and account by conversation.
    rows: HashMap<ConversationId, (u32, u32)>,
    /// The titles of the largest conversations.
    titles: HashMap<ConversationId, String>,
}

/// Adds the usage by project, month and account, and the largest conversations.
pub(super) fn add_shares(
    mut rollouts: Vec<RolloutUsage>,
    state: Option<&Path>,
    report: &mut StorageReport,
) {
    rollouts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let mut known = read_facts(&rollouts, state);
    let facts = facts(&rollouts, &mut known);
    let (mut projects, mut months, mut accounts) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (i, (found, (project, account))) in rollouts.into_iter().zip(facts).enumerate() {
        let project = known.projects.name(project);
        add(&mut projects, project.clone(), found.bytes);
        add(&mut accounts, known.accounts.name(account), found.bytes);
        let changed = found.changed.map(|at| at.date_naive());
        let month = found
            .began
            .or(changed)
            .map(|day| day.format("%Y-%m").to_string());
        add(
            &mut months,
            or_unknown(month.unwrap_or_default()),
            found.bytes,
        );
        if i < MAX_LARGEST {
            let title = found.id.as_ref().and_then(|id| known.titles.remove(id));
            report.largest.push(LargeConversation {
                id: found.id,
                path: found.path.into(),
                bytes: found.bytes,
                project,
                title: title.unwrap_or_default(),
                archived: found.archived,
            });
        }
    }
    report.projects = largest_first(projects);
    report.accounts = largest_first(accounts);
    report.months = months.into_values().collect();
}

/// Reads the facts from the database, with the titles of the largest of `rollouts`, which are sorted by size.
fn read_facts(rollouts: &[RolloutUsage], state: Option<&Path>) -> ConversationFacts {
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

fn or_unknown(name: String) -> String {
    if name.is_empty() {
        "unknown".into()
    } else {
        name
    }
}

fn add(to: &mut BTreeMap<String, UsageShare>, name: String, bytes: u64) {
    let add_shares = to.entry(name.clone()).or_insert_with(|| UsageShare {
        name,
        ..UsageShare::default()
    });
    add_shares.bytes += bytes;
    add_shares.conversations += 1;
}

fn largest_first(shares: BTreeMap<String, UsageShare>) -> Vec<UsageShare> {
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    shares
}

/// Returns the numbers of project and account of each rollout, from its row, else from its first
/// line. An unreadable rollout counts as unknown.
fn facts(rollouts: &[RolloutUsage], known: &mut ConversationFacts) -> Vec<(u32, u32)> {
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
    let done: Result<(), Infallible> = parallel::ordered(
        MAX_OPEN_ROLLOUTS,
        read,
        |result| {
            if let Some((i, project, account)) = result {
                facts[i] = (
                    known.projects.number(&project),
                    known.accounts.number(&account),
                );
            }
            Ok(())
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
    let Ok(()) = done;
    facts
}
