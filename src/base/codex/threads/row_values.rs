use super::schema::Schema;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The values of a row of the table `threads` by column.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct RowValues(BTreeMap<String, RowValue>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RowValue(#[serde(with = "ValueForm")] Value);

/// The form in which the trash records a value.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Value", rename_all = "lowercase")]
enum ValueForm {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl RowValues {
    pub(crate) fn set(&mut self, column: &str, value: impl Into<Value>) {
        self.0.insert(column.to_owned(), RowValue(value.into()));
    }

    /// Returns a text; `None` if the column is missing or has another type.
    pub(super) fn text(&self, column: &str) -> Option<&str> {
        match &self.0.get(column)?.0 {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn has_column(&self, column: &str) -> bool {
        self.0.contains_key(column)
    }

    #[cfg(test)]
    pub(super) fn remove(&mut self, column: &str) {
        self.0.remove(column);
    }

    /// Adds the row. If the conversation has a row, only completes its name, pin, project and section. Columns that the
    /// table lacks are skipped. Returns the number of added or completed rows.
    pub(super) fn insert_into(
        &self,
        connection: &Connection,
        schema: &Schema,
    ) -> rusqlite::Result<usize> {
        let existing_columns = self.0.iter().filter(|(name, _)| schema.has_column(name));
        let (names, values): (Vec<_>, Vec<_>) = existing_columns
            .map(|(name, RowValue(value))| (format!("\"{name}\""), value))
            .unzip();

        let placeholders = vec!["?"; names.len()].join(",");
        // Codex may have added the row in the meantime. Its row is newer, but lacks the values that only the user sets.
        let on_conflict = complete_on_conflict(&names);
        let sql = format!(
            "INSERT OR IGNORE INTO threads({}) VALUES({placeholders}) {on_conflict}",
            names.join(",")
        );

        connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))
    }
}

/// Returns the `ON CONFLICT` clause that replaces the values of an existing row by the values of the inserted row,
/// except user values that the inserted row lacks. `columns` are quoted.
pub(super) fn replace_on_conflict(columns: &[String]) -> String {
    let assignments = columns.iter().map(|column| {
        let value = choose_user_value(column, "excluded", "threads");
        let value = value.unwrap_or_else(|| format!("excluded.{column}"));
        format!("{column}={value}")
    });
    let assignments = assignments.collect::<Vec<_>>().join(",");
    format!("ON CONFLICT DO UPDATE SET {assignments}")
}

/// Returns the `ON CONFLICT` clause that completes an existing row: if its name, pin, project or section is empty, it
/// gets the value of the inserted row. The names in `columns` are quoted.
pub(super) fn complete_on_conflict(columns: &[String]) -> String {
    let assignments = columns.iter().filter_map(|column| {
        let value = choose_user_value(column, "threads", "excluded")?;
        Some(format!("{column}={value}"))
    });
    let assignments = assignments.collect::<Vec<_>>().join(",");
    if assignments.is_empty() {
        return "ON CONFLICT DO NOTHING".to_owned();
    }
    format!("ON CONFLICT DO UPDATE SET {assignments}")
}

/// Returns the SQL of a value that only the user sets; `None` for other columns. The value of the row `second` counts
/// if the row `first` lacks it: a row that Codex created again from the rollout has no such values.
fn choose_user_value(column: &str, first: &str, second: &str) -> Option<String> {
    match column {
        "\"is_pinned\"" => Some(format!("max({first}.{column}, {second}.{column})")),
        "\"name\"" | "\"project_id\"" => {
            Some(format!("coalesce({first}.{column}, {second}.{column})"))
        }
        "\"thread_section_id\"" | "\"section_position\"" | "\"section_entered_at_ms\"" => Some(
            format!("iif({first}.thread_section_id IS NULL, {second}.{column}, {first}.{column})"),
        ),
        _ => None,
    }
}
