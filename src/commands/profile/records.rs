//! The steps around each change of a profile: the lock on the account before it, and the update of `cooldown.json` after it.

use crate::accounts::lease::AccountLocks;
use crate::accounts::profile::Profiles;
use crate::codex::auth::Login;
use crate::codex::login_lock;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::quota::account::LoginState;
use crate::steps::switch_account::update_cooldown_file;

/// Records the profiles in `cooldown.json` after a change. The account of `renewed`, a login that was just saved, counts
/// as signed in, unless its login was moved. A failure is only a warning, because the change is done. Does nothing in a
/// dry run.
pub(super) fn update_cooldown(
    context: &Context,
    renewed: Option<&Login>,
    dry_run: bool,
) -> Outcome {
    if dry_run {
        return Outcome::Done;
    }
    let recorded = update_cooldown_file(context, |file| {
        if let Some(login) = renewed {
            let entry = file.entry(&login.identity);
            if entry.login != LoginState::Moved {
                entry.login = LoginState::Ok;
            }
        }
    });
    if let Err(e) = &recorded {
        let problem = e.to_one_line();
        context.warn(format_args!(
            "done, but a record of it could not be written: {problem}"
        ));
    }
    Outcome::partial_if(recorded.is_err())
}

/// Locks the account of a profile against other codex-manager processes before its login changes. First
/// recovers a login that a killed probe left in its scratch home. Takes no lock in a dry run.
pub(super) fn lock_account(
    name: &str,
    dry_run: bool,
    profiles: &Profiles,
    context: &Context,
) -> Result<Option<AccountLocks>> {
    if dry_run {
        return Ok(None);
    }
    Ok(profiles.lock_account_named(name, context.local_now(), login_lock::REFRESH_TIMEOUT)?)
}
