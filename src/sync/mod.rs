//! Codex's state on several machines, through a folder that something else replicates.
//!
//! The design is in docs/sync.md. In short: [`scan`] lists both sides, [`plan`] compares them with the
//! [`state`] of the last sync and lets [`decide`] say what is to be done, [`apply`] does it a file at a
//! time, and every step leaves a whole file behind.

pub mod apply;
pub mod arrivals;
pub mod backup;
pub mod cloud_names;
pub mod codexsync;
pub mod config;
pub mod contents;
pub mod decide;
pub mod decisions;
pub mod forks;
pub mod identity;
pub mod ledger;
pub mod lineage;
pub mod lines;
pub mod manifest;
pub mod peers;
pub mod plan;
pub mod register;
pub mod resolve;
pub mod restore;
pub mod restored;
pub mod rollouts;
pub mod scan;
mod secrets;
mod sides;
pub mod state;
mod token_forms;
pub mod travel;
mod unreadable;
mod vouching;
