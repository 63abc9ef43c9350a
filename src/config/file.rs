//! The text of `config.toml` and its values. A change keeps comments and order; invalid values are never written.

use super::key::{ConfigKey, FOLDER_KEYS, KEYS};
use super::setting::{KeyError, Setting, find};
use super::value_kind::{count, globs, number, span};
use super::values::{ConfigValues, Preferences, VaultSettings};
use crate::io::IoError;
use crate::io::retention::RetentionPolicy;
use crate::launch::folders::FolderAccounts;
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

/// The name of the document in the manager home.
pub(crate) const FILE_NAME: &str = "config.toml";

/// The optional key with the version of the file's format.
const SCHEMA_KEY: &str = "schema";

/// The newest version of the format that this program reads.
const SCHEMA: i64 = 1;

/// Errors of reading, validating and changing `config.toml`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file is not valid TOML.
    #[error("not valid TOML: {}", path.display())]
    Syntax {
        /// The path of `config.toml`.
        path: PathBuf,
        /// The parser's message with the line.
        #[source]
        source: toml_edit::TomlError,
    },
    /// A setting has an invalid value.
    #[error("{key} must be {expected}: {}", path.display())]
    Value {
        /// The path of `config.toml`.
        path: PathBuf,
        /// The name of the setting.
        key: String,
        /// A description of the valid values.
        expected: String,
    },
    /// The file was written by a newer version of this program.
    #[error("written by a newer codex-manager (schema {found}, this version reads up to {SCHEMA}): {}", path.display())]
    Newer {
        /// The path of `config.toml`.
        path: PathBuf,
        /// The schema number in the file.
        found: i64,
    },
    /// A value is in the place of a table.
    #[error("{table} is not a table: {}", path.display())]
    NotATable {
        /// The path of `config.toml`.
        path: PathBuf,
        table: String,
    },
}

/// A parsed `config.toml` whose values need not be valid yet.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    path: PathBuf,
    document: DocumentMut,
}

impl ConfigFile {
    /// Returns the path of `config.toml` in a manager home.
    pub(crate) fn path_in(manager_home: &Path) -> PathBuf {
        manager_home.join(FILE_NAME)
    }

    /// Returns the path that the file was read from, and is written to.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Parses `text`; `path` is used in errors only.
    ///
    /// # Errors
    /// The text is not TOML, or has a newer schema.
    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<Self, ConfigFileError> {
        let document: DocumentMut = match text.parse() {
            Ok(document) => document,
            Err(source) => return Err(ConfigFileError::Syntax { path, source }),
        };
        match document.get(SCHEMA_KEY).map(Item::as_integer) {
            None => Ok(Self { path, document }),
            Some(Some(found)) if found <= SCHEMA => Ok(Self { path, document }),
            Some(Some(found)) => Err(ConfigFileError::Newer { path, found }),
            Some(None) => Err(ConfigFileError::Value {
                path,
                key: SCHEMA_KEY.into(),
                expected: "a whole number".into(),
            }),
        }
    }

    /// Returns the value of `setting`, unvalidated; `None` if the file does not set it.
    pub(crate) fn get(&self, setting: &Setting) -> Option<&Value> {
        self.item(setting)?.as_value()
    }

    fn item(&self, setting: &Setting) -> Option<&Item> {
        match setting.table_and_key() {
            (Some(table), key) => self.document.get(table)?.as_table_like()?.get(key),
            (None, key) => self.document.get(key),
        }
    }

    /// Returns the entries of [`FOLDER_KEYS`], in the order of the file. Entries whose key is not an
    /// absolute path are omitted; [`ConfigFile::unknown`] reports them.
    pub(crate) fn folder_settings(&self) -> Vec<Setting> {
        let tables = FOLDER_KEYS.iter().filter_map(|key| {
            let table = self.document.get(key.name)?.as_table_like()?;
            Some((key, table))
        });
        tables
            .flat_map(|(key, table)| {
                let entries = table.iter();
                entries.filter_map(|(folder, _)| find(&format!("{}.{folder}", key.name)).ok())
            })
            .collect()
    }

    /// Returns `setting` with its folder spelled as in the file, if the file contains that folder.
    pub(crate) fn as_spelled(&self, setting: Setting, home_dir: Option<&Path>) -> Setting {
        if self.item(&setting).is_some() {
            return setting;
        }
        let mut entries = self.folder_settings().into_iter();
        let same = entries.find(|entry| entry.is_same(&setting, home_dir));
        same.unwrap_or(setting)
    }

    /// Returns all keys that no setting has.
    pub(crate) fn unknown(&self) -> Vec<KeyError> {
        let mut unknown = Vec::new();
        visit(self.document.as_table(), "", &mut |name| {
            unknown.extend(find(name).err().filter(|_| name != SCHEMA_KEY));
        });
        unknown
    }

