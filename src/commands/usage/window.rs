//! `usage --window`: what used up a weekly window of an account.

use crate::choices::account_choice::named_or_live;
use crate::choices::selection_args::{PeriodEnd, millis};
use crate::commands::usage::window_use::{AccountConversations, WindowUse, conversations_of};
use crate::context::Context;
use crate::conversations::index::IndexStore;
use crate::error::CommandError;
use crate::quota::account::Account;
use crate::ui::Style;
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time;
use crate::usage::figures::short;
use crate::usage::prices::Prices;
use crate::usage::window;
use crate::views::account::{full, label, printable, short_id};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::collections::BTreeMap;

/// The number of rows of each kind that are shown to people.
const SHOWN: usize = 8;

/// A part of the window in JSON. Its keys are an interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PartView {
    kind: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    tokens: u64,
    percent_of_window: f64,
}

#[derive(Debug, Serialize)]
struct WindowView {
    account: String,
    window: SpanView,
    used_percent: f64,
    rows: Vec<PartView>,
    unattributed_percent: f64,
    forecast: ForecastView,
}

#[derive(Debug, Serialize)]
struct SpanView {
    start_at: String,
    resets_at: String,
}

#[derive(Debug, Serialize)]
struct ForecastView {
    exhausted_at: Option<String>,
}

/// Parses the time of `--at`. A date means the end of that day, so that it names the window that began on it.
///
/// # Errors
/// The text is neither a duration nor a date, or the time is in the future.
pub(super) fn time_of(text: &str, context: &Context) -> Result<DateTime<Utc>, CommandError> {
    let first = millis(text, PeriodEnd::First, context)?;
    let last = millis(text, PeriodEnd::Last, context)?;
    let now = context.now().timestamp_millis();
    if first > now {
        return Err(CommandError::usage(format!(
            "--at is in the future: {text}"
        )));
    }
    let at = if last > first { last - 1 } else { first };
    Ok(DateTime::from_timestamp_millis(at.min(now)).unwrap_or_else(|| context.now()))
}

/// Prints the parts of a weekly window of an account: the newest one, or the one at a time.
///
/// # Errors
/// No account has this name, nothing is known of its window, or the index cannot be read.
pub(super) fn run(
    store: &IndexStore,
    account: Option<&str>,
    at: Option<DateTime<Utc>>,
    prices: &Prices,
    context: &Context,
) -> Result<(), CommandError> {
    let account = named_or_live(account, "codex-manager usage --window ACCOUNT", context)?;
    let conversations = conversations_of(store, &account.entry.identity, context)?;
    let used = WindowUse::read(store, &account, &conversations, at, prices, context)?;
    let rows = part_rows(&used, &conversations);
    let is_open = context.now() < used.span.end;
    let exhausted_at = window::exhausted_at(&used.span, used.last).filter(|_| is_open);
    let zone = context.settings.zone;
    context.ui.document(
        "usage",
        &WindowView {
            account: account.entry.identity.email.to_string(),
            window: SpanView {
                start_at: time::rfc3339(&used.span.start, zone),
                resets_at: time::rfc3339(&used.span.end, zone),
            },
            used_percent: used.parts.used,
            rows: rows.clone(),
            unattributed_percent: used.parts.unattributed,
            forecast: ForecastView {
                exhausted_at: exhausted_at.map(|at| time::rfc3339(&at, zone)),
            },
        },
    );
    show(&account, &used, &rows, exhausted_at, context);
    Ok(())
}

/// Sums the parts by conversation, project, model and subagent, the largest of each kind first.
fn part_rows(used: &WindowUse, conversations: &AccountConversations) -> Vec<PartView> {
    let mut sums: BTreeMap<(u8, String), PartView> = BTreeMap::new();
    for (request, percent) in used.requests.iter().zip(&used.parts.of_requests) {
        let Some((conversation, is_subagent)) = conversations.get(&request.conversation) else {
            continue;
        };
        let session = &conversation.session;
        let title = || Some(conversation.title.clone());
        let mut add = |order, kind, key: &str, title: Option<String>| {
            let sum = sums.entry((order, key.to_owned())).or_insert(PartView {
                kind,
                key: key.to_owned(),
                title,
                tokens: 0,
                percent_of_window: 0.0,
            });
            sum.tokens = sum.tokens.saturating_add(request.tokens.total_tokens);
            sum.percent_of_window += percent;
        };
        add(0, "conversation", session, title());
        add(1, "project", &conversation.cwd, None);
        add(2, "model", &request.model, None);
        if *is_subagent {
            add(3, "subagent", session, title());
        }
    }
    let mut rows: Vec<_> = sums
        .into_iter()
        .map(|((order, _), row)| (order, row))
        .collect();
    rows.sort_by(|(a, x), (b, y)| {
        let by_part = y.percent_of_window.total_cmp(&x.percent_of_window);
        a.cmp(b).then(by_part).then(y.tokens.cmp(&x.tokens))
    });
    rows.into_iter().map(|(_, row)| row).collect()
}

fn show(
    account: &Account,
    used: &WindowUse,
    rows: &[PartView],
    exhausted_at: Option<DateTime<Utc>>,
    context: &Context,
) {
    let ui = &context.ui;
    let at = |at: &DateTime<Utc>| full(&context.settings.zone.at(at), context);
    ui.report(format_args!(
        "{}: {:.0} % of the weekly window used, which began {}",
        label(account),
        used.parts.used,
        at(&used.span.start)
    ));
    table_of(used, rows, context).print(ui);
    let is_open = context.now() < used.span.end;
    ui.report(match exhausted_at {
        Some(when) => format!("at this pace it is used up {}", at(&when)),
        None if !is_open => format!("it ended {}", at(&used.span.end)),
        None => format!(
            "at this pace it lasts until its reset {}",
            at(&used.span.end)
        ),
    });
}

/// Returns the table of the largest parts of each kind.
fn table_of(used: &WindowUse, rows: &[PartView], context: &Context) -> Table {
    let ui = &context.ui;
    let columns = [
        Column::new("PART").number(),
        Column::new("KIND").rank(1),
        Column::new("NAME").shorten_middle(16),
        Column::new("TOKENS").number().rank(2),
    ];
    let mut table = Table::new(ui, columns);
    let percent = |percent: f64| Cell::plain(format!("{percent:.1} %")).value(percent);
    let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let count = shown.entry(row.kind).or_default();
        *count += 1;
        if *count > SHOWN && !ui.wants_tsv() {
            continue;
        }
        let name = match &row.title {
            Some(title) => format!("{} {}", short_id(&row.key), printable(title)),
            None => row.key.clone(),
        };
        table.row([
            percent(row.percent_of_window),
            Cell::plain(row.kind),
            Cell::plain(name).value(&row.key),
            Cell::plain(short(row.tokens)).value(row.tokens),
        ]);
    }
    table.row([
        percent(used.parts.unattributed),
        Cell::new(Style::Dim, "elsewhere"),
        Cell::new(Style::Dim, "other machines, the web"),
        Cell::plain(""),
    ]);
    table
}
