//! `usage --html`: the report with its charts as one page.

use crate::codex::redaction::redact_and_count;
use crate::commands::usage::charts::calendar_of;
use crate::commands::usage::rows::{Grouping, RowKey};
use crate::context::Context;
use crate::conversations::html::PageHead;
use crate::error::Result;
use crate::io::IoContext as _;
use crate::io::atomic::TempFile;
use crate::steps::new_file::publish_new;
use crate::ui::time;
use crate::usage::calendar::YEAR_WEEKS;
use crate::usage::figures::{format_cost, format_count};
use crate::usage::html_page::UsagePage;
use crate::usage::prices::Prices;
use crate::usage::report::Report;
use crate::views::account::short_id;
use std::io::Write as _;
use std::path::Path;

/// The content of a page, before it is named and formatted.
pub(super) struct UsagePageSource<'a> {
    pub report: &'a Report<RowKey>,
    pub by: Grouping,
    pub days: &'a Report<RowKey>,
    /// False if the user named an end of the time.
    pub is_open: bool,
    /// The names and values of the filters.
    pub filters: Vec<(&'static str, String)>,
    pub prices: &'a Prices,
}

impl UsagePageSource<'_> {
    /// Writes the page as a new file.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub(super) fn write(self, path: &Path, context: &Context) -> Result<()> {
        let html = self.page(context).render();
        let mut temp = TempFile::create_beside(path)?;
        temp.file().write_all(html.as_bytes()).at("write", path)?;
        publish_new(temp, path)?;
        let bytes = time::bytes(html.len() as u64);
        context
            .ui
            .report(format_args!("{bytes} {}", path.display()));
        Ok(())
    }

    fn page(&self, context: &Context) -> UsagePage<'_> {
        let calendar = calendar_of(self.days, self.is_open, YEAR_WEEKS, context);
        let totals = &self.report.totals;
        let days = [self.days.rows.first(), self.days.rows.last()];
        let mut facts = self.filters.clone();
        if let [Some(first), Some(last)] = days {
            let (first, last) = (&first.key.key, &last.key.key);
            let days = if first == last {
                first.clone()
            } else {
                format!("{first} to {last}")
            };
            facts.push(("Days", days));
        }
        facts.push(("Tokens", format_count(totals.sum.total_tokens)));
        facts.push(("Estimated cost", format_cost(&totals.sum)));
        let rows = self.report.rows.iter();
        let row = rows.map(|row| (self.name_of(&row.key), &row.sum, &*row.models));
        UsagePage {
            head: PageHead {
                title: "Token usage".to_owned(),
                facts,
            },
            calendar,
            kind: self.by.row_kind(),
            rows: row.collect(),
            totals,
            note: self.note(),
        }
    }

    /// Returns the redacted name of a row, because titles of conversations may contain keys.
    fn name_of(&self, key: &RowKey) -> String {
        let (name, _) = redact_and_count(&key.label());
        if self.by == Grouping::Sessions {
            format!("{} {name}", short_id(&key.key))
        } else {
            name
        }
    }

    fn note(&self) -> String {
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
