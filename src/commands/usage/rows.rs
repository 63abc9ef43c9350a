//! The rows of a report, and their names.

use crate::commands::usage::grouping::Grouping;
use crate::commands::usage::selection::SelectedUsage;
use crate::context::Context;
use crate::conversations::index::usage_query::{SLOT_MS, UsageRow};
use crate::ui::time;
use crate::usage::period::{Blocks, start_of};
use crate::usage::prices::Prices;
use crate::usage::report::{self, KeyedUsage, Report, ReportRow};
use crate::views::account::printable;
use chrono::{DateTime, Utc};
use std::cmp::Reverse;

/// The name of a project or account that is not known.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    /// The time at which the row begins, in milliseconds since 1970; 0 if it is of no time.
    pub start: i64,
    /// The name for programs: a date, an id, a path.
    pub key: String,
    /// The name for people, if it is another one.
    pub shown: Option<String>,
}

impl RowKey {
    /// Returns the name for people, without control characters.
    pub(super) fn label(&self) -> String {
        let shown = self.shown.as_deref().filter(|shown| !shown.is_empty());
        printable(shown.unwrap_or(&self.key))
    }
}

/// Sums usage by `by`: periods in their order, other rows with the most tokens first.
pub(super) fn report(
    found: &SelectedUsage,
    by: Grouping,
    prices: &Prices,
    context: &Context,
) -> Report<RowKey> {
    let mut blocks = Blocks::default();
    let mut rows: Vec<_> = found.rows.iter().collect();
    rows.sort_by_key(|row| row.slot);
    let usage = rows.into_iter().map(|row| {
        let key = key(row, by, found, &mut blocks, context);
        KeyedUsage::new(key, row)
    });
    let mut report = report::report(usage, prices);
    if !by.is_of_time() {
        report
            .rows
            .sort_by_key(|row: &ReportRow<RowKey>| Reverse(row.sum.total_tokens));
    }
    report
}

fn key(
    row: &UsageRow,
    by: Grouping,
    found: &SelectedUsage,
    blocks: &mut Blocks,
    context: &Context,
) -> RowKey {
    let zone = context.settings.zone;
    let at = DateTime::<Utc>::from_timestamp_millis(row.slot.saturating_mul(SLOT_MS));
    let at = at.unwrap_or_default();
    let conversation = found.conversations.get(&row.conversation);
    let named = |name: &str| RowKey {
        start: 0,
        key: name.to_owned(),
        shown: None,
    };
    if let Some(period) = by.period() {
        let first = period.of(&at, zone);
        return RowKey {
            start: start_of(first, zone).timestamp_millis(),
            key: period.name(first),
            shown: None,
        };
    }
    match by {
        Grouping::Blocks => {
            let start = blocks.of(at);
            RowKey {
                start: start.timestamp_millis(),
                key: time::rfc3339(&start, zone),
                shown: Some(time::absolute(&start, zone, &context.now())),
            }
        }
        Grouping::Models => named(&row.model),
        Grouping::Projects => {
            let cwd = conversation.map(|found| &*found.cwd);
            named(cwd.filter(|cwd| !cwd.is_empty()).unwrap_or(UNKNOWN))
        }
        Grouping::Accounts => {
            let account = conversation.and_then(|c| found.accounts.get(&c.session));
            let name =
                account.and_then(|account| account.email.as_deref().or(account.profile.as_deref()));
            named(name.unwrap_or(UNKNOWN))
        }
        _ => RowKey {
            shown: conversation.map(|found| found.title.clone()),
            ..named(conversation.map_or(UNKNOWN, |found| &found.session))
        },
    }
}
