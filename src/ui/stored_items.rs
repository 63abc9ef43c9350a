//! The items of a JSON list until the list is printed. A program that reads the list slowly must not hold a lock of the
//! database from which the items come.

use super::Style;
use super::table_lines::{LineStorage, TableLine};
use crate::error::{CommandError, Result};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Default)]
pub(crate) struct StoredItems(LineStorage);

impl StoredItems {
    /// Adds an item, unless it cannot be serialized. Its JSON is indented like the items of a document.
    pub(crate) fn add(&mut self, item: &impl Serialize) {
        let Ok(json) = serde_json::to_string_pretty(item) else {
            return;
        };
        let mut line = TableLine::default();
        line.add_cell(Style::Plain, &json.replace('\n', "\n    "));
        self.0.push(&line);
    }

    /// Calls `visit` with each item, until `visit` returns false.
    ///
    /// # Errors
    /// A temporary file cannot be read.
    pub(super) fn for_each(self, visit: &mut dyn FnMut(&Box<RawValue>) -> bool) -> Result<()> {
        let mut lines = self.0.into_reader().map_err(to_error)?;
        while let Some(line) = lines.next_line().map_err(to_error)? {
            let json = line
                .cell(0)
                .map_or_else(String::new, |(_, json)| json.to_owned());
            let json = RawValue::from_string(json).map_err(to_error)?;
            if !visit(&json) {
                break;
            }
        }
        Ok(())
    }
}

fn to_error(error: impl std::fmt::Display) -> CommandError {
    CommandError::failed(format!("cannot read a temporary file: {error}"))
}
