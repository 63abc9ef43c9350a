//! The settings of `config.toml` in the manager home, defined in one table ([`KEYS`]).
//!
//! A new setting has a row in `key` and a field in `values`. [`file_access`] reads and writes the file.
//! [`codex_manager_core::io::settings`] defines the types of values.
//!
//! Precedence: flag, environment, file, default. The time zone is an exception: `TZ` describes the
//! machine, so the file takes precedence over it.

pub(crate) mod file;
pub(crate) mod file_access;
mod key;
mod setting;
mod values;

pub(crate) use file::FILE_NAME;
pub(crate) use key::KEYS;
pub(crate) use setting::{KeyError, Setting, find_setting};
pub(crate) use values::ColorChoice;
pub(crate) use values::{BeforeNewCodex, ConfigValues, Preferences, VaultSettings};