    /// Validates the file and returns its values.
    ///
    /// # Errors
    /// A known setting has an invalid value.
    pub(crate) fn values(&self) -> Result<ConfigValues, ConfigFileError> {
        for key in &KEYS {
            if !self.has_valid_value(key) {
                return Err(self.invalid(&key.into()));
            }
        }
        let folders = self.folder_accounts()?;
        let value = |name: &str| find(name).ok().and_then(|setting| self.get(&setting));
        let text = |name: &str| value(name).and_then(Value::as_str);
        let flag = |name: &str| value(name).and_then(Value::as_bool).unwrap_or_default();
        let keep = |name: &str| value(name).and_then(count).unwrap_or_default();
        let default = Preferences::default();
        Ok(ConfigValues {
            timezone: text("timezone").map(Into::into),
            codex_home: text("codex.home").map(Into::into),
            codex_bin: text("codex.bin").map(Into::into),
            preferences: Preferences {
                color: word(text("color")).unwrap_or(default.color),
                before_new_codex: word(text("backup.before_new_codex"))
                    .unwrap_or(default.before_new_codex),
                compression: word(text("backup.compression")).unwrap_or(default.compression),
                exclude: value("backup.exclude").and_then(globs).unwrap_or_default(),
                include_tmp: flag("backup.include_tmp"),
                include_worktrees: flag("backup.include_worktrees"),
                verify_reused: word(text("backup.verify_reused")).unwrap_or(default.verify_reused),
                session_duration_hours: value("normalize.session_duration_hours")
                    .and_then(number)
                    .unwrap_or(default.session_duration_hours),
                strategy: word(text("recommend.strategy")).unwrap_or(default.strategy),
                include_api_key: flag("recommend.include_api_key"),
                keep: RetentionPolicy {
                    last: keep("prune.keep_last"),
                    within: text("prune.keep_within").and_then(span),
                    daily: keep("prune.keep_daily"),
                    weekly: keep("prune.keep_weekly"),
                    monthly: keep("prune.keep_monthly"),
                    ..RetentionPolicy::default()
                },
                keep_trash: text("storage.keep_trash")
                    .and_then(span)
                    .unwrap_or(default.keep_trash),
                prices: text("usage.prices").map(Into::into),
                folders,
                vault: VaultSettings {
                    repository: text("vault.repository").map(Into::into),
                    program: text("vault.program").map(Into::into),
                    password_file: text("vault.password_file").map(Into::into),
                    password_command: text("vault.password_command").map(Into::into),
                },
            },
        })
    }

    /// Validates and returns the tables of [`FOLDER_KEYS`].
    fn folder_accounts(&self) -> Result<FolderAccounts, ConfigFileError> {
        for key in &FOLDER_KEYS {
            let item = self.document.get(key.name);
            if item.is_some_and(|item| item.as_table_like().is_none()) {
                return Err(self.not_a_table(key.name));
            }
        }
        let mut accounts = FolderAccounts::default();
        for setting in self.folder_settings() {
            let value = self.get(&setting);
            let value = value.filter(|value| setting.key.kind.accepts(value));
            let value = value.ok_or_else(|| self.invalid(&setting))?;
            let folder = setting.folder.unwrap_or_default();
            match (value.as_str(), value.as_bool()) {
                (Some(profile), _) => {
                    accounts.folders.insert(folder, profile.to_owned());
                }
                (_, Some(is_allowed)) => {
                    let table = match setting.key.name {
                        "trusted" => &mut accounts.trusted,
                        _ => &mut accounts.shared_logins,
                    };
                    table.insert(folder, is_allowed);
                }
                _ => {}
            }
        }
        Ok(accounts)
    }

    fn has_valid_value(&self, key: &'static ConfigKey) -> bool {
        match (self.get(&key.into()), self.has_other_item(key)) {
            (Some(value), _) => key.kind.accepts(value),
            (None, has_other_item) => !has_other_item,
        }
    }

    /// Returns true if the file has something other than a value at `key`, or something other than a
    /// table where the key's table should be.
    fn has_other_item(&self, key: &ConfigKey) -> bool {
        let (table, last) = match key.name.split_once('.') {
            None => return self.document.contains_key(key.name),
            Some((table, last)) => (self.document.get(table), last),
        };
        table.is_some_and(|item| match item.as_table_like() {
            Some(table) => table.contains_key(last),
            None => true,
        })
    }

    fn invalid(&self, setting: &Setting) -> ConfigFileError {
        ConfigFileError::Value {
            path: self.path.clone(),
            key: setting.name(),
            expected: setting.key.kind.expected(),
        }
    }

    fn not_a_table(&self, table: &str) -> ConfigFileError {
        ConfigFileError::NotATable {
            path: self.path.clone(),
            table: table.to_owned(),
        }
    }

