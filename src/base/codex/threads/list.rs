//! Lists conversations from the table `threads`, filtered and ordered by SQLite, so that a table of 50,000
//! rows is not read as a whole.

use super::filter::ThreadFilter;
use super::list_sql::find_few_ids_in_folder;
use super::rows::PAGINATED;
use super::schema::{Values, query_threads};
use crate::codex::database::DatabaseError;
use crate::codex::user_request::{find_title, is_context};
use rusqlite::params_from_iter;
use std::path::Path;

/// One row of the list. Texts are empty if the column is missing, NULL, or of an unexpected type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedThread {
    /// The conversation's id in its original spelling.
    pub id: String,
    /// The absolute path of the rollout, usually in plain form.
    pub rollout_path: String,
    /// The name that the user chose, else the first line of the first message, of the preview, or of the path of the
    /// agent; empty if there is none.
    pub title: String,
    /// True if the title is the name that the row itself records.
    pub has_name: bool,
    /// The folder that the conversation works in.
    pub cwd: String,
    pub git_branch: String,
    /// The model of the last turn.
    pub model: String,
    /// `cli`, `exec`, `vscode`, `subagent`, or another source that Codex records.
    pub source: String,
    /// The workspace account that created the conversation.
    pub account_id: String,
    pub user_id: String,
    /// The id of the conversation that started this one; only for subagents and side conversations.
    pub parent_id: Option<String>,
    /// True for a side conversation (`/side`), which Codex shows only at its parent.
    pub is_side: bool,
    /// True for a conversation that no user began, such as a request of a client for a title.
    pub is_internal: bool,
    pub nickname: String,
    /// The time of creation in milliseconds since 1970.
    pub created_ms: Option<i64>,
    /// The time of the last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    pub tokens: Option<i64>,
    pub archived: bool,
}

impl ListedThread {
    /// Returns true for a conversation of a subagent, for a side conversation, and for one that no user began.
    pub fn is_child(&self) -> bool {
        self.is_side || self.is_internal || self.source == SUBAGENT
    }
}

/// Returns the rows that `filter` selects. Empty if the database has no table of conversations. Creates no
/// file beside the database.
///
/// # Errors
/// The database cannot be read.
pub fn list(path: &Path, filter: &ThreadFilter) -> Result<Vec<ListedThread>, DatabaseError> {
    list_as(path, filter, |thread| thread)
}

/// Like [`list`], but collects only the result of `convert` for each row, because a list may have
/// 100,000 rows. `convert` gets all rows again if another process changes the database meanwhile.
///
/// # Errors
/// The database cannot be read.
pub fn list_as<T, B: Default + FromIterator<T>>(
    path: &Path,
    filter: &ThreadFilter,
    mut convert: impl FnMut(ListedThread) -> T,
) -> Result<B, DatabaseError> {
    let names = if filter.only_ids {
        "id updated_ms"
    } else {
        VALUES
    };
    let names: Vec<_> = names.split(' ').collect();

    query_threads(path, |connection, schema| {
        // The index by folder is used for a single folder only.
        let ids_in_folder = match filter.folders.as_deref() {
            Some([folder]) => find_few_ids_in_folder(connection, folder)?,
            _ => None,
        };

        let (sql, values) = schema.build_list_query(&names, filter, ids_in_folder.as_deref());
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| {
            Ok(convert(build_listed_thread(&Values::new(&names, row))))
        })?;
        rows.collect()
    })
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThreadCounts {
    pub all: i64,
    pub archived: i64,
}

/// Counts the conversations. Zero if the database has no table of them.
///
/// # Errors
/// The database cannot be read.
pub fn count(path: &Path) -> Result<ThreadCounts, DatabaseError> {
    query_threads(path, |connection, schema| {
        let query_number = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        let archived = if schema.has_column("archived") {
            // Codex has an index that begins with `archived`.
            query_number("SELECT count(*) FROM threads WHERE archived = 1")?
        } else {
            0
        };

        Ok(ThreadCounts {
            all: query_number("SELECT count(*) FROM threads")?,
            archived,
        })
    })
}

/// The source of conversations of subagents.
pub const SUBAGENT: &str = "subagent";

/// The values from which a [`ListedThread`] is made; see [`Values`].
const VALUES: &str = "id rollout_path name title_line message_line history_mode cwd git_branch \
    model source thread_source creator_account_id creator_user_id parent agent_nickname created_ms updated_ms \
    tokens_used archived is_side is_internal";

