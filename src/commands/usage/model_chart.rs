//! `usage --chart models`: a bar for each row, divided by model, in the terminal.

use crate::commands::usage::legend;
use crate::commands::usage::rows::RowKey;
use crate::context::Context;
use crate::ui::Style;
use crate::ui::text_width::{columns, without_middle};
use crate::usage::figures::{cost, short};
use crate::usage::report::{Report, ReportRow, UsageSum};
use crate::usage::stack::{self, MAX_PARTS, Stack};
use crate::views::account::printable;

const MARKS: [char; MAX_PARTS] = ['█', '▓', '▒', '░', '·'];

/// The length of the longest bar on a wide terminal.
const MAX_BAR: usize = 60;

/// The columns of the tokens and of the cost, with the blanks before them.
const TOKENS: usize = 9;
const COST: usize = 10;

/// The width below which costs are left out.
const NARROW: usize = 60;

/// Prints a bar for each row of the report.
pub(super) fn print(report: &Report<RowKey>, context: &Context) {
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
        let bar = bar(row, &stack, most.unwrap_or(0), bar_width, context);
        let figures = figures_of(&row.sum, with_cost);
        ui.line(format_args!("{label}{blanks}{bar}{figures}"));
    }
    legend::print(&entries(report, &stack), 0, context);
}

fn bar(
    row: &ReportRow<RowKey>,
    stack: &Stack,
    most: u64,
    width: usize,
    context: &Context,
) -> String {
    let cells = stack::cells(&stack.parts(&row.models), most, width);
    let used: usize = cells.iter().sum();
    let parts = cells.iter().enumerate().filter(|(_, count)| **count > 0);
    let parts = parts.map(|(i, count)| {
        let text = MARKS[i].to_string().repeat(*count);
        context.ui.paint(Style::Part(i), text)
    });
    parts.collect::<String>() + &" ".repeat(width - used)
}

fn figures_of(sum: &UsageSum, with_cost: bool) -> String {
    let tokens = format!("{:>TOKENS$}", short(sum.total_tokens));
    if with_cost {
        format!("{tokens}{:>COST$}", cost(sum))
    } else {
        tokens
    }
}

fn entries(report: &Report<RowKey>, stack: &Stack) -> Vec<(Style, char, String)> {
    let all = u128::from(report.totals.sum.total_tokens.max(1));
    let parts = stack.parts(&report.totals.models);
    let named = stack.names().into_iter().zip(parts).enumerate();
    let entry = |(i, (name, tokens)): (usize, (String, u64))| {
        let percent = (u128::from(tokens) * 100 + all / 2) / all;
        let share = if percent == 0 {
            "<1".to_owned()
        } else {
            percent.to_string()
        };
        let meaning = format!("{} {share} %", printable(&name));
        (Style::Part(i), MARKS[i], meaning)
    };
    named.map(entry).collect()
}
