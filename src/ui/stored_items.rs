//! The items of a long list until the list is printed. A program that reads the list slowly must not hold a lock of the
//! database from which the items come.

use super::Style;
use super::table_lines::{LineStorage, TableLine};
use crate::error::{CommandError, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

    pub(crate) fn count(&self) -> usize {
        self.0.count
    }

    /// Returns the items in the order in which they were added.
    ///
    /// # Errors
    /// A temporary file cannot be read. The iterator returns the same error.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<impl Iterator<Item = Result<T>>> {
        let mut lines = self.0.into_reader().map_err(to_error)?;
        Ok(std::iter::from_fn(move || {
            let line = lines.next_line().map_err(to_error).transpose()?;
            Some(line.and_then(|line| {
                let json = line.cell(0).map_or("", |(_, json)| json);
                serde_json::from_str(json).map_err(to_error)
            }))
        }))
    }

    /// Calls `visit` with the JSON of each item, until `visit` returns false.
    ///
    /// # Errors
    /// A temporary file cannot be read.
    pub(crate) fn for_each(self, visit: &mut dyn FnMut(&Box<RawValue>) -> bool) -> Result<()> {
        for json in self.read()? {
            if !visit(&json?) {
                break;
            }
        }
        Ok(())
    }
}

impl<T: Serialize> FromIterator<T> for StoredItems {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut stored = Self::default();
        items.into_iter().for_each(|item| stored.add(&item));
        stored
    }
}

fn to_error(error: impl std::fmt::Display) -> CommandError {
    CommandError::failed(format!("cannot read a temporary file: {error}"))
}