    /// Sets `setting`. Comments and whitespace around a previous value stay.
    ///
    /// # Errors
    /// Something other than a table is where the key's table should be.
    pub(crate) fn set(&mut self, setting: &Setting, value: Value) -> Result<(), ConfigFileError> {
        let (table, last) = match setting.table_and_key() {
            (None, last) => (self.document.as_table_mut() as &mut dyn TableLike, last),
            (Some(table), last) => {
                let not_a_table = self.not_a_table(table);
                let item = self
                    .document
                    .entry(table)
                    .or_insert_with(|| Item::Table(Table::new()));
                (item.as_table_like_mut().ok_or(not_a_table)?, last)
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

    /// Removes `setting`, and its table if that is then empty and has no comment. Returns true if the
    /// setting was set.
    pub(crate) fn unset(&mut self, setting: &Setting) -> bool {
        let (Some(table), last) = setting.table_and_key() else {
            return self.document.remove(setting.key.name).is_some();
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

    /// Returns the text of the file with all changes.
    pub(crate) fn text(&self) -> String {
        self.document.to_string()
    }
}

fn word<T: ValueEnum>(text: Option<&str>) -> Option<T> {
    T::from_str(text?, false).ok()
}

/// Calls `seen` with the dotted name of each value below `table`.
fn visit(table: &dyn TableLike, prefix: &str, seen: &mut dyn FnMut(&str)) {
    for (name, item) in table.iter() {
        let name = format!("{prefix}{name}");
        match item.as_table_like() {
            Some(inner) => visit(inner, &format!("{name}."), seen),
            None => seen(&name),
        }
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
        let setting = find(name).unwrap();
        let value = setting.key.kind.parse(text).unwrap();
        file.set(&setting, value).unwrap();
    }

    #[test]
    fn a_change_keeps_comments_and_order() {
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

    #[cfg(unix)]
    #[test]
    fn set_and_unset_restores_the_text() {
        let mut file = parsed(TEXT);
        for (name, text) in [
            ("prune.keep_daily", "3"),
            ("color", "never"),
            ("folders./srv/a.b", "client-a"),
        ] {
            set(&mut file, name, text);
            assert!(file.unset(&find(name).unwrap()));
            assert!(!file.unset(&find(name).unwrap()));
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
            let bin = parsed(text).values().unwrap().codex_bin;
            assert_eq!(bin, Some("/opt/codex".into()), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_invalid_value_is_refused_with_its_name() {
        for text in [
            "color = 'blue'",
            "codex = 1",
            "[timezone]",
            "[prune]\nkeep_last = '3'",
            "[[backup]]\nexclude = []",
            "backup.exclude = 'x'",
            "folders = 'work'",
            "[[trusted]]",
            "folders.'/srv' = 1",
            "folders.'/srv' = '../x'",
            "folders.'/srv'.sub = 'work'",
            "trusted.'/srv' = 'yes'",
        ] {
            assert!(parsed(text).values().is_err(), "{text}");
        }
        assert!(parsed("unknown = 1\n[deep.er]\nx = 1").values().is_ok());
    }

    #[test]
    fn unknown_keys_are_reported_with_suggestions() {
        let unknown = |name: &str, nearest| KeyError::Unknown {
            name: name.into(),
            nearest,
        };
        assert_eq!(
            parsed("timezon = 'UTC'\n[codex]\nbim = 'x'\n[deep.er]\nx = 1").unknown(),
            [
                unknown("timezon", Some("timezone")),
                unknown("codex.bim", Some("codex.bin")),
                unknown("deep.er.x", None)
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn folders_are_keys_of_their_tables_and_comments_stay() {
        let mut file = parsed(
            "\
[folders]
# the client
\"~/code/a.b\" = 'client-a' # billed

[trusted]
\"~/code\" = true
",
        );
        assert_eq!(file.unknown(), []);
        set(&mut file, "folders.~/code/a.b", "client-b");
        set(&mut file, "folders./srv/with space", "work");
        set(&mut file, "trusted.~/code/vendor", "false");
        assert_eq!(
            file.text(),
            "\
[folders]
# the client
\"~/code/a.b\" = \"client-b\" # billed
\"/srv/with space\" = \"work\"

[trusted]
\"~/code\" = true
\"~/code/vendor\" = false
"
        );
        let accounts = file.values().unwrap().preferences.folders;
        let text = |(folder, profile): (&str, &str)| (folder.to_owned(), profile.to_owned());
        assert_eq!(
            accounts.folders.into_iter().collect::<Vec<_>>(),
            [("/srv/with space", "work"), ("~/code/a.b", "client-b")].map(text)
        );
        assert_eq!(
            accounts.trusted.into_iter().collect::<Vec<_>>(),
            [("~/code".into(), true), ("~/code/vendor".into(), false)]
        );
    }

    #[test]
    fn a_relative_folder_is_an_unknown_key() {
        let file = parsed("folders.work = 'client-a'\ntrusted.'~/code' = true");
        let name = "folders.work".into();
        assert_eq!(file.unknown(), [KeyError::NoFolder { name }]);
        let accounts = file.values().unwrap().preferences.folders;
        assert!(accounts.folders.is_empty() && !accounts.trusted.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_keeps_the_spelling_of_the_file() {
        let file = parsed("folders.'~/code/' = 'client-a'");
        let home = Some(Path::new("/home/me"));
        let spelled = |name: &str| file.as_spelled(find(name).unwrap(), home).name();
        assert_eq!(spelled("folders./home/me/code"), "folders.~/code/");
        assert_eq!(spelled("folders./home/me"), "folders./home/me");
        assert_eq!(spelled("trusted.~/code"), "trusted.~/code");
    }
}
