//! The report on the disk usage of a home.

use super::facts::{self, MAX_LARGEST};
use super::walk::{KindUsage, RolloutUsage};
use crate::history::ConversationId;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The longest period, in days, over which growth is measured.
const GROWTH_DAYS: i64 = 30;

/// The disk usage of the conversations of a project, a month or an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UsageShare {
    /// The folder, the month (`2026-11`) or the account id; `unknown` if not recorded.
    pub name: String,
    pub bytes: u64,
    pub conversations: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LargeConversation {
    /// The id in the name of the rollout, if any.
    pub id: Option<ConversationId>,
    /// The absolute path of the rollout; of the largest one if the conversation was rewound.
    pub path: PathBuf,
    /// The size of all rollouts.
    pub bytes: u64,
    /// The folder that the conversation works in.
    pub project: String,
    /// The first line of the name that the user gave, else of the title; empty if unknown.
    pub title: String,
    pub archived: bool,
}

/// The disk usage of a top-level entry of the manager home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManagerUsage {
    /// The name, such as `backups`.
    pub name: String,
    pub bytes: u64,
}

/// The disk usage of a home. Its JSON keys are a stable interface.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StorageReport {
    /// The size of all files below the home, and of its databases in another folder.
    pub total_bytes: u64,
    pub files: usize,
    /// The usage by kind of file, largest first.
    pub kinds: Vec<KindUsage>,
    /// The usage by working folder of the conversations, largest first.
    pub projects: Vec<UsageShare>,
    /// The usage by month in which conversations began, oldest first.
    pub months: Vec<UsageShare>,
    /// The usage by account that created the conversations, largest first.
    pub accounts: Vec<UsageShare>,
    /// The largest conversations, at most [`MAX_LARGEST`].
    pub largest: Vec<LargeConversation>,
    /// The growth of conversations; null if it cannot be estimated.
    pub growth: Option<Growth>,
    /// The number of files and folders that could not be read.
    pub unreadable: usize,
    /// The free space of the disk; null if the system does not report it.
    pub free_bytes: Option<u64>,
    /// The usage of the manager home by top-level entry, largest first.
    pub manager: Vec<ManagerUsage>,
    /// The number of days until the disk is full at this growth; null if nothing grows, or if the growth or the free
    /// space is not known.
    pub full_in_days: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Growth {
    /// The length of the period, at most 30 days.
    pub days: i64,
    /// The size of conversations that began in the period.
    pub bytes: u64,
    pub bytes_per_day: u64,
}

/// Measures the conversations that began in the last [`GROWTH_DAYS`]. Returns `None` if there are no conversations, or
/// all are of today.
pub(super) fn measure_growth(rollouts: &[RolloutUsage], now: DateTime<Utc>) -> Option<Growth> {
    let today = now.date_naive();
    let day_before_period = today - TimeDelta::days(GROWTH_DAYS);

    let recent_rollouts: Vec<_> = rollouts
        .iter()
        .filter_map(|rollout| {
            let day = rollout.day()?;
            (day > day_before_period && day <= today).then_some((day, rollout.bytes))
        })
        .collect();

    // A home that is younger than the period is measured from its first conversation.
    let first_day = rollouts
        .iter()
        .filter_map(|rollout| rollout.began)
        .min()
        .or_else(|| recent_rollouts.iter().map(|(day, _)| *day).min())?;

    let days = (today - first_day.max(day_before_period)).num_days();
    let bytes: u64 = recent_rollouts.iter().map(|(_, bytes)| bytes).sum();
    let positive_days = u64::try_from(days).ok().filter(|days| *days > 0)?;
    Some(Growth {
        days,
        bytes,
        bytes_per_day: bytes / positive_days,
    })
}

/// Returns the usage of the manager home by top-level entry, largest first. The trash of archives is a separate entry.
pub(super) fn measure_manager_home(manager_home: &Path) -> Vec<ManagerUsage> {
    let trash_of_archives = Path::new("backups/.trash");
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let walk = WalkDir::new(manager_home).follow_root_links(true);
    for entry in walk.into_iter().flatten() {
        let path = entry.path();
        let relative = path.strip_prefix(manager_home).unwrap_or(path);
        let top_entry = if relative.starts_with(trash_of_archives) {
            Some(trash_of_archives)
        } else {
            relative.iter().next().map(Path::new)
        };

        if let (Some(top_entry), Ok(meta)) = (top_entry, entry.metadata())
            && meta.is_file()
        {
            *sums.entry(top_entry.display().to_string()).or_default() += meta.len();
        }
    }

    let usage = sums
        .into_iter()
        .map(|(name, bytes)| ManagerUsage { name, bytes });
    let mut usage: Vec<_> = usage.collect();
    usage.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    usage
}

/// Adds the usage by project, month and account, and the largest conversations.
pub(super) fn add_shares(
    rollouts: Vec<RolloutUsage>,
    state_database: Option<&Path>,
    report: &mut StorageReport,
) {
    let rollouts = merge_by_conversation(rollouts);
    let facts = facts::read_facts(&rollouts, state_database);
    let (mut projects, mut months, mut accounts) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());

    for (i, (rollout, facts)) in rollouts.into_iter().zip(facts).enumerate() {
        add_to_share(&mut projects, &facts.project, rollout.bytes);
        add_to_share(&mut accounts, &facts.account, rollout.bytes);
        let month = rollout.day().map(|day| day.format("%Y-%m").to_string());
        let month = month.as_deref().unwrap_or("unknown");
        add_to_share(&mut months, month, rollout.bytes);

        // The rollouts are in the order of their sizes, the largest first.
        if i < MAX_LARGEST {
            report.largest.push(LargeConversation {
                id: rollout.id,
                path: rollout.path.into(),
                bytes: rollout.bytes,
                project: facts.project.to_string(),
                title: facts.title,
                archived: rollout.archived,
            });
        }
    }

    report.projects = sort_largest_first(projects);
    report.accounts = sort_largest_first(accounts);
    report.months = months.into_values().collect();
}

/// Combines the rollouts of each conversation, because a rewound conversation has several. Returns the conversations,
/// largest first.
fn merge_by_conversation(mut rollouts: Vec<RolloutUsage>) -> Vec<RolloutUsage> {
    let sort_by_size = |rollouts: &mut Vec<RolloutUsage>| {
        rollouts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    };
    sort_by_size(&mut rollouts);

    let mut merged: Vec<RolloutUsage> = Vec::with_capacity(rollouts.len());
    let mut positions: HashMap<ConversationId, usize> = HashMap::new();
    for rollout in rollouts {
        let position = rollout.id.as_ref().and_then(|id| positions.get(id));
        if let Some(position) = position {
            let conversation = &mut merged[*position];
            conversation.bytes += rollout.bytes;
            let known_days = [conversation.began, rollout.began].into_iter().flatten();
            conversation.began = known_days.min();
            conversation.changed = conversation.changed.max(rollout.changed);
            continue;
        }
        if let Some(id) = &rollout.id {
            positions.insert(id.clone(), merged.len());
        }
        merged.push(rollout);
    }

    sort_by_size(&mut merged);
    merged
}

fn add_to_share(shares: &mut BTreeMap<String, UsageShare>, name: &str, bytes: u64) {
    let share = shares.entry(name.to_owned()).or_default();
    name.clone_into(&mut share.name);
    share.bytes += bytes;
    share.conversations += 1;
}

fn sort_largest_first(shares: BTreeMap<String, UsageShare>) -> Vec<UsageShare> {
    let mut shares: Vec<_> = shares.into_values().collect();
    shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    shares
}
