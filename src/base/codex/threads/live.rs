//! Changes single columns and deletes rows of conversations in Codex's live databases.
//!
//! The caller makes sure that no process uses the home, except for [`rebase_rollout_paths`]. Each change
//! is one SQLite transaction in the database's own journal mode, so a crash leaves the old rows or the
//! new ones.

use super::changes::RowEditor;
use super::schema::Schema;
use super::staged;
use crate::codex::database::{self, DatabaseError, SqliteContext as _};
use crate::codex::folder_key;
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{MAIN_SEPARATOR, Path};

fn change_in_transaction<T>(
    database: &Path,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, DatabaseError> {
    database::run_in_transaction(database::open_for_changes(database)?, database, change)
}

/// Rewrites the rollout paths below the folder `from` to the same paths below `to`. Codex may have the
/// database open: the change is one transaction. Returns the number of changed rows.
///
/// # Errors
/// SQLite fails, or another process locks the database for more than five seconds.
pub fn rebase_rollout_paths(
    database: &Path,
    from: &Path,
    to: &Path,
) -> Result<usize, DatabaseError> {
    // With the separator, so that `/home/a` does not match `/home/ab`.
    let with_separator = |folder: &Path| format!("{}{MAIN_SEPARATOR}", folder.display());
    change_in_transaction(database, |transaction| {
        transaction.execute(
            "UPDATE threads SET rollout_path = ?2 || substr(rollout_path, length(?1) + 1) \
             WHERE substr(rollout_path, 1, length(?1)) = ?1",
            params![with_separator(from), with_separator(to)],
        )
    })
}

/// Stores `names`, which are pairs of id and name, in the rows of paginated conversations. Other conversations are
/// skipped, because Codex does not list them by the name in their row. Returns the number of changed rows.
///
/// `is_given` gets the id, the name, and the texts of the row: title, first message, preview. A name for which it
/// returns false was not given by the user, and is skipped.
pub fn set_names(
    database: &Path,
    names: &[(String, String)],
    is_given: impl Fn(&str, &str, [&str; 3]) -> bool,
) -> Result<usize, DatabaseError> {
    change_in_transaction(database, |transaction| {
        let preview = Schema::read(transaction)?.column_sql("preview");
        let sql = format!(
            "SELECT title, first_user_message, coalesce({preview}, '') FROM threads t \
             WHERE id=?1 AND history_mode='paginated' AND coalesce(name, '')<>?2"
        );
        // On a schema without these columns Codex reads names from `session_index.jsonl` only.
        let Ok(mut select) = transaction.prepare(&sql) else {
            return Ok(0);
        };

        let mut changed_count = 0;
        for (id, name) in names {
            let row = select.query_row([id, name], |row| {
                Ok([row.get(0)?, row.get(1)?, row.get(2)?])
            });
            let texts: Option<[String; 3]> = row.optional()?;
            if texts.is_some_and(|texts| is_given(id, name, texts.each_ref().map(String::as_str))) {
                let update = "UPDATE threads SET name=?2 WHERE id=?1";
                changed_count += transaction.execute(update, [id, name])?;
            }
        }

        Ok(changed_count)
    })
}

/// Stores `modes`, which are pairs of id and history mode, in the rows of conversations. Returns the ids of the changed
/// rows.
pub fn set_history_modes(
    database: &Path,
    modes: &[(String, String)],
) -> Result<Vec<String>, DatabaseError> {
    change_in_transaction(database, |transaction| {
        let sql = "UPDATE threads SET history_mode=?2 WHERE id=?1 AND history_mode<>?2";
        // A schema without this column belongs to a Codex with a single mode.
        let Ok(mut update) = transaction.prepare(sql) else {
            return Ok(Vec::new());
        };

        let mut changed_ids = Vec::new();
        for (id, mode) in modes {
            if update.execute([id, mode])? > 0 {
                changed_ids.push(id.clone());
            }
        }

        Ok(changed_ids)
    })
}

/// Deletes the rows of conversations, with the rows of other tables that belong to them. Returns the number of deleted
/// conversations.
pub fn delete_rows(database: &Path, ids: &[&str]) -> Result<usize, DatabaseError> {
    if ids.is_empty() {
        return Ok(0);
    }
    change_in_transaction(database, |transaction| delete_rows_of(transaction, ids))
}

impl RowEditor<'_> {
    /// Deletes the row of a conversation, with the rows of other tables that belong to it.
    pub(crate) fn delete(&self, id: &str) -> Result<(), DatabaseError> {
        let deleted = delete_rows_of(self.connection, &[id]);
        deleted.map(drop).sqlite_context("change", self.path)
    }
}

