//! The lock on the account whose profile changes.

use crate::accounts::lease::AccountLocks;
use crate::accounts::profile::Profiles;
use crate::codex::login_lock;
use crate::context::Context;
use crate::error::CommandError;

/// Locks the account of a profile against other codex-manager processes before its login changes. First
/// recovers a login that a killed probe left in its scratch home. Takes no lock in a dry run.
pub(super) fn lock_account(
    name: &str,
    dry_run: bool,
    profiles: &Profiles,
    context: &Context,
) -> Result<Option<AccountLocks>, CommandError> {
    if dry_run {
        return Ok(None);
    }
    Ok(profiles.lock_account_named(name, context.local_now(), login_lock::REFRESH_TIMEOUT)?)
}
