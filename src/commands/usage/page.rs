//! `usage --html`: the report with its charts as one page.

use crate::commands::usage::rows::{Grouping, RowKey, SelectedUsage};
use crate::context::Context;
use crate::ui::chart::{as_length, format_share};
use crate::views::account::short_id;
use crate::views::page_charts::{CHART_STYLE, ShareRow, draw_bar, format_figures, format_shares};
use chrono::{Datelike as _, Timelike as _};
use codex_manager_core::codex::redaction::redact_and_count;
use codex_manager_core::conversations::html::escape::escape_html;
use codex_manager_core::conversations::html::{PageHead, format_page_end, format_page_start};
use codex_manager_core::usage::figures::{format_cost, format_count};
use codex_manager_core::usage::prices::Prices;
use codex_manager_core::usage::report::{Report, ReportRow, UsageSum};
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");

/// The largest number of periods on a page without `--since` or `--until`.
const MAX_PERIODS: usize = 30;

/// The largest number of rows of the tables of projects, accounts and models.
const MAX_ROWS: usize = 10;

/// The content of the page, before it is redacted and formatted.
pub(super) struct UsagePageSource<'a> {
    pub report: &'a Report<RowKey>,
    pub by: Grouping,
    /// False with `--since` or `--until`.
    pub covers_all_time: bool,
    /// The names and values of the filters, and the days.
    pub facts: Vec<(&'static str, String)>,
    pub prices: &'a Prices,
    /// The titles and the HTML of the sections below the table of the report.
    pub sections: Vec<(String, String)>,
    pub conversation_count: usize,
}

/// Sums tokens by day of the week, from Monday, and by hour in the local time zone.
pub(super) fn sum_tokens_by_hour(usage: &SelectedUsage, context: &Context) -> [[u64; 24]; 7] {
    let mut hours = [[0_u64; 24]; 7];
    for row in &usage.rows {
        let local_start = context.zone().at(&row.slot_start());
        let day = local_start.weekday().num_days_from_monday() as usize;
        let sum = &mut hours[day][local_start.hour() as usize];
        *sum = sum.saturating_add(row.tokens.total_tokens);
    }
    hours
}

/// Returns the first and the last of the days; `None` without days.
pub(super) fn describe_days(days: &[ReportRow<RowKey>]) -> Option<String> {
    let (first, last) = (&days.first()?.key.key, &days.last()?.key.key);
    Some(if first == last {
        first.clone()
    } else {
        format!("{first} to {last}")
    })
}

/// Returns the title and the HTML of a section with the largest rows of `report`. `by` is the kind of these rows.
pub(super) fn format_section(by: Grouping, report: &Report<RowKey>) -> (String, String) {
    let to_row = |row: &ReportRow<RowKey>| ShareRow {
        name: redact_and_count(&row.key.label()).0,
        part: as_length(row.sum.tokens.total_tokens),
        shown: format_count(row.sum.tokens.total_tokens),
    };
    let rows: Vec<_> = report.rows.iter().map(to_row).collect();
    let (kind, total) = (by.row_kind(), report.totals.sum.tokens.total_tokens);
    let table = format_shares([kind, "Tokens"], &rows, as_length(total), MAX_ROWS);
    (format!("{kind}s"), table)
}

impl UsagePageSource<'_> {
    pub(super) fn render(&self) -> String {
        let head = PageHead {
            title: "Token usage".to_owned(),
            facts: self.facts.clone(),
        };

        let mut page = format_page_start(&head, &[STYLE, CHART_STYLE].concat());
        page.push_str(&self.format_figures());
        self.push_table(&mut page);
        for (title, html) in &self.sections {
            let _ = writeln!(page, "<h2>{}</h2>\n{html}", escape_html(title));
        }

        let _ = writeln!(
            page,
            "<p class=\"note\">{}</p>",
            escape_html(&self.price_note())
        );
        let no_note = "";
        page + &format_page_end(no_note)
    }

    /// Appends the table of the report. Periods begin with the newest. Without `--since` and `--until`, shows only the
    /// last [`MAX_PERIODS`].
    fn push_table(&self, page: &mut String) {
        let kind = self.by.row_kind();
        let mut rows: Vec<_> = self.report.rows.iter().collect();
        let mut heading_end = String::new();
        let mut totals_name = String::from("Total");

        if self.by.is_of_time() {
            rows.reverse();
            if self.covers_all_time && rows.len() > MAX_PERIODS {
                totals_name = format!("Total of all {}", rows.len());
                rows.truncate(MAX_PERIODS);
                heading_end = format!(", the last {MAX_PERIODS}");
            }
        }

        let _ = writeln!(
            page,
            "<h2>By {}{heading_end}</h2>\n<table class=\"rows\">\n<thead><tr><th>{kind}</th><th class=\"bar\"></th>\
             <th class=\"more\">Input</th><th class=\"more\">Cached</th><th class=\"more\">Output</th>\
             <th>Total</th><th>Cost</th></tr></thead>\n<tbody>",
            kind.to_lowercase()
        );

        let max_tokens = rows.iter().map(|row| row.sum.tokens.total_tokens).max();
        for row in rows {
            let bar = draw_bar(
                as_length(row.sum.tokens.total_tokens),
                as_length(max_tokens.unwrap_or(0)),
            );
            push_table_row(page, &self.format_name(&row.key), &bar, &row.sum);
        }

        page.push_str("</tbody>\n<tfoot>\n");
        push_table_row(page, &totals_name, "", &self.report.totals.sum);
        page.push_str("</tfoot>\n</table>\n");
    }

    fn format_figures(&self) -> String {
        let sum = &self.report.totals.sum;
        let cached = format_share(
            as_length(sum.tokens.cached_input_tokens),
            as_length(sum.tokens.input_tokens),
        );
        format_figures(&[
            ("Tokens", format_count(sum.tokens.total_tokens)),
            ("Estimated cost", format_cost(sum)),
            ("Conversations", self.conversation_count.to_string()),
            ("Input from the cache", cached),
        ])
    }

    /// Returns the redacted name of a row, because titles of conversations may contain keys.
    fn format_name(&self, key: &RowKey) -> String {
        let (name, _) = redact_and_count(&key.label());
        if self.by == Grouping::Sessions {
            format!("{} {name}", short_id(&key.key))
        } else {
            name
        }
    }

    fn price_note(&self) -> String {
        let note = format!(
            "Costs are estimates at API prices of {}; plans are not billed by token.",
            self.prices.date
        );
        let unknown: Vec<_> = self.report.unknown_models.iter().cloned().collect();
        if unknown.is_empty() {
            note
        } else {
            format!("{note} Without a price: {}.", unknown.join(", "))
        }
    }
}

fn push_table_row(page: &mut String, name: &str, bar: &str, sum: &UsageSum) {
    let name = escape_html(name);
    let [input, cached, output, total] = [
        sum.tokens.input_tokens,
        sum.tokens.cached_input_tokens,
        sum.tokens.output_tokens,
        sum.tokens.total_tokens,
    ]
    .map(format_count);
    let cost = escape_html(&format_cost(sum));

    let _ = writeln!(
        page,
        "<tr><td>{name}</td><td class=\"bar\">{bar}</td><td class=\"more\">{input}</td>\
         <td class=\"more\">{cached}</td><td class=\"more\">{output}</td><td>{total}</td><td>{cost}</td></tr>"
    );
}
