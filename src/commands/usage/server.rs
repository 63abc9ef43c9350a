//! `usage --server`: the tokens that the server counted for the live account, beside those of this machine.

use crate::choices::account_choice::find_account_or_live;
use crate::choices::conversation_choice::find_conversation;
use crate::commands::usage::window_use::{
    AccountConversations, PartKind, PartView, WindowUse, read_conversations_of,
};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::refresh::ask_live;
use crate::ui::chart::as_length;
use crate::ui::{Cell, Column, Table, object};
use crate::views::account::{label, printable, shown_title};
use chrono::NaiveDate;
use codex_manager_core::codex::Question;
use codex_manager_core::codex::app_server::{ModelEstimate, ServerUsage, ThreadEstimate};
use codex_manager_core::conversations::index::IndexStore;
use codex_manager_core::conversations::index::usage_query::{self, UsageDetail, UsageRow};
use codex_manager_core::usage::figures::format_count;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The largest number of rows without `--verbose`. The last rows are shown.
const MAX_SHOWN: usize = 30;

/// The parameters of a question about the whole account, instead of one conversation.
const WHOLE_ACCOUNT: Value = Value::Null;

/// A day or a model in JSON. Its keys are an interface.
#[derive(Debug, Serialize)]
struct ServerRow {
    key: String,
    server_tokens: Option<u64>,
    local_tokens: u64,
    /// The part of `server_tokens` that is not from the CLI on this machine.
    elsewhere_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credits: Option<f64>,
}

impl ServerRow {
    fn new(key: String, server_tokens: Option<u64>, local_tokens: u64) -> Self {
        Self {
            key,
            server_tokens,
            local_tokens,
            elsewhere_tokens: server_tokens.map(|all| all.saturating_sub(local_tokens)),
            credits: None,
        }
    }
}

/// Prints by day the tokens that the server counted for the live account, beside those that this machine counted. The
/// outcome is partial if the server gives no daily figures.
///
/// # Errors
/// No account is signed in, or the index cannot be read.
pub(super) fn print_days(store: &IndexStore, context: &Context) -> Result<Outcome> {
    let account_name = None;
    let example = "codex-manager usage --account ACCOUNT";
    let account = find_account_or_live(account_name, example, context)?;

    // Without an answer the JSON document is printed too, because it names the problem.
    let answer = ask_server(WHOLE_ACCOUNT, context);
    let usage = answer.as_ref().map(ServerUsage::parse);
    let usage = usage.unwrap_or_default();
    let conversations = read_conversations_of(store, &account.entry.identity, context)?;
    let rows = compare_days(&usage, &conversations, store)?;

    let json = object()
        .with("account", account.entry.identity.email.as_str())
        .with("lifetime_tokens", usage.lifetime_tokens)
        .with("rows", &rows)
        .with("problem", answer.as_ref().err());
    context.ui.document("usage", &json);

    if rows.is_empty() {
        if answer.is_ok() {
            context.note("the server reports no daily figures");
        }
        return Ok(Outcome::Partial);
    }

    print_rows("DAY", &rows, context);
    let sum = |count: fn(&ServerRow) -> Option<u64>| {
        format_count(rows.iter().filter_map(count).fold(0, u64::saturating_add))
    };
    context.ui.report(format_args!(
        "{}: {} tokens reported by the server, {} of them not from the CLI on this machine; days are in UTC",
        label(&account),
        sum(|row| row.server_tokens),
        sum(|row| row.elsewhere_tokens),
    ));
    Ok(Outcome::Done)
}

/// Prints by model the server's estimate of a conversation, beside the tokens that this machine counted. The outcome is
/// partial if the server gives no estimate.
///
/// # Errors
/// No conversation or several match, or the index cannot be read.
pub(super) fn print_conversation(
    session: &str,
    store: &IndexStore,
    context: &Context,
) -> Result<Outcome> {
    let session = find_conversation(session, context)?;
    let answer = ask_server(json!({ "threadId": session.id }), context);
    let estimate = answer.as_ref().ok().and_then(ThreadEstimate::parse);
    let rows = match &estimate {
        Some(estimate) => compare_models(estimate, &session.id, store)?,
        None => Vec::new(),
    };

    let json = object()
        .with("session_id", &session.id)
        .with("title", &session.title)
        .with("credits", estimate.as_ref().map(|e| e.credits))
        .with("usd", estimate.as_ref().and_then(|e| e.usd))
        .with("rows", &rows)
        .with("problem", answer.as_ref().err());
    context.ui.document("usage", &json);

    let Some(estimate) = estimate else {
        if answer.is_ok() {
            context.note("the server has no estimate of this conversation");
        }
        return Ok(Outcome::Partial);
    };

    print_rows("MODEL", &rows, context);
    let usd = estimate.usd.map(|usd| format!(", ${usd:.2}"));
    context.ui.report(format_args!(
        "{}: {:.2} credits{}, estimated by the server without subagents",
        shown_title(&session.title),
        estimate.credits,
        usd.unwrap_or_default()
    ));
    Ok(Outcome::Done)
}

