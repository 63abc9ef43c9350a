//! `usage`: the tokens that conversations used, and what they would cost.

mod page;
mod rows;
mod server;
mod show;
mod window;
mod window_page;
mod window_tables;
mod window_use;

use crate::choices::account_choice::find_identity;
use crate::choices::index_access::{IndexAccess, warn_of_skipped_files};
use crate::choices::machines::{Machine, refresh_machines};
use crate::choices::selection_args::{SelectionArgs, parse_millis_range};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::require_codex_home;
use crate::steps::new_file::write_page;
use crate::steps::price_file;
use crate::ui::{StoredItems, object};
use crate::views::account::printable;
use crate::views::page_charts::draw_hours;
use crate::views::table_format::TableArgs;
use chrono::DateTime;
use clap::{Args, ValueEnum as _};
use codex_manager_core::conversations::index::usage_query::{
    self, SLOT_MS, UsageConversation, UsageRow,
};
use codex_manager_core::conversations::index::{IndexError, IndexStore, Thoroughness};
use codex_manager_core::io::pluralize;
use codex_manager_core::io::settings::choice_name;
use codex_manager_core::usage::prices::Prices;
use codex_manager_core::usage::report::{Costs, Report};
use page::UsagePageSource;
use rows::{Grouping, RowKey, SubjectParser, UsageIndexes};
use show::UsageTable;
use std::ops::Range;
use std::path::PathBuf;
use window::WindowOptions;

/// The note in place of a table without rows.
const NO_USAGE: &str = "no tokens were used in this period";

/// The default of `--limit` on a terminal. It also limits periods, unless the user gives `--since` or `--until`.
const TERMINAL_LIMIT: usize = 30;

/// Show the tokens used, and what they would cost
///
/// Counts each request to a model once: forks, subagents and resumed conversations repeat figures, which are
/// left out. Cached input is a part of the input, reasoning a part of the output. Costs are estimates at
/// public API prices; plans are not billed by token.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager usage
  codex-manager usage work
  codex-manager usage monthly --since 2026-01-01
  codex-manager usage projects work --since 7d
  codex-manager usage projects --html usage.html
  codex-manager usage machines
  codex-manager usage --window work
  codex-manager usage --window work --at 7d
  codex-manager usage --server
  codex-manager usage --server 01a20b69   # the estimate of a conversation
  codex-manager usage --window --server
  codex-manager usage models --format tsv > models.tsv")]
pub(crate) struct UsageArgs {
    /// The kind of the rows [default: daily], and the account whose use is shown
    #[arg(value_name = "BY|ACCOUNT", num_args = 0..=2, value_parser = SubjectParser)]
    subjects: Vec<String>,
    #[arg(skip = Grouping::Daily)]
    by: Grouping,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Only requests since then: 7d, yesterday, monday, "last week", 2026-11, "2026-11-20 9:00"
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    since: Option<String>,
    /// Only requests before then; a day, a week or a month is included
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    until: Option<String>,
    /// Also count the usage that other machines published in the vault, each conversation once
    #[arg(long, help_heading = "Filters")]
    machines: bool,
    /// Show what used up the weekly window of an account [default: the live one]
    #[arg(long, value_name = "ACCOUNT", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["subjects", "here", "project", "account", "since", "until", "machines", "limit"])]
    window: Option<String>,
    /// With --window: the window at this time: 7d, yesterday, monday, 2026-11-20, "2026-11-20 9:00"
    #[arg(long, value_name = "TIME", requires = "window")]
    at: Option<String>,
    /// Ask the server, through Codex, what it counted for the live account by day, or for a conversation, and compare
    /// it with the count of this machine. With --window: by day, what was used elsewhere
    #[arg(long, value_name = "SESSION", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["subjects", "here", "project", "account", "since", "until", "machines", "limit"])]
    server: Option<String>,
    /// The largest number of sessions, projects, models or accounts [default: 30 on a terminal, else all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Prices of models, in the form of `prices.toml` in the manual [default: `usage.prices` of
    /// config.toml, else `prices.toml` in the manager home]
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Write the report with charts as a new HTML page, which loads nothing from elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    html: Option<PathBuf>,
    #[command(flatten)]
    table: TableArgs,
}

