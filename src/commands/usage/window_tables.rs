//! The parts of a quota window as tables.

use crate::commands::usage::window_use::{ELSEWHERE, PartKind, WindowUse};
use crate::context::Context;
use crate::ui::chart::format_share_bar;
use crate::ui::{Cell, Column, Style, Table};
use crate::views::account::printable;
use codex_manager_core::usage::figures::format_count;

/// The number of rows of each kind that are shown without `--verbose`.
const MAX_SHOWN: usize = 8;

/// A row of the other parts, or of the usage elsewhere, is left out below this, because it would show 0.0 %.
const MIN_PERCENT: f64 = 0.05;

/// The length of a bar of 100 %, in columns.
const BAR_WIDTH: usize = 14;

/// Prints a table for each kind of part; as tab-separated values, one table of all parts.
pub(super) fn print_tables(usage: &WindowUse<'_>, context: &Context) {
    if context.ui.wants_tsv() {
        build_tsv_table(usage, context).print(&context.ui);
        return;
    }
    for kind in PartKind::ALL {
        print_breakdown(usage, kind, context);
    }
}

/// Prints the parts of one kind as a table, with the share of each in the used part of the window.
fn print_breakdown(usage: &WindowUse<'_>, kind: PartKind, context: &Context) {
    let ui = &context.ui;
    let rows: Vec<_> = usage.rows.iter().filter(|row| row.kind == kind).collect();
    if rows.is_empty() {
        return;
    }

    let columns = [
        Column::new("SHARE").rank(1),
        Column::new("WINDOW").number().rank(2),
        match kind {
            PartKind::Project => Column::new(kind.column_name()).shorten_middle(16),
            _ => Column::new(kind.column_name()).shorten(16),
        },
        Column::new("TOKENS").number().rank(3),
    ];
    let mut table = Table::new(ui, columns);

    let unattributed = usage.parts.unattributed;
    let (mut rest_percent, elsewhere_percent) = match kind {
        // The rows are the days of the usage elsewhere, so it gets no second row.
        PartKind::Elsewhere => (unattributed, 0.0),
        _ => (usage.parts.used - unattributed, unattributed),
    };

    let cells = |percent: f64, name: Cell, tokens: String| {
        let share = format_share_bar(percent, usage.parts.used, BAR_WIDTH);
        [
            Cell::plain(share),
            Cell::plain(format!("{percent:.1} %")),
            name,
            Cell::plain(tokens),
        ]
    };

    let shown_count = ui.limit_items(rows.len(), MAX_SHOWN);
    for row in &rows[..shown_count] {
        rest_percent -= row.percent_of_window;
        let name = Cell::plain(printable(&row.display_name()));
        table.add_row(cells(row.percent_of_window, name, format_count(row.tokens)));
    }

    let hidden_count = rows.len() - shown_count;
    let others = match kind {
        // `rest_percent` includes conversations that are no subagents, so `--verbose` would not show all of it.
        PartKind::Subagent => "all others".to_owned(),
        _ => format!("{hidden_count} more: --verbose"),
    };
    for (percent, name) in [
        (rest_percent, others),
        (elsewhere_percent, ELSEWHERE.to_owned()),
    ] {
        if percent > MIN_PERCENT {
            table.add_row(cells(percent, Cell::new(Style::Dim, name), String::new()));
        }
    }

    ui.line("");
    table.print(ui);
}

/// Returns the table of all parts for tab-separated values.
fn build_tsv_table(usage: &WindowUse<'_>, context: &Context) -> Table {
    let ui = &context.ui;
    let columns = ["PART", "KIND", "NAME", "TOKENS"].map(Column::new);
    let mut table = Table::new(ui, columns);
    let percent_cell = |percent: f64| Cell::plain(format!("{percent:.1} %")).value(percent);

    for row in &usage.rows {
        table.add_row([
            percent_cell(row.percent_of_window),
            Cell::plain(row.kind.column_name().to_lowercase()),
            Cell::plain(&row.key),
            Cell::plain(row.tokens.to_string()),
        ]);
    }

    table.add_row([
        percent_cell(usage.parts.unattributed),
        Cell::new(Style::Dim, "elsewhere"),
        Cell::new(Style::Dim, ELSEWHERE),
        Cell::plain(""),
    ]);
    table
}
