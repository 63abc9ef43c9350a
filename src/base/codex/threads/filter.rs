//! The conversations that a list of `threads` has, and their order.

use crate::codex::folder_key::is_in_folder;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThreadOrder {
    /// By the time of the last change, newest first.
    #[default]
    Updated,
    /// By the time of creation, newest first.
    Created,
    /// By the number of tokens, most first.
    Tokens,
    /// By title, in the order of bytes.
    Title,
    /// By folder, and within a folder by the time of the last change.
    Project,
}

/// The child conversations in a list: those of subagents, side conversations (`/side`), and those that no user began,
/// such as a request of a client for a title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChildThreads {
    #[default]
    Included,
    Omitted,
    /// The list has no other conversations.
    Only,
    /// Of the children, only those without a known parent are in the list, such as reviews.
    OrphansIncluded,
}

/// The conversations to list. The default lists all of them.
#[derive(Debug, Clone, Default)]
pub struct ThreadFilter {
    pub ids: Option<Vec<String>>,
    /// Only children of these conversations.
    pub parents: Option<Vec<String>>,
    /// Only conversations in one of these folders or below it.
    pub folders: Option<Vec<String>>,
    pub account: Option<AccountFilter>,
    /// Only conversations changed at or after this time, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Only conversations changed before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    pub without_archived: bool,
    pub children: ChildThreads,
    pub only_archived: bool,
    pub only_subagents: bool,
    /// Only conversations that began on this git branch.
    pub branch: Option<String>,
    pub order: ThreadOrder,
    pub limit: Option<usize>,
    /// Reads only the ids and the times of changes.
    pub only_ids: bool,
}

impl ThreadFilter {
    /// Returns true if the filter has a criterion other than the parents, the limit, and the omission of archived
    /// conversations or children.
    pub fn is_restricted(&self) -> bool {
        self.ids.is_some()
            || self.branch.is_some()
            || self.only_archived
            || self.only_subagents
            || self.folders.is_some()
            || self.account.is_some()
            || self.since_ms.is_some()
            || self.until_ms.is_some()
    }

    /// Returns true if the folders and times of the filter select a conversation without a row. False if the filter
    /// names an account, a branch or subagents, which only rows have. Does not check ids and the archived flag.
    pub fn accepts_unlisted(&self, cwd: &str, updated_ms: Option<i64>) -> bool {
        // An unknown time is before any `since_ms`.
        let updated = updated_ms.unwrap_or(0);
        self.account.is_none()
            && self.branch.is_none()
            && !self.only_subagents
            && self.since_ms.is_none_or(|since| updated >= since)
            && self.until_ms.is_none_or(|until| updated < until)
            && self.folders.as_ref().is_none_or(|folders| {
                let mut folders = folders.iter().map(Path::new);
                folders.any(|folder| is_in_folder(cwd, folder))
            })
    }
}

/// The conversations of one account. A conversation belongs to the account under which it was launched, or, without a
/// recorded launch, to the account that created it.
#[derive(Debug, Clone, Default)]
pub struct AccountFilter {
    /// The workspace account id.
    pub account_id: Option<String>,
    pub user_id: Option<String>,
    /// The ids of conversations that were launched under this account.
    pub launched: Vec<String>,
    /// The ids of conversations that were launched under other accounts.
    pub launched_by_others: Vec<String>,
}
