//! The facts about files, which [`decide`](crate::sync::decide) maps to decisions.
//!
//! `delivery` checks that a remote file arrived completely. [`collect_facts`](file_facts::collect_facts) compares
//! each side with the last sync and with the other side. `deletions` adds which deletions other
//! machines request. `undelivered` finds the versions of other machines' manifests that have not arrived.

pub(super) mod deletions;
pub(super) mod delivery;
pub(super) mod file_facts;
pub(super) mod file_version;
pub(super) mod undelivered;
