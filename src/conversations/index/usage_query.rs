//! Reads the usage of tokens from the index.

use super::error::IndexError;
use super::store::IndexStore;
use super::usage_store;
pub(crate) use super::usage_tables::SLOT_MS;
use crate::codex::rollout_lines::TokenUsage;
use crate::codex::window::Window;
use chrono::{DateTime, Utc};
use hashbrown::HashMap;
use rusqlite::Row;
use std::ops::Range;
use std::rc::Rc;

/// The grouping of sums of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsageDetail {
    /// One sum for each slot and model.
    Slots,
    /// One sum for each conversation and model.
    Conversations,
    /// One sum for each conversation, slot and model.
    Both,
}

/// The sum of some requests of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageRow {
    /// The number of the conversation; 0 in a sum of all conversations.
    pub conversation: i64,
    /// The time in milliseconds since 1970, divided by [`SLOT_MS`]; 0 in a sum of all slots.
    pub slot: i64,
    pub model: Rc<str>,
    pub requests: u64,
    pub tokens: TokenUsage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageRequest {
    pub conversation: i64,
    /// The time of the answer.
    pub at: DateTime<Utc>,
    pub model: Rc<str>,
    pub tokens: TokenUsage,
}

/// The use of a quota window at a time, as the rollout of a conversation recorded it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UsageQuota {
    pub conversation: i64,
    pub at: DateTime<Utc>,
    pub window: Window,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageConversation {
    /// The id in lower case.
    pub session: String,
    /// The title; may be empty.
    pub title: String,
    pub cwd: String,
    /// True if the conversation has a row in Codex's list.
    pub listed: bool,
}

/// Returns the sums of the requests in a range of slots, grouped by `detail`.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn read_sums(
    store: &IndexStore,
    slots: Range<i64>,
    detail: UsageDetail,
) -> Result<Vec<UsageRow>, IndexError> {
    let (columns, order) = match detail {
        UsageDetail::Slots => ("0, slot", "slot"),
        UsageDetail::Conversations => ("conversation, 0", "conversation"),
        UsageDetail::Both => ("conversation, slot", "conversation, slot"),
    };
    // The table is in the order of conversations. If all times are selected, SQLite should neither use the index by
    // time nor sort. A plus sign before the column forbids the use of the index.
    let selects_all_times = slots == (i64::MIN..i64::MAX) && detail != UsageDetail::Slots;
    let sign = if selects_all_times { "+" } else { "" };
    let sql = format!(
        "SELECT {columns}, model, requests, input, cached, output, reasoning \
         FROM slot WHERE {sign}slot>=?1 AND {sign}slot<?2 ORDER BY {order}"
    );
    let models = read_model_names(store)?;
    store.run(|connection| {
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([slots.start, slots.end])?;
        let mut sums: Vec<UsageRow> = Vec::new();
        // The sums of the current conversation and slot begin here, at the end of `sums`.
        let mut start = 0;
        while let Some(row) = rows.next()? {
            let key = (row.get(0)?, row.get(1)?);
            if sums
                .get(start)
                .is_some_and(|sum| (sum.conversation, sum.slot) != key)
            {
                start = sums.len();
            }
            add_row_to_sums(&mut sums, start, key, row, &models)?;
        }
        Ok(sums)
    })
}

/// Adds a row to the sum of its model among `sums[start..]`. Appends a new sum if there is none.
fn add_row_to_sums(
    sums: &mut Vec<UsageRow>,
    start: usize,
    (conversation, slot): (i64, i64),
    row: &Row<'_>,
    models: &HashMap<i64, Rc<str>>,
) -> rusqlite::Result<()> {
    let model = models
        .get(&row.get::<_, i64>(2)?)
        .cloned()
        .unwrap_or_default();
    let (requests, tokens) = (parse_count(row, 3)?, parse_tokens(row, 4)?);
    match sums[start..].iter_mut().find(|sum| sum.model == model) {
        Some(sum) => {
            sum.requests = sum.requests.saturating_add(requests);
            sum.tokens = sum.tokens.plus(tokens);
        }
        None => sums.push(UsageRow {
            conversation,
            slot,
            model,
            requests,
            tokens,
        }),
    }
    Ok(())
}

