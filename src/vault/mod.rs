//! Snapshots of Codex homes in a restic repository: encrypted, deduplicated, usually on another machine.
//!
//! restic runs as a child process and owns the format of the repository; this program has no network
//! code. A snapshot is a plain tree of the home with the manifest of an archive in it, so that restic
//! alone can list and restore it. A restore first converts the snapshot into an archive, so that there is
//! one implementation of restoring. See `docs/vault.md`.

pub(crate) mod backup;
pub(crate) mod contents;
pub(crate) mod drill;
mod error;
pub(crate) mod fault;
mod folder;
pub(crate) mod import;
mod leftovers;
pub(crate) mod listing;
mod locks;
pub(crate) mod materialize;
pub(crate) mod password;
mod process_note;
pub(crate) mod restic;
mod run;
pub(crate) mod snapshot;
pub(crate) mod state;
pub(crate) mod tags;
mod tree_lock;

pub(crate) use error::VaultError;
pub(crate) use folder::{FOLDER, folder, staging_folder};
pub(crate) use leftovers::remove_leftovers;
pub(crate) use tree_lock::TreeLock;
