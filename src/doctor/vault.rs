//! Checks of the vault: the age of the last snapshot and of the last drill.

use super::check::Check;
use super::input::DoctorInput;
use crate::config::file::ConfigFile;
use crate::ui::time;
use crate::vault::state::{self, VaultState};
use chrono::Duration;

/// Age of the last good drill, in days, from which `doctor` warns.
const OLD_DRILL_DAYS: i64 = 30;

/// Age of the last snapshot, in days, from which `doctor` warns.
const OLD_BACKUP_DAYS: i64 = 14;

/// Checks the recorded results; makes no connection. Returns no checks if no vault is set up.
pub(super) fn run_checks(input: &DoctorInput<'_>) -> Vec<Check> {
    let file = ConfigFile::read(input.manager_home).and_then(|file| file.values());
    let is_set_up = file.is_ok_and(|file| file.preferences.vault.repository.is_some());
    if !is_set_up {
        return Vec::new();
    }
    let state = match state::read(input.manager_home) {
        Ok(state) => state,
        Err(e) => {
            let check = Check::fail("vault.backup", e.to_string());
            return vec![check.because("the age of its snapshots is unknown")];
        }
    };
    let age = |at: &crate::io::clock::Timestamp| input.now.signed_duration_since(at.to_utc());
    let why = "newer conversations are not in the vault";
    let backup = match state.backed_up_at.as_ref().map(age) {
        Some(age) if age < Duration::days(OLD_BACKUP_DAYS) => Check::ok(
            "vault.backup",
            format!("the last snapshot is {} old", time::duration(age)),
        ),
        Some(age) => Check::warn(
            "vault.backup",
            format!("the last snapshot is {} old", time::duration(age)),
        )
        .because(why)
        .fixed_by("codex-manager vault backup"),
        None => Check::warn("vault.backup", "this machine has made no snapshot")
            .because(why)
            .fixed_by("codex-manager vault backup"),
    };
    vec![backup, drill(&state, age)]
}

fn drill(state: &VaultState, age: impl Fn(&crate::io::clock::Timestamp) -> Duration) -> Check {
    const ID: &str = "vault.drill";
    let why = "a backup that was never restored is not proven";
    if let Some(last) = &state.drill
        && let Some(problem) = last.problems.first()
    {
        return Check::fail(ID, format!("the last drill failed: {problem}"))
            .because("snapshots may not be restorable")
            .fixed_by("codex-manager vault check --read-data");
    }
    match state.drill_passed_at.as_ref().map(age) {
        Some(age) if age < Duration::days(OLD_DRILL_DAYS) => Check::ok(
            ID,
            format!("the last good drill was {} ago", time::duration(age)),
        ),
        Some(age) => Check::warn(
            ID,
            format!("the last good drill was {} ago", time::duration(age)),
        )
        .because(why)
        .fixed_by("codex-manager vault drill"),
        None => Check::warn(ID, "no drill has restored a snapshot")
            .because(why)
            .fixed_by("codex-manager vault drill"),
    }
}
