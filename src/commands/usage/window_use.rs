//! The use of a quota window by an account, divided into parts.

use crate::choices::listed::list_threads_as;
use crate::choices::selection_args::read_account_filter;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account::{full_time, label, short_id};
use chrono::{DateTime, TimeDelta, Utc};
use codex_manager_core::codex::threads::SUBAGENT;
use codex_manager_core::codex::window::WEEKLY_MINUTES;
use codex_manager_core::codex::{Identity, ThreadFilter};
use codex_manager_core::conversations::index::IndexStore;
use codex_manager_core::conversations::index::usage_query::{
    self, UsageConversation, UsageQuota, UsageRequest,
};
use codex_manager_core::inventory::observations;
use codex_manager_core::quota::window::SAME_WINDOW;
use codex_manager_core::quota::{Account, Observation};
use codex_manager_core::usage::prices::Prices;
use codex_manager_core::usage::window::{self, UsedPercent, WeighedRequest, WindowParts};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// A row of the report: what a conversation, project, model, subagent or day used of the quota window. The names in
/// JSON are an interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PartView {
    pub kind: PartKind,
    /// Id, project, model or day, by kind.
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub tokens: u64,
    pub percent_of_window: f64,
}

impl PartView {
    /// Returns the short id and the title of a conversation. Other parts have only the key.
    pub(super) fn display_name(&self) -> String {
        match &self.title {
            Some(title) => format!("{} {title}", short_id(&self.key)),
            None => self.key.clone(),
        }
    }
}

/// The name of the row for the usage of other machines.
pub(super) const ELSEWHERE: &str = "other machines, the web";

/// The kind of a part. Its name in JSON is an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PartKind {
    Conversation,
    Project,
    Model,
    Subagent,
    /// A day of usage that only the server reports.
    Elsewhere,
}

impl PartKind {
    /// All kinds, in the order of the report.
    pub(super) const ALL: [Self; 5] = [
        Self::Conversation,
        Self::Project,
        Self::Model,
        Self::Subagent,
        Self::Elsewhere,
    ];

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Conversation => "Conversations",
            Self::Project => "Projects",
            Self::Model => "Models",
            Self::Subagent => "Subagents",
            Self::Elsewhere => "Not from the CLI on this machine",
        }
    }

    /// Returns the name of the kind in capitals, as the heading of a column.
    pub(super) fn column_name(self) -> &'static str {
        match self {
            Self::Conversation => "CONVERSATION",
            Self::Project => "PROJECT",
            Self::Model => "MODEL",
            Self::Subagent => "SUBAGENT",
            Self::Elsewhere => "NOT FROM THE CLI ON THIS MACHINE",
        }
    }
}

/// Sums the requests and their parts by conversation, project, model and subagent, the largest of each kind first.
fn sum_parts(
    requests: &[UsageRequest],
    parts: &WindowParts,
    conversations: &AccountConversations,
) -> Vec<PartView> {
    let mut sums: BTreeMap<(PartKind, String), PartView> = BTreeMap::new();
    for (request, percent) in requests.iter().zip(&parts.of_requests) {
        let Some(of_account) = conversations.get(&request.conversation) else {
            continue;
        };

        let conversation = &of_account.conversation;
        let session = &conversation.session;
        let (title, untitled) = (Some(&*conversation.title), None);
        let mut add = |kind, key: &str, title: Option<&str>| {
            let sum = sums.entry((kind, key.to_owned())).or_insert(PartView {
                kind,
                key: key.to_owned(),
                title: title.map(str::to_owned),
                tokens: 0,
                percent_of_window: 0.0,
            });
            sum.tokens = sum.tokens.saturating_add(request.tokens.total_tokens);
            sum.percent_of_window += percent;
        };

        // Each request counts once in each kind of part.
        add(PartKind::Conversation, session, title);
        add(PartKind::Project, &conversation.cwd, untitled);
        add(PartKind::Model, &request.model, untitled);
        if of_account.is_subagent {
            add(PartKind::Subagent, session, title);
        }
    }

    let mut rows: Vec<_> = sums.into_values().collect();
    rows.sort_by(|a, b| {
        let by_part = b.percent_of_window.total_cmp(&a.percent_of_window);
        a.kind
            .cmp(&b.kind)
            .then(by_part)
            .then(b.tokens.cmp(&a.tokens))
    });
    rows
}

const WEEK: TimeDelta = TimeDelta::minutes(WEEKLY_MINUTES as i64);

/// The conversations of an account, by their numbers in the index.
pub(super) type AccountConversations = HashMap<i64, ConversationOfAccount>;

