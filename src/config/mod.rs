//! The settings of `config.toml` in the manager home, defined in one table ([`KEYS`]).
//!
//! I want to add a setting → `key` (the table) and `values` (its place in a run). I want to change the file
//! → [`file_access`]. I want another type of value → [`crate::io::settings`].
//!
//! Precedence: flag, environment, file, default. The time zone is an exception: `TZ` describes the
//! machine, so the file takes precedence over it.

pub(crate) mod file;
pub(crate) mod file_access;
mod key;
mod setting;
mod values;

pub(crate) use file::FILE_NAME;
pub(crate) use key::{FOLDER_KEYS, KEYS};
pub(crate) use setting::{KeyError, Setting, find_setting};
pub use values::ColorChoice;
pub(crate) use values::{BeforeNewCodex, ConfigValues, Preferences, VaultSettings};
