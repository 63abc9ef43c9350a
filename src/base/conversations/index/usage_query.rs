//! Reads the usage of tokens from the index.

pub use super::store::SLOT_MS;
use super::store::{IndexError, IndexStore};
use super::usage_ingest;
use crate::codex::folder_key::FolderSpellings;
use crate::codex::rollout_lines::TokenUsage;
use crate::codex::window::Window;
use chrono::{DateTime, Utc};
use hashbrown::HashMap;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::{Connection, Row};
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

/// The grouping of sums of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageDetail {
    /// One sum for each model.
    Models,
    /// One sum for each slot and model.
    Slots,
    /// One sum for each conversation and model.
    Conversations,
    /// One sum for each conversation, slot and model.
    SlotsOfConversations,
}

/// The sum of the requests of one model in a group of [`UsageDetail`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The number of the conversation; 0 in a sum of all conversations.
    pub conversation: i64,
    /// The time in milliseconds since 1970, divided by [`SLOT_MS`]; 0 in a sum of all slots.
    pub slot: i64,
    pub model: Rc<str>,
    pub requests: u64,
    pub tokens: TokenUsage,
}

impl UsageRow {
    /// Returns the time at which the slot begins.
    pub fn slot_start(&self) -> DateTime<Utc> {
        time_from_millis(self.slot.saturating_mul(SLOT_MS))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRequest {
    pub conversation: i64,
    /// The time of the answer.
    pub at: DateTime<Utc>,
    pub model: Rc<str>,
    pub tokens: TokenUsage,
}

/// The use of a quota window at a time, as the rollout of a conversation recorded it.
#[derive(Debug, Clone, PartialEq)]
pub struct UsageQuota {
    pub conversation: i64,
    pub at: DateTime<Utc>,
    pub window: Window,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageConversation {
    /// The id in lower case.
    pub session: String,
    /// The title; may be empty.
    pub title: String,
    pub cwd: String,
    /// True if the conversation has a row in Codex's database.
    pub listed: bool,
}

/// Returns the sums of the requests in a range of slots, grouped by `detail`.
///
/// # Errors
/// The index cannot be read.
pub fn read_sums(
    store: &IndexStore,
    slots: Range<i64>,
    detail: UsageDetail,
) -> Result<Vec<UsageRow>, IndexError> {
    let (columns, group) = match detail {
        UsageDetail::Models => ("0, 0", ""),
        UsageDetail::Slots => ("0, slot", "GROUP BY slot"),
        UsageDetail::Conversations => ("conversation, 0", "GROUP BY conversation"),
        UsageDetail::SlotsOfConversations => ("conversation, slot", "GROUP BY conversation, slot"),
    };

    // The table is in the order of conversations. If all times are selected, SQLite should neither use the index by
    // time nor sort. A plus sign before the column forbids the use of the index. Only sums by slot are in the order of
    // that index.
    let selects_all_times = slots == (i64::MIN..i64::MAX) && detail != UsageDetail::Slots;
    let sign = if selects_all_times { "+" } else { "" };
    let sql = format!(
        "SELECT {columns}, {SUM_BY_MODEL} FROM slot WHERE {sign}slot>=?1 AND {sign}slot<?2 {group}"
    );

    let models = read_model_names(store)?;
    store.run(|connection| {
        define_sum_by_model(connection)?;
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([slots.start, slots.end])?;
        let mut sums = Vec::new();

        while let Some(row) = rows.next()? {
            let (conversation, slot) = (row.get(0)?, row.get(1)?);
            let sums_of_group = parse_sums(row.get_ref(2)?.as_blob()?, &models);
            sums.extend(sums_of_group.map(|sum| UsageRow {
                conversation,
                slot,
                ..sum
            }));
        }

        Ok(sums)
    })
}

/// Returns the requests of a period in the order of time.
///
/// # Errors
/// The index cannot be read.
pub fn read_requests(
    store: &IndexStore,
    period: &Range<DateTime<Utc>>,
) -> Result<Vec<UsageRequest>, IndexError> {
    let models = read_model_names(store)?;
    let sql = "SELECT conversation, at, model, input, cached, output, reasoning FROM request \
               WHERE at>=?1 AND at<?2 ORDER BY at";

    store.query_rows(sql, to_millis(period), |row| {
        let model = models.get(&row.get::<_, u64>(2)?).cloned();
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
pub fn read_quotas(
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
            window: usage_ingest::window_from_row(minutes, row.get(2)?, row.get(3)?),
        })
    })
}

/// Returns all conversations that have usage, by their numbers.
///
/// # Errors
/// The index cannot be read.
pub fn read_conversations(
    store: &IndexStore,
) -> Result<HashMap<i64, UsageConversation>, IndexError> {
    let sql = "SELECT id, session, title, cwd, listed FROM conversation \
               WHERE EXISTS (SELECT 1 FROM slot WHERE slot.conversation=conversation.id)";
    let mut folders = FolderSpellings::default();
    store.query_rows(sql, [], |row| {
        let mut conversation = parse_conversation(row)?;
        let folder = folders.unify(&conversation.cwd);
        folder.clone_into(&mut conversation.cwd);
        Ok((row.get(0)?, conversation))
    })
}

/// Returns the number of conversations that have usage in a range of slots.
///
/// # Errors
/// The index cannot be read.
pub fn count_conversations(store: &IndexStore, slots: &Range<i64>) -> Result<usize, IndexError> {
    // The signs before `slot` forbid the index by time, as in `read_sums`.
    let sql = "SELECT count(DISTINCT conversation) FROM slot WHERE +slot>=?1 AND +slot<?2";
    store.run(|connection| connection.query_row(sql, [slots.start, slots.end], |row| row.get(0)))
}

/// Calls `visit` with each conversation that has usage in a range of slots, and with its sums by model. Begins with the
/// most tokens, then with the smallest id. SQLite sorts the conversations in a temporary file, so that the memory does
/// not grow with them. Until the end no other process can update the index, so `visit` must not wait.
///
/// # Errors
/// The index cannot be read.
pub fn visit_largest_conversations(
    store: &IndexStore,
    slots: &Range<i64>,
    limit: Option<usize>,
    visit: &mut dyn FnMut(UsageConversation, &[UsageRow]),
) -> Result<(), IndexError> {
    // SQLite sorts faster without a limit than with a very large one.
    let limit = limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let limit_clause = limit.map_or_else(String::new, |limit| format!("LIMIT {limit}"));

    // The signs before `slot` forbid the index by time, as in `read_sums`. `CROSS JOIN` keeps the order of the tables,
    // so that each conversation is looked up once, after its slots are summed.
    // The first eight bytes of `sums` are the number of all tokens in big-endian order, so they sort as numbers.
    let sql = format!(
        "SELECT id, session, title, cwd, listed, sums FROM \
         (SELECT conversation, {SUM_BY_MODEL} AS sums FROM slot WHERE +slot>=?1 AND +slot<?2 \
         GROUP BY conversation) \
         CROSS JOIN conversation ON id=conversation ORDER BY substr(sums, 1, 8) DESC, session {limit_clause}"
    );

    let models = read_model_names(store)?;
    store.run(|connection| {
        define_sum_by_model(connection)?;
        let has_visited = Cell::new(false);
        let mut visit_rows = || {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([slots.start, slots.end])?;
            let mut sums = Vec::new();
            while let Some(row) = rows.next()? {
                has_visited.set(true);
                sums.clear();
                sums.extend(parse_sums(row.get_ref(5)?.as_blob()?, &models));
                visit(parse_conversation(row)?, &sums);
            }
            Ok(())
        };

        let result = visit_rows();
        // A retry would visit the conversations again.
        if result.is_ok() || has_visited.get() {
            return result;
        }
        // The disk of the temporary files may be full, so SQLite sorts in memory.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        visit_rows()
    })
}

/// The call of the aggregate function [`SumByModel`].
const SUM_BY_MODEL: &str = "sum_by_model(model, requests, input, cached, output, reasoning)";

/// An aggregate function of SQL. Its result has big-endian numbers of eight bytes: all tokens, then for each model its
/// id and its sums. Unlike the function `sum` of SQL, it does not fail at an overflow, and a group may have several
/// models.
struct SumByModel;

/// The id of a model, the number of its requests, and the parts of their tokens.
type ModelSums = [u64; 6];

fn define_sum_by_model(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_aggregate_function("sum_by_model", 6, flags, SumByModel)
}

impl Aggregate<Vec<ModelSums>, Vec<u8>> for SumByModel {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Vec<ModelSums>> {
        Ok(Vec::with_capacity(1))
    }

    fn step(&self, row: &mut Context<'_>, sums: &mut Vec<ModelSums>) -> rusqlite::Result<()> {
        let mut added = [0; 6];
        for (i, number) in added.iter_mut().enumerate() {
            // Only a damaged index has a negative number.
            *number = u64::try_from(row.get::<i64>(i)?).unwrap_or_default();
        }

        match sums.iter_mut().find(|[model, ..]| *model == added[0]) {
            None => sums.push(added),
            Some(sum) => {
                for (part, number) in sum.iter_mut().zip(added).skip(1) {
                    *part = part.saturating_add(number);
                }
            }
        }
        Ok(())
    }

    fn finalize(
        &self,
        _: &mut Context<'_>,
        sums: Option<Vec<ModelSums>>,
    ) -> rusqlite::Result<Vec<u8>> {
        let sums = sums.unwrap_or_default();
        let all_tokens = sums.iter().fold(0_u64, |all, [_, _, parts @ ..]| {
            all.saturating_add(TokenUsage::from_parts(*parts).total_tokens)
        });
        let numbers = std::iter::once(&all_tokens).chain(sums.iter().flatten());
        Ok(numbers.flat_map(|number| number.to_be_bytes()).collect())
    }
}

/// Returns the sums in a result of [`SumByModel`].
fn parse_sums(blob: &[u8], models: &HashMap<u64, Rc<str>>) -> impl Iterator<Item = UsageRow> {
    let (numbers, _) = blob.as_chunks::<8>();
    let (sums, _) = numbers.get(1..).unwrap_or_default().as_chunks::<6>();

    sums.iter().map(|sum| {
        let [model, requests, parts @ ..] = sum.map(u64::from_be_bytes);
        UsageRow {
            // The caller sets both, unless the sum is of all conversations or slots.
            conversation: 0,
            slot: 0,
            // Only a damaged index has no name for a model.
            model: models.get(&model).cloned().unwrap_or_default(),
            requests,
            tokens: TokenUsage::from_parts(parts),
        }
    })
}

/// Parses the columns 1 to 4.
fn parse_conversation(row: &Row<'_>) -> rusqlite::Result<UsageConversation> {
    Ok(UsageConversation {
        session: row.get(1)?,
        title: row.get(2)?,
        cwd: row.get(3)?,
        listed: row.get(4)?,
    })
}

fn read_model_names(store: &IndexStore) -> Result<HashMap<u64, Rc<str>>, IndexError> {
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
        // Only a damaged index has a negative number.
        let number: i64 = row.get(first_column + i)?;
        *part = u64::try_from(number).unwrap_or_default();
    }
    Ok(TokenUsage::from_parts(parts))
}