fn build_listed_thread(values: &Values<'_>) -> ListedThread {
    let text = |name| values.text(name);
    let name = text("name");
    let is_paginated = text("history_mode") == PAGINATED;
    let source = text("source");
    let (title, message) = (text("title_line"), text("message_line"));

    ListedThread {
        id: text("id"),
        rollout_path: text("rollout_path"),
        // For a legacy conversation, Codex 0.169 ignores `name` and reads the name from `session_index.jsonl`.
        has_name: is_paginated && !name.trim().is_empty() && !is_context(&name),
        title: choose_title(&name, &title, &message, is_paginated),
        cwd: text("cwd"),
        git_branch: text("git_branch"),
        model: text("model"),
        parent_id: Some(text("parent")).filter(|id| !id.is_empty()),
        is_side: values.flag("is_side"),
        is_internal: values.flag("is_internal"),
        source: normalize_source(&source, &text("thread_source")),
        account_id: text("creator_account_id"),
        user_id: text("creator_user_id"),
        nickname: text("agent_nickname"),
        created_ms: values.time("created_ms"),
        updated_ms: values.time("updated_ms"),
        tokens: values.number("tokens_used"),
        archived: values.flag("archived"),
    }
}

/// Returns the first line of the request in the name, the title and the first message, in this order. In a legacy
/// conversation, the title comes before the name.
fn choose_title(name: &str, title: &str, first_message: &str, is_paginated: bool) -> String {
    let texts = if is_paginated {
        [name, title, first_message]
    } else {
        [title, name, first_message]
    };
    let mut titles = texts.into_iter().filter_map(find_title);
    titles.next().unwrap_or_default()
}