/// Like [`delete_rows`], within a transaction.
fn delete_rows_of(transaction: &Connection, ids: &[&str]) -> rusqlite::Result<usize> {
    staged::delete_rows_with_thread_id(transaction, ids)?;
    // Codex before 0.150 has no table of the links between subagents and their parents.
    let edges = "DELETE FROM thread_spawn_edges WHERE child_thread_id=?1 OR parent_thread_id=?1";
    if let Ok(mut delete) = transaction.prepare(edges) {
        for id in ids {
            delete.execute([id])?;
        }
    }
    let mut delete = transaction.prepare("DELETE FROM threads WHERE id=?1 COLLATE NOCASE")?;
    ids.iter().map(|id| delete.execute([id])).sum()
}

/// Deletes the projections of rollouts that were replaced or deleted. `database` is the one of the turns, in which the
/// id of a thread is the id of its rollout.
pub fn delete_projections(database: &Path, rollout_ids: &[&str]) -> Result<(), DatabaseError> {
    change_in_transaction(database, |transaction| {
        staged::delete_rows_with_thread_id(transaction, rollout_ids)
    })
}

/// Rewrites the project folders of conversations: replaces the prefix `from` of a path by `to`, in any spelling of
/// [`folder_key`], and writes the rest with `/`. Returns the number of changed rows.
pub fn map_project_folders(database: &Path, from: &str, to: &str) -> Result<usize, DatabaseError> {
    let from_prefix = folder_key::key_prefix(from);
    let to = to.trim_end_matches(['/', '\\']);

    // The separator cut off above belongs to a root: `/` would be empty, and `C:` is the current folder of the drive.
    let target_folder = match to {
        "" => "/".to_owned(),
        drive if drive.ends_with(':') => format!("{drive}\\"),
        _ => to.to_owned(),
    };

    change_in_transaction(database, |transaction| {
        folder_key::define_function(transaction)?;
        // The folder `from` itself becomes `target_folder`. Other spellings of the target change too.
        transaction.execute(
            "WITH mapped AS (SELECT rowid AS row, CASE WHEN length(key) < length(?1) THEN ?3 \
                               ELSE ?2 || substr(key, length(?1)) END AS folder \
                             FROM (SELECT rowid, cwd, rtrim(folder_key(cwd), '/') AS key FROM threads) \
                             WHERE substr(key || '/', 1, length(?1)) = ?1 AND ?1 <> '/' AND cwd <> '') \
             UPDATE threads SET cwd = mapped.folder FROM mapped \
             WHERE threads.rowid = mapped.row AND threads.cwd <> mapped.folder",
            params![from_prefix, to, target_folder],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_mapped_at_separators_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE threads(id TEXT, cwd TEXT)")
            .unwrap();
        for cwd in [
            "/Users/me/p",
            "/Users/me",
            "/Users/me2/p",
            "C:\\w\\p",
            "/home/me/x",
            "/srv",
            "/srv/p",
            "E:\\",
            r"\\?\C:\w\q",
            "/mnt/c/w",
            r"\\?\F:\x\y",
            "f:/x",
            "/mnt/f/x/z",
        ] {
            connection
                .execute("INSERT INTO threads VALUES('x', ?1)", [cwd])
                .unwrap();
        }
        assert_eq!(
            map_project_folders(&path, "/Users/me/", "/home/me").unwrap(),
            2
        );
        assert_eq!(
            map_project_folders(&path, "/Users/me", "/home/me").unwrap(),
            0
        );
        assert_eq!(map_project_folders(&path, "C:\\w", "/w").unwrap(), 3);
        assert_eq!(map_project_folders(&path, "/home/me/x", "/").unwrap(), 1);
        assert_eq!(map_project_folders(&path, "/srv", "D:\\").unwrap(), 2);
        assert_eq!(map_project_folders(&path, "E:\\", "/e").unwrap(), 1);
        // The target is another spelling of the same folder.
        assert_eq!(map_project_folders(&path, "F:\\x", "/mnt/f/x").unwrap(), 2);
        assert_eq!(map_project_folders(&path, "F:\\x", "/mnt/f/x").unwrap(), 0);
        let mut query = connection.prepare("SELECT cwd FROM threads").unwrap();
        let rows: Vec<String> = query
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            rows,
            [
                "/home/me/p",
                "/home/me",
                "/Users/me2/p",
                "/w/p",
                "/",
                "D:\\",
                "D:/p",
                "/e",
                "/w/q",
                "/w",
                "/mnt/f/x/y",
                "/mnt/f/x",
                "/mnt/f/x/z"
            ]
        );
    }
}
