//! Settings in a TOML file that users edit: one engine for `config.toml` and `sync.toml`.
//!
//! [`SettingKey`] and [`ValueKind`] define a setting and its type. [`SettingsFile`] reads and changes a file.
//! [`SettingValues`] has the validated values, with defaults.

mod file;
mod key;
mod values;

pub(crate) use file::describe_toml_error;
pub use file::{SCHEMA_KEY, SettingsError, SettingsFile};
pub use key::{SettingKey, ValueKind, choice_name, parse_value};
pub use values::SettingValues;
