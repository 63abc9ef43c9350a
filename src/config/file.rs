//! Reading and changing `config.toml`: comments and order stay, and nothing invalid is written.

use super::{
    Configured, FILE_NAME, KEYS, Key, Preferences, UnknownKey, count, find, globs, number, span,
};
use crate::inventory::retention::KeepRules;
use crate::io::lock::FileLock;
use crate::io::regular;
use crate::io::{IoContext, IoError, atomic};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

/// The lock of the manager home's documents.
const LOCK_NAME: &str = crate::inventory::cooldown::LOCK_NAME;

/// The key that says for which version the file was written. It may be left out.
const SCHEMA_KEY: &str = "schema";

/// The newest one that this program knows.
const SCHEMA: i64 = 1;

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// It is no TOML.
    #[error("not valid TOML: {}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        #[source]
        source: toml_edit::TomlError,
    },
    /// A setting holds what it may not.
    #[error("{key} must be {expected}: {}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: &'static str,
        /// What it may hold.
        expected: String,
    },
    /// Written for a newer version of this program.
    #[error("written for a newer codex-manager (schema {found}, this one knows {SCHEMA}): {}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema number it carries.
        found: i64,
    },
    /// A key stands where a table has to.
    #[error("{table} is no table: {}", path.display())]
    NotATable {
        /// The file.
        path: PathBuf,
        /// The key.
        table: String,
    },
}

/// The file as it was read.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    path: PathBuf,
    document: DocumentMut,
}

impl ConfigFile {
    /// The path in a manager home.
    pub fn path_in(manager_home: &Path) -> PathBuf {
        manager_home.join(FILE_NAME)
    }

    /// Reads the file of a manager home; one that does not exist is empty.
    ///
    /// # Errors
    /// It cannot be read, is no TOML, or of a newer version. What else it holds is not looked at.
    pub fn read(manager_home: &Path) -> Result<Self, ConfigError> {
        let path = Self::path_in(manager_home);
        let text = read_text(&path)?;
        Self::parse(path, &text)
    }

    /// The same for a text; `path` is for errors.
    ///
    /// # Errors
    /// It is no TOML, or of a newer version.
    pub fn parse(path: PathBuf, text: &str) -> Result<Self, ConfigError> {
        let document: DocumentMut = match text.parse() {
            Ok(document) => document,
            Err(source) => return Err(ConfigError::Syntax { path, source }),
        };
        match document.get(SCHEMA_KEY).map(Item::as_integer) {
            None => Ok(Self { path, document }),
            Some(Some(found)) if found <= SCHEMA => Ok(Self { path, document }),
            Some(Some(found)) => Err(ConfigError::Newer { path, found }),
            Some(None) => Err(ConfigError::Value {
                path,
                key: SCHEMA_KEY,
                expected: "a whole number".into(),
            }),
        }
    }