pub(super) struct ConversationOfAccount {
    pub conversation: UsageConversation,
    is_subagent: bool,
}

pub(super) struct WindowUse<'a> {
    pub account: &'a Account,
    pub conversations: AccountConversations,
    pub span: Range<DateTime<Utc>>,
    pub requests: Vec<UsageRequest>,
    pub parts: WindowParts,
    /// The sums of the parts, which the report shows.
    pub rows: Vec<PartView>,
    /// The last observation within the window.
    pub last_observation: UsedPercent,
}

impl<'a> WindowUse<'a> {
    /// Reads the use of the window that contains `at`. Without `at`, reads the newest window observed in the last two
    /// weeks; `None` if there is none.
    ///
    /// # Errors
    /// Nothing is known of the window at `at`, or the index, Codex's list or `launches.jsonl` cannot be read.
    pub(super) fn read(
        store: &IndexStore,
        account: &'a Account,
        at: Option<DateTime<Utc>>,
        prices: &Prices,
        context: &Context,
    ) -> Result<Option<Self>> {
        let conversations = read_conversations_of(store, &account.entry.identity, context)?;
        let mut quotas = read_quotas_around(at, store, account, &conversations, context)?;
        let newest_end = quotas.iter().rev().find_map(reset_time);
        let end = match (at, newest_end) {
            (Some(at), _) => window_end_at(&quotas, at)
                .ok_or_else(|| unknown_window_error(account, at, context))?,
            (None, Some(end)) => end,
            (None, None) => return Ok(None),
        };

        // The server moves a reset by seconds from answer to answer.
        quotas.retain(|quota| {
            reset_time(quota).is_some_and(|reset| (reset - end).abs() <= SAME_WINDOW)
        });

        let span = end - WEEK..end;
        let mut requests = usage_query::read_requests(store, &span)?;
        requests.retain(|request| conversations.contains_key(&request.conversation));

        let observations = quotas.iter().map(|quota| UsedPercent {
            at: quota.at,
            percent: quota.window.used_percent,
        });
        let observations: Vec<_> = observations.collect();
        let parts = window::divide_window(
            span.start,
            &weigh_requests(&requests, prices),
            &observations,
        );

        // Never `None`, because at least one observation reports the reset at `end`.
        let Some(last_observation) = observations.last().copied() else {
            return Ok(None);
        };

        Ok(Some(Self {
            rows: sum_parts(&requests, &parts, &conversations),
            account,
            conversations,
            span,
            requests,
            parts,
            last_observation,
        }))
    }

    /// Returns the time at which the window is used up at the average pace so far. `None` if it lasts until its reset,
    /// or has ended.
    pub(super) fn forecast_exhaustion(&self, context: &Context) -> Option<DateTime<Utc>> {
        let is_open = context.now() < self.span.end;
        let exhausted_at = window::forecast_exhaustion(&self.span, self.last_observation);
        exhausted_at.filter(|_| is_open)
    }
}

/// Returns the observations of an account's weekly windows, from its conversations and from queries, in the order of
/// time. With `at`, they are at most a week away from it. Without `at`, they are of the last two weeks.
fn read_quotas_around(
    at: Option<DateTime<Utc>>,
    store: &IndexStore,
    account: &Account,
    conversations: &AccountConversations,
    context: &Context,
) -> Result<Vec<UsageQuota>> {
    // The observations of a window that contains `at` are less than a week before or after `at`.
    let latest = at.map_or(context.now(), |at| at + WEEK);
    let period = latest - WEEK * 2..latest.min(context.now());
    let mut quotas = usage_query::read_quotas(store, &period, WEEKLY_MINUTES)?;
    quotas.retain(|quota| conversations.contains_key(&quota.conversation));
    quotas.extend(read_recorded_quotas(account, &period, context)?);
    quotas.sort_by_key(|quota| quota.at);
    Ok(quotas)
}

/// Returns the observations that queries of the quota recorded in a period, in no order. The server's figures include
/// usage on other machines.
fn read_recorded_quotas(
    account: &Account,
    period: &Range<DateTime<Utc>>,
    context: &Context,
) -> Result<Vec<UsageQuota>> {
    let home = context.manager_home();
    let recorded_spans = observations::load_observations(home, &account.entry.identity)?.spans;

    let to_quota = |observation: &Observation, at: DateTime<Utc>| {
        Some(UsageQuota {
            // A query belongs to no conversation.
            conversation: 0,
            at,
            window: observation.weekly()?.clone(),
        })
    };

    let spans = recorded_spans.iter().flat_map(|span| {
        let first_and_last_time = [span.observation.observed_at, span.until];
        first_and_last_time.map(|at| to_quota(&span.observation, at.to_utc()))
    });
    let newest = account.entry.observation.iter();
    let newest = newest.map(|observed| to_quota(observed, observed.observed_at.to_utc()));
    let quotas = spans.chain(newest).flatten();

    Ok(quotas
        .filter(|quota| quota.at >= period.start && quota.at <= period.end)
        .collect())
}

