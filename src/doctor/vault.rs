//! Checks of the vault: the ages of the last snapshot and the last drill, and the mode of the password file.

use super::check::Check;
use super::permissions::mode_open_to_others;
use crate::config::VaultSettings;
use crate::config::file::ConfigFile;
use crate::context::Context;
use crate::error::STORE_PASSWORD;
use crate::ui::time;
use chrono::{DateTime, Duration, Utc};
use codex_manager_core::io::clock::Timestamp;
use codex_manager_core::vault::password::{NamedPassword, Password};
use codex_manager_core::vault::state::{self, VaultState};
use codex_manager_core::vault::vault_folder;

/// Age of the last good drill, in days, from which `doctor` warns.
const OLD_DRILL_DAYS: i64 = 30;

/// Age of the last snapshot, in days, from which `doctor` warns.
const OLD_BACKUP_DAYS: i64 = 14;

/// Checks the recorded results without connecting to the vault. Returns no findings if no vault is set up.
pub(super) fn run_checks(context: &Context) -> Vec<Check> {
    // The check `manager.config` reports a file that cannot be used.
    let file = ConfigFile::read(context.manager_home()).and_then(|file| file.validate());
    let settings = file.map(|file| file.preferences.vault).unwrap_or_default();
    if settings.repository.is_none() {
        return Vec::new();
    }

    let mut checks = match state::read(context.manager_home()) {
        Ok(vault_state) => vec![
            check_last_backup(&vault_state, context.now()),
            check_last_drill(&vault_state, context.now()),
        ],
        Err(e) => {
            let check = Check::fail("vault.backup", e.to_string());
            vec![check.because("the age of its snapshots is unknown")]
        }
    };
    checks.extend(check_password_file(context, &settings));
    checks
}

fn check_last_backup(state: &VaultState, now: DateTime<Utc>) -> Check {
    const ID: &str = "vault.backup";
    let message = match state.backed_up_at {
        Some(at) => format!("the last snapshot is {} old", format_age(at, now)),
        None => "this machine has made no snapshot".to_owned(),
    };

    if is_recent(state.backed_up_at, OLD_BACKUP_DAYS, now) {
        return Check::ok(ID, message);
    }

    Check::warn(ID, message)
        .because("newer conversations are not in the vault")
        .fixed_by("codex-manager vault backup")
}

fn format_age(at: Timestamp, now: DateTime<Utc>) -> String {
    time::format_duration(now - at.to_utc())
}

fn is_recent(at: Option<Timestamp>, max_days: i64, now: DateTime<Utc>) -> bool {
    at.is_some_and(|at| now - at.to_utc() < Duration::days(max_days))
}

/// Checks that there is a password, and the mode of its file. Returns `None` if the password has another source.
fn check_password_file(context: &Context, settings: &VaultSettings) -> Option<Check> {
    const ID: &str = "vault.password";
    let no_flags = NamedPassword::default();
    let vault = vault_folder(context.manager_home());
    let password = Password::find(&no_flags, &settings.password, &context.env, &vault);
    let path = match password {
        Some(Password::File(path)) => path,
        Some(_) => return None,
        None => {
            return Some(
                Check::warn(ID, "no password is stored")
                    .because("runs without a terminal cannot open the vault")
                    .advised(STORE_PASSWORD),
            );
        }
    };

    Some(match mode_open_to_others(&path) {
        None => Check::ok(ID, "only you can read the password file"),
        Some(mode) => {
            let path_text = path.display();
            let message =
                format!("other users can access the password file ({mode:o}): {path_text}");
            Check::warn(ID, message)
                .because("the password opens every snapshot, with the logins in it")
                .fixed_by_chmod("600", &path)
        }
    })
}

fn check_last_drill(state: &VaultState, now: DateTime<Utc>) -> Check {
    const ID: &str = "vault.drill";
    if let Some(last) = &state.drill
        && let Some(problem) = last.problems.first()
    {
        return Check::fail(ID, format!("the last drill failed: {problem}"))
            .because("snapshots may not be restorable")
            .fixed_by("codex-manager vault check --read-data");
    }

    let message = match state.drill_passed_at {
        Some(at) => format!("the last good drill was {} ago", format_age(at, now)),
        None => "no drill has restored a snapshot".to_owned(),
    };

    if is_recent(state.drill_passed_at, OLD_DRILL_DAYS, now) {
        return Check::ok(ID, message);
    }

    Check::warn(ID, message)
        .because("a backup is proven only by a restore")
        .fixed_by("codex-manager vault drill")
}
