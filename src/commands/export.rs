//! `export`: writes conversations as Markdown, HTML or JSON.

use crate::choices::conversation_choice::find_conversation;
use crate::choices::conversation_picker::ConversationPicker;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result, check_interrupt};
use crate::steps::new_file::publish_new;
use crate::ui::bytes;
use crate::views::conversation_parts::ConversationParts;
use crate::views::export_formatter::ExportFormatter;
use crate::views::transcript_text::{to_command_error, to_outcome, warn_of_left_out};
use clap::{Args, ValueEnum};
use codex_manager_core::codex::redaction::redact_and_count;
use codex_manager_core::conversations::html::HtmlWriter;
use codex_manager_core::conversations::left_out::LeftOut;
use codex_manager_core::conversations::markdown::MarkdownWriter;
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::conversations::transcript::TranscriptOptions;
use codex_manager_core::io::settings::choice_name;
use codex_manager_core::io::{IoContext as _, TempFile, Zone, pluralize};
use serde::Serialize;
use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Export conversations as Markdown, HTML or JSON
///
/// Secrets in the text are replaced by `[redacted]`, as far as their form or name shows what they are; read
/// the result before you publish it. HTML is one page that loads nothing from elsewhere.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager export 01a1fd26 > parser.md
  codex-manager export 01a1fd26 --format html --out parser.html
  codex-manager export 01a1fd26 01a1fe00 --format json --out exports")]
pub(crate) struct ExportArgs {
    /// Ids, titles, beginnings of either, or paths of rollouts [default: a picker]
    #[arg(value_name = "SESSION")]
    sessions: Vec<String>,
    /// The format of the files
    #[arg(long, value_name = "FORMAT", default_value = "md")]
    format: ExportFormat,
    /// The new file, or for several conversations the folder [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Include the outputs of tools in Markdown and JSON; HTML always has them, folded
    #[arg(long)]
    tools: bool,
    /// Include summaries of reasoning
    #[arg(long)]
    reasoning: bool,
    /// Leave images out of HTML
    #[arg(long)]
    no_images: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Markdown for reading and pasting
    Md,
    /// One self-contained HTML page
    Html,
    /// JSON with one object for each message
    Json,
}

#[derive(Debug, Serialize)]
struct ExportedFile {
    session_id: String,
    path: String,
    bytes: u64,
    redacted: usize,
}

impl ExportArgs {
    /// # Errors
    /// No conversation or several match, a rollout cannot be read, or the file exists or cannot be written.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let ui = &context.ui;

        // Stdout takes one conversation, and with `--json` only the document.
        if self.out.is_none() && (self.sessions.len() > 1 || ui.wants_json()) {
            return Err(CommandError::usage("no destination for the export")
                .hint("name a file, or for several conversations a folder: --out FILE"));
        }

        let sessions = self.find_conversations(context)?;
        let mut files = Vec::new();
        let mut redacted = 0;
        let mut left_out = LeftOut::default();
        let mut used_ids = HashSet::new();
        for session in &sessions {
            fail_if_interrupted()?;
            let Some(out) = &self.out else {
                let mut print = |text: &str| -> Result<()> {
                    ui.print_part(text);
                    Ok(())
                };
                redacted += self.write_conversation(session, &mut left_out, context, &mut print)?;
                continue;
            };

            let mut path = context.env.absolute(out);
            if sessions.len() > 1 {
                std::fs::create_dir_all(&path).at("create folder", &path)?;
                let is_id_free = used_ids.insert(&session.id);
                path = path.join(self.export_file_name(session, is_id_free));
            }

            let file = self.save_conversation(session, &path, &mut left_out, context)?;
            redacted += file.redacted;
            ui.report(format_args!("{} {}", bytes(file.bytes), file.path));
            files.push(file);
        }

