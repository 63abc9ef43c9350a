//! The validated values of a file, with the defaults of the settings that it does not contain.

use super::file::{SettingsError, SettingsFile};
use super::key::{SettingKey, parse_structure, to_count, to_number, to_texts};
use clap::ValueEnum;
use serde::de::DeserializeOwned;
use toml_edit::Value;

/// The values of the settings in `keys`. A name that is not in `keys` has no default.
#[derive(Debug, Clone, Copy)]
pub struct SettingValues<'a> {
    file: Option<&'a SettingsFile>,
    keys: &'static [SettingKey],
}

impl<'a> SettingValues<'a> {
    pub fn defaults(keys: &'static [SettingKey]) -> Self {
        Self { file: None, keys }
    }

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
        let file = Some(file);
        Ok(Self { file, keys })
    }

    /// Returns the text that the file sets for `name`. The default does not count.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.file?.get(name)?.as_str()
    }

    /// Returns the text that the file sets for `name`, else the default; empty without both.
    pub fn text_or_default(&self, name: &str) -> String {
        let value = self.find_value(name);
        let text = value.as_ref().and_then(|value| value.as_str());
        text.unwrap_or_default().to_owned()
    }

    pub fn flag(&self, name: &str) -> bool {
        let flag = self.find_value(name).and_then(|value| value.as_bool());
        flag.unwrap_or_default()
    }

    /// Returns a number, or 0 if it is in neither the file nor the defaults.
    pub fn count(&self, name: &str) -> u32 {
        let count = self.find_value(name).and_then(|value| to_count(&value));
        count.unwrap_or_default()
    }

    pub fn number(&self, name: &str) -> f64 {
        let number = self.find_value(name).and_then(|value| to_number(&value));
        number.unwrap_or_default()
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let list = self.find_value(name).and_then(|value| to_texts(&value));
        list.unwrap_or_default()
    }

    pub fn choice<T: ValueEnum + Default>(&self, name: &str) -> T {
        let text = self.text(name).map(str::trim);
        text.and_then(|text| T::from_str(text, true).ok())
            .unwrap_or_default()
    }

    pub fn structure<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        parse_structure(&self.find_value(name)?)
    }

    fn find_value(&self, name: &str) -> Option<Value> {
        let default = || {
            self.keys
                .iter()
                .find(|key| key.name == name)?
                .default_value()
        };
        let file_value = self.file.and_then(|file| file.get_with_tables(name));
        file_value.or_else(default)
    }
}
