//! `usage --window`: what used up the weekly window of an account.

use super::figures::short;
use crate::codex::identity::Identity;
use crate::codex::thread_filter::ThreadFilter;
use crate::codex::thread_query;
use crate::codex::threads;
use crate::codex::window::{WEEKLY_MINUTES, Window};
use crate::commands::account::{accounts_and_profiles, full, label, printable, short_id};
use crate::commands::sessions::filter::account_filter;
use crate::context::Context;
use crate::conversations::index::IndexStore;
use crate::conversations::index::usage_query::{self, UsageConversation, UsageQuota, UsageRequest};
use crate::error::CommandError;
use crate::inventory::resolve::resolve;
use crate::quota::account::Account;
use crate::quota::window::SAME_WINDOW;
use crate::ui::Style;
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time;
use crate::usage::prices::Prices;
use crate::usage::window::{self, UsedPercent, WeighedRequest, WindowParts};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

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

/// The recorded use of a window.
struct WindowUse {
    span: Range<DateTime<Utc>>,
    requests: Vec<UsageRequest>,
    parts: WindowParts,
    last: UsedPercent,
}

/// Prints the parts of the newest weekly window of an account.
///
/// # Errors
/// No account has this name, nothing is known of its window, or the index cannot be read.
pub(super) fn run(
    store: &IndexStore,
    account: Option<&str>,
    prices: &Prices,
    context: &Context,
) -> Result<(), CommandError> {
    let account = account_of(account, context)?;
    let conversations = conversations_of(store, &account.entry.identity, context)?;
    let used = read(store, &account, &conversations, prices, context)?;
    let rows = part_rows(&used, &conversations);
    let exhausted_at = window::exhausted_at(&used.span, used.last);
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

fn account_of(name: Option<&str>, context: &Context) -> Result<Account, CommandError> {
    let (mut accounts, _) = accounts_and_profiles(context)?;
    let position = match name {
        Some(name) => resolve(accounts.iter().map(|account| &account.entry), name)?,
        None => accounts
            .iter()
            .position(|account| account.current)
            .ok_or_else(|| {
                CommandError::failed("no account is signed in here")
                    .hint("name an account: codex-manager usage --window ACCOUNT")
            })?,
    };
    Ok(accounts.swap_remove(position))
}

/// Returns the conversations of an account, by their numbers in the index; true for those of subagents.
fn conversations_of(
    store: &IndexStore,
    identity: &Identity,
    context: &Context,
) -> Result<HashMap<i64, (UsageConversation, bool)>, CommandError> {
    let filter = ThreadFilter {
        account: Some(account_filter(identity.clone(), context)?),
        ..ThreadFilter::default()
    };
    let home = &context.settings.codex_home;
    let Some(path) = threads::find_state_database(home, &context.env) else {
        return Ok(HashMap::new());
    };
    let listed = thread_query::list(&path, &filter).map_err(|e| {
        CommandError::failed("cannot read Codex's list of conversations").because(e)
    })?;
    let of_account: HashMap<_, _> = listed
        .into_iter()
        .map(|thread| (thread.id.to_lowercase(), thread.parent_id.is_some()))
        .collect();
    let known = usage_query::conversations(store)?.into_iter();
    let known = known.filter_map(|(number, found)| {
        let is_subagent = *of_account.get(&found.session)?;
        Some((number, (found, is_subagent)))
    });
    Ok(known.collect())
}

fn read(
    store: &IndexStore,
    account: &Account,
    conversations: &HashMap<i64, (UsageConversation, bool)>,
    prices: &Prices,
    context: &Context,
) -> Result<WindowUse, CommandError> {
    let week = TimeDelta::minutes(WEEKLY_MINUTES.into());
    let now = context.now();
    let mut quotas = usage_query::quotas(store, &(now - week - week..now), WEEKLY_MINUTES)?;
    quotas.retain(|quota| conversations.contains_key(&quota.conversation));
    if let Some(observation) = &account.entry.observation
        && let Some(window) = observation.weekly()
    {
        // A probe tells also what was used elsewhere.
        quotas.push(UsageQuota {
            conversation: 0,
            at: observation.observed_at.to_utc(),
            window: window.clone(),
        });
    }
    quotas.sort_by_key(|quota| quota.at);
    let newest = quotas.iter().rev().find_map(|quota| quota.window.resets_at);
    let end = newest.map(|at| at.to_utc()).ok_or_else(|| {
        let name = printable(account.entry.identity.email.as_str());
        CommandError::failed(format!("nothing is known of the weekly window of {name}"))
            .hint("query it: codex-manager status")
    })?;
    let is_same = |window: &Window| {
        window
            .resets_at
            .is_some_and(|at| (at.to_utc() - end).abs() <= SAME_WINDOW)
    };
    quotas.retain(|quota| is_same(&quota.window));
    let span = end - week..end;
    let mut requests = usage_query::requests(store, &span)?;
    requests.retain(|request| conversations.contains_key(&request.conversation));
    let observations: Vec<_> = quotas
        .iter()
        .map(|quota| UsedPercent {
            at: quota.at,
            percent: quota.window.used_percent,
        })
        .collect();
    let weighed = weigh(&requests, prices);
    let parts = window::divide(span.start, &weighed, &observations);
    let last = observations.last().copied().unwrap_or(UsedPercent {
        at: now,
        percent: 0.0,
    });
    Ok(WindowUse {
        span,
        requests,
        parts,
        last,
    })
}

/// Weighs requests by their cost, or by their tokens if the price of a model is not known.
fn weigh(requests: &[UsageRequest], prices: &Prices) -> Vec<WeighedRequest> {
    let cost = |request: &UsageRequest| Some(prices.of(&request.model)?.cost(request.tokens));
    let costs: Option<Vec<f64>> = requests.iter().map(cost).collect();
    #[allow(clippy::cast_precision_loss, reason = "a weight")]
    let weights = costs.unwrap_or_else(|| {
        let tokens = requests
            .iter()
            .map(|request| request.tokens.total_tokens as f64);
        tokens.collect()
    });
    let weighed = requests.iter().zip(weights);
    weighed
        .map(|(request, weight)| WeighedRequest {
            at: request.at,
            weight,
        })
        .collect()
}

/// Sums the parts by conversation, project, model and subagent, the largest of each kind first.
fn part_rows(
    used: &WindowUse,
    conversations: &HashMap<i64, (UsageConversation, bool)>,
) -> Vec<PartView> {
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
    let at = |at: &DateTime<Utc>| full(&context.settings.zone.at(at), context);
    ui.report(format_args!(
        "{}: {:.0} % of the weekly window used, which began {}",
        label(account),
        used.parts.used,
        at(&used.span.start)
    ));
    table.print(ui);
    ui.report(match exhausted_at {
        Some(when) => format!("at this pace it is used up {}", at(&when)),
        None => format!(
            "at this pace it lasts until its reset {}",
            at(&used.span.end)
        ),
    });
}
