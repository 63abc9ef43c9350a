//! The report for people.

use super::grouping::Grouping;
use super::rows::RowKey;
use super::usage_view::UsageView;
use crate::commands::account::{printable, short_id};
use crate::context::Context;
use crate::ui::Style;
use crate::ui::table::{Cell, Column, Table};
use crate::usage::prices::Prices;
use crate::usage::report::{Report, ReportRow, UsageSum};

/// The length of the longest bar.
const BAR: usize = 20;

/// Prints the report, or its JSON document.
pub(super) fn print(report: &Report<RowKey>, by: Grouping, prices: &Prices, context: &Context) {
    let ui = &context.ui;
    ui.document("usage", &UsageView::of(report, &prices.date));
    if report.rows.is_empty() {
        ui.note("no tokens were used in this period");
        return;
    }
    let head = match by {
        Grouping::Daily => "DAY",
        Grouping::Weekly => "WEEK FROM",
        Grouping::Monthly => "MONTH",
        Grouping::Blocks => "BLOCK FROM",
        Grouping::Sessions => "SESSION",
        Grouping::Projects => "PROJECT",
        Grouping::Models => "MODEL",
        Grouping::Accounts => "ACCOUNT",
    };
    let columns = [
        match by {
            Grouping::Projects => Column::new(head).shorten_middle(16),
            Grouping::Models | Grouping::Accounts => Column::new(head).shorten(12),
            _ => Column::new(head),
        },
        Column::new("TITLE").rank(5).shorten(12),
        Column::new("INPUT").number().rank(3),
        Column::new("CACHED").number().rank(4),
        Column::new("OUTPUT").number().rank(2),
        Column::new("TOTAL").number(),
        Column::new("COST").number().rank(1),
        Column::new("SHARE").rank(6).only_text(),
    ];
    let has_titles = by == Grouping::Sessions;
    let columns = columns.into_iter().enumerate();
    let columns = columns
        .filter(|(i, _)| has_titles || *i != 1)
        .map(|(_, column)| column);
    let mut table = Table::new(ui, columns);
    let most = report
        .rows
        .iter()
        .map(|row| row.sum.total_tokens)
        .max()
        .unwrap_or(0);
    for row in &report.rows {
        table.row(cells(row, has_titles, most));
    }
    table.print(ui);
    if ui.wants_tsv() {
        return;
    }
    let totals = &report.totals.sum;
    ui.report(format_args!(
        "total: {} tokens, {} input ({} cached), {} output; about {} at API prices of {}",
        short(totals.total_tokens),
        short(totals.input_tokens),
        short(totals.cached_input_tokens),
        short(totals.output_tokens),
        cost(totals),
        prices.date
    ));
    if !report.unknown_models.is_empty() {
        let names: Vec<_> = report
            .unknown_models
            .iter()
            .map(|name| printable(name))
            .collect();
        ui.note(format_args!(
            "no price is known for {}; add one to prices.toml in the manager home",
            names.join(", ")
        ));
    }
}

fn cells(row: &ReportRow<RowKey>, has_titles: bool, most: u64) -> Vec<Cell> {
    let sum = &row.sum;
    let key = &row.key;
    let name = match (&key.shown, has_titles) {
        (_, true) => Cell::plain(short_id(&key.key)),
        (Some(shown), false) => Cell::plain(shown),
        (None, false) => Cell::plain(&key.key),
    };
    let number = |number: u64| Cell::plain(short(number)).value(number);
    let mut cells = vec![name.value(&key.key)];
    if has_titles {
        cells.push(Cell::plain(key.shown.clone().unwrap_or_default()));
    }
    cells.extend([
        number(sum.input_tokens),
        number(sum.cached_input_tokens),
        number(sum.output_tokens),
        number(sum.total_tokens),
        Cell::plain(cost(sum)).value(sum.cost_usd.map_or_else(String::new, |c| format!("{c:.6}"))),
        Cell::new(Style::Dim, bar(sum.total_tokens, most)),
    ]);
    cells
}

/// Formats a number of tokens: `950`, `12.3k`, `4.56M`, `1.20G`.
pub(super) fn short(tokens: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = tokens as f64;
    match tokens {
        ..1_000 => tokens.to_string(),
        1_000..999_950 => format!("{:.1}k", number / 1e3),
        999_950..999_995_000 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.2}G", number / 1e9),
    }
}

/// Formats a cost in USD; a dash if no price is known.
pub(super) fn cost(sum: &UsageSum) -> String {
    match sum.cost_usd {
        Some(cost) if cost > 0.0 && cost < 0.01 => "<$0.01".to_owned(),
        Some(cost) => format!("${cost:.2}"),
        None => "–".to_owned(),
    }
}

fn bar(tokens: u64, most: u64) -> String {
    let length = u128::from(tokens) * BAR as u128 / u128::from(most.max(1));
    let length = usize::try_from(length).unwrap_or(BAR);
    "█".repeat(length.max(usize::from(tokens > 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_tokens_have_three_digits() {
        let shown = [0, 999, 1_000, 999_949, 999_950, 12_345_678, 999_995_000].map(short);
        assert_eq!(
            shown,
            ["0", "999", "1.0k", "999.9k", "1.00M", "12.35M", "1.00G"]
        );
        assert_eq!(bar(0, 10), "");
        assert_eq!(bar(1, 1_000_000).chars().count(), 1);
        assert_eq!(bar(10, 10).chars().count(), BAR);
    }
}
