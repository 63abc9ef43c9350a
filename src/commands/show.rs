//! `show`: prints a conversation to read.

use crate::choices::conversation_choice::find_conversation;
use crate::choices::conversation_picker::{ConversationPicker, ScreenEnd};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::object;
use crate::views::conversation_parts::{ConversationParts, TranscriptPiece};
use crate::views::export_formatter::entry_json;
use crate::views::transcript_text::{format_head, to_command_error, to_outcome, warn_of_left_out};
use clap::{Args, ValueEnum};
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::conversations::index::truncate_bytes;
use codex_manager_core::conversations::left_out::LeftOut;
use codex_manager_core::conversations::markdown::MarkdownWriter;
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::conversations::raw_lines::RawLines;
use codex_manager_core::conversations::transcript::TranscriptOptions;
use codex_manager_core::io::pluralize;
use std::io;

/// Show a conversation to read
///
/// Prints the messages by turn, with tool calls folded to one line, in a pager on a terminal. What Codex
/// replaced by a summary is still there, and marked. Secrets in the text are replaced by `[redacted]`, as in
/// exports.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager show                           # choose one
  codex-manager show 01a1fd26
  codex-manager show \"Fix the parser\" --tools --reasoning
  codex-manager show 01a1fd26 --turn 3
  codex-manager show 01a1fd26 --format md --max-bytes 20000")]
pub(crate) struct ShowArgs {
    /// An id, a title, the beginning of either, or the path of a rollout [default: a picker]
    #[arg(value_name = "SESSION")]
    pub(crate) session: Option<String>,
    /// Show tool calls and their outputs in full
    #[arg(long)]
    tools: bool,
    /// Show summaries of reasoning
    #[arg(long)]
    reasoning: bool,
    /// Show only this turn
    #[arg(long, value_name = "N")]
    turn: Option<u32>,
    /// Print the lines of the rollout as they are, with secrets
    #[arg(long, conflicts_with_all = ["tools", "reasoning", "turn", "format", "max_bytes"])]
    raw: bool,
    /// Markdown without colours and pager [default: on a terminal rendered, else Markdown]
    #[arg(long, value_name = "FORMAT")]
    format: Option<ShowFormat>,
    /// Stop after this many bytes of Markdown
    #[arg(long, value_name = "N")]
    max_bytes: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    /// Markdown for reading and pasting
    Md,
}

impl ShowArgs {
    /// # Errors
    /// No conversation or several match, it has no such turn, or the rollout cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        if let Some(session_text) = &self.session {
            return self.show(&find_conversation(session_text, context)?, context);
        }

        let picker = ConversationPicker {
            enter: "show",
            usage: &["name it: codex-manager show SESSION"],
            ..ConversationPicker::default()
        };
        match picker.run(context)? {
            ScreenEnd::Chosen(id) => self.show(&find_conversation(&id, context)?, context),
            ScreenEnd::Done(outcome) => Ok(outcome),
        }
    }

    /// Prints a conversation as JSON, raw lines or Markdown. Parts that cannot be read make the outcome partial.
    fn show(&self, session: &NamedConversation, context: &Context) -> Result<Outcome> {
        let options = TranscriptOptions {
            outputs: self.tools,
            images: false,
            reasoning: self.reasoning,
            turn: self.turn,
        };

        // The numbers of turns in hits of `find` count only the conversation itself, so the continued conversation is
        // left out.
        let mut parts = ConversationParts::read_chain(session);
        if let Some(turn) = self.turn {
            parts = parts.without_other_conversations();
            require_turn(session, &parts, turn, context)?;
        }

        let left_out = if context.ui.wants_json() {
            print_json(session, &parts, options, context)?
        } else {
            let printed = if self.raw {
                print_raw(session, context)
            } else {
                self.print_markdown(session, &parts, options, context)
            };
            printed.map_err(|e| to_command_error(session, e))?
        };

        warn_of_left_out(&left_out, session, context);
        Ok(to_outcome(&left_out, context))
    }

    /// Prints the conversation up to `--max-bytes`, or until the user closes the pager. Only a terminal gets rendered
    /// text in a pager. Returns the parts that were left out.
    fn print_markdown(
        &self,
        session: &NamedConversation,
        parts: &ConversationParts,
        options: TranscriptOptions,
        context: &Context,
    ) -> io::Result<LeftOut> {
        let ui = &context.ui;
        let is_rendered = self.format.is_none() && self.max_bytes.is_none() && ui.is_terminal();
        let mut pager = is_rendered.then(|| ui.start_pager(&context.env));
        let mut bytes_left = self.max_bytes.unwrap_or(usize::MAX);

        // Returns false if the text was cut at the limit, or if the user closed the pager.
        let mut write = |text: &str| {
            if let Some(pager) = &mut pager {
                return pager.write(&ui.render_markdown(text));
            }

            // The limit may be inside of a character, and this character is left out.
            let shown_text = truncate_bytes(text, bytes_left);
            ui.print_part(shown_text);
            bytes_left -= shown_text.len();
            shown_text.len() == text.len()
        };

        let mut was_cut = !write(&hide_secrets(&format_head(session, parts)));
        // If the head was cut already, there may be messages that were not read.
        let mut has_entries = was_cut;
        let mut last_turn = 0;

        let mut writer = MarkdownWriter::new(self.tools, context.zone());
        let mut left_out = LeftOut::default();
        if !was_cut {
            left_out = parts.read(
                options,
                &mut |text| hide_secrets(text).into_owned(),
                |piece| {
                    let text = match piece {
                        TranscriptPiece::Mark(mark) => writer.begin_part(&mark),
                        TranscriptPiece::Entry(_, entry) => {
                            has_entries = true;
                            last_turn = entry.turn;
                            writer.format_entry(&entry)
                        }
                    };

                    was_cut = !write(&text);
                    !was_cut
                },
            )?;
        }

        drop(pager);
        // Without `max_bytes`, `was_cut` means that the user closed the pager, which needs no note.
        if was_cut && let Some(max_bytes) = self.max_bytes {
            ui.print_part("\n");
            let place = match last_turn {
                0 => "before turn 1".to_owned(),
                turn => format!("in turn {turn}"),
            };
            ui.note(format_args!(
                "cut after {max_bytes} bytes, {place}; show more with --max-bytes, or another turn with: --turn N"
            ));
        }

        if !has_entries {
            ui.note(match self.turn {
                Some(_) => "the conversation has no such turn",
                None => "the conversation has no messages",
            });
        }
        Ok(left_out)
    }
}

