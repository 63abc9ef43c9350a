//! The list and the error where no picker can be shown.

use crate::choices::conversation_picker::rows::OfferedConversation;
use crate::context::Context;
use crate::error::CommandError;

/// The question, also of the error without a terminal.
pub(crate) const QUESTION: &str = "which conversation?";

/// The number of conversations that are listed.
const PLAIN_ROWS: usize = 10;

/// Lists the first conversations on stderr, because stdout is for the result of the command. Returns the error
/// for a missing argument; its hints are `usage`.
pub(crate) fn refuse(
    rows: &[OfferedConversation],
    usage: &[&str],
    context: &Context,
) -> CommandError {
    if !context.ui.wants_json() {
        for row in rows.iter().take(PLAIN_ROWS) {
            context.ui.note(row.plain(context));
        }
        let more = rows.len().saturating_sub(PLAIN_ROWS);
        if more > 0 {
            context.ui.note(format_args!("and {more} more"));
        }
    }
    let mut error = CommandError::usage(QUESTION);
    error
        .hints
        .extend(usage.iter().map(|hint| (*hint).to_owned()));
    error
}
