//! The steps around each change of a profile: the lock on the account before, and the updates of `cooldown.json` and
//! `config.toml` after.

use crate::config::file::ConfigFile;
use crate::config::{Setting, file_access};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::switch_account::update_cooldown_file;
use crate::views::account::{printable, warn_unless_recorded};
use crate::views::dry_run::wording;
use codex_manager_core::accounts::AccountLocks;
use codex_manager_core::codex::login_lock;

/// Records the profiles in `cooldown.json`. A failure is only a warning, because the change of the profiles is done.
pub(super) fn record_profiles(context: &Context) -> Outcome {
    // `update_cooldown_file` itself reads and records all profiles.
    let update = update_cooldown_file(context, |_| {});
    Outcome::partial_if(!warn_unless_recorded(&context.ui, update.err()))
}

/// Records the profiles, unless none has changed.
pub(super) fn record_profiles_if(has_changed: bool, context: &Context) -> Outcome {
    if has_changed {
        record_profiles(context)
    } else {
        Outcome::Done
    }
}

/// Replaces the name of a renamed profile in the folder settings of `config.toml`, and prints each changed setting. A
/// failure is only a warning, because the profile is renamed already. In a dry run, writes nothing.
pub(super) fn rename_in_settings(
    old: &str,
    new: &str,
    dry_run: bool,
    context: &Context,
) -> (Vec<String>, Outcome) {
    let home = context.manager_home();
    let changed = if dry_run {
        ConfigFile::read(home).and_then(|mut file| file.rename_profile(old, new))
    } else {
        file_access::update(home, |file| file.rename_profile(old, new))
    };
    let names: Vec<_> = changed.iter().flatten().map(Setting::name).collect();
    let change_verb = wording(dry_run, "would change", "changed");
    for name in &names {
        context.ui.prose(format_args!(
            "{change_verb} the setting {}: {} → {}",
            printable(name),
            printable(old),
            printable(new)
        ));
    }
    let is_recorded = warn_unless_recorded(&context.ui, changed.err());
    (names, Outcome::partial_if(!is_recorded))
}

/// Locks the account of a profile against other codex-manager processes before its login changes. If a killed
/// probe or launch left the login in its own home, moves the login back to the profile. `None` in a dry run, or if the
/// profile or its account is unknown.
pub(super) fn lock_account(
    name: &str,
    dry_run: bool,
    context: &Context,
) -> Result<Option<AccountLocks>> {
    if dry_run {
        return Ok(None);
    }
    let (profiles, now) = (context.profiles(), context.local_now());
    Ok(profiles.lock_account_named(name, now, login_lock::REFRESH_TIMEOUT)?)
}
