//! The usage of the current day, for prompts: from the index as it is.

use crate::context::Context;
use crate::conversations::index;
use crate::conversations::index::IndexStore;
use crate::conversations::index::usage_query::{self, SLOT_MS, UsageDetail, UsageRow};
use crate::steps::price_file;
use crate::usage::figures::{cost, short};
use crate::usage::period::{Period, start_of};
use crate::usage::report;
use chrono::Days;

/// The requests of the current day, of all accounts of the Codex home.
pub(crate) struct UsageToday {
    /// The sums; `None` if there is no index that can be read now.
    rows: Option<Vec<UsageRow>>,
}

impl UsageToday {
    /// Reads the sums from the index. Opens no rollout and changes nothing.
    pub(crate) fn read(context: &Context) -> Self {
        let settings = &context.settings;
        let path = index::path_of(&settings.manager_home, &settings.codex_home);
        let today = Period::Day.of(&context.now(), settings.zone);
        let slot_of = |day| start_of(day, settings.zone).timestamp_millis() / SLOT_MS;
        let read = || {
            let store = IndexStore::open_read_only(&path).ok()??;
            let slots = slot_of(today)..slot_of(today + Days::new(1));
            usage_query::sums(&store, slots, UsageDetail::Slots).ok()
        };
        Self { rows: read() }
    }

    /// Returns the number of tokens, such as `1.20M`; empty without an index.
    pub(crate) fn tokens(&self) -> String {
        let rows = self.rows.as_ref();
        rows.map_or(String::new(), |rows| {
            let tokens = rows.iter().map(|row| row.tokens);
            short(
                tokens
                    .map(|t| t.input_tokens.saturating_add(t.output_tokens))
                    .sum(),
            )
        })
    }

    /// Returns the estimated cost, such as `$3.40`; empty without an index or a price.
    pub(crate) fn cost(&self, context: &Context) -> String {
        let Some(rows) = &self.rows else {
            return String::new();
        };
        if rows.is_empty() {
            return "$0.00".to_owned();
        }
        let Ok(prices) = price_file::read(None, context) else {
            return String::new();
        };
        let usage = rows.iter().map(|row| ((), row));
        let totals = report::report(usage, &prices).totals.sum;
        totals.cost_usd.map_or(String::new(), |_| cost(&totals))
    }
}
