//! The settings of `config.toml` as written in the file. Invalid values are never written.

use super::key::{FOLDER_KEYS, KEYS, parse_span_value};
use super::setting::{KeyError, Setting, find_setting};
use super::values::{ConfigValues, NotifySettings, Preferences, VaultSettings};
use chrono::TimeDelta;
use codex_manager_core::io::retention::RetentionPolicy;
use codex_manager_core::io::settings::{SCHEMA_KEY, SettingValues, SettingsError, SettingsFile};
use codex_manager_core::launch::folders::FolderSettings;
use codex_manager_core::vault::password::NamedPassword;
use std::path::{Path, PathBuf};
use toml_edit::Value;

/// The name of the document in the manager home.
pub(crate) const FILE_NAME: &str = "config.toml";

/// A parsed `config.toml`. Its values may be invalid. Empty by default.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFile(SettingsFile);

impl ConfigFile {
    /// Returns the path of `config.toml` in a manager home.
    pub(crate) fn path_in(manager_home: &Path) -> PathBuf {
        manager_home.join(FILE_NAME)
    }

    /// Returns the path that the file was read from, and is written to.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Parses `text`; `path` is the file that errors name, and to which changes are written. Reads nothing.
    ///
    /// # Errors
    /// The text is not TOML, or has a newer schema.
    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<Self, SettingsError> {
        let file = SettingsFile::parse(path, text)?;
        file.check_schema().map(Self)
    }

    /// Returns the value of `setting`, unvalidated; `None` if the file does not set it.
    pub(crate) fn get(&self, setting: &Setting) -> Option<&Value> {
        self.0.get(&setting.name())
    }

    /// Returns the entries of [`FOLDER_KEYS`], in the order of the file. Entries whose key is not an
    /// absolute path are omitted; [`ConfigFile::unknown_keys`] reports them.
    pub(crate) fn folder_settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for key in &FOLDER_KEYS {
            let Ok(Some(table)) = self.0.table(key.name) else {
                continue;
            };
            let names = table
                .iter()
                .map(|(folder, _)| format!("{}.{folder}", key.name));
            settings.extend(names.filter_map(|name| find_setting(&name).ok()));
        }
        settings
    }

    /// Returns `setting` with its folder spelled as in the file, if the file sets it for another spelling of the
    /// folder.
    pub(crate) fn with_spelling_of_file(
        &self,
        setting: Setting,
        home_dir: Option<&Path>,
    ) -> Setting {
        if self.get(&setting).is_some() {
            return setting;
        }
        let mut entries = self.folder_settings().into_iter();
        let same_folder = entries.find(|entry| entry.is_same(&setting, home_dir));
        same_folder.unwrap_or(setting)
    }

    /// Returns the keys in the file that are not settings.
    pub(crate) fn unknown_keys(&self) -> Vec<KeyError> {
        let all_names = self.0.value_names().into_iter();
        let names = all_names.filter(|name| name != SCHEMA_KEY);
        names.filter_map(|name| find_setting(&name).err()).collect()
    }

    /// Validates the file and returns its values.
    ///
    /// # Errors
    /// A known setting has an invalid value.
    pub(crate) fn validate(&self) -> Result<ConfigValues, SettingsError> {
        let values = SettingValues::validate(&self.0, &KEYS)?;
        let folders = self.read_folder_values()?;
        Ok(ConfigValues::from_settings(&values, folders))
    }

    /// Validates and returns the tables of [`FOLDER_KEYS`].
    fn read_folder_values(&self) -> Result<FolderSettings, SettingsError> {
        // `folder_settings` skips a key whose value is not a table, so `table` refuses such a value first.
        for key in &FOLDER_KEYS {
            self.0.table(key.name)?;
        }

        let mut folders = FolderSettings::default();
        for setting in self.folder_settings() {
            self.0.check(&setting.name(), setting.key.kind)?;
            let Some(value) = self.get(&setting) else {
                continue;
            };

            let folder = setting.folder.unwrap_or_default();
            // The key `folders` has the names of profiles, and the key `shared_logins` has flags.
            match (value.as_str(), value.as_bool()) {
                (Some(profile), _) => {
                    folders.folders.insert(folder, profile.to_owned());
                }
                (_, Some(is_allowed)) => {
                    folders.shared_logins.insert(folder, is_allowed);
                }
                _ => {}
            }
        }

        Ok(folders)
    }

    /// Sets `setting`. Comments and whitespace around a previous value stay.
    ///
    /// # Errors
    /// The file has a value in the place of the key's table.
    pub(crate) fn set(&mut self, setting: &Setting, value: Value) -> Result<(), SettingsError> {
        self.0.set(&setting.name(), value)
    }

    /// Gives the folders of the profile `old` the profile `new`. Returns the changed settings.
    ///
    /// # Errors
    /// See [`ConfigFile::set`].
    pub(crate) fn rename_profile(
        &mut self,
        old: &str,
        new: &str,
    ) -> Result<Vec<Setting>, SettingsError> {
        let mut settings = self.folder_settings();
        // Names of profiles differ by more than case. A rename may change the case alone.
        settings.retain(|setting| {
            let profile = self.get(setting).and_then(Value::as_str);
            profile.is_some_and(|name| name != new && name.to_lowercase() == old.to_lowercase())
        });
        for setting in &settings {
            self.set(setting, new.into())?;
        }
        Ok(settings)
    }

    /// Removes `setting`; see [`SettingsFile::unset`]. Returns true if the file contained the setting.
    pub(crate) fn unset(&mut self, setting: &Setting) -> bool {
        self.0.unset(&setting.name())
    }

    /// Returns the text of the file with all changes.
    pub(crate) fn text(&self) -> String {
        self.0.text()
    }
}

