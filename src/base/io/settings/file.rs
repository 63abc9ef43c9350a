//! The text of a settings file. A change keeps its comments and the order of its keys.

use super::key::ValueKind;
use crate::io::io_error::IoError;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, TableLike, TomlError, Value};

/// The optional key with the version of the file's format.
pub const SCHEMA_KEY: &str = "schema";

/// The newest version of the format that this program reads.
const SCHEMA: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Io(#[from] IoError),
    /// `problem` is a result of [`describe_toml_error`].
    #[error("not valid TOML in {problem}: {}", path.display())]
    Syntax { path: PathBuf, problem: String },
    #[error("{key} {problem}: {}", path.display())]
    Value {
        path: PathBuf,
        key: String,
        /// A clause that follows the key: "must be true or false".
        problem: String,
    },
    #[error("written by a newer codex-manager (schema {found}, this version reads up to {SCHEMA}): {}", path.display())]
    Newer {
        path: PathBuf,
        /// The schema number in the file.
        found: i64,
    },
    /// A value is in the place of a table.
    #[error("{table} is not a table: {}", path.display())]
    NotATable { path: PathBuf, table: String },
}

/// A parsed settings file, whose values may be invalid. The name of a setting has a dot after its table; further dots
/// belong to the key.
#[derive(Debug, Clone, Default)]
pub struct SettingsFile {
    path: PathBuf,
    document: DocumentMut,
}

impl SettingsFile {
    /// Parses `text`; `path` is used in errors only.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn parse(path: PathBuf, text: &str) -> Result<Self, SettingsError> {
        // Most users have no `config.toml`, so most starts of the program need no parser.
        if text.is_empty() {
            let document = DocumentMut::new();
            return Ok(Self { path, document });
        }
        match text.parse::<DocumentMut>() {
            Ok(document) => Ok(Self { path, document }),
            Err(error) => Err(SettingsError::Syntax {
                path,
                problem: describe_toml_error(text, &error),
            }),
        }
    }

    /// Checks the schema, which only files of codex-manager have.
    ///
    /// # Errors
    /// The schema is newer than this program, or not a whole number.
    pub fn check_schema(self) -> Result<Self, SettingsError> {
        match self.document.get(SCHEMA_KEY).map(Item::as_integer) {
            Some(None) => Err(self.value_error(SCHEMA_KEY, "must be a whole number")),
            Some(Some(schema)) if schema > SCHEMA => Err(SettingsError::Newer {
                path: self.path,
                found: schema,
            }),
            _ => Ok(self),
        }
    }

    /// Returns the path that the file was read from, and is written to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the value of a setting, unvalidated; `None` if the file does not set it or has a table in its place.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.find_item(name).ok()??.as_value()
    }

    /// Returns the value of a setting, unvalidated; tables count as values.
    pub(super) fn get_with_tables(&self, name: &str) -> Option<Value> {
        self.find_item(name).ok()??.clone().into_value().ok()
    }

    fn find_item(&self, name: &str) -> Result<Option<&Item>, SettingsError> {
        match name.split_once('.') {
            Some((table, key)) => Ok(self.table(table)?.and_then(|table| table.get(key))),
            None => Ok(self.document.get(name)),
        }
    }

    /// Returns a table of the file; `None` if the file lacks it.
    ///
    /// # Errors
    /// A value, not a table, has this name.
    pub fn table(&self, name: &str) -> Result<Option<&dyn TableLike>, SettingsError> {
        let Some(item) = self.document.get(name) else {
            return Ok(None);
        };
        let table = item.as_table_like();
        table.map(Some).ok_or_else(|| self.not_a_table_error(name))
    }

    /// Validates the value of a setting, if the file contains it.
    ///
    /// # Errors
    /// The value is invalid, or a value is in the place of the setting's table.
    pub fn check(&self, name: &str, kind: ValueKind) -> Result<(), SettingsError> {
        let Some(item) = self.find_item(name)? else {
            return Ok(());
        };
        match item.clone().into_value() {
            Ok(value) if kind.accepts(&value) => Ok(()),
            _ => Err(self.value_error(name, &format!("must be {}", kind.describe()))),
        }
    }

    /// Returns the error of an invalid value; `problem` is a clause that follows the key.
    pub fn value_error(&self, name: &str, problem: &str) -> SettingsError {
        SettingsError::Value {
            path: self.path.clone(),
            key: name.to_owned(),
            problem: problem.to_owned(),
        }
    }

    fn not_a_table_error(&self, table: &str) -> SettingsError {
        SettingsError::NotATable {
            path: self.path.clone(),
            table: table.to_owned(),
        }
    }

    /// Returns the dotted names of all values, in the order of the file.
    pub fn value_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        collect_names(self.document.as_table(), "", &mut names);
        names
    }

    /// Sets a setting. Comments and whitespace around a previous value stay.
    ///
    /// # Errors
    /// A value is in the place of the setting's table.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), SettingsError> {
        let (table, key) = match name.split_once('.') {
            None => (self.document.as_table_mut() as &mut dyn TableLike, name),
            Some((table, key)) => {
                let not_a_table_error = self.not_a_table_error(table);
                let item = self
                    .document
                    .entry(table)
                    .or_insert_with(|| Item::Table(Table::new()));
                (item.as_table_like_mut().ok_or(not_a_table_error)?, key)
            }
        };

        match table.get_mut(key).and_then(Item::as_value_mut) {
            Some(old_value) => {
                // The decor is the comments and the whitespace around the value.
                let decor = old_value.decor().clone();
                *old_value = value;
                *old_value.decor_mut() = decor;
            }
            None => {
                table.insert(key, Item::Value(value));
            }
        }

        Ok(())
    }

    /// Removes a setting. Returns true if the file contained it.
    pub fn unset(&mut self, name: &str) -> bool {
        let removed = match name.split_once('.') {
            None => self.document.remove(name),
            Some((table, key)) => {
                let item = self.document.get_mut(table);
                let table = item.and_then(Item::as_table_like_mut);
                table.and_then(|table| table.remove(key))
            }
        };
        removed.is_some()
    }

    /// Returns the text of the file with all changes.
    pub fn text(&self) -> String {
        self.document.to_string()
    }
}

/// Returns `line N: …`, without the text of the line, which may be a password.
pub(crate) fn describe_toml_error(text: &str, error: &TomlError) -> String {
    let line = line_number(text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim().replace('\n', ", ");
    // `invalid type: string "…", expected f64` repeats the value.
    match (message.split_once(": "), message.rsplit_once(", expected ")) {
        (Some((problem @ ("invalid type" | "invalid value"), _)), Some((_, expected))) => {
            format!("line {line}: {problem}, expected {expected}")
        }
        _ => format!("line {line}: {message}"),
    }
}

/// Returns the number of the line, from 1, that contains the byte at `offset`. For an offset at the end of the text,
/// returns the number of the last line that is not empty.
fn line_number(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    let is_at_end = offset >= text.len();
    let before = if is_at_end { before.trim_end() } else { before };
    before.matches('\n').count() + 1
}

/// Adds the dotted name of each value below `table`.
fn collect_names(table: &dyn TableLike, prefix: &str, names: &mut Vec<String>) {
    for (name, item) in table.iter() {
        let name = format!("{prefix}{name}");
        match item.as_table_like() {
            Some(inner_table) => collect_names(inner_table, &format!("{name}."), names),
            None => names.push(name),
        }
    }
}