    /// What `key` is set to.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        let mut table: &dyn TableLike = self.document.as_table();
        let mut parts = key.name.split('.').peekable();
        while let Some(part) = parts.next() {
            let item = table.get(part)?;
            if parts.peek().is_none() {
                return item.as_value();
            }
            table = item.as_table_like()?;
        }
        None
    }

    /// Keys that no setting has.
    pub fn unknown(&self) -> Vec<UnknownKey> {
        let mut unknown = Vec::new();
        visit(self.document.as_table(), "", &mut |name| {
            unknown.extend(find(name).err().filter(|_| name != SCHEMA_KEY));
        });
        unknown
    }

    /// What the file decides.
    ///
    /// # Errors
    /// A known setting holds what it may not.
    pub fn decide(&self) -> Result<Configured, ConfigError> {
        for key in &KEYS {
            if !self.holds_valid(key) {
                return Err(self.invalid(key));
            }
        }
        let value = |name: &str| find(name).ok().and_then(|key| self.get(key));
        let text = |name: &str| value(name).and_then(Value::as_str);
        let flag = |name: &str| value(name).and_then(Value::as_bool).unwrap_or_default();
        let keep = |name: &str| value(name).and_then(count).unwrap_or_default();
        let default = Preferences::default();
        Ok(Configured {
            timezone: text("timezone").map(Into::into),
            codex_home: text("codex.home").map(Into::into),
            codex_bin: text("codex.bin").map(Into::into),
            preferences: Preferences {
                color: word(text("color")).unwrap_or(default.color),
                compression: word(text("backup.compression")).unwrap_or(default.compression),
                exclude: value("backup.exclude").and_then(globs).unwrap_or_default(),
                include_tmp: flag("backup.include_tmp"),
                verify_reused: word(text("backup.verify_reused")).unwrap_or(default.verify_reused),
                session_duration_hours: value("normalize.session_duration_hours")
                    .and_then(number)
                    .unwrap_or(default.session_duration_hours),
                strategy: word(text("recommend.strategy")).unwrap_or(default.strategy),
                include_api_key: flag("recommend.include_api_key"),
                keep: KeepRules {
                    last: keep("prune.keep_last"),
                    within: text("prune.keep_within").and_then(span),
                    daily: keep("prune.keep_daily"),
                    weekly: keep("prune.keep_weekly"),
                    monthly: keep("prune.keep_monthly"),
                },
            },
        })
    }

    fn holds_valid(&self, key: &Key) -> bool {
        match (self.get(key), self.stands(key)) {
            (Some(value), _) => key.kind.takes(value),
            (None, stands) => !stands,
        }
    }

    /// Whether something stands at `key`, or where its table should, that is no value.
    fn stands(&self, key: &Key) -> bool {
        let (table, last) = match key.name.split_once('.') {
            None => return self.document.contains_key(key.name),
            Some((table, last)) => (self.document.get(table), last),
        };
        table.is_some_and(|item| match item.as_table_like() {
            Some(table) => table.contains_key(last),
            None => true,
        })
    }

    fn invalid(&self, key: &Key) -> ConfigError {
        ConfigError::Value {
            path: self.path.clone(),
            key: key.name,
            expected: key.kind.expected(),
        }
    }

    /// Sets `key`; what stood around an older value stays.
    ///
    /// # Errors
    /// Something that is no table stands where the key's table should.
    pub fn set(&mut self, key: &Key, value: Value) -> Result<(), ConfigError> {
        let (table, last) = match key.name.split_once('.') {
            None => (self.document.as_table_mut() as &mut dyn TableLike, key.name),
            Some((table, last)) => {
                let item = self
                    .document
                    .entry(table)
                    .or_insert_with(|| Item::Table(Table::new()));
                let table = item.as_table_like_mut().ok_or(ConfigError::NotATable {
                    path: self.path.clone(),
                    table: table.to_owned(),
                })?;
                (table, last)
            }
        };
        match table.get_mut(last).and_then(Item::as_value_mut) {
            Some(old) => {
                let decor = old.decor().clone();
                *old = value;
                *old.decor_mut() = decor;
            }
            None => {
                table.insert(last, Item::Value(value));
            }
        }
        Ok(())
    }

    /// Removes `key`, and its table when nothing is left in it; whether it was set.
    pub fn unset(&mut self, key: &Key) -> bool {
        let Some((table, last)) = key.name.split_once('.') else {
            return self.document.remove(key.name).is_some();
        };
        let Some(inner) = self
            .document
            .get_mut(table)
            .and_then(Item::as_table_like_mut)
        else {
            return false;
        };
        let was_set = inner.remove(last).is_some();
        if was_set && inner.is_empty() {
            let comments = self.document.get(table).and_then(Item::as_table);
            let has_comment = comments
                .and_then(|t| t.decor().prefix()?.as_str())
                .is_some_and(|text| text.contains('#'));
            if !has_comment {
                self.document.remove(table);
            }
        }
        was_set
    }

    /// The text as it is written.
    pub fn text(&self) -> String {
        self.document.to_string()
    }
}

fn word<T: ValueEnum>(text: Option<&str>) -> Option<T> {
    T::from_str(text?, false).ok()
}

/// The dotted name of each value below `table`.
fn visit(table: &dyn TableLike, prefix: &str, seen: &mut dyn FnMut(&str)) {
    for (name, item) in table.iter() {
        let name = format!("{prefix}{name}");
        match item.as_table_like() {
            Some(inner) => visit(inner, &format!("{name}."), seen),
            None => seen(&name),
        }
    }
}

/// Reads, changes and writes the file of a manager home under its lock. A link called
/// `config.toml` is written through to the file that it names: many keep their settings elsewhere.
///
/// # Errors
/// Those of [`ConfigFile::read`], those of `change`, and what the file system refuses. The file is
/// as it was then.
pub fn update<R, E: From<ConfigError>>(
    manager_home: &Path,
    change: impl FnOnce(&mut ConfigFile) -> Result<R, E>,
) -> Result<R, E> {
    let io = |e: IoError| E::from(ConfigError::Io(e));
    atomic::create_private_folder(manager_home).map_err(io)?;
    let _held =
        FileLock::exclusive_unless_interrupted(&manager_home.join(LOCK_NAME)).map_err(io)?;
    let mut file = ConfigFile::read(manager_home)?;
    let before = file.text();
    let result = change(&mut file)?;
    if file.text() != before {
        write(&file).map_err(io)?;
    }
    Ok(result)
}

