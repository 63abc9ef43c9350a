//! Asks for confirmation before a permanent deletion.

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Asks for confirmation before `objects` are deleted, such as "2 archives, 3 MiB"; `--yes` skips the question.
///
/// # Errors
/// The user declines, or there is no terminal.
pub(crate) fn confirm_deletion(context: &Context, objects: &str) -> Result<()> {
    if context.confirm(format_args!("delete {objects} permanently?")) {
        return Ok(());
    }
    let message = format!("a permanent deletion needs confirmation: {objects}");
    Err(CommandError::refused(message)
        .hint("delete them permanently with --yes; nothing was changed"))
}