impl UsageArgs {
    /// # Errors
    /// A filter or a file of prices is invalid, the index cannot be used, or the user interrupts.
    pub(crate) fn run(mut self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        self.apply_subjects(context)?;
        self.check_options()?;
        require_codex_home(context)?;
        let prices = price_file::read_prices(self.prices.as_deref(), context)?;

        let access = IndexAccess::new(context);
        let (store, report) = access.open_updated(Thoroughness::Changes)?;
        warn_of_skipped_files(&report.skipped, context);
        warn_unless_updated("the figures", report.problem, context);

        let (others, is_stale) = self.read_machines(context)?;
        let indexes = UsageIndexes {
            local: store,
            others,
        };

        let outcome = self.print(&indexes, &prices, context)?;
        let is_partial = is_stale || !report.skipped.is_empty();
        Ok(outcome.or(Outcome::partial_if(is_partial)))
    }

    /// Sets `by` and `selection` from the positional arguments, which name a kind of rows and an account in any order.
    fn apply_subjects(&mut self, context: &Context) -> Result<()> {
        let (mut kind, mut account) = (None, None);
        for word in std::mem::take(&mut self.subjects) {
            let ignore_case = false;
            // `replace` returns an earlier word of the same meaning.
            let is_second = match Grouping::from_str(&word, ignore_case) {
                Ok(by) => kind.replace(by).is_some(),
                Err(_) => account.replace(word).is_some(),
            };
            if is_second {
                let message = "name at most one kind of rows and one account";
                return Err(CommandError::usage(message).hint("see: codex-manager help usage"));
            }
        }

        if let Some(name) = &account {
            // A word that is no account may be a misspelled kind of rows.
            let kinds = "the kinds of rows: codex-manager help usage";
            find_identity(name, context).map_err(|e| e.hint(kinds))?;
        }
        self.by = kind.unwrap_or(self.by);
        self.selection.set_account_if_unset(account);
        Ok(())
    }

    /// Returns the indexes of the other machines, or none if the report does not include their usage. The returned bool
    /// is true if an index may be out of date.
    fn read_machines(&self, context: &Context) -> Result<(Vec<(IndexStore, Machine)>, bool)> {
        if !self.machines && self.by != Grouping::Machines {
            return Ok((Vec::new(), false));
        }
        let (machines, is_stale) = refresh_machines(context)?;
        let open = |machine: Machine| {
            let access = IndexAccess::new(&machine.context);
            let (store, report) = access.open_updated(Thoroughness::All)?;
            let figures = format!("the figures of {}", printable(&machine.name));
            warn_unless_updated(&figures, report.problem, context);
            Ok((store, machine))
        };
        let opened = machines.into_iter().map(open);
        Ok((opened.collect::<Result<_>>()?, is_stale))
    }

    /// Prints the report that the options choose.
    fn print(&self, indexes: &UsageIndexes, prices: &Prices, context: &Context) -> Result<Outcome> {
        let store = &indexes.local;
        // `--window` and `--server` without a value are empty texts.
        match (&self.window, self.server.as_deref()) {
            (Some(account), server) => {
                let at = self.at.as_deref();
                let options = WindowOptions {
                    account: Some(&**account).filter(|name| !name.is_empty()),
                    at: at.map(|text| window::parse_at(text, context)).transpose()?,
                    html: self.html.as_deref(),
                    asks_server: server.is_some(),
                };
                window::print_window(store, &options, prices, context)
            }
            (None, Some("")) => server::print_days(store, context),
            (None, Some(session)) => server::print_conversation(session, store, context),
            (None, None) => {
                self.print_report(indexes, prices, context)?;
                Ok(Outcome::Done)
            }
        }
    }