fn reset_time(quota: &UsageQuota) -> Option<DateTime<Utc>> {
    quota.window.resets_at.map(|at| at.to_utc())
}

/// Returns the end of the window that contains `at`, or `None` if no observation is of this window. Observations may
/// report different ends: the last one until `at` counts, and without one the first one after `at`. `quotas` must be in
/// the order of time.
fn window_end_at(quotas: &[UsageQuota], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let end_around_at =
        |quota: &UsageQuota| reset_time(quota).filter(|end| at < *end && *end - WEEK <= at);
    let (until_at, after_at) = quotas.split_at(quotas.partition_point(|quota| quota.at <= at));
    let last_reported = until_at.iter().rev().find_map(end_around_at);
    last_reported.or_else(|| after_at.iter().find_map(end_around_at))
}

fn unknown_window_error(account: &Account, at: DateTime<Utc>, context: &Context) -> CommandError {
    let name = label(account);
    let when = full_time(&at, context);
    CommandError::failed(format!("the weekly window of {name} at {when} is unknown"))
        .hint("show the newest one: codex-manager usage --window ACCOUNT")
}

/// Reads the conversations of an account from the index.
///
/// # Errors
/// The index, Codex's list or `launches.jsonl` cannot be read.
pub(super) fn read_conversations_of(
    store: &IndexStore,
    identity: &Identity,
    context: &Context,
) -> Result<AccountConversations> {
    let filter = ThreadFilter {
        account: Some(read_account_filter(identity, context)?),
        ..ThreadFilter::default()
    };
    let is_subagent_by_id: HashMap<_, _> = list_threads_as(&filter, context, |thread| {
        (thread.id.to_lowercase(), thread.source == SUBAGENT)
    })?;

    let indexed = usage_query::read_conversations(store)?.into_iter();
    let indexed = indexed.filter_map(|(number, conversation)| {
        let of_account = ConversationOfAccount {
            is_subagent: *is_subagent_by_id.get(&conversation.session)?,
            conversation,
        };
        Some((number, of_account))
    });
    Ok(indexed.collect())
}

/// Weighs the requests by their costs, or all of them by their tokens if the price of a model is unknown.
fn weigh_requests(requests: &[UsageRequest], prices: &Prices) -> Vec<WeighedRequest> {
    let cost_of =
        |request: &UsageRequest| Some(prices.find_price(&request.model)?.cost(request.tokens));
    let costs: Option<Vec<f64>> = requests.iter().map(cost_of).collect();
    #[allow(clippy::cast_precision_loss, reason = "a weight")]
    let tokens_of = |request: &UsageRequest| request.tokens.total_tokens as f64;
    let weights = costs.unwrap_or_else(|| requests.iter().map(tokens_of).collect());

    let times = requests.iter().map(|request| request.at);
    let weighed = times.zip(weights);
    weighed
        .map(|(at, weight)| WeighedRequest { at, weight })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use codex_manager_core::codex::window::{CODEX_LIMIT, Window};

    fn day(n: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(n)
    }

    fn quota(at: i64, end: i64) -> UsageQuota {
        UsageQuota {
            conversation: 1,
            at: day(at),
            window: Window {
                limit_id: CODEX_LIMIT.to_owned(),
                minutes: Some(WEEKLY_MINUTES),
                used_percent: 1.0,
                resets_at: Some(day(end).fixed_offset()),
            },
        }
    }

    #[test]
    fn a_time_in_two_windows_belongs_to_the_one_last_observed_until_then() {
        // The server ended the first window early.
        let quotas = [quota(12, 17), quota(13, 17), quota(15, 22), quota(25, 29)];
        let end =
            |at| window_end_at(&quotas, day(at)).map(|end| (end - DateTime::UNIX_EPOCH).num_days());
        assert_eq!(end(10), Some(17));
        assert_eq!(end(14), Some(17));
        assert_eq!(end(16), Some(22));
        assert_eq!(end(21), Some(22));
        assert_eq!(end(22), Some(29));
        assert_eq!(end(29), None);
        assert_eq!(end(9), None);
    }
}
