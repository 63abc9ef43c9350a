//! The facts about files that a plan needs. Each is read once; decisions, steps and guards get the facts as data and
//! read no files.
//!
//! [`FactReader`](fact_reader::FactReader) reads the facts. `files` and `conversation` return a
//! [`ComparedFile`](compared_file::ComparedFile) for each group of files; `comparison` compares its versions.
//! [`cloud_folder`](crate::sync::cloud_folder) finds out whether a remote file may be used and which versions are
//! missing. `missing_files` finds the files that are gone since the last sync, and `newest_rewinds` the rollouts that
//! decide where a rewound conversation is. `conflict_copy_facts`, `continued_rollouts` and `obstacles` read files of
//! the planned steps.

pub(super) mod compared_file;
mod comparison;
pub(super) mod conflict_copy_facts;
pub(super) mod continued_rollouts;
mod conversation;
pub(super) mod fact_reader;
mod files;
pub(super) mod missing_files;
mod newest_rewinds;
pub(super) mod obstacles;
