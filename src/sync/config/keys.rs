//! Reads typed values from a configuration and finds unknown keys.

use super::error::SyncConfigError;
use crate::shutdown::TargetOs;
use std::path::Path;
use std::time::Duration;
use toml_edit::{DocumentMut, Item};

/// An enum whose values have names in the configuration.
pub(super) trait ConfigNames: Copy + 'static {
    fn names() -> &'static [(&'static str, Self)];
}

/// Reads values from a document and records which keys were read.
pub(super) struct KeyReader<'a> {
    pub(super) path: &'a Path,
    document: &'a DocumentMut,
    read_keys: Vec<(&'static str, &'static str)>,
    warnings: Vec<String>,
}

impl<'a> KeyReader<'a> {
    pub(super) fn new(path: &'a Path, document: &'a DocumentMut) -> Self {
        Self {
            path,
            document,
            read_keys: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn invalid(&self, table: &str, key: &str, reason: &str) -> SyncConfigError {
        SyncConfigError::Invalid {
            path: self.path.to_path_buf(),
            key: format!("{table}.{key}"),
            reason: reason.to_owned(),
        }
    }

    pub(super) fn accept_ignored(&mut self, table: &'static str, key: &'static str) {
        self.read_keys.push((table, key));
    }

    /// Warns if a key is set that codexSync obeys and this program does not, with the `reason`.
    pub(super) fn warn_if_set(&mut self, table: &'static str, key: &'static str, reason: &str) {
        if self.take(table, key).is_some() {
            let warning = format!("{table}.{key} has no effect: {reason}");
            self.warnings.push(warning);
        }
    }

    pub(super) fn take(&mut self, table: &'static str, key: &'static str) -> Option<&'a Item> {
        self.read_keys.push((table, key));
        self.document.get(table)?.as_table_like()?.get(key)
    }

    pub(super) fn text(
        &mut self,
        table: &'static str,
        key: &'static str,
    ) -> Result<Option<String>, SyncConfigError> {
        match self.take(table, key).map(|item| item.as_str()) {
            None => Ok(None),
            // codexSync treats an empty string as an absent one.
            Some(Some(text)) if text.trim().is_empty() => Ok(None),
            Some(Some(text)) => Ok(Some(text.to_owned())),
            Some(None) => Err(self.invalid(table, key, "must be a string")),
        }
    }

    pub(super) fn flag(
        &mut self,
        table: &'static str,
        key: &'static str,
        default: bool,
    ) -> Result<bool, SyncConfigError> {
        match self.take(table, key).map(Item::as_bool) {
            None => Ok(default),
            Some(Some(value)) => Ok(value),
            Some(None) => Err(self.invalid(table, key, "must be true or false")),
        }
    }

    pub(super) fn number(
        &mut self,
        table: &'static str,
        key: &'static str,
        default: u64,
    ) -> Result<u64, SyncConfigError> {
        let Some(item) = self.take(table, key) else {
            return Ok(default);
        };
        let number = item.as_integer().and_then(|n| u32::try_from(n).ok());
        number.map(u64::from).ok_or_else(|| {
            let reason = "must be a non-negative integer";
            self.invalid(table, key, reason)
        })
    }

    pub(super) fn seconds(
        &mut self,
        table: &'static str,
        key: &'static str,
        default: Duration,
    ) -> Result<Duration, SyncConfigError> {
        let seconds = self.number(table, key, default.as_secs())?;
        Ok(Duration::from_secs(seconds))
    }

    pub(super) fn texts(
        &mut self,
        table: &'static str,
        key: &'static str,
    ) -> Result<Option<Vec<String>>, SyncConfigError> {
        let Some(item) = self.take(table, key) else {
            return Ok(None);
        };
        let list = item.as_array().and_then(|array| {
            let texts = array.iter().map(|v| v.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        list.map(Some)
            .ok_or_else(|| self.invalid(table, key, "must be a list of strings"))
    }

    pub(super) fn choice<T: ConfigNames>(
        &mut self,
        table: &'static str,
        key: &'static str,
        default: T,
    ) -> Result<T, SyncConfigError> {
        let Some(text) = self.text(table, key)? else {
            return Ok(default);
        };
        let found = T::names()
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = T::names().iter().map(|(name, _)| *name).collect();
            let reason = format!("must be one of {}, not {text:?}", names.join(", "));
            self.invalid(table, key, &reason)
        })
    }

    pub(super) fn require_value(
        &mut self,
        table: &'static str,
        key: &'static str,
        value: &str,
    ) -> Result<(), SyncConfigError> {
        match self.text(table, key)? {
            Some(text) if text != value => {
                let reason = format!("must be {value:?}, not {text:?}");
                Err(self.invalid(table, key, &reason))
            }
            _ => Ok(()),
        }
    }

    /// Returns the names listed for this operating system; `None` if the key is absent.
    pub(super) fn background_names(
        &mut self,
        table: &'static str,
    ) -> Result<Option<Vec<String>>, SyncConfigError> {
        const KEY: &str = "background_process_names";
        let system = match TargetOs::of_this_build() {
            TargetOs::Windows => "windows",
            TargetOs::Macos => "macos",
            TargetOs::Linux => "linux",
        };
        let Some(item) = self.take(table, KEY) else {
            return Ok(None);
        };
        let Some(systems) = item.as_table_like() else {
            return Err(self.invalid(table, KEY, "must be a table of lists"));
        };
        let Some(list) = systems.get(system) else {
            return Ok(Some(Vec::new()));
        };
        let names = list.as_array().and_then(|names| {
            let names = names.iter().map(|name| name.as_str().map(str::trim));
            names.map(|name| name.map(str::to_lowercase)).collect()
        });
        names
            .map(Some)
            .ok_or_else(|| self.invalid(table, KEY, "must be a table of lists of names"))
    }

    /// Returns a warning for each key that has no effect.
    pub(super) fn warnings(self) -> Vec<String> {
        let mut warnings = self.warnings;
        for (name, item) in self.document.as_table() {
            // codexSync's template contains a table of remarks.
            if name == "assumptions" {
                continue;
            }
            let known = self.read_keys.iter().any(|(table, _)| *table == name);
            let table = item.as_table_like().filter(|_| known);
            let Some(table) = table else {
                warnings.push(format!("unknown key in the configuration: {name}"));
                continue;
            };
            for (key, _) in table.iter() {
                if !self.read_keys.contains(&(name, key)) {
                    warnings.push(format!("unknown key in the configuration: {name}.{key}"));
                }
            }
        }
        warnings
    }
}
