//! The guards: they refuse a plan, or drop steps from it.
//!
//! `mass_change_guard` fails if the cloud folder is probably not mounted, and holds back many deletions. `dropped_steps`
//! drops steps that would copy a login or that are blocked by a folder. `incomplete_files` reports what the sync waits
//! for.

pub(super) mod dropped_steps;
pub(super) mod incomplete_files;
pub(super) mod mass_change_guard;
