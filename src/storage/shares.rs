//! The shares of projects, months and accounts in the disk usage of conversations.

use super::facts::{facts, or_unknown, read_facts};
use super::report::{LargeConversation, MAX_LARGEST, StorageReport, UsageShare};
use super::rollout_usage::RolloutUsage;
use std::collections::BTreeMap;
use std::path::Path;

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
