//! Writes the token usage of conversations into the index.

use super::store::IndexStore;
use super::usage_tables::SLOT_MS;
use crate::codex::rollout_lines::TokenUsage;
use crate::codex::window::{CODEX_LIMIT, Window};
use crate::quota::window::SAME_WINDOW;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};
use std::collections::HashMap;

pub(super) fn delete_usage(store: &IndexStore, conversation_id: i64) -> rusqlite::Result<()> {
    for table in ["request", "slot", "quota"] {
        let sql = format!("DELETE FROM {table} WHERE conversation=?1");
        store.execute(&sql, [conversation_id])?;
    }
    Ok(())
}

/// Writes the usage of one conversation.
#[derive(Debug)]
pub(super) struct UsageWriter {
    conversation: i64,
    next_request: i64,
    /// The number and the sum of the new requests, by slot and model. They are added to the stored sums at the end.
    slots: HashMap<(i64, i64), (i64, TokenUsage)>,
    /// The last stored observation of each window, by the length of the window in minutes.
    windows: HashMap<u32, Window>,
}

impl UsageWriter {
    /// Prepares to append to the stored requests of the conversation.
    pub(super) fn begin(store: &IndexStore, conversation: i64) -> rusqlite::Result<Self> {
        let sql = "SELECT coalesce(max(number) + 1, 0) FROM request WHERE conversation=?1";
        let mut statement = store.connection.prepare_cached(sql)?;
        Ok(Self {
            conversation,
            next_request: statement.query_row([conversation], |row| row.get(0))?,
            slots: HashMap::new(),
            windows: read_last_windows(store, conversation)?,
        })
    }

    /// Adds a request. `model` is the row id of the model.
    pub(super) fn add_request(
        &mut self,
        store: &IndexStore,
        at: DateTime<Utc>,
        model: i64,
        used: TokenUsage,
    ) -> rusqlite::Result<()> {
        let at = at.timestamp_millis();
        let slot_and_model = (at.div_euclid(SLOT_MS), model);
        let (requests, sum) = self.slots.entry(slot_and_model).or_default();
        *requests += 1;
        *sum = sum.plus(used);

        let [input, cached, output, reasoning] = used.parts().map(saturating_i64);
        let (id, number) = (self.conversation, self.next_request);
        let row = [id, number, at, model, input, cached, output, reasoning];
        store.execute(
            "INSERT INTO request VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            row,
        )?;
        self.next_request += 1;
        Ok(())
    }

    /// Stores the windows of Codex's own limit, unless their last stored observation is the same.
    pub(super) fn add_windows(
        &mut self,
        store: &IndexStore,
        at: DateTime<Utc>,
        windows: &[Window],
    ) -> rusqlite::Result<()> {
        for window in windows.iter().filter(|w| w.limit_id == CODEX_LIMIT) {
            let Some(minutes) = window.minutes else {
                continue;
            };

            let last_window = self.windows.get(&minutes);
            if last_window.is_some_and(|last| is_same_observation(last, window)) {
                continue;
            }

            let resets = window.resets_at.map(|at| at.timestamp());
            let (id, at) = (self.conversation, at.timestamp_millis());
            store.execute(
                "INSERT INTO quota VALUES(?1, ?2, ?3, ?4, ?5)",
                params![id, at, minutes, window.used_percent, resets],
            )?;

            self.windows.insert(minutes, window.clone());
        }
        Ok(())
    }

    /// Adds the sums of the new requests to the stored sums.
    pub(super) fn write_sums(self, store: &IndexStore) -> rusqlite::Result<()> {
        let mut upsert = store.connection.prepare_cached(
            "INSERT INTO slot VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET \
             requests=requests+?4, input=input+?5, cached=cached+?6, output=output+?7, \
             reasoning=reasoning+?8",
        )?;
        for ((slot, model), (requests, sum)) in self.slots {
            let [input, cached, output, reasoning] = sum.parts().map(saturating_i64);
            let id = self.conversation;
            upsert.execute([id, slot, model, requests, input, cached, output, reasoning])?;
        }
        Ok(())
    }
}

/// Returns true if two observations have the same use and reset. Resets may differ by [`SAME_WINDOW`], because servers
/// report them with jitter.
fn is_same_observation(a: &Window, b: &Window) -> bool {
    let has_same_reset = match (a.resets_at, b.resets_at) {
        (Some(a), Some(b)) => (a - b).abs() <= SAME_WINDOW,
        // Equal if the reset is unknown in both.
        (a, b) => a == b,
    };
    has_same_reset && (a.used_percent - b.used_percent).abs() < f64::EPSILON
}

fn saturating_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Returns the last stored observation of each window in a conversation.
fn read_last_windows(
    store: &IndexStore,
    conversation_id: i64,
) -> rusqlite::Result<HashMap<u32, Window>> {
    let mut statement = store.connection.prepare_cached(
        "SELECT minutes, used, resets, max(at) FROM quota WHERE conversation=?1 GROUP BY minutes",
    )?;
    let windows = statement.query_map([conversation_id], |row| {
        let minutes = row.get(0)?;
        Ok((minutes, window_from_row(minutes, row.get(1)?, row.get(2)?)))
    })?;
    windows.collect()
}

/// Builds a window from a row of the table `quota`, which stores the reset in seconds since 1970.
pub(super) fn window_from_row(minutes: u32, used_percent: f64, resets: Option<i64>) -> Window {
    let resets_at = resets.and_then(|at| DateTime::from_timestamp(at, 0));
    Window {
        limit_id: CODEX_LIMIT.to_owned(),
        minutes: Some(minutes),
        used_percent,
        resets_at: resets_at.map(|at| at.fixed_offset()),
    }
}

/// Returns the row id of a model. Adds the model if it is new.
pub(super) fn find_or_insert_model(store: &IndexStore, name: &str) -> rusqlite::Result<i64> {
    let connection = &store.connection;
    let mut find = connection.prepare_cached("SELECT id FROM model WHERE name=?1")?;
    if let Some(id) = find.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut insert = connection.prepare_cached("INSERT INTO model(name) VALUES(?1)")?;
    insert.execute([name])?;
    Ok(connection.last_insert_rowid())
}
