//! Computes the token usage of a conversation from its events, without the events that Codex copied from another
//! conversation, and writes it into the index.

use super::plan::IngestTask;
use super::store::{IndexStore, SLOT_MS};
use crate::codex::rollout_lines::{EventKind, LineParts, RolloutEvent, TokenEvent, TokenUsage};
use crate::codex::window::{CODEX_LIMIT, Window};
use crate::conversations::copied_texts::CopyTime;
use crate::conversations::reader::EventReader;
use crate::conversations::tally::Tally;
use crate::quota::window::SAME_WINDOW;
use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension as _, params};
use std::collections::HashMap;

/// The name of the model of a request if the rollout does not record the model.
pub const UNKNOWN_MODEL: &str = "unknown";

/// The usage of the conversation that is being read.
pub(super) struct ConversationUsage {
    session: String,
    tally: Tally,
    /// The model of the current turn.
    model: String,
    /// `None` once all copied events are read.
    copied_counts: Option<CopiedCounts>,
    /// The number of the conversation in the index.
    conversation: i64,
    next_request: i64,
    /// The number and the sum of the new requests, by slot and model. They are added to the stored sums at the end.
    sums_by_slot_and_model: HashMap<(i64, i64), (i64, TokenUsage)>,
    /// The last stored observation of each window, by the length of the window in minutes.
    last_windows: HashMap<u32, Window>,
}

impl ConversationUsage {
    /// Begins at the start of the rollout, or continues after the part that the index has.
    pub(super) fn begin(
        store: &IndexStore,
        task: &IngestTask,
        conversation: i64,
    ) -> rusqlite::Result<Self> {
        let stored_state: &[u8] = match &task.old_row {
            Some(old_row) if task.is_continued() => &old_row.usage_state,
            _ => &[],
        };

        // Without a stored state, both parts are empty: a new tally, and no model.
        let stored_parts = stored_state.split_at_checked(Tally::STORED_BYTES);
        let (tally_bytes, model_bytes) = stored_parts.unwrap_or_default();

        let model = match &*String::from_utf8_lossy(model_bytes) {
            "" => UNKNOWN_MODEL.to_owned(),
            name => name.to_owned(),
        };

        let sql = "SELECT coalesce(max(number) + 1, 0) FROM request WHERE conversation=?1";
        let mut statement = store.connection.prepare_cached(sql)?;
        Ok(Self {
            session: task.candidate.session.clone(),
            tally: Tally::from_bytes(tally_bytes),
            model,
            copied_counts: task.copied_at.map(|at| CopiedCounts::open(task, at)),
            conversation,
            next_request: statement.query_row([conversation], |row| row.get(0))?,
            sums_by_slot_and_model: HashMap::new(),
            last_windows: read_last_windows(store, conversation)?,
        })
    }

    pub(super) fn add_event(
        &mut self,
        store: &IndexStore,
        event: &RolloutEvent,
    ) -> rusqlite::Result<()> {
        let (at, used) = match (&event.kind, event.at) {
            (EventKind::TurnContext(context), _) => {
                if let Some(model) = &context.model {
                    self.model.clone_from(model);
                }
                return Ok(());
            }
            (EventKind::Request(record), Some(at)) => {
                (at, self.tally.count_request(record, &self.session))
            }
            (EventKind::Tokens(tokens), Some(at)) => {
                if self.consume_copy(tokens, at) {
                    self.tally.skip_copied(tokens);
                    return Ok(());
                }
                self.add_windows(store, at, &tokens.windows)?;
                (at, self.tally.count_event(tokens))
            }
            _ => return Ok(()),
        };

        let uses_no_tokens = used.parts() == [0; 4];
        if uses_no_tokens {
            return Ok(());
        }

        let model = find_or_insert_model(store, &self.model)?;
        self.add_request(store, at, model, used)
    }

    /// Returns true if `tokens` is the next copied count. The first other count ends the copies.
    fn consume_copy(&mut self, tokens: &TokenEvent, at: DateTime<Utc>) -> bool {
        let counts = self.copied_counts.as_mut();
        let is_copy = counts.is_some_and(|counts| counts.consume_copy(tokens, at));
        if !is_copy {
            self.copied_counts = None;
        }
        is_copy
    }

