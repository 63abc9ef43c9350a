//! The rows of conversations. Memory does not hold them, because there may be 200,000.

use crate::commands::usage::rows::{self, Grouping, RowKey, UsageIndexes};
use crate::commands::usage::show::{self, UsageTable};
use crate::commands::usage::{NO_USAGE, UsageArgs};
use crate::context::Context;
use crate::error::Result;
use crate::ui::{StoredItems, object};
use codex_manager_core::conversations::index::usage_query::{self, UsageConversation, UsageRow};
use codex_manager_core::usage::prices::Prices;
use codex_manager_core::usage::report::Costs;
use std::ops::Range;

impl UsageArgs {
    /// Prints the usage of each conversation of this machine, the most tokens first.
    pub(super) fn print_sessions(
        &self,
        indexes: &UsageIndexes,
        slots: &Range<i64>,
        prices: &Prices,
        context: &Context,
    ) -> Result<()> {
        let store = &indexes.local;

        // The totals include the conversations that the limit hides.
        let models = rows::read_selected(
            indexes,
            &self.selection,
            slots.clone(),
            Grouping::Models,
            context,
        )?;
        let report = rows::build_report(&models, Grouping::Models, prices, context);

        let filter = self.selection.to_thread_filter(context)?;
        let is_filtered = filter.is_restricted();
        let filter = rows::evaluate_filter(filter, context)?;
        let limit = self.row_limit(context);
        let (mut shown, mut hidden) = (0, 0);
        let mut costs = Costs::new(prices);

        let ui = &context.ui;
        let all_tokens = report.totals.sum.tokens.total_tokens;
        let mut table = UsageTable::new(Grouping::Sessions, all_tokens, context);
        let mut items = StoredItems::default();
        let mut visit = |conversation: UsageConversation, sums: &[UsageRow]| {
            if !filter.accepts_usage(&conversation) {
                return;
            }
            if limit.is_some_and(|limit| shown >= limit) {
                hidden += 1;
                return;
            }

            shown += 1;
            let key = RowKey::new(&conversation.session, Some(conversation.title));
            let row = costs.sum_rows(key, sums);
            if ui.wants_json() {
                items.add(&row);
            } else {
                table.add_row(&row);
            }
        };

        // SQLite does not apply the filter, so it limits the rows only without one.
        let sql_limit = limit.filter(|_| !is_filtered);
        usage_query::visit_largest_conversations(store, slots, sql_limit, &mut visit)?;

        let summary = object()
            .with("totals", &report.totals)
            .with("unknown_models", &report.unknown_models)
            .with("prices_date", &prices.date);
        ui.streamed_list_document("usage", "rows", summary, |print| items.for_each(print))?;

        // SQLite left out the rows beyond the limit, so these are counted by a query of their own.
        if limit == Some(shown) && !is_filtered {
            let count = usage_query::count_conversations(store, slots)?;
            hidden = count.saturating_sub(shown);
        }

        if shown + hidden == 0 {
            ui.note(NO_USAGE);
            return Ok(());
        }

        table.print(&report, prices, context);
        show::note_hidden_rows(shown, hidden, context);
        Ok(())
    }
}
