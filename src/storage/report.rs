//! The report on the disk usage of a home.

use super::growth::Growth;
use super::kinds::KindUsage;
use crate::history::id::ConversationId;
use serde::Serialize;
use std::path::PathBuf;

/// The number of largest conversations in a report.
pub(crate) const MAX_LARGEST: usize = 10;

/// The disk usage of the conversations of a project, a month or an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UsageShare {
    /// The folder, the month (`2026-11`) or the account id; `unknown` if not recorded.
    pub name: String,
    /// The size of its rollouts.
    pub bytes: u64,
    /// The number of its rollouts.
    pub conversations: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LargeConversation {
    /// The id in the name of its rollout, if any.
    pub id: Option<ConversationId>,
    /// The absolute path of its rollout.
    pub path: PathBuf,
    /// The size of its rollout.
    pub bytes: u64,
    /// The folder that it works in.
    pub project: String,
    /// The name or the first line of the title; empty if unknown.
    pub title: String,
    /// True if it is below `archived_sessions/`.
    pub archived: bool,
}

/// The disk usage of a top-level entry of the manager home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ManagerUsage {
    /// Its name, such as `backups`.
    pub name: String,
    /// The size of its files.
    pub bytes: u64,
}

/// The disk usage of a home. Its JSON keys are a stable interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StorageReport {
    /// The size of all files below the home.
    pub total_bytes: u64,
    /// The number of files.
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
    /// The number of days until the disk is full at this growth; null without a growth.
    pub full_in_days: Option<u64>,
}
