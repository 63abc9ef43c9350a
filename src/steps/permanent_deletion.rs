//! Asks before something is deleted permanently.

use crate::context::Context;
use crate::error::{CommandError, Result};

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
