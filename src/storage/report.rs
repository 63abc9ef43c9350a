//! The report on the disk usage of a home.

use super::facts::{self, MAX_LARGEST};
use super::kinds::KindUsage;
use super::walk::RolloutUsage;
use crate::history::ConversationId;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The disk usage of the conversations of a project or a month.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UsageShare {
    /// The folder or the month (`2026-11`); `unknown` if not recorded.
    pub name: String,
    pub bytes: u64,
    /// The number of rollouts, of which a rewound conversation has several.
    pub conversations: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LargeConversation {
    /// The id in the name of the rollout, if any.
    pub id: Option<ConversationId>,
    /// The absolute path of the rollout.
    pub path: PathBuf,
    pub bytes: u64,
    /// The folder that the conversation works in.
    pub project: String,
    /// The first line of the name that the user gave, else of the title; empty if unknown.
    pub title: String,
    pub archived: bool,
}

/// The disk usage of a top-level entry of the manager home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ManagerUsage {
    /// The name, such as `backups`.
    pub name: String,
    pub bytes: u64,
}

/// The disk usage of a home. Its JSON keys are a stable interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StorageReport {
    /// The size of all files below the home, and of its databases in another folder.
    pub total_bytes: u64,
    pub files: usize,
    /// The usage by kind of file, largest first.
    pub kinds: Vec<KindUsage>,
    /// The usage by working folder of the conversations, largest first.
    pub projects: Vec<UsageShare>,
    /// The usage by month in which conversations began, oldest first.
    pub months: Vec<UsageShare>,
    /// The largest rollouts, at most [`MAX_LARGEST`].
    pub largest: Vec<LargeConversation>,
    /// The number of files and folders that could not be read.
    pub unreadable: usize,
    /// The free space of the disk; null if the system does not report it.
    pub free_bytes: Option<u64>,
    /// The usage of the manager home by top-level entry, largest first.
    pub manager: Vec<ManagerUsage>,
}

/// Returns the usage of the manager home by top-level entry, largest first. The trash of archives is a separate entry.
pub(super) fn measure_manager_home(manager_home: &Path) -> Vec<ManagerUsage> {
    let trash = Path::new("backups/.trash");
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for entry in WalkDir::new(manager_home)
        .follow_root_links(true)
        .into_iter()
        .flatten()
    {
        let relative = entry
            .path()
            .strip_prefix(manager_home)
            .unwrap_or(entry.path());
        let top = if relative.starts_with(trash) {
            Some(trash)
        } else {
            relative.iter().next().map(Path::new)
        };
        if let (Some(top), Ok(meta)) = (top, entry.metadata())
            && meta.is_file()
        {
            *sums.entry(top.display().to_string()).or_default() += meta.len();
        }
    }
    let usage = sums
        .into_iter()
        .map(|(name, bytes)| ManagerUsage { name, bytes });
    let mut usage: Vec<_> = usage.collect();
    usage.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    usage
}

/// Adds the usage by project and month, and the largest conversations.
pub(super) fn add_shares(
    mut rollouts: Vec<RolloutUsage>,
    state_database: Option<&Path>,
    report: &mut StorageReport,
) {
    rollouts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let (rollout_projects, mut titles) = facts::read(&rollouts, state_database);
    let (mut projects, mut months) = (BTreeMap::new(), BTreeMap::new());
    for (i, (rollout, project)) in rollouts.into_iter().zip(rollout_projects).enumerate() {
        add_to_share(&mut projects, &project, rollout.bytes);
        let changed = rollout.changed.map(|at| at.date_naive());
        let month = rollout.began.or(changed);
        let month = month.map_or("unknown".into(), |day| day.format("%Y-%m").to_string());
        add_to_share(&mut months, &month, rollout.bytes);
        if i < MAX_LARGEST {
            let title = rollout.id.as_ref().and_then(|id| titles.remove(id));
            report.largest.push(LargeConversation {
                id: rollout.id,
                path: rollout.path.into(),
                bytes: rollout.bytes,
                project: project.to_string(),
                title: title.unwrap_or_default(),
                archived: rollout.archived,
            });
        }
    }
    report.months = months.into_values().collect();
    report.projects = projects.into_values().collect();
    let projects = &mut report.projects;
    projects.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
}

fn add_to_share(shares: &mut BTreeMap<String, UsageShare>, name: &str, bytes: u64) {
    let share = shares.entry(name.to_owned()).or_default();
    name.clone_into(&mut share.name);
    share.bytes += bytes;
    share.conversations += 1;
}
