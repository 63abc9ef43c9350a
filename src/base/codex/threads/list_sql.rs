//! Writes the SQL that lists conversations from the table `threads` of any version of Codex.

use super::filter::{AccountFilter, ChildThreads, ThreadFilter, ThreadOrder};
use super::schema::Schema;
use crate::codex::folder_key::key_prefix;
use crate::codex::user_request::TITLE_PROMPTS;
use rusqlite::Connection;
use rusqlite::types::Value;

/// The index of conversations by folder in Codex 0.169.
pub(super) const FOLDER_INDEX: &str = "idx_threads_archived_cwd_updated_at_ms";

/// The number of conversations below which it is faster to find each by its id than to read the list in its order.
const MAX_LOOKUPS: usize = 2000;

impl Schema {
    fn subagent_condition_sql(&self) -> String {
        let (source, kind) = (self.column_sql("source"), self.column_sql("thread_source"));
        format!(
            "(coalesce({kind}, '') = 'subagent' OR coalesce({source}, '') LIKE '%\"subagent\"%')"
        )
    }

    /// Returns the condition of side conversations (`/side`), which Codex shows only at their parents.
    pub(super) fn side_condition_sql(&self) -> String {
        let side_parent = self.column_sql("attached_thread_parent_id");
        format!("(coalesce({side_parent}, '') <> '')")
    }

    /// Returns the condition of conversations that no user began: memory jobs of Codex, and those that a client runs by
    /// `codex exec`, such as a request for a title.
    pub(super) fn internal_condition_sql(&self) -> String {
        let columns = ["source", "thread_source", "originator", "title"];
        let [source, kind, originator, title] = columns.map(|column| self.column_sql(column));
        // Codex before 0.150 has no column of the originator.
        let prompts = TITLE_PROMPTS.map(|prompt| format!("coalesce({title}, '') LIKE '{prompt}%'"));
        format!(
            "(coalesce({kind}, '') = 'memory_consolidation' OR coalesce({source}, '') LIKE '%\"internal\"%' \
             OR (coalesce({source}, '') = 'exec' \
             AND (coalesce({originator}, '') NOT IN ('', 'codex_exec') OR {})))",
            prompts.join(" OR ")
        )
    }

    /// Returns the condition of conversations of subagents, of side conversations, and of those that no user began.
    pub(super) fn child_condition_sql(&self) -> String {
        let (subagent, side) = (self.subagent_condition_sql(), self.side_condition_sql());
        format!(
            "({subagent} OR {side} OR {})",
            self.internal_condition_sql()
        )
    }

    /// Returns the SQL of the id of the conversation that started a subagent, from `source` in the subagent's row.
    pub(super) fn spawn_parent_sql(&self) -> String {
        let source = self.column_sql("source");
        format!(
            "CASE WHEN {source} GLOB '{{*' AND json_valid({source}) \
             THEN json_extract({source}, '$.subagent.thread_spawn.parent_thread_id') END"
        )
    }

    /// Returns the SQL of the parent of a subagent or a side conversation; NULL for other conversations.
    pub(super) fn parent_sql(&self) -> String {
        let edge = if self.has_edges {
            "(SELECT e.parent_thread_id FROM thread_spawn_edges e WHERE e.child_thread_id = t.id)"
        } else {
            "NULL"
        };
        let side_parent = self.column_sql("attached_thread_parent_id");
        let spawn_parent = self.spawn_parent_sql();
        format!("coalesce({edge}, {side_parent}, {spawn_parent})")
    }

    /// Returns the query for all subagents, with the columns `parent` and `child`. A row from another machine may name
    /// its parent in `source` without an entry in `thread_spawn_edges`.
    pub(super) fn spawns_sql(&self) -> String {
        let source = self.column_sql("source");
        let mut sql = format!(
            "SELECT {} AS parent, t.id AS child FROM threads t WHERE {source} GLOB '{{*'",
            self.spawn_parent_sql()
        );
        if self.has_edges {
            sql.push_str(
                " UNION ALL SELECT parent_thread_id, child_thread_id FROM thread_spawn_edges",
            );
        }
        sql
    }

