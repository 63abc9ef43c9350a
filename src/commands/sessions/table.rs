//! The table of conversations.

use crate::choices::conversation_view::ConversationView;
use crate::context::Context;
use crate::io::quantity::pluralize;
use crate::ui::Style;
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time;
use crate::views::account::{local, short_id};
use crate::views::age::age_text;
use chrono::{DateTime, Utc};
use std::path::Path;

const COLUMNS: [Column; 7] = [
    Column::new("SESSION"),
    Column::new("AGE").rank(1),
    Column::new("PROJECT").rank(2).shorten(8),
    Column::new("ACCOUNT").rank(4).shorten(8),
    Column::new("SIZE").number().rank(3),
    Column::new("TITLE").shorten(16),
    Column::new("STATE").rank(5),
];

pub(super) struct ConversationRow {
    pub session: ConversationView,
    /// The number of conversations above it, of which it is a subagent.
    pub depth: usize,
    /// The number of its subagents that are not shown.
    pub folded: usize,
    /// True if a Codex process has it open.
    pub is_running: bool,
}

pub(super) struct ConversationTable<'a> {
    table: Table,
    context: &'a Context,
}

impl<'a> ConversationTable<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            table: Table::new(&context.ui, COLUMNS),
            context,
        }
    }

    pub(super) fn add(&mut self, row: &ConversationRow) {
        let session = &row.session;
        let account = session.profile.as_deref().or(session.email.as_deref());
        let size = session.bytes;
        self.table.row([
            Cell::plain(short_id(&session.id)).value(&session.id),
            age(session.updated_ms, self.context),
            Cell::plain(folder_name(&session.cwd)).value(&session.cwd),
            Cell::plain(account.unwrap_or("–")).value(account.unwrap_or_default()),
            Cell::plain(size.map_or("–".to_owned(), time::bytes))
                .value(size.map_or(String::new(), |size| size.to_string())),
            title(row),
            Cell::new(Style::Dim, badges(row)),
        ]);
    }

    pub(super) fn print(self) {
        self.table.print(&self.context.ui);
    }
}

fn folder_name(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path)
}

/// Returns the title, indented below the conversation of which it is a subagent.
fn title(row: &ConversationRow) -> Cell {
    let indent = match row.depth {
        0 => String::new(),
        depth => format!("{}└ ", "  ".repeat(depth - 1)),
    };
    let style = if row.is_running {
        Style::Good
    } else {
        Style::Plain
    };
    Cell::new(style, format!("{indent}{}", row.session.title)).value(&row.session.title)
}

fn badges(row: &ConversationRow) -> String {
    let session = &row.session;
    let mut badges = Vec::new();
    if row.is_running {
        badges.push("running".to_owned());
    }
    if session.is_unlisted {
        badges.push("unlisted".to_owned());
    }
    if session.archived {
        badges.push("archived".to_owned());
    }
    if session.compressed {
        badges.push("compressed".to_owned());
    }
    if session.source.as_deref() == Some("subagent") {
        let name = Some(&*session.nickname).filter(|name| !name.is_empty());
        badges.push(name.map_or("subagent".into(), |name| format!("subagent {name}")));
    }
    if row.folded > 0 {
        badges.push(pluralize(row.folded, "subagent"));
    }
    badges.join(", ")
}

fn age(updated_ms: Option<i64>, context: &Context) -> Cell {
    let at = updated_ms.and_then(DateTime::<Utc>::from_timestamp_millis);
    let (Some(at), Some(text)) = (at, age_text(updated_ms, context)) else {
        return Cell::plain("–").value("");
    };
    Cell::new(Style::Dim, text).value(local(&context.settings.zone.at(&at), context))
}
