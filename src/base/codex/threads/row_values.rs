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

    /// Adds the row, unless the conversation has one. Columns that the table lacks are skipped. Returns
    /// the number of added rows.
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
        let sql = format!(
            // Codex may have added the row in the meantime. Its row is newer.
            "INSERT OR IGNORE INTO threads({}) VALUES({placeholders})",
            names.join(",")
        );

        connection
            .prepare_cached(&sql)?
            .execute(params_from_iter(values))
    }
}
