//! Synchronizes Codex's state between machines through a folder that another program replicates.
//!
//! docs/sync-protocol.md describes the design. [`scan`] lists both sides. [`plan`] compares the listings with the
//! [`state`] of the last sync; [`decide`] returns the action for each file. [`apply`] performs the plan file
//! by file, so that an interrupted run leaves only complete files.
//!
//! I want to change
//! - what a sync does with a file → [`plan`], [`decide`]; which files it sees → [`scan`], [`scope`];
//! - what is written, and in which order → [`apply`];
//! - what other machines learn → [`manifest`], [`ledger`], [`identity`]; how it is read → [`listed_versions`];
//! - files of the cloud folder that are partial, or have not arrived → [`cloud_folder`], [`cloud_names`];
//! - conflicts of conversations → [`conflict_copies`], [`resolve`], [`resolutions`];
//! - snapshots → [`backup`], [`restore`];
//! - Codex's lists after a sync → [`index_updates`], [`pending_index_updates`].

pub mod apply;
pub mod backup;
pub mod branches;
pub mod cloud_folder;
pub(crate) mod cloud_names;
pub mod codexsync;
pub mod config;
pub mod conflict_copies;
pub mod conflicting_versions;
pub mod contents;
pub mod continued_rollouts;
pub(crate) mod decide;
mod file_group;
mod file_kind;
mod file_version;
pub mod identity;
pub mod index_updates;
pub(crate) mod ledger;
pub(crate) mod line_merge;
pub mod listed_versions;
mod manager_folder;
pub mod manifest;
pub mod new_branches;
pub(crate) mod notice;
pub mod pending_index_updates;
pub mod plan;
mod records;
pub mod resolutions;
pub mod resolve;
pub mod restore;
pub mod restore_marker;
mod rewind_knowledge;
pub mod rollouts;
pub mod scan;
pub mod scope;
mod sealed_lines;
pub mod secrets;
pub mod sides;
mod snapshot_writer;
pub mod snapshots;
pub mod state;
