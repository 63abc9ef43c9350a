//! Changes single columns of conversations in Codex's live databases.
//!
//! The caller makes sure that no process uses the home, except for [`rebase_rollout_paths`]. Each change
//! is one SQLite transaction in the database's own journal mode, so a crash leaves the old rows or the
//! new ones.

use super::staged;
use crate::codex::database::{self, DatabaseError, SqliteContext as _};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time limit for another process that locks a database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

fn open(path: &Path) -> Result<Connection, DatabaseError> {
    database::open_for_changes(path, LOCK_TIMEOUT)
}

/// The new location of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutMove<'a> {
    /// The id of the conversation.
    pub id: &'a str,
    /// The absolute path of its rollout, in its plain form.
    pub path: PathBuf,
    /// True if it is archived.
    pub archived: bool,
}

/// Records the new locations of conversations in their rows. Conversations without a row are skipped:
/// Codex finds them itself. Returns the number of changed rows.
pub(crate) fn update_locations(
    database: &Path,
    moved: &[RolloutMove<'_>],
) -> Result<usize, DatabaseError> {
    let mut connection = open(database)?;
    let transaction = connection.transaction().on("change", database)?;
    let mut changed = 0;
    for conversation in moved {
        let path = conversation.path.to_string_lossy();
        changed += transaction
            .execute(
                "UPDATE threads SET rollout_path=?2 WHERE id=?1 AND rollout_path<>?2",
                params![conversation.id, path],
            )
            .on("change", database)?;
        // Fails on a schema without these columns, which has no such flag.
        let _ = transaction.execute(
            "UPDATE threads SET archived=?2, archived_at=CASE WHEN ?2 THEN \
             coalesce(archived_at, updated_at) END WHERE id=?1 AND archived<>?2",
            params![conversation.id, conversation.archived],
        );
    }
    transaction.commit().on("change", database)?;
    Ok(changed)
}

/// Rewrites the rollout paths below the folder `from` to the same paths below `to`. Codex may have the
/// database open: the change is one transaction. Returns the number of changed rows.
///
/// # Errors
/// SQLite fails, or another process locks the database for more than five seconds.
pub(crate) fn rebase_rollout_paths(
    database: &Path,
    from: &Path,
    to: &Path,
) -> Result<usize, DatabaseError> {
    let beginning = |folder: &Path| format!("{}/", folder.display());
    let mut connection = open(database)?;
    let transaction = connection.transaction().on("change", database)?;
    let changed = transaction
        .execute(
            "UPDATE threads SET rollout_path = ?2 || substr(rollout_path, length(?1) + 1) \
             WHERE substr(rollout_path, 1, length(?1)) = ?1",
            params![beginning(from), beginning(to)],
        )
        .on("change", database)?;
    transaction.commit().on("change", database)?;
    Ok(changed)
}

/// Stores these names in the rows of paginated conversations, by id. Other conversations are not listed
/// by the name in their row. `is_given` gets the id, the name, and the row's title and first message;
/// names that it rejects as not chosen by the user are skipped. Returns the number of changed rows.
pub(crate) fn set_names(
    database: &Path,
    names: &[(String, String)],
    is_given: impl Fn(&str, &str, [&str; 2]) -> bool,
) -> Result<usize, DatabaseError> {
    let mut connection = open(database)?;
    let transaction = connection.transaction().on("change", database)?;
    let known = "SELECT title, first_user_message FROM threads \
                 WHERE id=?1 AND history_mode='paginated' AND coalesce(name, '')<>?2";
    // On a schema without these columns Codex reads names from `session_index.jsonl` only.
    let Ok(mut known) = transaction.prepare(known) else {
        return Ok(0);
    };
    let mut changed = 0;
    for (id, name) in names {
        let output = known.query_row([id, name], |row| Ok([row.get(0)?, row.get(1)?]));
        let output: Option<[String; 2]> = output.optional().on("read", database)?;
        if output.is_some_and(|output| is_given(id, name, output.each_ref().map(String::as_str))) {
            let sql = "UPDATE threads SET name=?2 WHERE id=?1";
            let update = transaction.execute(sql, [id, name]);
            changed += update.on("change", database)?;
        }
    }
    drop(known);
    transaction.commit().on("change", database)?;
    Ok(changed)
}

/// Stores the forms of rollouts in the rows of their conversations, by id. Returns the ids of the changed rows.
pub(crate) fn set_history_modes(
    database: &Path,
    modes: &[(String, String)],
) -> Result<Vec<String>, DatabaseError> {
    let mut connection = open(database)?;
    let transaction = connection.transaction().on("change", database)?;
    let sql = "UPDATE threads SET history_mode=?2 WHERE id=?1 AND history_mode<>?2";
    // A schema without this column is that of a Codex that knows one form.
    let Ok(mut update) = transaction.prepare(sql) else {
        return Ok(Vec::new());
    };
    let mut changed = Vec::new();
    for (id, mode) in modes {
        if update.execute([id, mode]).on("change", database)? > 0 {
            changed.push(id.clone());
        }
    }
    drop(update);
    transaction.commit().on("change", database)?;
    Ok(changed)
}

/// Deletes the projections of conversations whose rollouts were replaced.
pub(crate) fn delete_projections(database: &Path, ids: &[&str]) -> Result<(), DatabaseError> {
    staged::delete_projections_in(open(database)?, database, ids)
}

/// Rewrites the project folders of conversations: replaces the prefix `from` of a path by `to`, at a
/// separator. Returns the number of changed rows.
pub(crate) fn map_project_folders(
    database: &Path,
    from: &str,
    to: &str,
) -> Result<usize, DatabaseError> {
    let from = from.trim_end_matches(['/', '\\']);
    let to = to.trim_end_matches(['/', '\\']);
    let mut connection = open(database)?;
    let transaction = connection.transaction().on("change", database)?;
    // The path may come from Windows: the rest gets the separators of this system.
    let changed = transaction
        .execute(
            "UPDATE threads SET cwd = ?2 || replace(substr(cwd, length(?1) + 1), '\\', '/') \
             WHERE (cwd = ?1 OR substr(cwd, 1, length(?1) + 1) IN (?1 || '/', ?1 || '\\')) \
             AND ?1 <> '' AND ?1 <> ?2",
            params![from, to],
        )
        .on("change", database)?;
    transaction.commit().on("change", database)?;
    Ok(changed)
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
        assert_eq!(map_project_folders(&path, "C:\\w", "/w").unwrap(), 1);
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
                "/home/me/x"
            ]
        );
    }
}
