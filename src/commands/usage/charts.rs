//! `usage --chart`: a heat map of the days, or a bar for each row that is divided by model, in the terminal.

use crate::commands::usage::rows::RowKey;
use crate::context::Context;
use crate::ui::Style;
use crate::ui::text_width::{columns, without_middle};
use crate::usage::calendar::{Calendar, WEEKDAYS, YEAR_WEEKS};
use crate::usage::figures::{format_cost, format_count};
use crate::usage::report::{Report, ReportRow, UsageSum};
use crate::usage::stack::{self, MAX_PARTS, Stack};
use crate::views::account::printable;
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
pub(super) fn print_calendar(days: &Report<RowKey>, is_open: bool, context: &Context) {
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
            line.push_str(&day_cell(calendar.level(*tokens), context));
        }
        ui.line(line);
    }
    let mut entries = vec![(Style::Dim, MARKS[0], "none".to_owned())];
    entries.extend(calendar.levels().into_iter().map(|(level, limit)| {
        let meaning = limit.map_or("more".to_owned(), |limit| {
            format!("to {}", format_count(limit))
        });
        (Style::Good, MARKS[level], meaning)
    }));
    print_legend(&entries, MARGIN, context);
    if calendar.is_cut {
        ui.note("earlier days do not fit; a wider terminal, --until or --html shows them");
    }
}

fn day_cell(level: usize, context: &Context) -> String {
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

/// The characters of the parts of a bar.
const PARTS: [char; MAX_PARTS] = ['█', '▓', '▒', '░', '·'];

/// The length of the longest bar on a wide terminal.
const MAX_BAR: usize = 60;

/// The columns of the tokens and of the cost, with the blanks before them.
const TOKENS: usize = 9;
const COST: usize = 10;

/// The width below which costs are left out.
const NARROW: usize = 60;

/// Prints a bar for each row of the report.
pub(super) fn print_models(report: &Report<RowKey>, context: &Context) {
    let ui = &context.ui;
    let stack = Stack::new(&report.totals);
    let with_cost = ui.width() >= NARROW;
    let figures = TOKENS + if with_cost { COST } else { 0 };
    let labels: Vec<_> = report.rows.iter().map(|row| row.key.label()).collect();
    let widest = labels.iter().map(|label| columns(label)).max().unwrap_or(0);
    let label_width = widest.min((ui.width() / 3).max(10));
    let bar_width = (ui.width() - label_width - 2 - figures).min(MAX_BAR);
    let most = report.rows.iter().map(|row| row.sum.total_tokens).max();
    for (row, label) in report.rows.iter().zip(&labels) {
        let label = without_middle(label, label_width);
        let blanks = " ".repeat(label_width - columns(&label) + 2);
        let bar = draw_bar(row, &stack, most.unwrap_or(0), bar_width, context);
        let figures = figures_of(&row.sum, with_cost);
        ui.line(format_args!("{label}{blanks}{bar}{figures}"));
    }
    print_legend(&legend_entries(report, &stack), 0, context);
}

fn draw_bar(
    row: &ReportRow<RowKey>,
    stack: &Stack,
    most: u64,
    width: usize,
    context: &Context,
) -> String {
    let cells = stack::divide_bar(&stack.parts(&row.models), most, width);
    let used: usize = cells.iter().sum();
    let parts = cells.iter().enumerate().filter(|(_, count)| **count > 0);
    let parts = parts.map(|(i, count)| {
        let text = PARTS[i].to_string().repeat(*count);
        context.ui.paint(Style::Part(i), text)
    });
    parts.collect::<String>() + &" ".repeat(width - used)
}

fn figures_of(sum: &UsageSum, with_cost: bool) -> String {
    let tokens = format!("{:>TOKENS$}", format_count(sum.total_tokens));
    if with_cost {
        format!("{tokens}{:>COST$}", format_cost(sum))
    } else {
        tokens
    }
}

fn legend_entries(report: &Report<RowKey>, stack: &Stack) -> Vec<(Style, char, String)> {
    let all = u128::from(report.totals.sum.total_tokens.max(1));
    let parts = stack.named_parts(&report.totals.models).enumerate();
    let entry = |(i, (name, tokens)): (usize, (String, u64))| {
        let percent = (u128::from(tokens) * 100 + all / 2) / all;
        let share = if percent == 0 {
            "<1".to_owned()
        } else {
            percent.to_string()
        };
        let meaning = format!("{} {share} %", printable(&name));
        (Style::Part(i), PARTS[i], meaning)
    };
    parts.map(entry).collect()
}

/// Prints a character and its meaning for each entry, as many on a line as fit.
fn print_legend(entries: &[(Style, char, String)], indent: usize, context: &Context) {
    const GAP: usize = 2;
    let ui = &context.ui;
    let mut line = String::new();
    let mut used = 0;
    for (style, mark, meaning) in entries {
        let width = 2 + columns(meaning);
        if used > 0 && used + GAP + width > ui.width() {
            ui.line(std::mem::take(&mut line));
            used = 0;
        }
        let blanks = if used == 0 { indent } else { GAP };
        line.push_str(&" ".repeat(blanks));
        line.push_str(&ui.paint(*style, mark));
        line.push(' ');
        line.push_str(meaning);
        used += blanks + width;
    }
    if used > 0 {
        ui.line(line);
    }
}
