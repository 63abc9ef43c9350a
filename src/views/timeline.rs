//! The timeline of `accounts`: one line per account, one character per few hours.

use crate::context::Context;
use crate::ui::Style;
use crate::ui::text_width::{columns, elide_middle, pad_end};
use crate::views::account::label;
use chrono::{Duration, Timelike};
use codex_manager_core::io::Timestamp;
use codex_manager_core::quota::state::{AccountState, Verdict};
use codex_manager_core::quota::{Account, Observation};

/// One more than the weekly window has, so that each reset has its mark.
const DAYS: usize = 8;

/// The largest width of the name before the line of an account, in columns. On a narrow terminal, the name has at most
/// a third of the width.
const MAX_NAME_WIDTH: usize = 25;

/// Draws the accounts: in cooldown, in an open weekly window, ready, or unknown. The reset of the weekly
/// window has a mark.
pub(super) fn draw_timeline(rows: &[(Account, Verdict)], context: &Context) {
    let ui = &context.ui;
    let max_name_width = MAX_NAME_WIDTH.min(ui.width() / 3);
    let names: Vec<String> = rows
        .iter()
        .map(|(account, _)| elide_middle(&label(account), max_name_width).into_owned())
        .collect();
    let name_width = names.iter().map(|n| columns(n)).max().unwrap_or(0);

    // A cell is at least an hour long. At least three cells a day have room for the name of the day.
    let cells_per_day = (ui.width().saturating_sub(name_width + 2) / DAYS).clamp(3, 24);
    let cell_duration = Duration::days(1) / i32::try_from(cells_per_day).unwrap_or(24);

    let mut starts: Vec<Timestamp> = Vec::new();
    let mut at = context.local_now();
    for _ in 0..=DAYS * cells_per_day {
        // Each cell is converted on its own: a day with a change of the clocks has 23 or 25 hours.
        starts.push(context.zone().at(&at.to_utc()));
        at += cell_duration;
    }

    let day_names = format_day_names(&starts, cells_per_day);
    let head = format!("{:name_width$}  {day_names}", "");
    ui.line(ui.paint(Style::Dim, head));
    for ((account, verdict), name) in rows.iter().zip(names) {
        let line = build_line(account, verdict, &starts)
            .map(|(style, part)| ui.paint(style, part))
            .concat();
        ui.line(format_args!("{}  {line}", pad_end(&name, name_width)));
    }

    let legend = "█ cooldown  ─ window running  ┤ reset  · ready  ? unknown";
    let indent = (name_width + 2).min(ui.width().saturating_sub(legend.chars().count()));
    let legend = format!("{:indent$}{legend}", "");
    ui.line(ui.paint(Style::Dim, ui.wrapped(indent, legend)));
}

/// Returns the line with the names of the days, each starting at the column of its midnight. Names have two letters if
/// a day has only three cells. `starts` has the start of each cell, and the end of the last cell.
fn format_day_names(starts: &[Timestamp], cells_per_day: usize) -> String {
    let name_chars = if cells_per_day > 3 { 3 } else { 2 };
    let has_midnight = |cells: &[Timestamp]| {
        let last = cells.last();
        last.is_some_and(|last| last.date_naive() != cells[0].date_naive())
    };

    // The first day has a name only before noon, and only if that name would not overlap the next one.
    let names_first_day = starts[0].hour() < 12 && !has_midnight(&starts[..name_chars + 2]);

    let mut names = String::new();
    for (column, cell) in starts.windows(2).enumerate() {
        let day = if column == 0 && names_first_day {
            cell[0]
        } else if has_midnight(cell) {
            cell[1]
        } else {
            continue;
        };
        // The last day may be shorter than its name.
        if column + name_chars < starts.len() {
            let name = day.format("%a").to_string();
            // Pads the earlier names to the column of this cell.
            names = format!("{names:column$}{}", &name[..name_chars]);
        }
    }

    names
}

/// Returns the parts of the line of an account, with their styles.
fn build_line(account: &Account, verdict: &Verdict, starts: &[Timestamp]) -> [(Style, String); 3] {
    // The last time is the end of the last cell.
    let cell_count = starts.len() - 1;
    let starts = &starts[..cell_count];
    if verdict.state == AccountState::Unknown {
        let empty = (Style::Plain, String::new());
        return [(Style::Plain, "?".repeat(cell_count)), empty.clone(), empty];
    }

    // A cell counts as blocked if the cooldown lasts for more than its first minute.
    let is_blocked = |start: &Timestamp| match verdict.next_available_at {
        Some(available_at) => available_at - *start > Duration::minutes(1),
        None => verdict.state == AccountState::Cooldown,
    };
    let blocked_cells = starts.iter().filter(|s| is_blocked(s)).count();
    let cells_before = |at: Timestamp| starts.iter().filter(|s| **s < at).count();

    let observation = account.entry.observation.as_ref();
    let weekly = observation.and_then(Observation::weekly);
    let cells_before_reset = weekly.and_then(|w| w.resets_at).map_or(0, cells_before);
    // The mark of the reset takes the place of the last running cell.
    let running_cells = cells_before_reset.saturating_sub(blocked_cells + 1);
    let has_reset_mark = cells_before_reset > blocked_cells && cells_before_reset < cell_count;
    let (reset_mark, mark_cells) = if has_reset_mark { ("┤", 1) } else { ("", 0) };
    let ready_cells = cell_count - blocked_cells - running_cells - mark_cells;

    let window = format!("{}{reset_mark}", "─".repeat(running_cells));
    [
        (Style::Warn, "█".repeat(blocked_cells)),
        (Style::Plain, window),
        (Style::Good, "·".repeat(ready_cells)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_manager_core::io::clock::Zone;

    #[test]
    fn names_of_days_do_not_overlap() {
        let at: chrono::DateTime<chrono::Utc> = "2026-11-22T08:00:00Z".parse().expect("a time");
        let starts: Vec<_> = (0..=6)
            .map(|n| Zone::UTC.at(&(at + Duration::hours(8) * n)))
            .collect();
        assert_eq!(format_day_names(&starts, 3), " Mo Tu");
        assert_eq!(format_day_names(&starts[..6], 3), " Mo");
        let starts: Vec<_> = (0..=12)
            .map(|n| Zone::UTC.at(&(at + Duration::hours(3) * n)))
            .collect();
        assert_eq!(format_day_names(&starts, 8), "Sun  Mon");
    }
}
