//! The facts about files: all that a plan has to know, read once. Decisions, steps and guards get them as data and read
//! nothing.
//!
//! [`FactReader`](fact_reader::FactReader) reads them. `files` and `conversation` return a
//! [`ComparedFile`](compared_file::ComparedFile) for each group of files; `comparison` compares its versions.
//! Which remote files may be used, and which listed versions are missing, is the job of
//! [`remote::folder`](crate::sync::remote::folder). `missing_files` finds what is gone since the last sync.
//! `conflict_copy_facts`, `continued_rollouts` and `obstacles` look at what the planned steps concern.

pub(super) mod compared_file;
mod comparison;
pub(super) mod conflict_copy_facts;
pub(super) mod continued_rollouts;
mod conversation;
pub(super) mod fact_reader;
mod files;
pub(super) mod missing_files;
pub(super) mod obstacles;