    /// Returns the statement that lists the conversations selected by `filter`, and the values of its parameters. It
    /// selects `columns`; see [`Schema::select_sql`]. `ids_in_folder` has the ids of the conversations in the filter's
    /// folder, if they are known.
    pub(super) fn build_list_query(
        &self,
        columns: &[&str],
        filter: &ThreadFilter,
        ids_in_folder: Option<&[String]>,
    ) -> (String, Vec<Value>) {
        let mut clauses = self.build_conditions(filter, ids_in_folder);
        let mut sql = self.select_sql(columns);
        if !clauses.sql.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&clauses.sql.join(" AND "));
        }

        sql.push_str(" ORDER BY ");
        sql.push_str(&self.order_sql(filter.order));
        if let Some(limit) = filter.limit {
            sql.push_str(" LIMIT ?");
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            clauses.values.push(Value::Integer(limit));
        }

        (sql, clauses.values)
    }

    fn order_sql(&self, order: ThreadOrder) -> String {
        let (updated, _) = self.updated_column_and_unit();
        let (created, _) = self.created_column_and_unit();
        match order {
            ThreadOrder::Updated => format!("{updated} DESC, t.id DESC"),
            ThreadOrder::Created => format!("{created} DESC, t.id DESC"),
            ThreadOrder::Tokens => format!("{} DESC, t.id DESC", self.column_sql("tokens_used")),
            ThreadOrder::Title => format!("{}, t.id", self.column_sql("title")),
            ThreadOrder::Project => {
                let cwd = self.column_sql("cwd");
                format!("folder_key({cwd}), {updated} DESC, t.id DESC")
            }
        }
    }

    fn build_conditions(&self, filter: &ThreadFilter, ids_in_folder: Option<&[String]>) -> Clauses {
        let mut clauses = Clauses::default();
        if let Some(ids) = &filter.ids {
            clauses.add_ids(ids);
        }
        if let Some(parents) = &filter.parents {
            self.add_parent_condition(&mut clauses, parents);
        }

        match (ids_in_folder, &filter.folders) {
            // With a condition on `cwd`, SQLite would walk the index of the order and check the folder of each row.
            (Some(ids), _) => clauses.add_ids(ids),
            (None, Some(folders)) => self.add_folder_condition(&mut clauses, folders),
            (None, None) => {}
        }
        if let Some(account) = &filter.account {
            self.add_account_condition(&mut clauses, account);
        }

        // `unit_ms` is 1000 for a column in seconds. `until` is rounded up, so that a second that has begun is
        // included.
        let (updated, unit_ms) = self.updated_column_and_unit();
        let until = filter.until_ms.map(|time| time.saturating_add(unit_ms - 1));
        for (time, sign) in [(filter.since_ms, ">="), (until, "<")] {
            if let Some(time) = time {
                clauses.sql.push(format!("{updated} {sign} ?"));
                let value = Value::Integer(time.div_euclid(unit_ms));
                clauses.values.push(value);
            }
        }

        let archived = self.column_sql("archived");
        if filter.without_archived {
            clauses.sql.push(format!("coalesce({archived}, 0) = 0"));
        }
        if filter.only_archived {
            clauses.sql.push(format!("{archived} = 1"));
        }

        if filter.only_subagents {
            clauses.sql.push(self.subagent_condition_sql());
        }
        if let Some(branch) = &filter.branch {
            let condition = format!("{} = ?", self.column_sql("git_branch"));
            clauses.add(&condition, [branch.clone()]);
        }
        let child_sql = self.child_condition_sql();
        match filter.children {
            ChildThreads::Included => {}
            ChildThreads::Omitted => clauses.sql.push(format!("NOT {child_sql}")),
            ChildThreads::Only => clauses.sql.push(child_sql),
            ChildThreads::OrphansIncluded => clauses.sql.push(format!(
                "(NOT {child_sql} OR NOT EXISTS (SELECT 1 FROM threads p WHERE p.id = {}))",
                self.parent_sql()
            )),
        }

        clauses
    }

    fn add_parent_condition(&self, clauses: &mut Clauses, parents: &[String]) {
        let parents_sql = "(SELECT value FROM json_each(?))";
        let side_parent = self.column_sql("attached_thread_parent_id");
        let condition = format!(
            "t.id IN (SELECT child FROM ({}) WHERE parent IN {parents_sql} \
             UNION ALL SELECT t.id FROM threads t WHERE {side_parent} IN {parents_sql})",
            self.spawns_sql()
        );
        clauses.add(&condition, [to_json_array(parents), to_json_array(parents)]);
    }

    fn add_folder_condition(&self, clauses: &mut Clauses, folders: &[String]) {
        let cwd = self.column_sql("cwd");
        let prefixes = folders.iter().map(|folder| key_prefix(folder));
        let prefixes: Vec<_> = prefixes.collect();

        // A separator is appended to each key, so that `/a` contains `/a` and `/a/b`, but not `/ab`.
        clauses.add(
            &format!(
                "EXISTS (SELECT 1 FROM json_each(?) AS prefix \
                 WHERE {cwd} <> '' \
                 AND substr(folder_key({cwd}) || '/', 1, length(prefix.value)) = prefix.value)"
            ),
            [to_json_array(&prefixes)],
        );
    }

    fn add_account_condition(&self, clauses: &mut Clauses, account: &AccountFilter) {
        let mut creator_conditions = Vec::new();
        let mut values = Vec::new();
        let (account_id, user_id) = (&account.account_id, &account.user_id);

        if let Some(id) = account_id {
            creator_conditions.push(format!("{} = ?", self.column_sql("creator_account_id")));
            values.push(id.clone());
        }

        if let Some(id) = user_id {
            let user_column = self.column_sql("creator_user_id");
            // Older versions recorded no user. A conversation without a user matches if its account matches.
            let matches_without_user = account_id.is_some();
            let default_user = if matches_without_user { "?" } else { "''" };
            creator_conditions.push(format!("coalesce({user_column}, {default_user}) = ?"));
            if matches_without_user {
                values.push(id.clone());
            }
            values.push(id.clone());
        }

        // The account of a recorded launch takes precedence over the account in the row.
        let is_creator_sql = if creator_conditions.is_empty() {
            "0".to_owned()
        } else {
            values.push(to_json_array(&account.launched_by_others));
            let conditions = creator_conditions.join(" AND ");
            format!("({conditions} AND t.id NOT IN (SELECT value FROM json_each(?)))")
        };
        values.push(to_json_array(&account.launched));

        clauses.add(
            &format!("({is_creator_sql} OR t.id IN (SELECT value FROM json_each(?)))"),
            values,
        );
    }
}

