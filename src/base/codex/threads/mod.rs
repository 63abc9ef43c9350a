//! The table `threads` of the state database, from which Codex lists conversations.
//!
//! Codex's versions add columns (0.169 has 47), so only existing columns are read and written.
//!
//! - the texts that Codex derives from a rollout: [`RowTexts`]
//! - rows as Codex has them: [`fold_rows`]; filtered and ordered for a list: [`list()`]
//! - single columns and deleted rows of a live database: [`live`]
//! - rows of a home that no process uses, all or none: [`edit_rows`]
//! - staged databases, before they replace those of the home: [`staged`]
//! - a row with all its columns, taken out and put back: [`saved_row`]

mod changes;
mod filter;
mod list;
mod list_sql;
pub mod live;
mod row_texts;
mod row_values;
mod rows;
pub(crate) mod saved_row;
mod schema;
pub mod staged;
mod state_database;

pub(crate) use self::changes::{RowEditor, edit_rows};
pub use self::filter::{AccountFilter, ChildThreads, ThreadFilter, ThreadOrder};
pub(crate) use self::list::ThreadCounts;
pub use self::list::{ListedThread, SUBAGENT, count, list, list_as};
pub(crate) use self::row_texts::RowTexts;
pub(crate) use self::row_values::RowValues;
pub(crate) use self::rows::find_subagent_ids;
pub use self::rows::{PAGINATED, ThreadRow, fold_rows};
pub(crate) use self::rows::{fold_owners, read_rows};
pub(crate) use self::state_database::list_databases;
pub use self::state_database::{find_databases, find_state_database, find_state_folder};
