//! Synchronizes Codex's state between machines through a folder that another program replicates.
//!
//! docs/sync-protocol.md describes the design. [`scan`] lists both sides. [`plan`] compares the listings with the
//! [`state`] of the last sync; [`decide`] returns the action for each file. [`apply`] performs the plan file
//! by file, so that an interrupted run leaves only complete files.
//!
//! I want to change
//! - what a sync does with a file → [`plan`], [`decide`]; which files it sees → [`scan`], [`scope`];
//! - what is written, and in which order → [`apply`];
//! - what other machines learn → [`manifest`], [`ledger`], [`identity`]; how it is read → [`remote::folder`];
//! - conflicts of conversations → [`conflict_copies`], [`resolve`], [`resolutions`];
//! - snapshots → [`backup`], [`restore`];
//! - Codex's lists after a sync → [`index_updates`], [`pending_index_updates`].

pub mod apply;
pub(crate) mod backup;
pub(crate) mod branches;
pub(crate) mod codexsync;
pub mod config;
pub(crate) mod conflict_copies;
pub(crate) mod conflicting_versions;
pub(crate) mod contents;
pub(crate) mod continued_rollouts;
pub(crate) mod decide;
mod file_group;
mod file_kind;
mod file_version;
pub(crate) mod identity;
pub(crate) mod index_updates;
mod json_lines;
pub(crate) mod ledger;
pub(crate) mod line_merge;
mod manager_folder;
pub(crate) mod manifest;
pub(crate) mod new_branches;
pub(crate) mod notice;
pub(crate) mod pending_index_updates;
pub mod plan;
mod records;
pub mod remote;
pub(crate) mod resolutions;
pub(crate) mod resolve;
pub(crate) mod restore;
pub(crate) mod restore_marker;
mod rewind_knowledge;
pub(crate) mod rollouts;
pub(crate) mod scan;
pub(crate) mod scope;
pub(crate) mod secrets;
pub(crate) mod sides;
mod snapshot_writer;
pub mod state;
