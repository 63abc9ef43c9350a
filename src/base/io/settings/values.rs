//! The validated values of a file, with the defaults of the settings that it does not contain.

use super::file::{SettingsError, SettingsFile};
use super::key::{SettingKey, parse_value};
use clap::ValueEnum;
use serde::de::DeserializeOwned;

/// The values of the settings in `keys`. A name that is not in `keys` has no default.
#[derive(Debug, Clone, Copy)]
pub struct SettingValues<'a> {
    file: &'a SettingsFile,
    keys: &'static [SettingKey],
}

impl<'a> SettingValues<'a> {
    /// Validates a file and returns its values.
    ///
    /// # Errors
    /// A setting has an invalid value, or a value is in the place of a table.
    pub fn validate(
        file: &'a SettingsFile,
        keys: &'static [SettingKey],
    ) -> Result<Self, SettingsError> {
        for key in keys {
            file.check(key.name, key.kind)?;
        }
        Ok(Self { file, keys })
    }

    /// Returns the value that the file sets for `name`, else the default; without both, the default of `T`.
    pub fn get<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        let default = || {
            self.keys
                .iter()
                .find(|key| key.name == name)?
                .default_value()
        };
        let value = self.file.get_with_tables(name).or_else(default);
        value.as_ref().and_then(parse_value).unwrap_or_default()
    }

    /// Returns the text that the file sets for `name`. The default does not count.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.file.get(name)?.as_str()
    }

    pub fn choice<T: ValueEnum + Default>(&self, name: &str) -> T {
        let text = self.text(name).map(str::trim);
        let ignore_case = true;
        text.and_then(|text| T::from_str(text, ignore_case).ok())
            .unwrap_or_default()
    }
}