/// Returns the source as one word. Codex 0.169 records the source of a subagent as JSON, other sources as a word.
fn normalize_source(source: &str, thread_source: &str) -> String {
    if thread_source == SUBAGENT || source.contains("\"subagent\"") {
        SUBAGENT.to_owned()
    } else {
        source.trim_matches('"').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::{AccountFilter, ChildThreads};
    use super::super::list_sql::FOLDER_INDEX;
    use super::*;
    use rusqlite::Connection;

    fn ids(path: &Path, filter: &ThreadFilter) -> Vec<String> {
        let rows = list(path, filter).unwrap();
        rows.into_iter().map(|row| row.id).collect()
    }

    #[test]
    fn filters_and_orders_work_in_old_and_new_schemas() {
        let folder = tempfile::tempdir().unwrap();
        let old = folder.path().join("state_1.sqlite");
        let connection = Connection::open(&old).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE threads(id TEXT, updated_at INTEGER, cwd TEXT, title TEXT);
                 INSERT INTO threads VALUES('a', 10, '/w/p', 'two'), ('b', 20, '/w/p2', 'one'),
                 ('c', 15, '/w/p/sub', '')",
            )
            .unwrap();
        assert_eq!(ids(&old, &ThreadFilter::default()), ["b", "c", "a"]);
        for folder in ["/w/p/", "/w/p"] {
            let below = ThreadFilter {
                folders: Some(vec![folder.into()]),
                ..ThreadFilter::default()
            };
            assert_eq!(ids(&old, &below), ["c", "a"]);
        }
        let times = ThreadFilter {
            since_ms: Some(11_000),
            until_ms: Some(20_000),
            without_archived: true,
            children: ChildThreads::Omitted,
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&old, &times), ["c"]);
        let none = ThreadFilter {
            parents: Some(vec!["a".into()]),
            ..ThreadFilter::default()
        };
        assert!(ids(&old, &none).is_empty());

        let new = folder.path().join("state_5.sqlite");
        let connection = Connection::open(&new).unwrap();
        connection
            .execute_batch(
                r#"CREATE TABLE threads(id TEXT, updated_at INTEGER, updated_at_ms INTEGER,
                   source TEXT, thread_source TEXT, archived INTEGER, creator_account_id TEXT,
                   creator_user_id TEXT);
                 CREATE TABLE thread_spawn_edges(parent_thread_id TEXT, child_thread_id TEXT, status TEXT);
                 INSERT INTO threads VALUES('a', 1, 1500, 'cli', 'user', 0, 'x', 'u'),
                 ('b', 1, 1400, '{"subagent":{"thread_spawn":{"parent_thread_id":"a"}}}',
                  'subagent', 0, 'x', 'u'), ('c', 2, 2000, 'exec', NULL, 1, 'y', 'u');
                 INSERT INTO thread_spawn_edges VALUES('a', 'b', 'open')"#,
            )
            .unwrap();
        let main = ThreadFilter {
            children: ChildThreads::Omitted,
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&new, &main), ["c", "a"]);
        let children = ThreadFilter {
            parents: Some(vec!["a".into()]),
            ..ThreadFilter::default()
        };
        let child = &list(&new, &children).unwrap()[0];
        assert_eq!(child.parent_id.as_deref(), Some("a"));
        assert_eq!(
            (&*child.id, &*child.source, child.updated_ms),
            ("b", "subagent", Some(1400))
        );
        let account = |launched: &[&str], others: &[&str]| ThreadFilter {
            account: Some(AccountFilter {
                account_id: Some("x".into()),
                user_id: None,
                launched: launched.iter().map(ToString::to_string).collect(),
                launched_by_others: others.iter().map(ToString::to_string).collect(),
            }),
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&new, &account(&[], &[])), ["a", "b"]);
        assert_eq!(ids(&new, &account(&["c"], &["a"])), ["c", "b"]);
    }

    #[test]
    fn a_conversation_without_a_message_is_titled_by_its_preview_or_its_agent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE threads(id TEXT, title TEXT, first_user_message TEXT, preview TEXT, agent_path TEXT,
                 updated_at INTEGER);
                 INSERT INTO threads VALUES('a', '', '', 'a goal', NULL, 1), ('b', '', '', '', '/root/apples', 2),
                 ('c', '', 'x', 'a goal', '/root', 3), ('d', '', '', '', NULL, 4)",
            )
            .unwrap();
        let rows = list(&path, &ThreadFilter::default()).unwrap();
        let titles: Vec<_> = rows.iter().map(|row| &*row.title).collect();
        assert_eq!(titles, ["", "x", "/root/apples", "a goal"]);
    }

    #[test]
    fn conversations_of_a_folder_are_found_with_and_without_the_index_of_codex() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE threads(id TEXT PRIMARY KEY, archived INTEGER NOT NULL, cwd TEXT NOT NULL,
                 updated_at_ms INTEGER);
                 INSERT INTO threads VALUES('a', 0, '/w/p', 1), ('b', 1, '/w/p/x', 2), ('c', 0, '/w/p2', 3),
                 ('d', 0, '/w/p-x', 4), ('e', 0, '/w', 5), ('f', 0, '/w/p/', 6), ('g', 0, '/w/p0', 7),
                 ('h', 0, 'C:\\w', 8), ('i', 0, 'C:\\w\\x', 9), ('j', 0, 'C:\\w2', 10), ('k', 0, '', 11)",
            )
            .unwrap();
        for indexed in [false, true] {
            if indexed {
                let create = format!(
                    "CREATE INDEX {FOLDER_INDEX} ON threads(archived, cwd, updated_at_ms DESC, id DESC)"
                );
                connection.execute_batch(&create).unwrap();
            }
            for (folder, found) in [
                ("/w/p", &["f", "b", "a"][..]),
                ("/w/p/", &["f", "b", "a"]),
                ("C:\\w", &["i", "h"]),
                ("C:\\", &["j", "i", "h"]),
                ("/", &["g", "f", "e", "d", "c", "b", "a"]),
                ("/none", &[]),
            ] {
                let filter = ThreadFilter {
                    folders: Some(vec![folder.into()]),
                    ..ThreadFilter::default()
                };
                assert_eq!(ids(&path, &filter), found, "{folder}, {indexed}");
            }
            let first = ThreadFilter {
                folders: Some(vec!["/w/p".into()]),
                without_archived: true,
                limit: Some(1),
                ..ThreadFilter::default()
            };
            assert_eq!(ids(&path, &first), ["f"]);
        }
        connection
            .execute_batch(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
                 INSERT INTO threads SELECT 'm' || n, 0, '/many', n FROM n",
            )
            .unwrap();
        let many = ThreadFilter {
            folders: Some(vec!["/many".into()]),
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&path, &many).len(), 5000);
    }

    #[test]
    fn a_title_is_one_line_and_the_name_precedes_it_only_in_paginated_conversations() {
        for (texts, is_paginated, title) in [
            (["name", "title", "first"], true, "name"),
            (["", "\n title\nmore", "first"], true, "title"),
            (["name", "title", "first"], false, "title"),
            (["", "", " \nfirst"], false, "first"),
            (
                [
                    "",
                    "# Files mentioned by the user:\n## a\n\n## My request:\nfix",
                    "",
                ],
                true,
                "fix",
            ),
            (
                [
                    "# Context from my IDE setup:",
                    "# Context from my IDE setup:",
                    "first",
                ],
                true,
                "first",
            ),
        ] {
            let [name, shown, first] = texts;
            assert_eq!(choose_title(name, shown, first, is_paginated), title);
        }
    }
}
