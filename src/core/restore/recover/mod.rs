//! Phase 5: finds interrupted restores and finishes or undoes them.

pub(crate) mod journal_pointer;
pub(crate) mod login_guard;
pub mod pending;
