//! The checks of `doctor`. Each check has a stable id and returns a finding with a severity, a message, the consequence
//! and the fix. Checks write nothing.

mod archives;
mod check;
mod codex_home;
mod databases;
pub(crate) mod machine;
pub(crate) mod manager_home;
pub(crate) mod permissions;
mod rollouts;
mod vault;
pub(crate) mod way_back;

use crate::context::Context;

pub(crate) use archives::{
    OTHER_DISK_ADVICE, SINGLE_DISK, SINGLE_DISK_NOTE, find_newest_full_time, is_on_single_disk,
};
pub(crate) use check::{Check, Remedy, Status};

/// Runs all checks except those of `sync`.
pub(crate) fn run_checks(context: &Context) -> Vec<Check> {
    let mut checks = codex_home::run_checks(context);
    checks.extend(manager_home::run_checks(context));
    checks.extend(vault::run_checks(context));
    checks.extend(machine::run_checks(context));
    checks
}
