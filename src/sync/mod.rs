//! Synchronizes Codex's state between machines through a folder that another program replicates.
//!
//! docs/sync.md describes the design. [`scan`] lists both sides. [`plan`] compares the listings with the
//! [`state`] of the last sync; [`decide`] returns the action for each file. [`apply`] performs the plan file
//! by file, so that an interrupted run leaves only complete files.

pub mod apply;
mod attestation;
pub mod backup;
pub mod cloud_names;
pub mod codexsync;
pub mod config;
pub mod conflict_copies;
pub mod contents;
pub mod decide;
pub mod identity;
pub mod index_updates;
pub mod ledger;
pub mod line_merge;
mod manager_folder;
pub mod manifest;
mod mtime;
pub mod pending_index_updates;
pub mod plan;
mod random_id;
mod read_failure;
pub mod remote_manifests;
pub mod resolutions;
pub mod resolve;
pub mod restore;
pub mod restore_marker;
pub mod rollouts;
pub mod scan;
pub mod scope;
mod secrets;
mod side_paths;
pub mod state;
mod token_patterns;
pub mod version_vector;
