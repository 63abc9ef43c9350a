//! Counts the conversations of one account, which the picker of `codex resume` hides from other
//! accounts.

use crate::codex::{DatabaseError, ThreadRow, threads};
use std::path::Path;

/// The number of conversations whose title is returned.
const MAX_TITLES: usize = 3;

/// The conversations of one account that are not archived. Codex hides them from other accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HiddenConversations {
    pub count: usize,
    /// The titles of the last changed conversations, newest first, at most [`MAX_TITLES`].
    pub latest_titles: Vec<String>,
}

/// Counts the conversations of the workspace account `account_id` in the state database. Returns `None` if the database
/// does not record accounts, because an older version of Codex wrote it.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn count_hidden(
    database: &Path,
    account_id: &str,
) -> Result<Option<HiddenConversations>, DatabaseError> {
    let found = threads::fold_rows(database, AccountRows::default, |found, row: ThreadRow| {
        found.has_rows = true;
        found.names_accounts |= !row.account_id.is_empty();
        if row.archived || row.account_id != account_id {
            return;
        }
        found.count += 1;
        let title = row.given_name().unwrap_or(&row.title).trim();
        let title = if title.is_empty() { &row.id } else { title };
        let first_line = title.lines().next().unwrap_or_default().to_owned();
        found.latest.push((row.updated_ms, first_line));
        found.latest.sort_by(|a, b| b.cmp(a));
        found.latest.truncate(MAX_TITLES);
    })?;
    // If no row has an account, an older Codex wrote them all.
    let known = found.filter(|found| found.names_accounts || !found.has_rows);
    Ok(known.map(|found| HiddenConversations {
        count: found.count,
        latest_titles: found.latest.into_iter().map(|(_, title)| title).collect(),
    }))
}

/// The facts from the rows read so far.
#[derive(Default)]
struct AccountRows {
    has_rows: bool,
    names_accounts: bool,
    count: usize,
    /// The titles of the newest conversations, by the time of their last change.
    latest: Vec<(Option<i64>, String)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn counts_conversations_of_the_account_and_returns_the_latest_titles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let table = Connection::open(&path).unwrap();
        table
            .execute_batch(
                "CREATE TABLE threads(id TEXT, title TEXT, name TEXT, archived INTEGER,
                 updated_at_ms INTEGER, history_mode TEXT, creator_account_id TEXT)",
            )
            .unwrap();
        let found = || count_hidden(&path, "acct-a").unwrap();
        assert_eq!(found(), Some(HiddenConversations::default()));
        let add = |id: &str, title: &str, name: &str, archived: i64, ms: i64, account: &str| {
            table
                .execute(
                    "INSERT INTO threads VALUES(?1, ?2, ?3, ?4, ?5, 'paginated', ?6)",
                    (id, title, name, archived, ms, account),
                )
                .unwrap();
        };
        add("1", "unknown account", "", 0, 9, "");
        assert_eq!(found(), None);
        add("2", "first\nmore", "", 0, 1, "acct-a");
        add("3", "", "", 0, 4, "acct-a");
        add("4", "title", "a name", 0, 3, "acct-a");
        add("5", "new", "", 0, 5, "acct-a");
        add("6", "archived", "", 1, 8, "acct-a");
        add("7", "other account", "", 0, 7, "acct-b");
        let expected = HiddenConversations {
            count: 4,
            latest_titles: ["new", "3", "a name"].map(str::to_owned).to_vec(),
        };
        assert_eq!(found(), Some(expected));
    }
}
