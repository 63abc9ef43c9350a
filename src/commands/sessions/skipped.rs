//! Warnings of rollouts that a command left out.

use super::super::account::printable;
use crate::context::Context;
use crate::history::SkippedFile;

/// Warns of rollouts that could not be read.
pub(in crate::commands) fn warn_skipped(skipped: &[SkippedFile], context: &Context) {
    for file in skipped {
        context.ui.warn(format_args!(
            "skipped: {}: {}",
            printable(&file.reason),
            file.path.display()
        ));
    }
}