    /// Adds a request. `model` is the row id of the model.
    fn add_request(
        &mut self,
        store: &IndexStore,
        at: DateTime<Utc>,
        model: i64,
        used: TokenUsage,
    ) -> rusqlite::Result<()> {
        let at = at.timestamp_millis();
        let key = (at.div_euclid(SLOT_MS), model);
        let (requests, sum) = self.sums_by_slot_and_model.entry(key).or_default();
        *requests += 1;
        *sum = sum.plus(used);

        let [input, cached, output, reasoning] = used.parts().map(saturating_i64);
        let (id, number) = (self.conversation, self.next_request);
        let row = [id, number, at, model, input, cached, output, reasoning];
        let sql = "INSERT INTO request VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        store.execute(sql, row)?;
        self.next_request += 1;
        Ok(())
    }

    /// Stores the windows of Codex's own limit, unless their last stored observation is the same.
    fn add_windows(
        &mut self,
        store: &IndexStore,
        at: DateTime<Utc>,
        windows: &[Window],
    ) -> rusqlite::Result<()> {
        for window in windows.iter().filter(|w| w.limit_id == CODEX_LIMIT) {
            let Some(minutes) = window.minutes else {
                continue;
            };

            let last_window = self.last_windows.get(&minutes);
            if last_window.is_some_and(|last| is_same_observation(last, window)) {
                continue;
            }

            let resets = window.resets_at.map(|at| at.timestamp());
            let (id, at) = (self.conversation, at.timestamp_millis());
            store.execute(
                "INSERT INTO quota VALUES(?1, ?2, ?3, ?4, ?5)",
                params![id, at, minutes, window.used_percent, resets],
            )?;

            self.last_windows.insert(minutes, window.clone());
        }
        Ok(())
    }

    /// Adds the sums of the new requests to the stored sums. Returns the state from which a later update can continue.
    pub(super) fn finish(self, store: &IndexStore) -> rusqlite::Result<Vec<u8>> {
        let mut upsert = store.connection.prepare_cached(
            "INSERT INTO slot VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET \
             requests=requests+?4, input=input+?5, cached=cached+?6, output=output+?7, \
             reasoning=reasoning+?8",
        )?;
        for ((slot, model), (requests, sum)) in self.sums_by_slot_and_model {
            let [input, cached, output, reasoning] = sum.parts().map(saturating_i64);
            let id = self.conversation;
            upsert.execute([id, slot, model, requests, input, cached, output, reasoning])?;
        }

        let mut state = self.tally.to_bytes();
        state.extend(self.model.bytes());
        Ok(state)
    }
}

/// Recognizes the token counts at the beginning of a conversation that older versions of Codex copied from its parent.
/// The copies have the times of the original events, or the time of the copy.
struct CopiedCounts {
    /// The events of the parent; `None` if its rollout cannot be opened.
    parent: Option<EventReader>,
    time: CopyTime,
}

impl CopiedCounts {
    fn open(task: &IngestTask, copied_at: DateTime<Utc>) -> Self {
        let rollout = task.parent.as_ref();
        Self {
            parent: rollout
                .and_then(|rollout| EventReader::open(&rollout.path, LineParts::INDEXED).ok()),
            time: CopyTime(copied_at),
        }
    }

    /// Returns true if `tokens` is a copy of the parent's next token count. Equal sums alone prove nothing, because a
    /// fork and its parent may both continue with a request of the same size. So the times count, too. Without the
    /// rollout of the parent, only the times decide.
    fn consume_copy(&mut self, tokens: &TokenEvent, at: DateTime<Utc>) -> bool {
        if !self.time.includes(at) {
            return false;
        }
        let is_copy = match &mut self.parent {
            Some(parent) => read_next_token_count(parent).is_some_and(|original| {
                original.total == tokens.total && original.last == tokens.last
            }),
            None => true,
        };
        self.time.advance(at);
        is_copy
    }
}

fn read_next_token_count(reader: &mut EventReader) -> Option<TokenEvent> {
    while let Ok(Some(event)) = reader.next_event() {
        if let EventKind::Tokens(tokens) = event.kind {
            return Some(*tokens);
        }
    }
    None
}

pub(super) fn delete_usage(store: &IndexStore, conversation_id: i64) -> rusqlite::Result<()> {
    for table in ["request", "slot", "quota"] {
        let sql = format!("DELETE FROM {table} WHERE conversation=?1");
        store.execute(&sql, [conversation_id])?;
    }
    Ok(())
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
    // With `max(at)`, SQLite takes the other columns from the row with the latest time.
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
fn find_or_insert_model(store: &IndexStore, name: &str) -> rusqlite::Result<i64> {
    let connection = &store.connection;
    let mut find = connection.prepare_cached("SELECT id FROM model WHERE name=?1")?;
    if let Some(id) = find.query_row([name], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    let mut insert = connection.prepare_cached("INSERT INTO model(name) VALUES(?1)")?;
    insert.execute([name])?;
    Ok(connection.last_insert_rowid())
}
