//! `usage --chart calendar`: a heat map of the days in the terminal.

use crate::commands::usage::legend;
use crate::commands::usage::rows::RowKey;
use crate::context::Context;
use crate::ui::Style;
use crate::usage::calendar::{Calendar, WEEKDAYS, YEAR_WEEKS};
use crate::usage::figures::short;
use crate::usage::report::Report;
use chrono::NaiveDate;
use std::collections::BTreeMap;

/// The characters of the levels.
const MARKS: [char; 5] = ['·', '░', '▒', '▓', '█'];

/// The columns before the first week, and those of a week.
const MARGIN: usize = 5;
const WEEK: usize = 2;

/// Returns the calendar of a report by day; `None` if it has no rows.
pub(super) fn calendar_of(
    days: &Report<RowKey>,
    is_open: bool,
    max_weeks: usize,
    context: &Context,
) -> Option<Calendar> {
    let tokens = days.rows.iter().filter_map(|row| {
        let day = row.key.key.parse::<NaiveDate>().ok()?;
        Some((day, row.sum.total_tokens))
    });
    let tokens: BTreeMap<_, _> = tokens.collect();
    let used = *tokens.keys().next_back()?;
    let today = context.local_now().date_naive();
    // Without an end, the calendar shows that nothing was used since.
    let last = if is_open { used.max(today) } else { used };
    Calendar::new(tokens, last, max_weeks)
}

/// Prints the calendar of a report by day. `is_open` is false if the user named an end of the time.
pub(super) fn print(days: &Report<RowKey>, is_open: bool, context: &Context) {
    let ui = &context.ui;
    let weeks = ((ui.width() - MARGIN) / WEEK).min(YEAR_WEEKS);
    let Some(calendar) = calendar_of(days, is_open, weeks, context) else {
        return;
    };
    let [first, last] = [calendar.first, calendar.last].map(|day| day.format("%-d %b %Y"));
    ui.prose(format_args!("Tokens of each day, {first} to {last}"));
    ui.line(months_line(&calendar).trim_end());
    let weeks = calendar.weeks();
    for (i, weekday) in WEEKDAYS.into_iter().enumerate() {
        let name = format!("{:MARGIN$}", weekday.to_string());
        let mut line = ui.paint(Style::Dim, name);
        for (at, week) in weeks.iter().enumerate() {
            let Some((_, tokens)) = week.days.get(i) else {
                continue;
            };
            if at > 0 {
                line.push(' ');
            }
            line.push_str(&cell(calendar.level(*tokens), context));
        }
        ui.line(line);
    }
    let mut entries = vec![(Style::Dim, MARKS[0], "none".to_owned())];
    entries.extend(calendar.levels().into_iter().map(|(level, limit)| {
        let meaning = limit.map_or("more".to_owned(), |limit| format!("to {}", short(limit)));
        (Style::Good, MARKS[level], meaning)
    }));
    legend::print(&entries, MARGIN, context);
    if calendar.is_cut {
        ui.note("earlier days do not fit; a wider terminal, --until or --html shows them");
    }
}

fn cell(level: usize, context: &Context) -> String {
    let style = if level == 0 { Style::Dim } else { Style::Good };
    context.ui.paint(style, MARKS[level])
}

fn months_line(calendar: &Calendar) -> String {
    let mut line = " ".repeat(MARGIN);
    for (week, month) in calendar.months() {
        let at = MARGIN + week * WEEK;
        line.push_str(&" ".repeat(at - line.len()));
        line.push_str(&month.format("%b").to_string());
    }
    line
}
