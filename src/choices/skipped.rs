//! Warnings of rollouts that a command left out.

use crate::context::Context;
use crate::history::SkippedFile;
use crate::views::account::printable;

/// Warns of rollouts that could not be read.
pub(crate) fn warn_skipped(skipped: &[SkippedFile], context: &Context) {
    for file in skipped {
        context.ui.warn(format_args!(
            "skipped: {}: {}",
            printable(&file.reason),
            file.path.display()
        ));
    }
}
