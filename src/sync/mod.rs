//! Codex's state on several machines, through a folder that something else replicates.
//!
//! The design is in docs/sync.md. In short: [`scan`] lists both sides, [`plan`] compares them with the
//! [`state`] of the last sync and lets [`decide`] say what is to be done, [`apply`] does it a file at a
//! time, and every step leaves a whole file behind.

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
pub mod manifest;
pub mod pending_index_updates;
pub mod plan;
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
