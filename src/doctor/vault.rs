//! Checks of the vault: the ages of the last snapshot and the last drill, and the mode of the password file.

use super::check::Check;
use super::permissions::mode_open_to_others;
use crate::config::VaultSettings;
use crate::config::file::ConfigFile;
use crate::context::Context;
use crate::io::clock::Timestamp;
use crate::ui::time;
use crate::vault::folder;
use crate::vault::password::{NamedPassword, Password};
use crate::vault::state::{self, VaultState};
use chrono::{DateTime, Duration, Utc};

/// Age of the last good drill, in days, from which `doctor` warns.
const OLD_DRILL_DAYS: i64 = 30;

/// Age of the last snapshot, in days, from which `doctor` warns.
const OLD_BACKUP_DAYS: i64 = 14;

/// Checks the recorded results; makes no connection. Returns no checks if no vault is set up.
pub(super) fn run_checks(context: &Context) -> Vec<Check> {
    let file = ConfigFile::read(context.manager_home()).and_then(|file| file.values());
    let settings = file.map(|file| file.preferences.vault).unwrap_or_default();
    if settings.repository.is_none() {
        return Vec::new();
    }
    let password = check_password_file(context, &settings);
    let state = match state::read(context.manager_home()) {
        Ok(state) => state,
        Err(e) => {
            let check = Check::fail("vault.backup", e.to_string());
            let check = check.because("the age of its snapshots is unknown");
            return [check].into_iter().chain(password).collect();
        }
    };
    let backup = AgeCheck {
        id: "vault.backup",
        at: state.backed_up_at,
        max_days: OLD_BACKUP_DAYS,
        message: |age| format!("the last snapshot is {age} old"),
        never: "this machine has made no snapshot",
        why: "newer conversations are not in the vault",
        fix: "codex-manager vault backup",
    };
    let checks = [
        backup.run(context.now()),
        check_last_drill(&state, context.now()),
    ];
    checks.into_iter().chain(password).collect()
}

/// A check of the time of the last success.
struct AgeCheck {
    id: &'static str,
    at: Option<Timestamp>,
    max_days: i64,
    message: fn(String) -> String,
    /// The message if there was none.
    never: &'static str,
    why: &'static str,
    fix: &'static str,
}

impl AgeCheck {
    fn run(self, now: DateTime<Utc>) -> Check {
        let age = self.at.map(|at| now.signed_duration_since(at.to_utc()));
        let message = age.map(|age| (self.message)(time::format_duration(age)));
        let message = message.unwrap_or_else(|| self.never.to_owned());
        if age.is_some_and(|age| age < Duration::days(self.max_days)) {
            return Check::ok(self.id, message);
        }
        let check = Check::warn(self.id, message);
        check.because(self.why).fixed_by(self.fix)
    }
}

/// Checks the mode of the password file. Returns no check if the password has another source.
fn check_password_file(context: &Context, settings: &VaultSettings) -> Option<Check> {
    const ID: &str = "vault.password";
    let configured = NamedPassword {
        file: settings.password_file.clone(),
        command: settings.password_command.clone(),
    };
    let flags = NamedPassword::default();
    let found = Password::find(
        &flags,
        &configured,
        &context.env,
        &folder(context.manager_home()),
    );
    let Some(Password::File(path)) = found else {
        return None;
    };
    Some(match mode_open_to_others(&path) {
        None => Check::ok(ID, "only you can read the password file"),
        Some(mode) => Check::warn(
            ID,
            format!(
                "other users can access the password file ({mode:o}): {}",
                path.display()
            ),
        )
        .because("the password opens every snapshot, with the logins in it")
        .fixed_by_chmod("600", &path),
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
    let drill = AgeCheck {
        id: ID,
        at: state.drill_passed_at,
        max_days: OLD_DRILL_DAYS,
        message: |age| format!("the last good drill was {age} ago"),
        never: "no drill has restored a snapshot",
        why: "a backup is proven only by a restore",
        fix: "codex-manager vault drill",
    };
    drill.run(now)
}
