//! Reads the rows of the table `threads`.

use super::schema::{Values, query_threads};
use crate::codex::database::DatabaseError;
use crate::codex::user_request::{find_request, find_title, is_context};
use rusqlite::{OptionalExtension, Row};
use std::path::Path;

/// The mode of conversations whose turns Codex shows from a projection.
pub const PAGINATED: &str = "paginated";

/// One row of the table. Fields are empty if the column is missing, NULL, or of an unexpected type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadRow {
    /// The conversation's id in its original spelling.
    pub id: String,
    /// The absolute path of the rollout, in its plain form.
    pub rollout_path: String,
    /// The time of creation in milliseconds since 1970.
    pub created_ms: Option<i64>,
    /// The time of the last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    /// The first message, or for legacy conversations the name that the user chose.
    pub title: String,
    /// The name that the user chose, for paginated conversations.
    pub name: String,
    pub first_user_message: String,
    /// The beginning of the first message, else of the preview, such as a goal, else of the path of the agent.
    pub message_line: String,
    pub archived: bool,
    /// The form of the conversation: `legacy`, [`PAGINATED`], or empty in older versions.
    pub mode: String,
    /// The folder that the conversation works in.
    pub cwd: String,
    /// The id of the workspace account that created the conversation; empty if Codex recorded none.
    pub account_id: String,
    /// True for a conversation of a subagent, for a side conversation, and for one that no user began.
    pub is_child: bool,
    /// True if the preview is empty: Codex does not list such a conversation. False if this version of Codex has no
    /// previews.
    pub lacks_preview: bool,
}

impl ThreadRow {
    /// Returns true for paginated conversations, whose name is in `name` and not in `title`.
    pub fn is_paginated(&self) -> bool {
        self.mode == PAGINATED
    }

    /// Returns the name that the user chose; `None` if the conversation is listed by its first message.
    pub fn given_name(&self) -> Option<&str> {
        // An older rebuild may have derived a name from context of a client.
        let name = self.name.trim();
        if !name.is_empty() && !is_context(name) {
            return Some(&self.name);
        }

        // The name of a legacy conversation is in `title`. A title that begins the first message or its request is no
        // name.
        let title = self.title.trim();
        let message = self.first_user_message.trim();
        let is_name = !self.is_paginated()
            && !title.is_empty()
            && !message.is_empty()
            && !is_context(title)
            && !message.starts_with(title)
            && !find_request(message).starts_with(title);
        is_name.then_some(&*self.title)
    }

    /// Returns the first message, else the preview, else the path of the agent.
    pub(crate) fn message(&self) -> &str {
        if self.first_user_message.is_empty() {
            &self.message_line
        } else {
            &self.first_user_message
        }
    }

    /// Returns the request in `title`, or in the message if `title` has none. Empty if there is none at all.
    pub(crate) fn request(&self) -> &str {
        let requests = [&*self.title, self.message()].map(find_request);
        let mut requests = requests.into_iter();
        requests
            .find(|request| !request.is_empty())
            .unwrap_or_default()
    }

    /// Returns the first line of the name that the user chose, else of the request; empty if there is none of them.
    pub fn shown_title(&self) -> String {
        let name = self.given_name().and_then(find_title);
        name.or_else(|| find_title(self.request()))
            .unwrap_or_default()
    }

    /// Returns the name that the user chose, if there is one, then the request.
    pub fn titles(&self) -> impl Iterator<Item = &str> {
        let name = self.given_name().into_iter();
        name.chain([self.request()])
    }
}

/// Folds the rows of the table with `add_row`, in descending order of their ids. Rows are read one by one,
/// because a table may be larger than memory. The fold starts with `new_accumulator()`, and starts again if the
/// database changed during the walk. `None` if the database has no table of conversations. Creates no file beside the
/// database.
pub fn fold_rows<T>(
    path: &Path,
    new_accumulator: impl Fn() -> T,
    add_row: impl FnMut(&mut T, ThreadRow),
) -> Result<Option<T>, DatabaseError> {
    fold_values(path, VALUES, new_accumulator, add_row)
}

/// Like [`fold_rows`], but the rows have only their ids, folders and accounts. This is faster, because titles and
/// messages are not read.
pub(crate) fn fold_owners<T>(
    path: &Path,
    new_accumulator: impl Fn() -> T,
    add_row: impl FnMut(&mut T, ThreadRow),
) -> Result<Option<T>, DatabaseError> {
    let values = "id cwd creator_account_id";
    fold_values(path, values, new_accumulator, add_row)
}

fn fold_values<T>(
    path: &Path,
    values: &str,
    new_accumulator: impl Fn() -> T,
    mut add_row: impl FnMut(&mut T, ThreadRow),
) -> Result<Option<T>, DatabaseError> {
    let names: Vec<_> = values.split(' ').collect();
    query_threads(path, |connection, schema| {
        let sql = format!("{} ORDER BY t.id DESC", schema.select_sql(&names));
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;

        let mut accumulator = new_accumulator();
        while let Some(row) = rows.next()? {
            let row = build_thread_row(&Values::new(&names, row));
            if !row.id.is_empty() {
                add_row(&mut accumulator, row);
            }
        }

        Ok(Some(accumulator))
    })
}

/// Returns the rows of these ids, which are spelled as in the table. Leaves out ids without a row.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn read_rows(path: &Path, ids: &[String]) -> Result<Vec<ThreadRow>, DatabaseError> {
    let names: Vec<_> = VALUES.split(' ').collect();
    query_threads(path, |connection, schema| {
        let sql = format!("{} WHERE t.id=?1", schema.select_sql(&names));
        let mut statement = connection.prepare(&sql)?;
        let mut rows = Vec::new();
        for id in ids {
            let build_row = |row: &Row<'_>| Ok(build_thread_row(&Values::new(&names, row)));
            rows.extend(statement.query_row([id], build_row).optional()?);
        }
        Ok(rows)
    })
}

/// Returns the ids of the direct and indirect subagents of a conversation.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn find_subagent_ids(path: &Path, id: &str) -> Result<Vec<String>, DatabaseError> {
    query_threads(path, |connection, schema| {
        let sql = format!(
            "WITH RECURSIVE spawns AS MATERIALIZED ({}), children(id) AS (
                 SELECT child FROM spawns WHERE parent = ?1
                 UNION
                 SELECT child FROM spawns, children WHERE parent = children.id)
             SELECT id FROM children ORDER BY id",
            schema.spawns_sql()
        );

        let mut select = connection.prepare(&sql)?;
        select.query_map([id], |row| row.get(0))?.collect()
    })
}

/// The values from which a [`ThreadRow`] is made; see [`Values`].
const VALUES: &str = "id rollout_path created_ms updated_ms title name first_user_message message_line archived \
    history_mode cwd creator_account_id is_child lacks_preview";

fn build_thread_row(values: &Values<'_>) -> ThreadRow {
    ThreadRow {
        id: values.text("id"),
        rollout_path: values.text("rollout_path"),
        created_ms: values.time("created_ms"),
        updated_ms: values.time("updated_ms"),
        title: values.text("title"),
        name: values.text("name"),
        first_user_message: values.text("first_user_message"),
        message_line: values.text("message_line"),
        archived: values.flag("archived"),
        mode: values.text("history_mode"),
        cwd: values.text("cwd"),
        account_id: values.text("creator_account_id"),
        is_child: values.flag("is_child"),
        lacks_preview: values.flag("lacks_preview"),
    }
}
