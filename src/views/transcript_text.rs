//! Conversations as Markdown, for `show` and `export`.

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::views::account::printable;
use crate::views::conversation_parts::ConversationParts;
use codex_manager_core::conversations::left_out::LeftOut;
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::history::lines::MAX_LINE_BYTES;
use codex_manager_core::io::ansi::strip_escapes;
use codex_manager_core::io::pluralize;
use std::fmt::Write as _;
use std::io;

/// Returns the title and the facts about a conversation as Markdown.
pub(crate) fn format_head(session: &NamedConversation, parts: &ConversationParts) -> String {
    let title = Some(&*session.title).filter(|title| !title.is_empty());
    let mut text = format!(
        "# {}\n\nSession `{}`",
        title.unwrap_or("Conversation"),
        session.id
    );

    let meta = parts.read_own_head();
    if let Some(cwd) = meta.as_ref().and_then(|meta| meta.text("cwd")) {
        let _ = write!(text, " in `{cwd}`");
    }
    if let Some(parent) = parts.continued_id() {
        let _ = write!(text, ", continues `{parent}`");
    }

    text.push('\n');
    strip_escapes(&text).into_owned()
}

/// Warns of the parts of a conversation that could not be read.
pub(crate) fn warn_of_left_out(left_out: &LeftOut, session: &NamedConversation, context: &Context) {
    // The warning names the conversation, because the lines may be in several rollouts.
    let id = printable(&session.id);
    let long_lines = left_out.long_lines;
    if long_lines > 0 {
        let (lines, mib) = (pluralize(long_lines, "line"), MAX_LINE_BYTES >> 20);
        context.warn(format_args!(
            "{lines} longer than {mib} MiB left out: conversation {id}"
        ));
    }
    if left_out.damaged_lines > 0 {
        let lines = pluralize(left_out.damaged_lines, "damaged line");
        context.warn(format_args!("{lines} left out: conversation {id}"));
    }
    if let Some(path) = &left_out.damaged_rollout {
        let path = printable(&path.to_string_lossy());
        context.warn(format_args!(
            "text after the damage in a compressed rollout left out: {path}"
        ));
    }
}

/// Returns the outcome of a command that left out these parts. Says where messages after damage may be.
pub(crate) fn to_outcome(left_out: &LeftOut, context: &Context) -> Outcome {
    if left_out.damaged_rollout.is_some() {
        context.note("list messages that only an archive has: codex-manager history losses");
    }
    Outcome::partial_if(!left_out.is_empty())
}

/// Converts the error of reading a conversation. An interruption becomes [`CommandError::interrupted`].
pub(crate) fn to_command_error(session: &NamedConversation, error: io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::Interrupted {
        return CommandError::interrupted();
    }
    let path = session.rollout.display();
    CommandError::failed(format!("cannot read the conversation: {path}")).because(error)
}
