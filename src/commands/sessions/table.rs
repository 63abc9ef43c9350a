//! The table of conversations, with as many columns as the terminal has room for.

use super::super::account::{printable, short_id, shortened};
use super::session_view::SessionView;
use crate::context::Context;
use crate::io::quantity::pluralize;
use crate::ui::Style;
use crate::ui::table::Table;
use crate::ui::time;
use chrono::{DateTime, Datelike, Utc};
use std::path::Path;

/// The width in columns from which folder, size and account are shown.
const WIDTH_WITH_PROJECT: usize = 60;
const WIDTH_WITH_SIZE: usize = 80;
const WIDTH_WITH_ACCOUNT: usize = 100;

/// The longest project and account, in characters.
const PROJECT_CHARS: usize = 16;
const ACCOUNT_CHARS: usize = 14;

/// The shortest title, in characters.
const MIN_TITLE_CHARS: usize = 16;

/// A conversation in the table.
pub(super) struct SessionRow {
    pub session: SessionView,
    /// The number of conversations above it, of which it is a subagent.
    pub depth: usize,
    /// The number of its subagents that are not shown.
    pub folded: usize,
    /// True if a Codex process has it open.
    pub is_running: bool,
}

/// Prints the table on stdout.
pub(super) fn print(rows: &[SessionRow], context: &Context) {
    let ui = &context.ui;
    let width = ui.width();
    let mut heads = vec!["SESSION", "AGE"];
    let mut used = 13 + 2 + 7 + 2;
    for (head, from, columns) in [
        ("PROJECT", WIDTH_WITH_PROJECT, PROJECT_CHARS + 2),
        ("ACCOUNT", WIDTH_WITH_ACCOUNT, ACCOUNT_CHARS + 2),
        ("SIZE", WIDTH_WITH_SIZE, 10),
    ] {
        if width >= from {
            heads.push(head);
            used += columns;
        }
    }
    heads.push("TITLE");
    let title_chars = width.saturating_sub(used).max(MIN_TITLE_CHARS);
    let mut table = Table::new(ui, &heads);
    for row in rows {
        let session = &row.session;
        let cells = heads.iter().map(|head| match *head {
            "SESSION" => (Style::Plain, printable(short_id(&session.id))),
            "AGE" => (Style::Dim, age(session.updated_ms, context)),
            "PROJECT" => (
                Style::Plain,
                printable(&shortened(folder_name(&session.cwd), PROJECT_CHARS)),
            ),
            "ACCOUNT" => (Style::Plain, account(session)),
            "SIZE" => {
                let size = session.bytes.map_or("–".to_owned(), time::bytes);
                (Style::Plain, size)
            }
            _ => title(row, title_chars),
        });
        table.row(ui, cells);
    }
    table.keep_whole(0);
    table.keep_whole(1);
    ui.line(table.render());
}

fn account(session: &SessionView) -> String {
    let name = session.profile.as_deref().or(session.email.as_deref());
    printable(&shortened(name.unwrap_or("–"), ACCOUNT_CHARS))
}

fn folder_name(path: &str) -> &str {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path)
}

/// Returns the title, then the badges in brackets. The badges are always shown whole.
fn title(row: &SessionRow, chars: usize) -> (Style, String) {
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
    let badges = match &badges[..] {
        [] => String::new(),
        _ => format!(" [{}]", badges.join(", ")),
    };
    let indent = match row.depth {
        0 => String::new(),
        depth => format!("{}└ ", "  ".repeat(depth - 1)),
    };
    let taken = indent.chars().count() + badges.chars().count();
    let title = shortened(&session.title, chars.saturating_sub(taken).max(8));
    let style = if row.is_running {
        Style::Good
    } else {
        Style::Plain
    };
    (style, printable(&format!("{indent}{title}{badges}")))
}

/// Formats the time since the last change: "5 min", "3 h", "6 d", else the date.
fn age(updated_ms: Option<i64>, context: &Context) -> String {
    let Some(at) = updated_ms.and_then(DateTime::<Utc>::from_timestamp_millis) else {
        return "–".to_owned();
    };
    let now = context.now();
    let minutes = (now - at).num_minutes();
    match minutes {
        ..1 => "now".to_owned(),
        1..60 => format!("{minutes} min"),
        60..1440 => format!("{} h", minutes / 60),
        1440..20160 => format!("{} d", minutes / 1440),
        _ => {
            let zone = context.settings.zone;
            let (at, now) = (zone.at(&at), zone.at(&now));
            let format = if at.year() == now.year() {
                "%-d %b"
            } else {
                "%b %Y"
            };
            at.format(format).to_string()
        }
    }
}