        if redacted > 0 {
            ui.note(format_args!(
                "{} redacted",
                // `pluralize` adds the s only to the last noun.
                pluralize(redacted, "token or key").replace("token or keys", "tokens or keys")
            ));
        }
        let outcome = to_outcome(&left_out, context);
        ui.list_document("export", "files", &files);
        Ok(outcome)
    }

    /// Returns the conversations that the arguments name, each once; without arguments, one that the user picks.
    fn find_conversations(&self, context: &Context) -> Result<Vec<NamedConversation>> {
        if self.sessions.is_empty() {
            let picked = pick_conversation(context)?;
            fail_if_interrupted()?;
            return Ok(vec![find_conversation(&picked, context)?]);
        }

        let mut conversations = Vec::new();
        let mut found_rollouts = HashSet::new();
        for name in &self.sessions {
            fail_if_interrupted()?;
            let conversation = find_conversation(name, context)?;
            // An id and a title may name the same conversation.
            if found_rollouts.insert(conversation.rollout.clone()) {
                conversations.push(conversation);
            }
        }
        Ok(conversations)
    }

    /// Returns the file name for a conversation: its id if `is_id_free`. Otherwise the file of another rollout has the
    /// id as its name, and the name of the rollout is used.
    fn export_file_name(&self, session: &NamedConversation, is_id_free: bool) -> String {
        let stem = match session.rollout.file_stem() {
            Some(rollout_stem) if !is_id_free => rollout_stem.to_string_lossy(),
            _ => session.id.clone().into(),
        };
        format!("{stem}.{}", choice_name(&self.format))
    }

    /// Writes a conversation to the new file `path`; see [`Self::write_conversation`].
    fn save_conversation(
        &self,
        session: &NamedConversation,
        path: &Path,
        left_out: &mut LeftOut,
        context: &Context,
    ) -> Result<ExportedFile> {
        // The file gets its name when it is complete, so an interrupted export leaves no half of a conversation behind.
        let mut temp = TempFile::create_beside(path)?;

        let mut bytes = 0;
        let mut file = BufWriter::new(temp.file());
        let redacted = self.write_conversation(session, left_out, context, &mut |text| {
            bytes += text.len() as u64;
            Ok(file.write_all(text.as_bytes()).at("write", path)?)
        })?;
        file.flush().at("write", path)?;
        drop(file);

        publish_new(temp, path)?;
        Ok(ExportedFile {
            session_id: session.id.clone(),
            path: path.display().to_string(),
            bytes,
            redacted,
        })
    }

    /// Formats a conversation and passes it to `emit`, part by part. Returns the number of redacted secrets. Adds the
    /// parts of the conversation that cannot be read to `left_out`.
    fn write_conversation(
        &self,
        session: &NamedConversation,
        left_out: &mut LeftOut,
        context: &Context,
        emit: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<usize> {
        let options = TranscriptOptions {
            outputs: self.tools || self.format == ExportFormat::Html,
            images: self.format == ExportFormat::Html,
            reasoning: self.reasoning,
            ..TranscriptOptions::default()
        };

        let mut redacted = 0;
        let mut redact = |text: &str| {
            if context.settings.flags.no_redact {
                return text.to_owned();
            }

            let (text, count) = redact_and_count(text);
            redacted += count;
            text
        };

        let parts = ConversationParts::read_chain(session);
        let mut formatter = self.create_formatter(context.zone());
        emit(&formatter.format_head(session, &parts, context, &mut redact))?;

        // The callback returns only whether to go on, so `write_result` keeps the error of `emit`.
        let mut write_result = Ok(());
        let read_result = parts.read(options, &mut redact, |piece| {
            write_result = emit(&formatter.format_piece(piece));
            write_result.is_ok()
        });
        let left_out_here = read_result.map_err(|e| to_command_error(session, e))?;
        write_result?;
        warn_of_left_out(&left_out_here, session, context);
        *left_out += left_out_here;
        emit(&formatter.format_end(redacted))?;
        Ok(redacted)
    }

    fn create_formatter(&self, zone: Zone) -> ExportFormatter {
        match self.format {
            ExportFormat::Md => ExportFormatter::Markdown(MarkdownWriter::new(self.tools, zone)),
            ExportFormat::Html => ExportFormatter::Html(HtmlWriter::new(!self.no_images, zone)),
            ExportFormat::Json => ExportFormatter::Json {
                zone,
                is_first: true,
            },
        }
    }
}

fn fail_if_interrupted() -> Result<()> {
    check_interrupt().map_err(|e| e.hint("the listed files are complete"))
}

fn pick_conversation(context: &Context) -> Result<String> {
    let picker = ConversationPicker {
        enter: "export",
        usage: &["name it: codex-manager export SESSION"],
        ..ConversationPicker::default()
    };
    Ok(picker.pick(context)?.id)
}
