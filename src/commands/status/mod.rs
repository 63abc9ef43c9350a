//! `status`: shows an account and its remaining quota.

mod accounts;
mod history;
mod report;

use self::report::print_report;
use crate::choices::account_choice::find_account;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::refresh::{self, read_status_text};
use crate::views::account::load_figures;
use crate::views::table_format::TableArgs;
use chrono::Duration;
use clap::Args;
use codex_manager_core::codex::{AuthFile, read_login};
use codex_manager_core::inventory::CooldownFile;
use codex_manager_core::inventory::status::{self, StatusReport};
use codex_manager_core::io::time_format::parse_duration;
use std::path::PathBuf;

/// Show the quota of the live account, of another, or of all
///
/// Codex itself runs the query (`codex app-server`; at most 10 seconds, or 40 if it renews the login). If
/// it cannot answer, the last known figures are shown. With --status-file, pasted text is used instead.
/// Figures are shown with their source and age, and recorded for `cooldown` and `recommend`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager status
  codex-manager status --json
  codex-manager status work
  codex-manager status --all                     # all profiles
  codex-manager status work --history            # figures over time
  codex-manager status --status-file pasted.txt  # if Codex cannot answer
  codex-manager status work --status-file pasted.txt")]
pub(crate) struct StatusArgs {
    /// Use text pasted from Codex's /status instead of a query; - is standard input
    #[arg(long, value_name = "FILE")]
    status_file: Option<PathBuf>,
    /// Show this account, live or not: a profile, an email, or a unique prefix of one. With --status-file: the
    /// account of the pasted text
    #[arg(value_name = "ACCOUNT")]
    account_argument: Option<String>,
    /// The same as ACCOUNT
    #[arg(long, value_name = "ACCOUNT", conflicts_with = "account_argument")]
    account: Option<String>,
    /// Query all accounts with a saved login, and show them like `accounts`
    #[arg(long, conflicts_with_all = ["account_argument", "account", "status_file"])]
    all: bool,
    /// Show recorded figures over time and resets that moved; makes no query
    #[arg(long, conflicts_with_all = ["all", "status_file"])]
    history: bool,
    /// Query only if the figures of the live account are older than this, such as 30min or 1d
    #[arg(long, value_name = "DURATION", conflicts_with = "status_file", value_parser = parse_duration)]
    if_older: Option<Duration>,
    /// Show the last known figures; make no query, write nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl StatusArgs {
    /// # Errors
    /// The status text, `auth.json` or a recorded document cannot be read, no account or several match, or the text is
    /// about another account. With `--all`, or if an account is queried by name, also if the figures cannot be
    /// recorded.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let account = self.account.as_deref().or(self.account_argument.as_deref());

        if self.history {
            return history::print_history(account, context);
        }
        if self.all {
            return accounts::print_all(self.dry_run, context);
        }

        if context.ui.wants_tsv() {
            return Err(CommandError::usage("--format needs --all or --history"));
        }

        let status_file = self.status_file.as_deref();
        let text = status_file.map(read_status_text).transpose()?;

        match (account, &text) {
            (Some(account), Some(text)) => self.report_pasted_text(account, text, context),
            (Some(account), None) => accounts::print_one(account, self.dry_run, context),
            (None, _) => self.report_live(text.as_deref(), context),
        }
    }

    /// Shows the live account. Uses the pasted text. Without it, queries Codex, unless the figures are younger than
    /// `--if-older`.
    fn report_live(&self, pasted_text: Option<&str>, context: &Context) -> Result<Outcome> {
        let cooldown_file = load_figures(context)?;
        let may_query = !self.dry_run && !self.is_recent_enough(context, &cooldown_file);
        let mut report =
            refresh::read_live_status(context, &cooldown_file, pasted_text, may_query)?;
        // A dry run records nothing, and recent figures are recorded already.
        let has_record_failed = may_query && !refresh::record_report(context, &report);

        let account_entry = report
            .identity
            .as_ref()
            .and_then(|identity| cooldown_file.find(identity));
        if report.observation.is_none() {
            // Like `current` and `accounts`, shows the last observation even if its windows have reset since.
            report.observation = account_entry.and_then(|entry| entry.observation.clone());
        }
        let profile = account_entry.and_then(|entry| entry.profile.as_deref());
        self.print(&report, profile, context)?;

        // If no query is made, the last observation is a complete result.
        let has_last_figures = !may_query && report.observation.is_some();
        let is_complete = report.is_complete() || has_last_figures;
        Ok(Outcome::partial_if(has_record_failed || !is_complete))
    }

    /// Prints the report and the resets that moved since the last observation. In a dry run, prints only the report,
    /// because moved resets are found among recorded observations.
    fn print(&self, report: &StatusReport, profile: Option<&str>, context: &Context) -> Result<()> {
        print_report(context, report, profile);
        if self.dry_run {
            return Ok(());
        }
        history::note_moved_resets(report, context)
    }

    /// Shows and records the pasted text as the figures of the named account, without a query.
    fn report_pasted_text(&self, name: &str, text: &str, context: &Context) -> Result<Outcome> {
        let account_entry = find_account(name, context)?.entry;
        let cooldown_file = load_figures(context)?;
        let ask_codex = false;
        let report = status::report_from_text(
            text,
            &account_entry.identity,
            context.codex_home(),
            &refresh::build_inquiry(context, &cooldown_file, ask_codex),
        )?;

        let has_record_failed = !self.dry_run && !refresh::record_report(context, &report);
        self.print(&report, account_entry.profile.as_deref(), context)?;
        Ok(Outcome::partial_if(
            has_record_failed || !report.is_complete(),
        ))
    }

    /// Returns true if the figures of the live account are younger than `--if-older`.
    fn is_recent_enough(&self, context: &Context, cooldown_file: &CooldownFile) -> bool {
        let Some(limit) = self.if_older else {
            return false;
        };

        let live_auth =
            read_login(context.codex_home()).unwrap_or_else(|e| AuthFile::from_read_error(&e));
        let observation = live_auth
            .login()
            .and_then(|login| cooldown_file.find(&login.identity))
            .and_then(|entry| entry.observation.as_ref());

        let age = observation
            .map(|observation| context.now().signed_duration_since(observation.observed_at));
        // A negative age means that the clock is or was wrong.
        age.is_some_and(|age| age >= Duration::zero() && age < limit)
    }
}
