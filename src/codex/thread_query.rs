//! Lists conversations from the table `threads`, filtered and ordered by SQLite, so that a table of 50,000
//! rows is not read as a whole.

use super::database::DatabaseError;
use super::database_view;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};
use std::collections::HashSet;
use std::path::Path;

/// Codex's index of conversations by folder (0.169).
const FOLDER_INDEX: &str = "idx_threads_archived_cwd_updated_at_ms";

/// The number of conversations up to which it is faster to find each by its id than to read the list in its order.
const MAX_LOOKUPS: usize = 2000;

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ThreadOrder {
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

/// The conversations to list. The default lists all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ThreadFilter {
    /// Only the conversations with these ids.
    pub ids: Option<Vec<String>>,
    /// Only children of these conversations.
    pub parents: Option<Vec<String>>,
    /// Only conversations in this folder or below it.
    pub folder: Option<String>,
    /// Only conversations of these accounts.
    pub account: Option<AccountFilter>,
    /// Only conversations changed at or after this time, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Only conversations changed before this time, in milliseconds since 1970.
    pub until_ms: Option<i64>,
    /// True to leave out archived conversations.
    pub without_archived: bool,
    /// True to leave out conversations of subagents.
    pub without_subagents: bool,
    /// The order of the rows.
    pub order: ThreadOrder,
    /// The largest number of rows.
    pub limit: Option<usize>,
}

impl ThreadFilter {
    /// Returns true if the filter leaves out conversations by their folder, account or time.
    pub(crate) fn is_restricted(&self) -> bool {
        self.folder.is_some()
            || self.account.is_some()
            || self.since_ms.is_some()
            || self.until_ms.is_some()
    }
}

/// The conversations of one account: those that it created and those that were launched under it, without
/// those that were launched under another account.
#[derive(Debug, Clone, Default)]
pub(crate) struct AccountFilter {
    /// The id of the workspace account; `None` if it is unknown.
    pub account_id: Option<String>,
    /// The id of the user; `None` if it is unknown.
    pub user_id: Option<String>,
    /// The ids of conversations that were launched under this account.
    pub launched: Vec<String>,
    /// The ids of conversations that were launched under other accounts.
    pub launched_by_others: Vec<String>,
}

/// One row of the list. Texts are empty if the column is missing, NULL, or of an unexpected type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListedThread {
    /// The conversation's id in its original spelling.
    pub id: String,
    /// The absolute path of its rollout, usually in its plain form.
    pub rollout_path: String,
    /// The name that the user chose, else the first line of the first message; empty if there is neither.
    pub title: String,
    /// True if the title is the name that the row itself records.
    pub has_name: bool,
    /// The folder that the conversation works in.
    pub cwd: String,
    /// The branch of its repository.
    pub git_branch: String,
    /// The model of its last turn.
    pub model: String,
    /// `cli`, `exec`, `vscode`, `subagent`, or what else Codex records.
    pub source: String,
    /// The workspace account that created it.
    pub account_id: String,
    /// The user that created it.
    pub user_id: String,
    /// The conversation that started it; only for subagents.
    pub parent_id: Option<String>,
    /// The nickname of a subagent.
    pub nickname: String,
    /// The time of its creation in milliseconds since 1970.
    pub created_ms: Option<i64>,
    /// The time of its last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    /// The number of tokens used.
    pub tokens: Option<i64>,
    /// True if the conversation is archived.
    pub archived: bool,
}

/// Returns the rows that `filter` selects. Empty if the database has no table of conversations. Creates no
/// file beside the database.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn list(path: &Path, filter: &ThreadFilter) -> Result<Vec<ListedThread>, DatabaseError> {
    list_as(path, filter, |thread| thread)
}

/// Like [`list`], but keeps only what `convert` makes of each row: a list may have 100,000 rows.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn list_as<T>(
    path: &Path,
    filter: &ThreadFilter,
    convert: impl Fn(ListedThread) -> T,
) -> Result<Vec<T>, DatabaseError> {
    database_view::read(path, |connection| {
        let schema = Schema::of(connection)?;
        if !schema.threads.contains("id") {
            return Ok(Vec::new());
        }
        let few = match &filter.folder {
            Some(folder) => few_in_folder(connection, folder)?,
            None => None,
        };
        let (sql, values) = schema.query(filter, few.as_deref());
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| Ok(convert(listed(row))))?;
        rows.collect()
    })
}

