//! The guards: they refuse a plan, a decision or a step.
//!
//! `decision_guard` gives the reasons to leave a file alone although the decision would change it.
//! `mass_change_guard` fails if the cloud folder is probably not mounted, and holds back many deletions.
//! `dropped_steps` drops steps that would copy a login or that are blocked by a folder. `incomplete_files` reports
//! what the sync waits for.

pub(super) mod decision_guard;
pub(super) mod dropped_steps;
pub(super) mod incomplete_files;
pub(super) mod mass_change_guard;
