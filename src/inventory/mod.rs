//! The stored facts about accounts and archives: last quota figures, and records of archives and
//! legacy files.

pub mod accounts;
pub mod candidate;
pub mod catalog;
pub mod cleanup;
pub mod cooldown;
pub mod legacy;
pub mod observations;
pub mod probe_all;
pub mod python;
pub mod records;
pub mod remedies;
pub mod resolve;
pub mod retention;
pub mod status;
pub mod store;
pub mod trash;