    fn print_report(
        &self,
        indexes: &UsageIndexes,
        prices: &Prices,
        context: &Context,
    ) -> Result<()> {
        let slots = self.parse_slots(context)?;
        let by = self.by;

        // The list of all conversations may be long, so it is printed while it is read.
        if by == Grouping::Sessions && !self.machines && self.html.is_none() {
            return self.print_sessions(indexes, &slots, prices, context);
        }

        let usage = rows::read_selected(indexes, &self.selection, &slots, by, context)?;
        let mut report = rows::build_report(&usage, by, prices, context);
        let first_start_ms = report.rows.first().map_or(0, |row| row.key.start_ms);
        let hidden_count = self.drop_hidden_rows(&mut report, context);

        let ui = &context.ui;
        let json = object()
            .with("rows", &report.rows)
            .with("totals", &report.totals)
            .with("unknown_models", &report.unknown_models)
            .with("prices_date", &prices.date);
        ui.document("usage", &json);

        if let Some(path) = &self.html {
            let page = self.render_page(&report, indexes, &slots, prices, context)?;
            return write_page(&page, &context.env.absolute(path), context);
        }

        if report.rows.is_empty() && hidden_count == 0 {
            ui.note(NO_USAGE);
            return Ok(());
        }

        let mut table = UsageTable::new(by, report.totals.sum.tokens.total_tokens, context);
        report.rows.iter().for_each(|row| table.add_row(row));
        table.print(&report, prices, context);

        if hidden_count > 0 && by.is_of_time() {
            let first_start = DateTime::from_timestamp_millis(first_start_ms).unwrap_or_default();
            let first_day = context.zone().at(&first_start).date_naive();
            let rows = pluralize(hidden_count, "earlier row");
            ui.note(format_args!(
                "the total includes {rows}; to see them: --since {first_day}"
            ));
        } else {
            show::note_hidden_rows(report.rows.len(), hidden_count, context);
        }
        Ok(())
    }

    /// Prints the usage of each conversation of this machine, the most tokens first. Memory does not hold the rows,
    /// because there may be 200,000.
    fn print_sessions(
        &self,
        indexes: &UsageIndexes,
        slots: &Range<i64>,
        prices: &Prices,
        context: &Context,
    ) -> Result<()> {
        let store = &indexes.local;

        // The totals include the conversations that the limit hides.
        let usage_of_models =
            rows::read_selected(indexes, &self.selection, slots, Grouping::Models, context)?;
        let report = rows::build_report(&usage_of_models, Grouping::Models, prices, context);

        let filter = self.selection.to_thread_filter(context)?;
        let is_filtered = filter.is_restricted();
        let filter = rows::evaluate_filter(filter, context)?;
        let limit = self.row_limit(context);
        let (mut shown_count, mut hidden_count) = (0, 0);
        let mut costs = Costs::new(prices);

        let ui = &context.ui;
        let all_tokens = report.totals.sum.tokens.total_tokens;
        let mut table = UsageTable::new(Grouping::Sessions, all_tokens, context);
        let mut json_rows = StoredItems::default();
        let mut visit = |conversation: UsageConversation, sums: &[UsageRow]| {
            if !filter.accepts_usage(&conversation) {
                return;
            }
            if limit.is_some_and(|limit| shown_count >= limit) {
                hidden_count += 1;
                return;
            }

            shown_count += 1;
            let row = costs.sum_rows(RowKey::of_conversation(&conversation), sums);
            if ui.wants_json() {
                json_rows.add(&row, ui);
            } else {
                table.add_row(&row);
            }
        };

        // A limit of SQLite would count conversations that `filter` rejects, so SQLite gets it only without a filter.
        let sql_limit = if is_filtered { None } else { limit };
        usage_query::visit_largest_conversations(store, slots, sql_limit, &mut visit)?;

        let summary = object()
            .with("totals", &report.totals)
            .with("unknown_models", &report.unknown_models)
            .with("prices_date", &prices.date);
        ui.stream_list_document("usage", "rows", summary, |print| json_rows.for_each(print))?;

        // With a limit of SQLite, `visit` did not see the rows beyond it, so a query counts them.
        if sql_limit == Some(shown_count) {
            let count = usage_query::count_conversations(store, slots)?;
            hidden_count = count.saturating_sub(shown_count);
        }

        if shown_count + hidden_count == 0 {
            ui.note(NO_USAGE);
            return Ok(());
        }

        table.print(&report, prices, context);
        show::note_hidden_rows(shown_count, hidden_count, context);
        Ok(())
    }

