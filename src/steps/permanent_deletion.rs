//! Asks before something is deleted permanently.

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Asks for confirmation before snapshots are removed from the vault; `--yes` skips the question. `count` is their number
/// with its noun.
///
/// # Errors
/// The user declines, or there is no terminal.
pub(crate) fn confirm_snapshots(context: &Context, count: &str) -> Result<()> {
    let question = format_args!("remove {count} permanently?");
    if context.settings.assume_yes || context.ui.confirm(question) == Some(true) {
        return Ok(());
    }
    let message = format!("removing snapshots needs confirmation: {count}");
    Err(CommandError::refused(message)
        .hint("remove them permanently with --yes; nothing was changed"))
}

/// Asks for confirmation before `what` is deleted from the trash; `--yes` skips the question.
///
/// # Errors
/// The user declines, or there is no terminal.
pub(crate) fn confirm(context: &Context, what: &str) -> Result<()> {
    let question = format_args!("delete {what} permanently?");
    if context.settings.assume_yes || context.ui.confirm(question) == Some(true) {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "deleting from the trash needs confirmation: {what}"
    ))
    .hint("delete them permanently with --yes; nothing was changed"))
}
