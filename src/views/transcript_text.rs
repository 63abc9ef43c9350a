//! Conversations as Markdown, for `show` and `export`.

use crate::context::Context;
use crate::error::CommandError;
use crate::views::conversation_parts::ConversationParts;
use chrono::{DateTime, Utc};
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::history::lines::MAX_LINE_BYTES;
use codex_manager_core::io::ansi::strip_escapes;
use codex_manager_core::io::pluralize;
use std::fmt::Write as _;
use std::io;

/// Returns a function that formats times of transcripts, to the minute.
pub(crate) fn minute_format(context: &Context) -> impl Fn(&DateTime<Utc>) -> String + use<> {
    let zone = context.zone();
    move |at| zone.at(at).format("%Y-%m-%d %H:%M").to_string()
}

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

/// Warns of lines of a conversation that were too long to read.
pub(crate) fn warn_of_left_out_lines(count: usize, session: &NamedConversation, context: &Context) {
    if count > 0 {
        context.warn(format_args!(
            "{} longer than {} MiB left out: {}",
            pluralize(count, "line"),
            MAX_LINE_BYTES >> 20,
            session.rollout.display()
        ));
    }
}

/// Converts the error of reading a conversation. An interruption becomes [`CommandError::interrupted`].
pub(crate) fn to_command_error(session: &NamedConversation, error: io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::Interrupted {
        return CommandError::interrupted();
    }
    let path = session.rollout.display();
    CommandError::failed(format!("cannot read the conversation: {path}")).because(error)
}