/// Returns the ids of the conversations in a folder or below it, from an index of Codex's table. `None` if there are
/// many or the table has no such index: then reading the whole list in order is faster. `None` also for a folder of
/// Windows, which rows spell in several ways.
pub(super) fn find_few_ids_in_folder(
    connection: &Connection,
    folder: &str,
) -> rusqlite::Result<Option<Vec<String>>> {
    let count_sql = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = ?1";
    let index_count: i64 = connection.query_row(count_sql, [FOLDER_INDEX], |row| row.get(0))?;
    let prefix = key_prefix(folder);
    // `INDEXED BY` fails without the index, which older versions do not have.
    if index_count == 0 || !prefix.starts_with('/') || prefix.starts_with("//") {
        return Ok(None);
    }

    let parent = prefix.trim_end_matches('/');
    // In ASCII, `0` follows `/`, so `prefix..range_end` has all paths below the folder.
    let range_end = format!("{parent}0");

    // The index begins with `archived`, so the query names both of its values.
    let sql = format!(
        "SELECT id FROM threads INDEXED BY {FOLDER_INDEX} WHERE archived IN (0, 1) AND cwd = ?1 AND cwd <> '' \
         UNION ALL SELECT id FROM threads INDEXED BY {FOLDER_INDEX} \
         WHERE archived IN (0, 1) AND cwd >= ?2 AND cwd < ?3 LIMIT {MAX_LOOKUPS}"
    );

    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([parent, &prefix, &range_end], |row| row.get(0))?;
    let ids: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    Ok((ids.len() < MAX_LOOKUPS).then_some(ids))
}

