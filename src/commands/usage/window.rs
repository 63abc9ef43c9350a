//! `usage --window`: what used up a weekly window of an account.

use crate::choices::account_choice::find_account_or_live;
use crate::choices::selection_args::parse_millis_range;
use crate::commands::usage::window_use::{PartView, WindowUse};
use crate::commands::usage::{server, window_tables};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::new_file::write_page;
use crate::ui::object;
use crate::views::account::{full_time, label, local_rfc3339};
use crate::views::account_report::API_KEY_HAS_NO_QUOTA;
use chrono::{DateTime, Utc};
use codex_manager_core::conversations::index::IndexStore;
use codex_manager_core::io::shell;
use codex_manager_core::quota::Account;
use codex_manager_core::usage::prices::Prices;
use std::path::Path;

/// Parses the time of `--at`. A day means its last millisecond, so that it selects the window that began on this day;
/// the current day means the current time.
///
/// # Errors
/// The text is no time, or the time is in the future.
pub(super) fn parse_at(text: &str, context: &Context) -> Result<DateTime<Utc>> {
    let period = parse_millis_range(text, context)?;
    let (start, end) = (period.start, period.end);
    let now = context.now().timestamp_millis();
    if start > now {
        return Err(CommandError::usage(format!(
            "--at is in the future: {text}"
        )));
    }
    let last_ms = if end > start { end - 1 } else { start };
    Ok(DateTime::from_timestamp_millis(last_ms.min(now)).unwrap_or_else(|| context.now()))
}

pub(super) struct WindowOptions<'a> {
    /// The name of the account; `None` for the live one.
    pub account: Option<&'a str>,
    /// A time in the window; `None` for the newest window.
    pub at: Option<DateTime<Utc>>,
    /// The page to write, instead of a printed report.
    pub html: Option<&'a Path>,
    /// True if the server is asked what was used elsewhere.
    pub asks_server: bool,
}

/// Prints the parts of a weekly window of an account, or writes them as a page. The outcome is partial if the server is
/// asked and gives no figures.
///
/// # Errors
/// No account or several match, the window at the time is unknown, the server is asked about another account than the
/// live one, or the index cannot be read.
pub(super) fn print_window(
    store: &IndexStore,
    options: &WindowOptions<'_>,
    prices: &Prices,
    context: &Context,
) -> Result<Outcome> {
    let example = "codex-manager usage --window ACCOUNT";
    let account = find_account_or_live(options.account, example, context)?;
    if options.asks_server && !account.current {
        let error = CommandError::usage("--server works for the live account only");
        return Err(error.hint(format!(
            "switch to it: codex-manager use {}",
            shell::quote_if_needed(&label(&account))
        )));
    }

    let Some(mut usage) = WindowUse::read(store, &account, options.at, prices, context)? else {
        print_unknown(&account, context);
        return Ok(Outcome::Done);
    };

    let mut outcome = Outcome::Done;
    if options.asks_server {
        match server::divide_elsewhere_by_day(&usage, store, context)? {
            Some(days) => usage.rows.extend(days),
            None => outcome = Outcome::Partial,
        }
    }

    print_json(&account, Some(&usage), context);
    match options.html {
        Some(path) => write_page(&usage.render(context), &context.env.absolute(path), context)?,
        None => print_report(&usage, context),
    }
    Ok(outcome)
}

/// Returns the title and the drawing of an account's newest weekly window for a page; `None` if the window is unknown
/// or cannot be read.
pub(super) fn draw_newest(
    store: &IndexStore,
    account: Option<&str>,
    prices: &Prices,
    context: &Context,
) -> Option<(String, String)> {
    // The hint is empty because the error is dropped.
    let account = find_account_or_live(account, "", context).ok()?;
    let newest = None;
    let usage = WindowUse::read(store, &account, newest, prices, context);
    let usage = usage.ok().flatten()?;
    let title = format!(
        "Weekly window of {}: {:.0} % used",
        label(&account),
        usage.parts.used
    );
    Some((title, usage.draw(context)))
}

/// Prints the JSON document; without figures if `usage` is `None`. Its keys are an interface.
fn print_json(account: &Account, usage: Option<&WindowUse<'_>>, context: &Context) {
    let format_time = |at: DateTime<Utc>| local_rfc3339(&at, context);
    let window = usage.map(|usage| {
        object()
            .with("start_at", format_time(usage.span.start))
            .with("resets_at", format_time(usage.span.end))
    });
    let parts = usage.map(|usage| &usage.parts);
    let rows: &[PartView] = usage.map_or(&[], |usage| &usage.rows);
    let exhausted_at = usage.and_then(|usage| usage.forecast_exhaustion(context));

    let json = object()
        .with("account", account.entry.identity.email.as_str())
        .with("window", window)
        .with("used_percent", parts.map(|parts| parts.used))
        .with("rows", rows)
        .with(
            "unattributed_percent",
            parts.map(|parts| parts.unattributed),
        )
        .with(
            "forecast",
            object().with("exhausted_at", exhausted_at.map(format_time)),
        );
    context.ui.document("usage", &json);
}

/// Prints the report on an account without an observation of the window in the last two weeks.
fn print_unknown(account: &Account, context: &Context) {
    let usage = None;
    print_json(account, usage, context);
    if account.entry.identity.kind.is_billed_by_use() {
        return context.note(API_KEY_HAS_NO_QUOTA);
    }
    let name = label(account);
    let argument = shell::quote_if_needed(&name);
    context.note(format_args!(
        "the weekly window of {name} is unknown; query it: codex-manager status {argument}"
    ));
}

fn print_report(usage: &WindowUse<'_>, context: &Context) {
    let ui = &context.ui;
    let format_time = |at: &DateTime<Utc>| full_time(at, context);

    ui.report(format_args!(
        "{}: {:.0} % of the weekly window used, which began {}",
        label(usage.account),
        usage.parts.used,
        format_time(&usage.span.start)
    ));
    window_tables::print_tables(usage, context);

    let is_open = context.now() < usage.span.end;
    ui.report(match usage.forecast_exhaustion(context) {
        Some(exhausted_at) => format!("at this pace it is used up {}", format_time(&exhausted_at)),
        None if !is_open => format!("it ended {}", format_time(&usage.span.end)),
        None => format!(
            "at this pace it lasts until its reset {}",
            format_time(&usage.span.end)
        ),
    });
}
