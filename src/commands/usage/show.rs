//! The report as a table.

use crate::commands::usage::rows::{Grouping, RowKey};
use crate::context::Context;
use crate::ui::chart::{as_length, format_share_bar};
use crate::ui::{Cell, Column, Style, Table};
use crate::views::account::{printable, short_id, shown_title};
use codex_manager_core::conversations::index::UNKNOWN_MODEL;
use codex_manager_core::usage::figures::{NO_COST, format_cost, format_count};
use codex_manager_core::usage::prices::Prices;
use codex_manager_core::usage::report::{Report, ReportRow};
use std::fmt::Display;

/// The length of a bar of 100 %, in columns.
const BAR_WIDTH: usize = 14;

/// A table of usage, which may be built while its rows are read.
pub(super) struct UsageTable {
    table: Table,
    has_titles: bool,
    is_tsv: bool,
    all_tokens: u64,
}

impl UsageTable {
    /// `all_tokens` is the sum of all rows.
    pub(super) fn new(by: Grouping, all_tokens: u64, context: &Context) -> Self {
        let ui = &context.ui;
        let table = Table::new(ui, build_columns(by));
        Self {
            table: table.repeat_heads().keep_rows(),
            has_titles: by == Grouping::Sessions,
            is_tsv: ui.wants_tsv(),
            all_tokens,
        }
    }

    pub(super) fn add_row(&mut self, row: &ReportRow<RowKey>) {
        let cells = self.to_cells(row);
        self.table.add_row(cells);
    }

    fn to_cells(&self, row: &ReportRow<RowKey>) -> Vec<Cell> {
        let ReportRow { key, sum, .. } = row;
        let name = match (key.shown_name(), self.has_titles) {
            (_, true) => short_id(&key.key),
            (Some(shown), false) => shown,
            (None, false) => &key.key,
        };
        let mut cells = vec![self.to_cell(name, || &key.key)];
        if self.has_titles {
            let title = key.title_or_profile.as_deref().unwrap_or_default();
            cells.push(self.to_cell(shown_title(title), || title));
        }

        let exact_cost = || sum.cost_usd.map_or_else(String::new, |c| format!("{c:.6}"));
        let to_count_cell = |count: u64| self.to_cell(format_count(count), || count);
        let total = sum.tokens.total_tokens;
        let share = format_share_bar(as_length(total), as_length(self.all_tokens), BAR_WIDTH);
        cells.extend([
            to_count_cell(sum.tokens.input_tokens),
            to_count_cell(sum.tokens.cached_input_tokens),
            to_count_cell(sum.tokens.output_tokens),
            to_count_cell(total),
            self.to_cell(format_cost(sum), exact_cost),
            Cell::new(Style::Dim, share),
        ]);
        cells
    }

    /// Returns a cell with `text`, and for tab-separated values with the exact value. Other tables do not print the
    /// exact value, so it is not formatted for their rows, of which there may be 10,000.
    fn to_cell<V: Display>(&self, text: impl Into<String>, exact: impl FnOnce() -> V) -> Cell {
        let cell = Cell::plain(text);
        if self.is_tsv {
            cell.value(exact())
        } else {
            cell
        }
    }

    /// Prints the table, then the totals of `report`.
    pub(super) fn print(self, report: &Report<RowKey>, prices: &Prices, context: &Context) {
        self.table.print(&context.ui);
        if !self.is_tsv {
            print_totals(report, prices, context);
        }
    }
}

/// Prints how to see `hidden` rows below the `shown` ones.
pub(super) fn note_hidden_rows(shown: usize, hidden: usize, context: &Context) {
    if hidden > 0 {
        let count = shown + hidden;
        context.note(format_args!(
            "there are more; add --limit {count} to see them"
        ));
    }
}

fn build_columns(by: Grouping) -> Vec<Column> {
    let name = match by {
        Grouping::Daily => Column::new("DAY"),
        Grouping::Weekly => Column::new("WEEK FROM"),
        Grouping::Monthly => Column::new("MONTH"),
        Grouping::Blocks => Column::new("BLOCK FROM"),
        Grouping::Sessions => Column::new("SESSION"),
        Grouping::Projects => Column::new("PROJECT").shorten_middle(16).widen(24, 2),
        Grouping::Models => Column::new("MODEL").shorten(12),
        Grouping::Accounts => Column::new("ACCOUNT").shorten(12),
        Grouping::Machines => Column::new("MACHINE").shorten(12),
    };

    let mut columns = vec![name];
    if by == Grouping::Sessions {
        columns.push(Column::new("TITLE").rank(1).shorten(12));
    }

    columns.extend([
        Column::new("INPUT").number().rank(3),
        Column::new("CACHED").number().rank(4),
        Column::new("OUTPUT").number().rank(2),
        Column::new("TOTAL").number(),
        Column::new("COST").number().rank(1),
        Column::new("SHARE").rank(6).only_text(),
    ]);
    columns
}

/// Prints the sum of all rows, and the models without a price.
fn print_totals(report: &Report<RowKey>, prices: &Prices, context: &Context) {
    let ui = &context.ui;
    let totals = &report.totals.sum;
    // Without some prices, the cost is a least cost, `≥$1.20`.
    let about = if totals.lacks_prices { "" } else { "about " };
    let estimate = match &*format_cost(totals) {
        NO_COST => String::new(),
        cost => format!("; {about}{cost} at API prices of {}", prices.date),
    };

    ui.report(format_args!(
        "total: {} tokens, {} input ({} cached), {} output{estimate}",
        format_count(totals.tokens.total_tokens),
        format_count(totals.tokens.input_tokens),
        format_count(totals.tokens.cached_input_tokens),
        format_count(totals.tokens.output_tokens),
    ));

    let models = report.unknown_models.iter();
    let models = models.filter(|model| *model != UNKNOWN_MODEL);
    let names: Vec<_> = models.map(|model| printable(model)).collect();
    if !names.is_empty() {
        ui.note(format_args!(
            "no price is known for {}; add one to prices.toml in the manager home",
            names.join(", ")
        ));
    }
}
