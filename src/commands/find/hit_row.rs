//! A hit as it is printed: in JSON, for people, and as tab-separated values.

use crate::commands::find::found::{FoundArchive, FoundMachine};
use crate::commands::find::nearby_lines::NearbyLine;
use crate::context::Context;
use crate::ui::{Cell, Column, Style, object, time};
use crate::views::account::{absolute_time, format_local_ms, printable, short_id, shown_title};
use chrono::DateTime;
use codex_manager_core::codex::folder_key::folder_name;
use codex_manager_core::codex::rollout_lines::Role;
use codex_manager_core::conversations::index::format_project;
use codex_manager_core::conversations::search::evaluate::Hit;
use codex_manager_core::conversations::search::snippet::Snippet;
use codex_manager_core::io::shell;
use serde::Serialize;

/// The columns of tab-separated values.
pub(super) const COLUMNS: [Column; 12] = [
    Column::new("SESSION"),
    Column::new("TURN"),
    Column::new("ROLE"),
    Column::new("AT"),
    Column::new("PROJECT"),
    Column::new("ACCOUNT"),
    Column::new("TITLE"),
    Column::new("TEXT"),
    Column::new("SCORE"),
    Column::new("ARCHIVE"),
    Column::new("PATH"),
    Column::new("MACHINE"),
];

pub(super) struct HitRow<'a> {
    pub hit: &'a Hit,
    /// The profile of the conversation's account, or the email if the account has no profile.
    pub account: Option<String>,
    /// Set if the conversation is only in an archive.
    pub archive: Option<&'a FoundArchive>,
    /// Set if only another machine has the found version of the conversation.
    pub machine: Option<&'a FoundMachine>,
    /// The lines around the match; empty without `-C`, and for a hit in a title or an archive.
    pub nearby: Vec<NearbyLine>,
}