    /// Returns the page of `--html`.
    fn render_page(
        &self,
        report: &Report<RowKey>,
        indexes: &UsageIndexes,
        slots: &Range<i64>,
        prices: &Prices,
        context: &Context,
    ) -> Result<String> {
        let read_usage = |by| rows::read_selected(indexes, &self.selection, slots, by, context);
        let report_by =
            |by| Ok::<_, CommandError>(rows::build_report(&read_usage(by)?, by, prices, context));

        let daily = read_usage(Grouping::Daily)?;
        let days = rows::build_report(&daily, Grouping::Daily, prices, context).rows;
        let mut facts = self.selection.describe_filters(context);
        facts.extend(page::describe_days(&days).map(|days| ("Days", days)));

        let mut sections = Vec::new();
        // The drawing of the weekly window ignores times and folders, so a report that is restricted to them has none.
        let covers_all_time = self.since.is_none() && self.until.is_none();
        if covers_all_time && !self.selection.has_folder() {
            let account = self.selection.account.as_deref();
            let store = &indexes.local;
            sections.extend(window::draw_newest(store, account, prices, context));
        }
        let hours = draw_hours(&page::sum_tokens_by_hour(&daily, context));
        sections.push(("Hours of the week".to_owned(), hours));
        for by in [Grouping::Projects, Grouping::Accounts, Grouping::Models] {
            // The first table of the page shows this kind already.
            if by != self.by {
                sections.push(page::format_section(by, &report_by(by)?));
            }
        }

        let page = UsagePageSource {
            report,
            by: self.by,
            covers_all_time,
            facts,
            prices,
            sections,
            conversation_count: report_by(Grouping::Sessions)?.rows.len(),
        };

        Ok(page.render())
    }

    /// Refuses incompatible options.
    fn check_options(&self) -> Result<()> {
        if self.server.is_some() && self.window.is_none() && self.html.is_some() {
            return Err(CommandError::usage("--html with --server needs --window")
                .hint("write the page of a window with: codex-manager usage --window --server --html FILE"));
        }

        if self.window.is_some() && self.server.as_ref().is_some_and(|text| !text.is_empty()) {
            return Err(
                CommandError::usage("--server takes no conversation with --window")
                    .hint("show the days of the window: codex-manager usage --window --server"),
            );
        }

        if self.by.is_of_time() && self.limit.is_some() {
            let by = choice_name(&self.by);
            return Err(CommandError::usage(format!("--limit is not for {by} rows"))
                .hint("select the time: codex-manager usage --since 30d"));
        }
        Ok(())
    }

    /// Removes the rows beyond the limit, and returns their number; the totals still include them. Of periods, removes
    /// the earliest, and only from a table on a terminal without `--since` and `--until`.
    fn drop_hidden_rows(&self, report: &mut Report<RowKey>, context: &Context) -> usize {
        let row_count = report.rows.len();
        let limit = self.row_limit(context).unwrap_or(row_count).min(row_count);
        let is_table = context.ui.writes_to_terminal() && !context.ui.wants_tsv();
        if !self.by.is_of_time() {
            report.rows.truncate(limit);
        } else if is_table && self.since.is_none() && self.until.is_none() {
            report.rows.drain(..row_count - limit);
        }
        row_count - report.rows.len()
    }

    /// Returns the largest number of rows; `None` if all are shown.
    fn row_limit(&self, context: &Context) -> Option<usize> {
        let is_screen = context.ui.is_terminal() && self.html.is_none();
        self.limit.or(is_screen.then_some(TERMINAL_LIMIT))
    }

    /// Returns the time from `--since` to `--until` as a range of slots, each of [`SLOT_MS`] milliseconds, counted from
    /// 1970. Both ends are rounded down, so that for an instant T a slot counts for `--since T` or for `--until T`.
    fn parse_slots(&self, context: &Context) -> Result<Range<i64>> {
        let parse = |text: &String| parse_millis_range(text, context);
        let since = self.since.as_ref().map(parse).transpose()?;
        let until = self.until.as_ref().map(parse).transpose()?;
        let first_slot = since.map_or(i64::MIN, |period| period.start.div_euclid(SLOT_MS));
        Ok(first_slot..until.map_or(i64::MAX, |period| period.end.div_euclid(SLOT_MS)))
    }
}

/// Warns that `figures` may be out of date if a problem prevented the update of their index, which is then used as it
/// is.
fn warn_unless_updated(figures: &str, problem: Option<IndexError>, context: &Context) {
    if let Some(problem) = problem {
        let problem = CommandError::from(problem).to_one_line();
        context.warn(format_args!("{figures} may be out of date: {problem}"));
    }
}
