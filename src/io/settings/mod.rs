//! Settings in a TOML file that users edit: one engine for `config.toml` and `sync.toml`.
//!
//! I want to define a setting or its type → [`SettingKey`], [`ValueKind`]. I want to read or change a
//! file → [`SettingsFile`]. I want the validated values, with defaults → [`SettingValues`].

mod file;
mod key;
mod values;

pub(crate) use file::{SCHEMA_KEY, SettingsError, SettingsFile};
pub(crate) use key::{SettingKey, ValueKind, choice_name, parse_structure};
pub(crate) use values::SettingValues;