/// Prints the JSON document. The entries are read while they are printed, so that memory does not hold them all.
/// Returns the parts that were left out.
fn print_json(
    session: &NamedConversation,
    parts: &ConversationParts,
    options: TranscriptOptions,
    context: &Context,
) -> Result<LeftOut> {
    // Read once before printing, so that an error leaves no half document on stdout.
    let go_on = |_: TranscriptPiece<'_>| true;
    let readable = parts.read(options, &mut |text| text.to_owned(), go_on);
    let left_out = readable.map_err(|e| to_command_error(session, e))?;

    let facts = object()
        .with("id", &session.id)
        .with("title", &session.title)
        .with("missing_parent", &parts.missing_parent);
    let ui = &context.ui;
    ui.stream_list_document("show", "turns", facts, |print| {
        // The document hides the secrets in its texts.
        let printed = parts.read(options, &mut str::to_owned, |piece| match piece {
            TranscriptPiece::Entry(id, entry) => print(&entry_json(id, entry, context.zone())),
            TranscriptPiece::Mark(_) => true,
        });
        // The second read leaves out the same parts as the first one.
        printed.map(drop).map_err(|e| to_command_error(session, e))
    })?;
    Ok(left_out)
}

/// Refuses a turn that the conversation does not have. Turn 0 has the entries before the first turn.
fn require_turn(
    session: &NamedConversation,
    parts: &ConversationParts,
    turn: u32,
    context: &Context,
) -> Result<()> {
    let options = TranscriptOptions {
        // A turn may have only reasoning.
        reasoning: true,
        ..TranscriptOptions::default()
    };

    let (mut last_turn, mut is_found) = (0, false);
    let read_result = parts.read(options, &mut |text| text.to_owned(), |piece| {
        if let TranscriptPiece::Entry(_, entry) = piece {
            last_turn = last_turn.max(entry.turn);
            is_found = entry.turn == turn;
        }
        !is_found
    });
    let left_out = read_result.map_err(|e| to_command_error(session, e))?;

    if is_found {
        return Ok(());
    }
    warn_of_left_out(&left_out, session, context);
    let noun = if left_out.is_empty() {
        "turn"
    } else {
        "readable turn"
    };
    let count = pluralize(last_turn, noun);
    Err(CommandError::failed(format!(
        "the conversation has {count}; there is no turn {turn}"
    )))
}

/// Prints the lines of the rollout, also damaged ones. Returns the parts that were left out.
fn print_raw(session: &NamedConversation, context: &Context) -> io::Result<LeftOut> {
    let start_offset = 0;
    let mut lines = RawLines::open(&session.rollout, start_offset)?;
    let mut left_out = LeftOut::default();
    while let Some(line) = lines.next_line()? {
        context.ui.print_raw(&[line.bytes, b"\n"].concat());
        if line.is_too_long {
            left_out.long_lines += 1;
        }
    }
    left_out.damaged_rollout = lines.ends_at_damage.then(|| session.rollout.clone());
    Ok(left_out)
}