/// Returns the requests of a period in the order of time.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn read_requests(
    store: &IndexStore,
    period: &Range<DateTime<Utc>>,
) -> Result<Vec<UsageRequest>, IndexError> {
    let models = read_model_names(store)?;
    let sql = "SELECT conversation, at, model, input, cached, output, reasoning FROM request \
               WHERE at>=?1 AND at<?2 ORDER BY at";
    store.query_rows(sql, to_millis(period), |row| {
        let model = models.get(&row.get::<_, i64>(2)?).cloned();
        Ok(UsageRequest {
            conversation: row.get(0)?,
            at: time_from_millis(row.get(1)?),
            model: model.unwrap_or_default(),
            tokens: parse_tokens(row, 3)?,
        })
    })
}

/// Returns the recorded use of windows with a length of `minutes` in a period, in the order of time.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn read_quotas(
    store: &IndexStore,
    period: &Range<DateTime<Utc>>,
    minutes: u32,
) -> Result<Vec<UsageQuota>, IndexError> {
    let [from, until] = to_millis(period);
    let sql = "SELECT conversation, at, used, resets FROM quota WHERE at>=?1 AND at<?2 AND minutes=?3 \
               ORDER BY at";
    store.query_rows(sql, (from, until, minutes), |row| {
        Ok(UsageQuota {
            conversation: row.get(0)?,
            at: time_from_millis(row.get(1)?),
            window: usage_store::window_from_row(minutes, row.get(2)?, row.get(3)?),
        })
    })
}

/// Returns all conversations that have usage, by their numbers.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn read_conversations(
    store: &IndexStore,
) -> Result<HashMap<i64, UsageConversation>, IndexError> {
    let sql = "SELECT id, session, title, cwd, listed FROM conversation \
               WHERE EXISTS (SELECT 1 FROM slot WHERE slot.conversation=conversation.id)";
    store.query_rows(sql, [], parse_conversation_row)
}

/// Returns the conversations with these numbers, by their numbers.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn find_conversations(
    store: &IndexStore,
    numbers: impl Iterator<Item = i64>,
) -> Result<HashMap<i64, UsageConversation>, IndexError> {
    let sql = "SELECT id, session, title, cwd, listed FROM conversation WHERE id=?1";
    let conversations =
        numbers.map(|number| store.query_optional(sql, [number], parse_conversation_row));
    conversations.filter_map(Result::transpose).collect()
}

fn parse_conversation_row(row: &Row<'_>) -> rusqlite::Result<(i64, UsageConversation)> {
    let conversation = UsageConversation {
        session: row.get(1)?,
        title: row.get(2)?,
        cwd: row.get(3)?,
        listed: row.get(4)?,
    };
    Ok((row.get(0)?, conversation))
}

fn read_model_names(store: &IndexStore) -> Result<HashMap<i64, Rc<str>>, IndexError> {
    store.query_rows("SELECT id, name FROM model", [], |row| {
        let name: String = row.get(1)?;
        Ok((row.get(0)?, name.into()))
    })
}

fn to_millis(period: &Range<DateTime<Utc>>) -> [i64; 2] {
    [period.start, period.end].map(|at| at.timestamp_millis())
}

fn time_from_millis(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or_default()
}

fn parse_tokens(row: &Row<'_>, first_column: usize) -> rusqlite::Result<TokenUsage> {
    let mut parts = [0; 4];
    for (i, part) in parts.iter_mut().enumerate() {
        *part = parse_count(row, first_column + i)?;
    }
    Ok(TokenUsage::from_parts(parts))
}

/// Returns the number in a column; 0 for a negative one, which only a damaged index has.
fn parse_count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    Ok(u64::try_from(number).unwrap_or_default())
}