/// The numbers of conversations in a database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ThreadCounts {
    /// The number of all conversations.
    pub all: i64,
    /// The number of archived conversations.
    pub archived: i64,
}

/// Counts the conversations. Zero if the database has no table of them.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn count(path: &Path) -> Result<ThreadCounts, DatabaseError> {
    database_view::read(path, |connection| {
        let schema = Schema::of(connection)?;
        if !schema.threads.contains("id") {
            return Ok(ThreadCounts::default());
        }
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        let archived = if schema.threads.contains("archived") {
            // By an index of Codex.
            number("SELECT count(*) FROM threads WHERE archived = 1")?
        } else {
            0
        };
        Ok(ThreadCounts {
            all: number("SELECT count(*) FROM threads")?,
            archived,
        })
    })
}

/// The columns that exist in this version of Codex.
struct Schema {
    threads: HashSet<String>,
    has_edges: bool,
}

impl Schema {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        let mut columns = |table: &str| {
            let rows = statement.query_map([table], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<HashSet<_>>>()
        };
        let threads = columns("threads")?;
        let edges = columns("thread_spawn_edges")?;
        let has_edges = edges.contains("child_thread_id") && edges.contains("parent_thread_id");
        Ok(Self { threads, has_edges })
    }

    /// Returns the column, or `NULL` if this version does not have it.
    fn column(&self, name: &'static str) -> String {
        if self.threads.contains(name) {
            format!("t.{name}")
        } else {
            "NULL".to_owned()
        }
    }

    /// Returns a time column and its unit in milliseconds. The column itself and no expression, because only
    /// then SQLite uses Codex's index.
    fn time(&self, millis: &'static str, seconds: &'static str) -> (String, i64) {
        if self.threads.contains(millis) {
            (self.column(millis), 1)
        } else {
            (self.column(seconds), 1000)
        }
    }

    fn parent(&self) -> &'static str {
        if self.has_edges {
            "(SELECT e.parent_thread_id FROM thread_spawn_edges e WHERE e.child_thread_id = t.id)"
        } else {
            "NULL"
        }
    }

    fn is_subagent(&self) -> String {
        let (source, kind) = (self.column("source"), self.column("thread_source"));
        format!(
            "(coalesce({kind}, '') = 'subagent' OR coalesce({source}, '') LIKE '%\"subagent\"%')"
        )
    }

    fn query(&self, filter: &ThreadFilter, in_folder: Option<&[String]>) -> (String, Vec<Value>) {
        let mut clauses = Clauses::default();
        let (updated, unit) = self.time("updated_at_ms", "updated_at");
        if let Some(ids) = &filter.ids {
            clauses.add("t.id IN (SELECT value FROM json_each(?))", [json(ids)]);
        }
        if let Some(parents) = &filter.parents {
            let place = "(SELECT value FROM json_each(?))";
            let condition = if self.has_edges {
                format!(
                    "t.id IN (SELECT child_thread_id FROM thread_spawn_edges \
                     WHERE parent_thread_id IN {place})"
                )
            } else {
                format!("NULL IN {place}")
            };
            clauses.add(&condition, [json(parents)]);
        }
        if let Some(ids) = in_folder {
            clauses.add("t.id IN (SELECT value FROM json_each(?))", [json(ids)]);
        } else if let Some(folder) = &filter.folder {
            let cwd = self.column("cwd");
            let below = format!("{}/", folder.trim_end_matches('/'));
            clauses.add(
                &format!("({cwd} = ? OR substr({cwd}, 1, length(?)) = ?)"),
                [folder.clone(), below.clone(), below],
            );
        }
        if let Some(account) = &filter.account {
            self.add_account(&mut clauses, account);
        }
        for (time, sign) in [(filter.since_ms, ">="), (filter.until_ms, "<")] {
            if let Some(time) = time {
                clauses.sql.push(format!("{updated} {sign} ?"));
                clauses.values.push(Value::Integer(time.div_euclid(unit)));
            }
        }
        let archived = self.column("archived");
        if filter.without_archived {
            clauses.sql.push(format!("coalesce({archived}, 0) = 0"));
        }
        if filter.without_subagents {
            clauses.sql.push(format!("NOT {}", self.is_subagent()));
        }
        let (created, created_unit) = self.time("created_at_ms", "created_at");
        let tokens = self.column("tokens_used");
        let (title, cwd) = (self.column("title"), self.column("cwd"));
        let order = match filter.order {
            ThreadOrder::Updated => format!("{updated} DESC, t.id DESC"),
            ThreadOrder::Created => format!("{created} DESC, t.id DESC"),
            ThreadOrder::Tokens => format!("{tokens} DESC, t.id DESC"),
            ThreadOrder::Title => format!("{title}, t.id"),
            ThreadOrder::Project => format!("{cwd}, {updated} DESC, t.id DESC"),
        };
        let columns = [
            "t.id".to_owned(),
            self.column("rollout_path"),
            self.column("name"),
            // Only the first line is shown, and a title may be a whole first message.
            format!("substr({title}, 1, 500)"),
            format!("substr({}, 1, 500)", self.column("first_user_message")),
            self.column("history_mode"),
            cwd,
            self.column("git_branch"),
            self.column("model"),
            self.column("source"),
            self.column("thread_source"),
            self.column("creator_account_id"),
            self.column("creator_user_id"),
            self.parent().to_owned(),
            self.column("agent_nickname"),
            format!("{created} * {created_unit}"),
            format!("{updated} * {unit}"),
            tokens,
            archived,
        ];
        let mut sql = format!("SELECT {} FROM threads t", columns.join(", "));
        if !clauses.sql.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&clauses.sql.join(" AND "));
        }
        sql.push_str(" ORDER BY ");
        sql.push_str(&order);
        if let Some(limit) = filter.limit {
            sql.push_str(" LIMIT ?");
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            clauses.values.push(Value::Integer(limit));
        }
        (sql, clauses.values)
    }

    fn add_account(&self, clauses: &mut Clauses, account: &AccountFilter) {
        let mut same = Vec::new();
        let mut values = Vec::new();
        let (account_id, user_id) = (&account.account_id, &account.user_id);
        if let Some(id) = account_id {
            same.push(format!("{} = ?", self.column("creator_account_id")));
            values.push(id.clone());
        }
        if let Some(id) = user_id {
            let user = self.column("creator_user_id");
            // Older versions recorded no user.
            let is_optional = account_id.is_some();
            let unknown = if is_optional { "?" } else { "''" };
            same.push(format!("coalesce({user}, {unknown}) = ?"));
            values.extend(is_optional.then(|| id.clone()));
            values.push(id.clone());
        }
        let created = if same.is_empty() {
            "0".to_owned()
        } else {
            format!(
                "({} AND t.id NOT IN (SELECT value FROM json_each(?)))",
                same.join(" AND ")
            )
        };
        if !same.is_empty() {
            values.push(json(&account.launched_by_others));
        }
        values.push(json(&account.launched));
        clauses.add(
            &format!("({created} OR t.id IN (SELECT value FROM json_each(?)))"),
            values,
        );
    }
}

