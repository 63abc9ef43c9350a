//! `diff`: what the Codex home lost or gained since an archive.

mod automations;
mod content;
mod conversations;

use self::content::{Change, DiffedContent};
use self::conversations::ConversationDiff;
use crate::choices::archive_choice::find_archive;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Cell, Column, Style, Table};
use crate::views::account::{printable, short_id, shown_title};
use clap::Args;
use codex_manager_core::archive::{ArchiveReader, BackupMode, CaptureScope, scan};
use codex_manager_core::inventory::ArchiveRecord;
use codex_manager_core::inventory::archive_names::{LATEST, file_name, strip_archive_suffix};
use codex_manager_core::io::pluralize;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// Show what the Codex home lost or gained since an archive
///
/// Compares conversations by messages, not by bytes: a rollout that Codex migrated or compressed has not changed.
/// Also compares the keys of config.toml, MCP servers, skills, prompts and rules, and names the automations of Codex
/// Desktop that came or went. Prints no values. Exits with 0 whether or not anything changed, and with 6 if config.toml or
/// the automations cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager diff                    # since the latest archive
  codex-manager diff latest~3
  codex-manager diff --json | jq '.conversations[] | select(.messages_lost>0)'")]
pub(crate) struct DiffArgs {
    /// A name under backups/ or its beginning, a number of `list-backups`, a path, `latest` or `latest~N`
    #[arg(value_name = "ARCHIVE", default_value = LATEST)]
    archive: PathBuf,
}

/// The JSON document. Its keys are a contract.
#[derive(Serialize)]
struct DiffJson {
    archive: String,
    conversations: Vec<ConversationDiff>,
    content: Vec<DiffedContent>,
}

impl DiffArgs {
    /// # Errors
    /// There is no such archive, or the home or the archive cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let path = find_archive(context, &self.archive, ArchiveRecord::is_usable)?;
        let archive = ArchiveReader::open(&path)?;
        let home = context.codex_home();
        let scope = CaptureScope::new(home, BackupMode::Full);
        let new_name_table = Arc::default();
        let home_scan = scan::scan_home(&scope, &new_name_table)?;
        let conversations = conversations::compare_conversations(&archive, &home_scan, context)?;

        // If a config.toml cannot be read, all other content is still compared.
        let settings = content::compare_settings(&archive, home);
        if let Err(e) = &settings {
            let problem = e.to_one_line();
            context.warn(format_args!("the settings are not compared: {problem}"));
        }
        // A database of Codex Desktop may be damaged or locked.
        let automations = automations::compare_automations(&archive, &home_scan, home);
        if let Err(e) = &automations {
            let problem = e.to_one_line();
            context.warn(format_args!("the automations are not compared: {problem}"));
        }
        let is_partial = settings.is_err() || automations.is_err();
        let mut changes = settings.unwrap_or_default();
        changes.extend(content::compare_files(&archive, &home_scan, home)?);
        changes.extend(automations.unwrap_or_default());

        let document = DiffJson {
            archive: strip_archive_suffix(&file_name(archive.path())).to_owned(),
            conversations,
            content: changes,
        };
        show_differences(&document, is_partial, context);
        context.ui.document("diff", &document);
        Ok(Outcome::partial_if(is_partial))
    }
}

const CONVERSATION_COLUMNS: [Column; 5] = [
    Column::new("CHANGE"),
    Column::new("TITLE").shorten(8),
    Column::new("GAINED").number().rank(1),
    Column::new("LOST").number().rank(1),
    Column::new("CONVERSATION").rank(2),
];

fn show_differences(document: &DiffJson, is_partial: bool, context: &Context) {
    let ui = &context.ui;
    let archive = printable(&document.archive);

    if document.conversations.is_empty() && document.content.is_empty() {
        let nothing = if is_partial {
            "nothing else"
        } else {
            "nothing"
        };
        ui.prose(format_args!("{nothing} changed since {archive}"));
        return;
    }

    ui.prose(format_args!("since {archive}: {}", describe_sums(document)));
    if !document.conversations.is_empty() {
        let rows = document.conversations.iter().map(|row| {
            let is_lossy = row.messages_lost > 0;
            let style = if is_lossy { Style::Warn } else { Style::Plain };
            [
                row.change.to_cell(),
                Cell::plain(shown_title(&row.title)),
                Cell::plain(row.messages_gained.to_string()),
                Cell::new(style, row.messages_lost.to_string()),
                Cell::new(Style::Dim, short_id(&row.session_id)),
            ]
        });
        Table::with_rows(ui, CONVERSATION_COLUMNS, rows).print(ui);
    }

    if !document.content.is_empty() {
        if !document.conversations.is_empty() {
            ui.line("");
        }
        let rows = document.content.iter().map(|row| {
            let (kind, name) = (Cell::plain(row.kind.name()), printable(&row.name));
            [row.change.to_cell(), kind, Cell::plain(name)]
        });
        Table::with_rows(ui, ["CHANGE", "KIND", "NAME"].map(Column::new), rows).print(ui);
    }

    // `history losses` does not list conversations that the user deleted as a whole.
    let is_lossy = |row: &ConversationDiff| row.change == Change::Changed && row.messages_lost > 0;
    if document.conversations.iter().any(is_lossy) {
        ui.note("bring messages back: codex-manager history losses");
    }
}

/// Describes the numbers of changed conversations and messages: "46 conversations removed, 1 added; 2 messages gained, 322
/// lost".
fn describe_sums(document: &DiffJson) -> String {
    let rows = &document.conversations;
    let count = |change| rows.iter().filter(|row| row.change == change).count();
    let counts = [
        (count(Change::Removed), "removed"),
        (count(Change::Added), "added"),
        (count(Change::Changed), "changed"),
    ];
    let mut texts: Vec<_> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, verb)| format!("{} {verb}", pluralize(count, "conversation")))
        .collect();

    let sum = |get: fn(&ConversationDiff) -> usize| rows.iter().map(get).sum::<usize>();
    let (gained, lost) = (sum(|row| row.messages_gained), sum(|row| row.messages_lost));
    texts.push(format!("{} gained", pluralize(gained, "message")));
    texts.push(format!("{} lost", pluralize(lost, "message")));
    texts.join(", ")
}
