//! The settings of `config.toml` in the manager home, defined in one table ([`KEYS`]).
//!
//! Precedence: flag, environment, file, default. The time zone is an exception: `TZ` describes the
//! machine, so the file takes precedence over it.

pub(crate) mod file;
pub(crate) mod file_access;
mod key;
mod setting;
mod value_kind;
mod values;

pub(crate) use file::FILE_NAME;
pub(crate) use key::{FOLDER_KEYS, KEYS, default_of};
pub(crate) use setting::{KeyError, Setting, find};
pub(crate) use value_kind::ValueKind;
pub use values::ColorChoice;
pub(crate) use values::{BeforeNewCodex, ConfigValues, Preferences, VaultSettings};
