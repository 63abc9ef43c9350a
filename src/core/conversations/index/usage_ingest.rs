//! Computes the token usage of a conversation from its events, without the events that Codex copied from another
//! conversation.

use super::plan::IngestTask;
use super::store::IndexStore;
use super::usage_store::{self, UsageWriter};
use crate::codex::rollout_lines::{EventKind, LineParts, RolloutEvent, TokenEvent};
use crate::conversations::reader::EventReader;
use crate::conversations::tally::Tally;
use chrono::{DateTime, TimeDelta, Utc};

/// The name of the model of a request if the rollout does not record the model.
pub(crate) const UNKNOWN_MODEL: &str = "unknown";

/// The longest time between two events that Codex writes when it copies a conversation. A request takes
/// longer.
const COPY_PAUSE: TimeDelta = TimeDelta::seconds(1);

/// The usage of the conversation that is being read.
pub(super) struct ConversationUsage {
    session: String,
    tally: Tally,
    /// The model of the current turn.
    model: String,
    /// `None` once all copied events are read.
    copied: Option<CopiedCounts>,
    writer: UsageWriter,
}

impl ConversationUsage {
    /// Begins at the start of the rollout, or continues after the part that the index has.
    pub(super) fn begin(
        store: &IndexStore,
        task: &IngestTask,
        conversation: i64,
    ) -> rusqlite::Result<Self> {
        let is_continued = task.start_offset.is_some_and(|from| from > 0);
        let indexed = task.indexed.as_ref().filter(|_| is_continued);
        let stored_state = indexed.map_or(&[][..], |indexed| &indexed.usage);

        // Without a stored state, both parts are empty: a new tally, and no model.
        let (tally, model) = stored_state
            .split_at_checked(Tally::STORED_BYTES)
            .unwrap_or_default();

        let model = match &*String::from_utf8_lossy(model) {
            "" => UNKNOWN_MODEL.to_owned(),
            name => name.to_owned(),
        };

        Ok(Self {
            session: task.candidate.session.clone(),
            tally: Tally::from_bytes(tally),
            model,
            copied: task.copied_at.map(|at| CopiedCounts::open(task, at)),
            writer: UsageWriter::begin(store, conversation)?,
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
                if let Some(copied) = &mut self.copied {
                    if copied.consume_copy(tokens, at) {
                        self.tally.skip_copied(tokens);
                        return Ok(());
                    }
                    // All copies are at the beginning, so the first other count ends them.
                    self.copied = None;
                }

                self.writer.add_windows(store, at, &tokens.count.windows)?;
                (at, self.tally.count_event(tokens))
            }
            _ => return Ok(()),
        };

        let uses_no_tokens = used.parts() == [0; 4];
        if uses_no_tokens {
            return Ok(());
        }

        let model = usage_store::find_or_insert_model(store, &self.model)?;
        self.writer.add_request(store, at, model, used)
    }

    /// Writes the sums. Returns the state from which a later update can continue.
    pub(super) fn finish(self, store: &IndexStore) -> rusqlite::Result<Vec<u8>> {
        let mut state = self.tally.to_bytes();
        state.extend(self.model.bytes());
        self.writer.write_sums(store)?;
        Ok(state)
    }
}

/// Recognizes the token counts at the beginning of a conversation that older versions of Codex copied from its parent.
/// The copies have the times of the original events, or the time of the copy.
struct CopiedCounts {
    /// The events of the parent; `None` if its rollout cannot be opened.
    parent: Option<EventReader>,
    /// The time of the last copied event.
    last_copied_at: DateTime<Utc>,
}

impl CopiedCounts {
    fn open(task: &IngestTask, copied_at: DateTime<Utc>) -> Self {
        let rollout = task.parent.as_ref();
        Self {
            parent: rollout
                .and_then(|rollout| EventReader::open(&rollout.path, LineParts::INDEXED).ok()),
            last_copied_at: copied_at,
        }
    }

    /// Returns true if `tokens` is a copy of the parent's next token count. Equal sums alone prove nothing, because a
    /// fork and its parent may both continue with a request of the same size. So the times count, too: copies are at
    /// most [`COPY_PAUSE`] apart. Without the rollout of the parent, only the times decide.
    fn consume_copy(&mut self, tokens: &TokenEvent, at: DateTime<Utc>) -> bool {
        if at > self.last_copied_at + COPY_PAUSE {
            return false;
        }
        let is_copy = match &mut self.parent {
            Some(parent) => read_next_token_count(parent).is_some_and(|original| {
                original.total == tokens.total && original.last == tokens.last
            }),
            None => true,
        };
        self.last_copied_at = self.last_copied_at.max(at);
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
