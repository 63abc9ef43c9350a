//! Checks and cleanup around a capture.

use crate::codex::auth::Login;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::cleanup;
use crate::steps::backup_plan::BackupPlan;
use std::path::Path;

/// Refuses a backup of two accounts: the login must be the same before and after the capture.
pub(crate) fn check_account_unchanged(
    plan: &BackupPlan,
    captured: Option<&Login>,
) -> Result<(), CommandError> {
    let before = plan.report.identity.as_ref();
    let after = captured.map(|login| &login.identity);
    if let (Some(before), Some(after)) = (before, after)
        && !before.is_same(after)
    {
        return Err(CommandError::failed(format!(
            "the login changed from {before} to {after} while the home was captured"
        ))
        .hint("run the same command again; no backup was made"));
    }
    Ok(())
}

/// Removes leftovers of killed processes from the manager home. A failure is a warning: leftovers
/// only take space.
pub(crate) fn remove_stale_temps(context: &Context, manager: &Path) {
    for e in cleanup::remove_stale_temps(manager) {
        let message = CommandError::from(e).in_one_line();
        context.ui.warn(format_args!(
            "cannot remove leftovers in {}: {message}",
            manager.join("tmp").display()
        ));
    }
}