/// The conditions of a query, joined by AND, and their values in order.
#[derive(Default)]
struct Clauses {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Clauses {
    fn add_ids(&mut self, ids: &[String]) {
        self.add(
            "t.id IN (SELECT value FROM json_each(?))",
            [to_json_array(ids)],
        );
    }

    fn add(&mut self, condition: &str, values: impl IntoIterator<Item = String>) {
        self.sql.push(condition.to_owned());
        self.values.extend(values.into_iter().map(Value::Text));
    }
}

fn to_json_array(texts: &[String]) -> String {
    serde_json::to_string(texts).unwrap_or_else(|_| "[]".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{find_subagent_ids, list};
    use super::*;

    #[test]
    fn child_conversations_are_found_by_spawn_edge_source_or_attached_parent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                r#"CREATE TABLE threads(id TEXT PRIMARY KEY, updated_at INTEGER, source TEXT, thread_source TEXT,
                   attached_thread_parent_id TEXT);
                 CREATE TABLE thread_spawn_edges(parent_thread_id TEXT, child_thread_id TEXT, status TEXT);
                 INSERT INTO threads VALUES('main', 9, 'cli', 'user', NULL),
                 ('edge', 8, '{"subagent":{"thread_spawn":{"parent_thread_id":"main"}}}', 'subagent', NULL),
                 ('source', 7, '{"subagent":{"thread_spawn":{"parent_thread_id":"edge"}}}', 'subagent', NULL),
                 ('side', 6, 'cli', 'tui_side_chat', 'main'),
                 ('review', 5, '{"subagent":"review"}', 'subagent', NULL),
                 ('lost', 4, '{"subagent":{"thread_spawn":{"parent_thread_id":"gone"}}}', NULL, NULL),
                 ('odd', 3, '{no json', 'user', NULL);
                 INSERT INTO thread_spawn_edges VALUES('main', 'edge', 'open')"#,
            )
            .unwrap();

        let ids = |filter: ThreadFilter| -> Vec<String> {
            let rows = list(&path, &filter).unwrap().into_iter();
            rows.map(|row| row.id).collect()
        };
        let with = |children| ThreadFilter {
            children,
            ..ThreadFilter::default()
        };
        assert_eq!(ids(with(ChildThreads::Omitted)), ["main", "odd"]);
        let top = ids(with(ChildThreads::OrphansIncluded));
        assert_eq!(top, ["main", "review", "lost", "odd"]);
        assert_eq!(ids(with(ChildThreads::Included)).len(), 7);

        for (parent, children) in [
            ("main", &["edge", "side"][..]),
            ("edge", &["source"]),
            ("side", &[]),
        ] {
            let filter = ThreadFilter {
                parents: Some(vec![parent.into()]),
                ..ThreadFilter::default()
            };
            for row in list(&path, &filter).unwrap() {
                assert_eq!(row.parent_id.as_deref(), Some(parent));
            }
            assert_eq!(ids(filter), children, "{parent}");
        }
        // A side conversation has the user's own words, so it is not trashed with the subagents.
        assert_eq!(
            find_subagent_ids(&path, "main").unwrap(),
            ["edge", "source"]
        );
    }
}
