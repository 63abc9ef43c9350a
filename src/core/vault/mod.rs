//! Snapshots of Codex homes in a restic repository: encrypted, deduplicated, usually on another machine.
//!
//! restic runs as a child process and owns the format of the repository; this program has no network
//! code. A snapshot is a plain tree of the home with the manifest of an archive in it, so that restic
//! alone can list and restore it. A restore first converts the snapshot into an archive, so that there is
//! one implementation of restoring. See `docs/vault.md`.
//!
//! I want to …
//! - start restic, or read its output: [`restic`], [`run`]; explain how it failed: [`fault`], [`error`]
//! - know which locks may be removed, and what a killed command leaves: [`process_note`], [`tree_lock`]
//! - make a snapshot: [`backup`] of the home, [`import`] of an archive; describe it: [`tags`]
//! - find a snapshot: [`snapshot`]; list or read what is in it: [`contents`]
//! - restore or check one: [`materialize`], [`drill`]
//! - know the conversations of the other machines: [`machine_homes`]
//! - share the state of replicas between machines: [`replica_snapshot`], [`restored_files`]
//! - know the id of this machine, and what it did last: [`state`]

pub mod backup;
pub mod contents;
pub mod drill;
mod error;
pub mod fault;
mod folder;
pub mod import;
pub mod machine_homes;
pub mod materialize;
pub mod password;
mod process_note;
pub mod replica_snapshot;
pub mod restic;
pub mod restored_files;
mod run;
pub mod snapshot;
pub mod snapshot_id;
pub mod state;
pub(crate) mod tags;
mod tree_lock;

pub use error::VaultError;
pub use folder::{VAULT_FOLDER, create_staging, vault_folder};
pub use tree_lock::{TreeLock, remove_leftovers};
