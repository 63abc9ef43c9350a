//! Reads the automations of Codex Desktop, which has a database of its own in the folder `sqlite/` of a home.

use super::database::DatabaseError;
use super::database_view::run_query;
use std::collections::BTreeMap;
use std::path::Path;

/// The columns of the list of automations. None if it is no ordinary table, or does not exist.
const COLUMNS_SQL: &str = "SELECT name FROM pragma_table_info('automations') WHERE EXISTS \
    (SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND rootpage > 0 AND name = 'automations')";

/// Returns the automations in the database at `path`, with their names by their ids; none if it has no list of
/// automations. A name may be empty. Creates no file beside the database.
pub fn read_automations(path: &Path) -> Result<BTreeMap<String, String>, DatabaseError> {
    run_query(path, |connection| {
        let mut statement = connection.prepare(COLUMNS_SQL)?;
        let columns = statement.query_map([], |row| row.get(0))?;
        let columns: Vec<String> = columns.collect::<Result<_, _>>()?;
        let has = |column: &str| columns.iter().any(|name| name == column);
        if !has("id") {
            return Ok(BTreeMap::new());
        }

        let name = if has("name") { "name" } else { "NULL" };
        let sql = format!(
            "SELECT CAST(id AS TEXT), coalesce(CAST({name} AS TEXT), '') FROM main.automations \
             WHERE id IS NOT NULL"
        );
        let mut statement = connection.prepare(&sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    })
}
