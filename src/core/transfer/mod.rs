//! Exports the manager home to one file and imports it on another machine.
//!
//! `docs/export-format.md` describes the format: a tar file, encrypted by `age` if it contains a secret. A login in an
//! export is the owner copy: the profile on the exporting machine loses it.
//!
//! - [`manifest`] defines the files that an export may contain;
//! - [`seal`] encrypts and decrypts;
//! - [`export`] collects and writes the files, [`handover`] moves the ownership of logins;
//! - [`reader`] checks a whole export before anything is changed;
//! - [`merge`] imports an export, [`profiles`] decides which of two logins is newer.
//!
//! [`python_home`] imports the home of a Python codex-manager, which is a folder.

mod entries;
mod error;
pub mod export;
pub mod handover;
pub(crate) mod manifest;
pub mod merge;
pub mod profiles;
pub mod python_home;
pub mod reader;
pub mod seal;

pub use error::{PythonHomeError, TransferError};