impl ConfigValues {
    fn from_settings(values: &SettingValues<'_>, folders: FolderSettings) -> Self {
        let path_of = |name: &str| values.text(name).map(PathBuf::from);
        let text_of = |name: &str| values.text(name).map(str::to_owned);

        Self {
            timezone: text_of("timezone"),
            codex_home: path_of("codex.home"),
            codex_bin: path_of("codex.bin"),
            preferences: Preferences {
                color: values.choice("color"),
                before_new_codex: values.choice("backup.before_new_codex"),
                compression: values.choice("backup.compression"),
                exclude: values.get("backup.exclude"),
                include_tmp: values.get("backup.include_tmp"),
                include_worktrees: values.get("backup.include_worktrees"),
                verify_reused: values.choice("backup.verify_reused"),
                session_duration_hours: values.get("normalize.session_duration_hours"),
                strategy: values.choice("recommend.strategy"),
                include_api_key: values.get("recommend.include_api_key"),
                keep: RetentionPolicy {
                    last: values.get("prune.keep_last"),
                    within: values.text("prune.keep_within").and_then(parse_span_value),
                    daily: values.get("prune.keep_daily"),
                    weekly: values.get("prune.keep_weekly"),
                    monthly: values.get("prune.keep_monthly"),
                    ..RetentionPolicy::default()
                },
                keep_gone_days: values.get("prune.keep_gone"),
                // The value was validated, so the fallback is not used.
                keep_trash: parse_span_value(&values.get::<String>("storage.keep_trash"))
                    .unwrap_or(TimeDelta::MAX),
                notify: NotifySettings {
                    command: text_of("notify.command"),
                    backup_days: values.get("notify.backup_days"),
                },
                prices: path_of("usage.prices"),
                folders,
                vault: VaultSettings {
                    repository: text_of("vault.repository"),
                    program: path_of("vault.program"),
                    password: NamedPassword {
                        file: path_of("vault.password_file"),
                        command: text_of("vault.password_command"),
                    },
                },
            },
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
        let setting = find_setting(name).unwrap();
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
    fn set_and_unset_leaves_empty_tables_only() {
        let mut file = parsed(TEXT);
        for (name, text) in [
            ("prune.keep_daily", "3"),
            ("color", "never"),
            ("folders./srv/a.b", "client-a"),
        ] {
            set(&mut file, name, text);
            assert!(file.unset(&find_setting(name).unwrap()));
            assert!(!file.unset(&find_setting(name).unwrap()));
        }
        let text = file.text();
        let added = text.strip_prefix(TEXT).unwrap();
        assert!(!added.contains('='), "{added}");
    }

    #[test]
    fn every_kind_of_table_is_read() {
        for text in [
            "codex.bin = '/opt/codex'",
            "codex = { bin = '/opt/codex' }",
            "[codex]\nbin = '/opt/codex'",
        ] {
            let bin = parsed(text).validate().unwrap().codex_bin;
            assert_eq!(bin, Some("/opt/codex".into()), "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn invalid_values_are_refused() {
        for text in [
            "color = 'blue'",
            "codex = 1",
            "[timezone]",
            "[prune]\nkeep_last = '3'",
            "[[backup]]\nexclude = []",
            "backup.exclude = 'x'",
            "folders = 'work'",
            "[[shared_logins]]",
            "folders.'/srv' = 1",
            "folders.'/srv' = '../x'",
            "folders.'/srv'.sub = 'work'",
            "shared_logins.'/srv' = 'yes'",
        ] {
            assert!(parsed(text).validate().is_err(), "{text}");
        }
        assert!(parsed("unknown = 1\n[deep.er]\nx = 1").validate().is_ok());
    }

    #[test]
    fn unknown_keys_are_reported_with_suggestions() {
        let unknown = |name: &str, nearest: Option<&str>| KeyError::Unknown {
            name: name.into(),
            nearest: nearest.map(str::to_owned),
        };
        assert_eq!(
            parsed("timezon = 'UTC'\n[codex]\nbim = 'x'\n[deep.er]\nx = 1").unknown_keys(),
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

[shared_logins]
\"~/code\" = true
",
        );
        assert_eq!(file.unknown_keys(), []);
        set(&mut file, "folders.~/code/a.b", "client-b");
        set(&mut file, "folders./srv/with space", "work");
        set(&mut file, "shared_logins.~/code/vendor", "false");
        assert_eq!(
            file.text(),
            "\
[folders]
# the client
\"~/code/a.b\" = \"client-b\" # billed
\"/srv/with space\" = \"work\"

[shared_logins]
\"~/code\" = true
\"~/code/vendor\" = false
"
        );
        let accounts = file.validate().unwrap().preferences.folders;
        let text = |(folder, profile): (&str, &str)| (folder.to_owned(), profile.to_owned());
        assert_eq!(
            accounts.folders.into_iter().collect::<Vec<_>>(),
            [("/srv/with space", "work"), ("~/code/a.b", "client-b")].map(text)
        );
        assert_eq!(
            accounts.shared_logins.into_iter().collect::<Vec<_>>(),
            [("~/code".into(), true), ("~/code/vendor".into(), false)]
        );
    }

    #[test]
    fn a_relative_folder_is_an_unknown_key() {
        let file = parsed("folders.work = 'client-a'\nshared_logins.'~/code' = true");
        let name = "folders.work".into();
        assert_eq!(file.unknown_keys(), [KeyError::NoFolder { name }]);
        let accounts = file.validate().unwrap().preferences.folders;
        assert!(accounts.folders.is_empty() && !accounts.shared_logins.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_keeps_the_spelling_of_the_file() {
        let file = parsed("folders.'~/code/' = 'client-a'");
        let home = Some(Path::new("/home/me"));
        let spelled = |name: &str| {
            file.with_spelling_of_file(find_setting(name).unwrap(), home)
                .name()
        };
        assert_eq!(spelled("folders./home/me/code"), "folders.~/code/");
        assert_eq!(spelled("folders./home/me"), "folders./home/me");
        assert_eq!(spelled("shared_logins.~/code"), "shared_logins.~/code");
    }
}