/// Returns the ids of the conversations in a folder or below it, from an index of Codex that has all of it.
/// `None` if they are many, or without that index: reading the list in its order is faster then.
fn few_in_folder(connection: &Connection, folder: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let find = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = ?1";
    let count: i64 = connection.query_row(find, [FOLDER_INDEX], |row| row.get(0))?;
    if count == 0 {
        return Ok(None);
    }
    let parent = folder.trim_end_matches('/');
    // `0` follows `/`, so this is the range of the paths that begin with the folder.
    let below = [format!("{parent}/"), format!("{parent}0")];
    let sql = format!(
        "SELECT id FROM threads INDEXED BY {FOLDER_INDEX} WHERE archived IN (0, 1) AND cwd = ?1 \
         UNION ALL SELECT id FROM threads INDEXED BY {FOLDER_INDEX} \
         WHERE archived IN (0, 1) AND cwd >= ?2 AND cwd < ?3 AND cwd <> ?1 LIMIT {MAX_LOOKUPS}"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([folder, &below[0], &below[1]], |row| row.get(0))?;
    let ids: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(Some(ids).filter(|ids| ids.len() < MAX_LOOKUPS))
}

/// The conditions of a query, joined by AND, and their values in order.
#[derive(Default)]
struct Clauses {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Clauses {
    fn add(&mut self, condition: &str, values: impl IntoIterator<Item = String>) {
        self.sql.push(condition.to_owned());
        self.values.extend(values.into_iter().map(Value::Text));
    }
}

fn json(texts: &[String]) -> String {
    serde_json::to_string(texts).unwrap_or_else(|_| "[]".to_owned())
}

fn listed(row: &Row<'_>) -> ListedThread {
    let text = |i: usize| match row.get_ref(i) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => String::new(),
    };
    let number = |i: usize| match row.get_ref(i) {
        Ok(ValueRef::Integer(n)) => Some(n),
        _ => None,
    };
    let (name, title, first_message) = (text(2), text(3), text(4));
    let is_paginated = text(5) == "paginated";
    let (source, kind) = (text(9), text(10));
    ListedThread {
        id: text(0),
        rollout_path: text(1),
        has_name: !name.trim().is_empty(),
        title: shown_title(&name, &title, &first_message, is_paginated),
        cwd: text(6),
        git_branch: text(7),
        model: text(8),
        parent_id: Some(text(13))
            .filter(|id| !id.is_empty())
            .or_else(|| parent_in(&source)),
        source: source_name(&source, &kind),
        account_id: text(11),
        user_id: text(12),
        nickname: text(14),
        created_ms: number(15).filter(|ms| *ms > 0),
        updated_ms: number(16).filter(|ms| *ms > 0),
        tokens: number(17),
        archived: number(18).is_some_and(|n| n != 0),
    }
}

/// Returns the first line of the name, of the title, or of the first message, whichever is not blank.
fn shown_title(name: &str, title: &str, first_message: &str, is_paginated: bool) -> String {
    let texts = if is_paginated {
        [name, title, first_message]
    } else {
        [title, name, first_message]
    };
    let mut lines = texts.iter().flat_map(|text| text.lines()).map(str::trim);
    let line = lines.find(|line| !line.is_empty());
    line.unwrap_or_default().to_owned()
}

/// Codex records the source of a subagent as JSON, that of other conversations as a word (0.169).
fn source_name(source: &str, kind: &str) -> String {
    if kind == "subagent" || source.contains("\"subagent\"") {
        "subagent".to_owned()
    } else {
        source.trim_matches('"').to_owned()
    }
}

fn parent_in(source: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(source).ok()?;
    let parent = value.pointer("/subagent/thread_spawn/parent_thread_id")?;
    parent.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let below = ThreadFilter {
            folder: Some("/w/p/".into()),
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&old, &below), ["c"]);
        let below = ThreadFilter {
            folder: Some("/w/p".into()),
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&old, &below), ["c", "a"]);
        let times = ThreadFilter {
            since_ms: Some(11_000),
            until_ms: Some(20_000),
            without_archived: true,
            without_subagents: true,
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
                 CREATE TABLE thread_spawn_edges(parent_thread_id TEXT, child_thread_id TEXT);
                 INSERT INTO threads VALUES('a', 1, 1500, 'cli', 'user', 0, 'x', 'u'),
                 ('b', 1, 1400, '{"subagent":{"thread_spawn":{"parent_thread_id":"a"}}}',
                  'subagent', 0, 'x', 'u'), ('c', 2, 2000, 'exec', NULL, 1, 'y', 'u');
                 INSERT INTO thread_spawn_edges VALUES('a', 'b')"#,
            )
            .unwrap();
        let main = ThreadFilter {
            without_subagents: true,
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
    fn folders_are_found_by_the_index_of_codex_and_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE threads(id TEXT PRIMARY KEY, archived INTEGER NOT NULL, cwd TEXT NOT NULL,
                 updated_at_ms INTEGER);
                 INSERT INTO threads VALUES('a', 0, '/w/p', 1), ('b', 1, '/w/p/x', 2), ('c', 0, '/w/p2', 3),
                 ('d', 0, '/w/p-x', 4), ('e', 0, '/w', 5), ('f', 0, '/w/p/', 6), ('g', 0, '/w/p0', 7)",
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
                ("/w/p/", &["f", "b"]),
                ("/", &["g", "f", "e", "d", "c", "b", "a"]),
                ("/none", &[]),
            ] {
                let filter = ThreadFilter {
                    folder: Some(folder.into()),
                    ..ThreadFilter::default()
                };
                assert_eq!(ids(&path, &filter), found, "{folder}, {indexed}");
            }
            let first = ThreadFilter {
                folder: Some("/w/p".into()),
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
            folder: Some("/many".into()),
            ..ThreadFilter::default()
        };
        assert_eq!(ids(&path, &many).len(), 5000);
    }

    #[test]
    fn titles_are_names_then_first_lines() {
        for (texts, is_paginated, title) in [
            (["name", "title", "first"], true, "name"),
            (["", "\n title\nmore", "first"], true, "title"),
            (["name", "title", "first"], false, "title"),
            (["", "", " \nfirst"], false, "first"),
        ] {
            let [name, shown, first] = texts;
            assert_eq!(shown_title(name, shown, first, is_paginated), title);
        }
    }
}
