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
pub(crate) mod export;
pub(crate) mod handover;
pub(crate) mod manifest;
pub(crate) mod merge;
pub(crate) mod profiles;
pub(crate) mod python_home;
pub(crate) mod reader;
pub(crate) mod seal;

pub(crate) use error::{PythonHomeError, TransferError};