/// Divides the part of the window that no request of this machine explains among the days, in proportion to the
/// tokens that only the server counted. Returns `None` after a warning if the server does not answer.
///
/// # Errors
/// The index cannot be read.
pub(super) fn divide_elsewhere_by_day(
    window: &WindowUse<'_>,
    store: &IndexStore,
    context: &Context,
) -> Result<Option<Vec<PartView>>> {
    let Ok(answer) = ask_server(WHOLE_ACCOUNT, context) else {
        return Ok(None);
    };

    let mut usage = ServerUsage::parse(&answer);
    // The server counts days in UTC. The first and the last one are only partly in the window.
    let (first, last) = (window.span.start.date_naive(), window.span.end.date_naive());
    usage.days.retain(|day, _| (first..=last).contains(day));

    let rows = compare_days(&usage, &window.conversations, store)?;
    let days = rows.into_iter().filter_map(|row| {
        let tokens = row.elsewhere_tokens.filter(|tokens| *tokens > 0)?;
        Some((row.key, tokens))
    });
    let days: Vec<_> = days.collect();

    let elsewhere_tokens: f64 = days.iter().map(|(_, tokens)| as_length(*tokens)).sum();
    let parts = days.into_iter().map(|(day, tokens)| PartView {
        kind: PartKind::Elsewhere,
        key: day,
        title: None,
        tokens,
        percent_of_window: window.parts.unattributed * (as_length(tokens) / elsewhere_tokens),
    });
    Ok(Some(parts.collect()))
}

/// Asks the server, through Codex, for the usage of the live account, or of the conversation in `params`. On failure,
/// prints a warning and returns the problem.
fn ask_server(params: Value, context: &Context) -> Result<Value, String> {
    let [answer] = ask_live(context, [Question::new("account/usage/read", params)]);
    answer.map_err(|problem| {
        let problem = problem.to_string();
        context.warn(format_args!("no figures from the server: {problem}"));
        problem
    })
}

/// Returns a row for each day in UTC that the server reports, and for each day in between on which this machine has
/// usage.
fn compare_days(
    usage: &ServerUsage,
    conversations: &AccountConversations,
    store: &IndexStore,
) -> Result<Vec<ServerRow>> {
    let (Some((&first, _)), Some((&last, _))) =
        (usage.days.first_key_value(), usage.days.last_key_value())
    else {
        return Ok(Vec::new());
    };

    let days_of_server = usage.days.keys().map(|day| (*day, 0));
    let mut local_tokens_by_day: BTreeMap<NaiveDate, u64> = days_of_server.collect();
    for row in read_local_usage(store, |number| conversations.contains_key(&number))? {
        let day = row.slot_start().date_naive();
        if (first..=last).contains(&day) {
            let sum = local_tokens_by_day.entry(day).or_default();
            *sum = sum.saturating_add(row.tokens.total_tokens);
        }
    }

    let to_row = |(day, local_tokens)| {
        let server_tokens = usage.days.get(&day).copied();
        ServerRow::new(day.to_string(), server_tokens, local_tokens)
    };
    Ok(local_tokens_by_day.into_iter().map(to_row).collect())
}

/// Returns a row for each model that the server reports, then for each other model of the conversation in the index.
fn compare_models(
    estimate: &ThreadEstimate,
    session: &str,
    store: &IndexStore,
) -> Result<Vec<ServerRow>> {
    let conversations = usage_query::read_conversations(store)?;
    let is_session = |number| {
        let conversation = conversations.get(&number);
        conversation.is_some_and(|conversation| conversation.session.eq_ignore_ascii_case(session))
    };

    let mut local_tokens_by_model: BTreeMap<String, u64> = BTreeMap::new();
    for row in read_local_usage(store, is_session)? {
        let sum = local_tokens_by_model
            .entry(row.model.to_string())
            .or_default();
        *sum = sum.saturating_add(row.tokens.total_tokens);
    }

    let mut rows = Vec::new();
    for (model, ModelEstimate { tokens, credits }) in &estimate.models {
        let local_tokens = local_tokens_by_model.remove(model).unwrap_or(0);
        rows.push(ServerRow {
            credits: Some(*credits),
            ..ServerRow::new(model.clone(), *tokens, local_tokens)
        });
    }

    // `remove` has left only the models that the server does not report.
    let of_other_models = local_tokens_by_model.into_iter();
    rows.extend(of_other_models.map(|(model, tokens)| ServerRow::new(model, None, tokens)));
    Ok(rows)
}

/// Reads the usage on this machine of the conversations whose numbers `is_wanted` accepts.
fn read_local_usage(store: &IndexStore, is_wanted: impl Fn(i64) -> bool) -> Result<Vec<UsageRow>> {
    let mut rows =
        usage_query::read_sums(store, i64::MIN..i64::MAX, UsageDetail::SlotsOfConversations)?;
    rows.retain(|row| is_wanted(row.conversation));
    Ok(rows)
}

fn print_rows(heading: &'static str, rows: &[ServerRow], context: &Context) {
    let ui = &context.ui;
    let columns = [
        Column::new(heading),
        Column::new("SERVER").number(),
        Column::new("THIS MACHINE").number(),
        Column::new("ELSEWHERE").number(),
        Column::new("CREDITS").number(),
    ];
    let mut table = Table::new(ui, columns);

    let to_cell = |tokens: Option<u64>| match tokens {
        Some(tokens) => Cell::plain(format_count(tokens)).value(tokens),
        None => Cell::plain(""),
    };

    let shown_count = if ui.wants_tsv() {
        rows.len()
    } else {
        ui.limit_items(rows.len(), MAX_SHOWN)
    };

    for row in &rows[rows.len() - shown_count..] {
        let credits = row.credits.map(|credits| format!("{credits:.2}"));
        table.add_row([
            Cell::plain(printable(&row.key)),
            to_cell(row.server_tokens),
            to_cell(Some(row.local_tokens)),
            to_cell(row.elsewhere_tokens),
            Cell::plain(credits.unwrap_or_default()),
        ]);
    }
    table.print(ui);
}
