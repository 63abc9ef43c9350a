//! Codex's projections of rollouts: the tables from which it shows the turns of paginated conversations in Codex 0.169.
//!
//! A projection has the id of a *rollout*. When a conversation is resumed, Codex projects only its last rollout. It
//! shows the turns of earlier rollouts from the projections of these rollouts.

use super::database::{self, DatabaseError};
use super::{database_view, home, threads};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The position in a rollout at which its continuation branches off (`history_base`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutCut {
    /// The id of the rollout, in lower case.
    pub rollout_id: String,
    /// The byte offset in the plain text of the rollout.
    pub offset: u64,
    /// The `ordinal` of the first line after the cut.
    pub ordinal: i64,
}

/// The offsets up to which Codex has projected the rollouts of a home.
#[derive(Debug, Default)]
pub struct Projections {
    /// The database; `None` if the home has none.
    pub database: Option<PathBuf>,
    offsets: HashMap<String, u64>,
}

impl Projections {
    /// Reads the projections beside a state database. Creates and changes no file. A database that cannot be read
    /// counts as one without projections, because Codex creates it again.
    pub fn read_beside(state: &Path) -> Self {
        Self::read_folder(state.parent().unwrap_or(Path::new(".")))
    }

    /// Like [`Projections::read_beside`], for the folder of the databases.
    pub fn read_folder(folder: &Path) -> Self {
        let database = threads::list_databases(folder, home::HISTORY_DATABASE_PREFIX).pop();
        database.map(Self::read_database).unwrap_or_default()
    }

    /// Like [`Projections::read_beside`], for the database itself.
    pub(crate) fn read_database(database: PathBuf) -> Self {
        Self {
            offsets: read_offsets(&database).unwrap_or_default(),
            database: Some(database),
        }
    }

    /// Returns the offset up to which Codex has projected a rollout; `None` if it has projected nothing of it.
    pub fn projected_offset(&self, rollout_id: &str) -> Option<u64> {
        self.offsets.get(&rollout_id.to_lowercase()).copied()
    }

    /// Returns true if Codex has projected a rollout up to the cut.
    pub(crate) fn reach(&self, cut: &RolloutCut) -> bool {
        let offset = self.projected_offset(&cut.rollout_id);
        offset.is_some_and(|offset| offset >= cut.offset)
    }

    /// Returns the number of turns in the projection of a rollout; zero if the database cannot be read. `rollout_id` is
    /// in lower case.
    pub(crate) fn count_turns(&self, rollout_id: &str) -> usize {
        let count = self.database.as_deref().and_then(|database| {
            let query = |connection: &Connection| {
                let sql = "SELECT count(*) FROM thread_turns WHERE lower(thread_id)=?1";
                connection.query_row(sql, [rollout_id], |row| row.get::<_, i64>(0))
            };
            database_view::run_query(database, query).ok()
        });
        count.map_or(0, |count| usize::try_from(count).unwrap_or(0))
    }
}

/// Returns the offsets by the ids of the rollouts, in lower case: `thread_id` is the id of a rollout. A negative offset
/// counts as 0.
fn read_offsets(path: &Path) -> Result<HashMap<String, u64>, DatabaseError> {
    database_view::run_query(path, |connection| {
        let sql = "SELECT lower(thread_id), next_rollout_byte_offset FROM thread_history_projection_state";
        let mut select = connection.prepare(sql)?;
        let rows = select.query_map([], |row| {
            let offset = u64::try_from(row.get::<_, i64>(1)?);
            Ok((row.get(0)?, offset.unwrap_or(0)))
        })?;
        rows.collect()
    })
}

/// Cuts the projections in a private database at `cuts`: sets their ends back, and deletes their rows after the cut.
/// Codex has made them from copies of the rollouts, and may have appended lines to these copies.
pub(crate) fn cut_projections(database: &Path, cuts: &[RolloutCut]) -> Result<(), DatabaseError> {
    let connection = database::open_private(database)?;
    database::run_in_transaction(connection, database, |transaction| {
        for cut in cuts {
            let offset = i64::try_from(cut.offset).unwrap_or(i64::MAX);
            // The offset is never raised, because Codex would no longer read the lines up to the new offset.
            let update = "UPDATE thread_history_projection_state SET next_rollout_byte_offset=?2, \
                       next_rollout_ordinal=?3 WHERE thread_id=?1 AND next_rollout_byte_offset>?2";
            transaction.execute(update, params![cut.rollout_id, offset, cut.ordinal])?;
            // Rows after the cut show turns that the rollout does not have.
            for table in ["thread_turns", "thread_items", "thread_realtime_items"] {
                let delete =
                    format!("DELETE FROM {table} WHERE thread_id=?1 AND rollout_ordinal>=?2");
                transaction.execute(&delete, params![cut.rollout_id, cut.ordinal])?;
            }
        }

        Ok(())
    })
}
