//! Phase 3: databases, safety backup, unchanged files and the login. After it, the staged state is complete.

pub(crate) mod databases;
pub(crate) mod login;
pub(crate) mod outside_databases;
pub(crate) mod reinstated_rows;
pub(crate) mod replaced_links;
pub(crate) mod safety;
pub(crate) mod unchanged;
