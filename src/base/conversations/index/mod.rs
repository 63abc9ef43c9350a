//! The full-text index of the conversations of a Codex home: one SQLite database below the manager home.
//!
//! The index is derived data, and is created again if it is damaged. It contains no logins. It has the titles of
//! conversations and the words of their texts, which show what the conversations are about. So the file has mode 0600,
//! and no archive, export or sync contains it.

mod candidates;
mod ingest;
mod plan;
mod posting_list;
mod refresh;
mod rollout_blocks;
mod store;
mod text_spans;
mod text_words;
pub(crate) mod tokens;
mod usage_ingest;
pub mod usage_query;
mod variable_numbers;
mod vocabulary;
mod word_query;
mod word_runs;

pub use candidates::IndexSource;
pub(crate) use candidates::list_candidates;
pub use ingest::RefreshReport;
pub(crate) use plan::IndexCandidate;
pub use plan::format_project;
pub use refresh::{
    IndexStatus, Thoroughness, expect_changed_rollouts, lacks_complete_update, read_status,
    rebuild, refresh,
};
pub(crate) use rollout_blocks::searchable_part;
pub(crate) use store::TextId;
pub use store::{FOLDER, IndexError, IndexStore, disk_size, index_path, remove_index};
pub use text_spans::read_revision;
pub(crate) use text_spans::{TextPosition, TextSpans, list_span_ranges, read_position, role_mask};
pub use tokens::truncate_bytes;
pub use usage_ingest::UNKNOWN_MODEL;
pub(crate) use word_query::{WordQuery, WordSearcher};
