//! The stored facts about accounts and archives: last quota figures, and records of archives and
//! legacy files.

pub(crate) mod accounts;
pub(crate) mod archive_names;
pub(crate) mod candidate;
pub(crate) mod catalog;
pub(crate) mod cleanup;
pub(crate) mod codex_change;
pub mod cooldown;
pub(crate) mod legacy;
pub(crate) mod losses;
pub(crate) mod observations;
pub(crate) mod probe_all;
pub(crate) mod python;
pub(crate) mod records;
pub(crate) mod remedies;
pub(crate) mod resolve;
pub(crate) mod retention;
pub(crate) mod status;
pub mod store;
pub(crate) mod trash;