impl HitRow<'_> {
    /// Returns the path of the rollout, which may be a copy fetched from another machine. `None` for a conversation in
    /// an archive.
    fn rollout_path(&self) -> Option<String> {
        let path = &self.hit.conversation.path;
        self.archive.is_none().then(|| path.display().to_string())
    }

    /// Returns the hit in JSON. The keys are an interface.
    pub(super) fn to_json(&self, context: &Context) -> impl Serialize + use<'_> {
        let (hit, conversation) = (self.hit, &self.hit.conversation);
        let nearby = self.nearby.iter().map(|line| {
            object()
                .with("turn", line.turn)
                .with("role", line.role)
                .with("text", &line.text.text)
        });

        object()
            .with("session_id", &conversation.session)
            .with("title", &conversation.title)
            .with("cwd", &conversation.cwd)
            .with("account", &self.account)
            .with("path", self.rollout_path())
            .with("turn", hit.turn)
            .with("role", hit.role)
            .with("at", format_local_ms(hit.at_ms, context))
            .with("snippet", &hit.snippet.text)
            .with("nearby", nearby.collect::<Vec<_>>())
            .with("score", hit.score)
            .with("archive", self.archive.map(|archive| &archive.name))
            .with("machine", self.machine.map(|machine| &machine.name))
    }

    pub(super) fn to_cells(&self, context: &Context) -> [Cell; 12] {
        let conversation = &self.hit.conversation;
        [
            conversation.session.clone(),
            self.hit.turn.map_or_else(String::new, |n| n.to_string()),
            self.hit.role.name().to_owned(),
            format_local_ms(self.hit.at_ms, context).unwrap_or_default(),
            conversation.cwd.clone(),
            self.account.clone().unwrap_or_default(),
            conversation.title.clone(),
            self.hit.snippet.text.clone(),
            self.hit.score.to_string(),
            self.archive.map_or_else(String::new, |a| a.name.clone()),
            self.rollout_path().unwrap_or_default(),
            self.machine.map_or_else(String::new, |m| m.name.clone()),
        ]
        .map(Cell::plain)
    }

    /// Returns the hit as text for a person; in a pipe, all lines with texts of the conversation are quoted. The last
    /// line is the command that shows the match, or that restores the conversation from its archive.
    pub(super) fn format_text(&self, context: &Context) -> String {
        let ui = &context.ui;
        let wrap = |indent, text: String| {
            if ui.writes_to_terminal() {
                ui.wrapped(indent, text)
            } else {
                text
            }
        };

        let conversation = &self.hit.conversation;
        let matching_title = self.find_title_matches();
        let title = match &matching_title {
            Some(title) => highlight_matches(title, context),
            None => ui.paint(Style::Strong, shown_title(&conversation.title)),
        };

        let id = short_id(&conversation.session);
        let first_line = [
            ui.paint(Style::Good, id),
            title,
            ui.paint(Style::Dim, self.list_facts(context).join(", ")),
        ];
        let mut lines = vec![wrap(2, first_line.join("  "))];

        // The snippet is printed only if neither the title nor the lines around the match contain it.
        if self.nearby.is_empty() && matching_title.is_none() {
            let author = if self.is_project_snippet() {
                "folder"
            } else {
                self.hit.role.name()
            };
            let place = format_turn_and_author(self.hit.turn, author);
            let place = ui.paint(Style::Dim, place);
            let text = highlight_matches(&self.hit.snippet, context);
            lines.push(wrap(4, format!("    {place} {text}")));
        }

        // The turn and the author are printed once above adjacent lines that have the same ones.
        let mut printed_place = None;
        for line in &self.nearby {
            let place = format_turn_and_author(Some(line.turn), line.role.name());
            if printed_place.as_ref() != Some(&place) {
                lines.push(format!("    {}", ui.paint(Style::Dim, &place)));
                printed_place = Some(place);
            }
            let text = highlight_matches(&line.text, context);
            lines.push(wrap(6, format!("      {text}")));
        }

        if !ui.writes_to_terminal() {
            for line in &mut lines {
                line.insert_str(0, "> ");
            }
        }
        // A separate line that is never wrapped, so that the user can copy the command.
        lines.push(ui.complete_command(4, &self.format_command()));
        lines.join("\n") + "\n"
    }

    /// Returns the title with its matches, if the hit is in the title or in a message of the user, and the title
    /// contains the whole snippet. This is common, because Codex takes the first message as the title.
    fn find_title_matches(&self) -> Option<Snippet> {
        if !matches!(self.hit.role, Role::User | Role::Title) {
            return None;
        }

        let (title, snippet) = (&self.hit.conversation.title, &self.hit.snippet);
        let text = snippet.text.trim_matches('…');
        if text.is_empty() {
            return None;
        }

        // `text` is in both, so the distance of its positions moves a match from the snippet to the title.
        let (start, start_in_title) = (snippet.text.find(text)?, title.find(text)?);
        let to_title = |position: usize| (position + start_in_title).checked_sub(start);
        let matches = snippet.matches.iter();
        let matches = matches.map(|range| Some(to_title(range.start)?..to_title(range.end)?));

        Some(Snippet {
            text: title.clone(),
            matches: matches.collect::<Option<_>>()?,
        })
    }

    /// Returns true if the snippet is a part of the project folder and the branch. The index has these under the role
    /// of the title.
    fn is_project_snippet(&self) -> bool {
        let conversation = &self.hit.conversation;
        let project = format_project(&conversation.cwd, &conversation.branch);
        self.hit.role == Role::Title && project.contains(self.hit.snippet.text.trim_matches('…'))
    }

    /// Returns the age, the project folder and the location of the conversation, for the line with its title.
    fn list_facts(&self, context: &Context) -> Vec<String> {
        let conversation = &self.hit.conversation;
        let mut facts = Vec::new();
        if let Some(at) = conversation
            .updated_ms
            .and_then(DateTime::from_timestamp_millis)
        {
            facts.push(time::format_relative(&at, &context.now()));
        }

        facts.extend(folder_name(&conversation.cwd).map(printable));

        if conversation.archived {
            facts.push("archived".to_owned());
        }
        if let Some(machine) = self.machine {
            facts.push(format!("on {}", printable(&machine.name)));
        }
        if let Some(archive) = self.archive {
            let archived_at = absolute_time(&archive.created_at, context);
            facts.push(format!("only in the archive of {archived_at}"));
        }
        facts
    }

    fn format_command(&self) -> String {
        let session = printable(&self.hit.conversation.session);
        let path = self.hit.conversation.path.to_string_lossy();
        let session_argument = match self.machine {
            // With the id, `show` would print the version of this machine, not the found one.
            Some(machine) if machine.has_local_version => shell::quote_if_needed(&printable(&path)),
            _ if self.hit.conversation.shares_beginning => (&*session).into(),
            _ => short_id(&session).into(),
        };

        match (self.archive, self.hit.turn) {
            (Some(archive), _) => format!(
                "codex-manager restore {} --session {session}",
                shell::quote_if_needed(&printable(&archive.name)),
            ),
            (None, Some(turn)) => {
                format!("codex-manager show {session_argument} --turn {turn}")
            }
            (None, None) => format!("codex-manager show {session_argument}"),
        }
    }
}

fn format_turn_and_author(turn: Option<u32>, author: &str) -> String {
    match turn {
        Some(turn) => format!("turn {turn}, {author}:"),
        None => format!("{author}:"),
    }
}

/// Returns the snippet with its matches in colour.
fn highlight_matches(snippet: &Snippet, context: &Context) -> String {
    let mut text = String::new();
    let mut last_end = 0;
    for range in &snippet.matches {
        text.push_str(&printable(&snippet.text[last_end..range.start]));
        let matching_text = printable(&snippet.text[range.clone()]);
        text.push_str(&context.ui.paint(Style::Warn, matching_text));
        last_end = range.end;
    }
    text.push_str(&printable(&snippet.text[last_end..]));
    text
}
