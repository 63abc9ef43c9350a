//! Asks for confirmation before a permanent deletion.

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Asks for confirmation before snapshots are removed from the vault; `--yes` skips the question. `snapshots` is their
/// number with the noun, such as "3 snapshots".
///
/// # Errors
/// The user declines, or there is no terminal.
pub(crate) fn confirm_snapshots(context: &Context, snapshots: &str) -> Result<()> {
    let question = format_args!("remove {snapshots} permanently?");
    if context.settings.assume_yes || context.ui.confirm(question) == Some(true) {
        return Ok(());
    }
    let message = format!("removing snapshots needs confirmation: {snapshots}");
    Err(CommandError::refused(message)
        .hint("remove them permanently with --yes; nothing was changed"))
}

/// Asks for confirmation before files are deleted from the trash; `--yes` skips the question. `files` describes them,
/// such as "2 archives, 3 MiB".
///
/// # Errors
/// The user declines, or there is no terminal.
pub(crate) fn confirm(context: &Context, files: &str) -> Result<()> {
    let question = format_args!("delete {files} permanently?");
    if context.settings.assume_yes || context.ui.confirm(question) == Some(true) {
        return Ok(());
    }
    Err(CommandError::refused(format!(
        "deleting from the trash needs confirmation: {files}"
    ))
    .hint("delete them permanently with --yes; nothing was changed"))
}