/// Puts `after` in the place of the file, if that still holds the text `before`; whether it did.
///
/// # Errors
/// The file system refuses. The file is as it was then.
pub fn replace(manager_home: &Path, before: &str, after: &ConfigFile) -> Result<bool, IoError> {
    atomic::create_private_folder(manager_home)?;
    let _held = FileLock::exclusive_unless_interrupted(&manager_home.join(LOCK_NAME))?;
    if read_text(&after.path)? != before {
        return Ok(false);
    }
    write(after)?;
    Ok(true)
}

/// The text of the file; empty where there is none.
///
/// # Errors
/// It cannot be read.
pub fn read_text(path: &Path) -> Result<String, IoError> {
    match regular::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.at("read", path),
    }
}

/// Where the file is written: through a link, as many keep their settings elsewhere.
///
/// # Errors
/// It is a link to nowhere: what it is to lead to may only be away for now.
pub fn target(path: &Path) -> Result<PathBuf, IoError> {
    if path.is_symlink() {
        return path.canonicalize().at("follow the link", path);
    }
    Ok(path.to_path_buf())
}

fn write(file: &ConfigFile) -> Result<(), IoError> {
    let (target, text) = (target(&file.path)?, file.text());
    if file.path.is_symlink() {
        atomic::write_as_it_was(&target, text.as_bytes())
    } else {
        atomic::write(&target, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# mine
timezone = 'UTC'   # home

[backup] # what is taken
compression = \"fast\" # for the laptop

[codex]
bin = \"/opt/codex\"
";

    fn parsed(text: &str) -> ConfigFile {
        ConfigFile::parse("config.toml".into(), text).unwrap()
    }

    fn set(file: &mut ConfigFile, name: &str, text: &str) {
        let key = find(name).unwrap();
        file.set(key, key.kind.parse(text).unwrap()).unwrap();
    }

    #[test]
    fn comments_and_order_outlive_a_change() {
        let mut file = parsed(TEXT);
        set(&mut file, "timezone", "Asia/Kolkata");
        set(&mut file, "backup.compression", "best");
        set(&mut file, "prune.keep_last", "7");
        set(&mut file, "color", "never");
        assert_eq!(
            file.text(),
            "\
# mine
timezone = \"Asia/Kolkata\"   # home
color = \"never\"

[backup] # what is taken
compression = \"best\" # for the laptop

[codex]
bin = \"/opt/codex\"

[prune]
keep_last = 7
"
        );
    }

    #[test]
    fn what_is_set_and_unset_leaves_no_trace() {
        let mut file = parsed(TEXT);
        for (name, text) in [("prune.keep_daily", "3"), ("color", "never")] {
            set(&mut file, name, text);
            assert!(file.unset(find(name).unwrap()));
            assert!(!file.unset(find(name).unwrap()));
        }
        assert_eq!(file.text(), TEXT);
    }

    #[test]
    fn every_kind_of_table_is_read() {
        for text in [
            "codex.bin = '/opt/codex'",
            "codex = { bin = '/opt/codex' }",
            "[codex]\nbin = '/opt/codex'",
        ] {
            let bin = parsed(text).decide().unwrap().codex_bin;
            assert_eq!(bin, Some("/opt/codex".into()), "{text}");
        }
    }

    #[test]
    fn a_value_that_means_nothing_is_refused_by_name() {
        for text in [
            "color = 'blue'",
            "codex = 1",
            "[timezone]",
            "[prune]\nkeep_last = '3'",
            "[[backup]]\nexclude = []",
            "backup.exclude = 'x'",
        ] {
            assert!(parsed(text).decide().is_err(), "{text}");
        }
        assert!(parsed("unknown = 1\n[deep.er]\nx = 1").decide().is_ok());
    }

    #[test]
    fn keys_that_nobody_knows_are_named() {
        let names: Vec<_> = parsed("timezon = 'UTC'\n[codex]\nbim = 'x'\n[deep.er]\nx = 1")
            .unknown()
            .into_iter()
            .map(|u| (u.name, u.nearest))
            .collect();
        assert_eq!(
            names,
            [
                ("timezon".into(), Some("timezone")),
                ("codex.bim".into(), Some("codex.bin")),
                ("deep.er.x".into(), None)
            ]
        );
    }
}
