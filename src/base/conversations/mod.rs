//! Conversations as a user reads them: their events, a full-text index, and search.
//!
//! [`reader`] is the only reader of the contents of rollouts. [`index`] keeps the words of all conversations in a
//! SQLite database below the manager home, but not their texts, which are in the rollouts. [`search`] evaluates queries
//! by the index, and reads the messages to show from the rollouts. [`messages`] compares two versions of a rollout.
//! [`transcript`], [`markdown`] and [`html`] format a conversation for a reader.
//!
//! I want to …
//!
//! - read the events of a rollout, each once → [`reader`]; only its messages → [`messages`]
//! - index something else → `index::ingest` and the tables in `index::store`, whose version must then be raised
//! - find out why a change is not in the index → `index::candidates` (which conversations), `index::plan` (which bytes)
//! - change the words of the index → `index::tokens`; the query language → [`search::query`]; the order →
//!   [`search::evaluate`]
//! - know which texts a fork only repeats → [`copied_texts`]
//! - count tokens → [`tally`] and `index::usage_ingest`

pub mod copied_texts;
pub mod html;
mod image_data;
pub mod index;
pub mod left_out;
pub mod markdown;
pub mod messages;
pub mod named_conversation;
pub mod past_answers;
pub mod raw_lines;
pub mod reader;
mod reader_state;
pub mod search;
pub(crate) mod tally;
pub mod transcript;
