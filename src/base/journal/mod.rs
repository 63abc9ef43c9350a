//! Changes to several files that are done as a whole or not at all, whenever the process is killed.
//!
//! A [`Transaction`] has a private **staging folder** with a lock and a **journal**. The new state
//! is staged there; [`Transaction::commit`] then performs a list of [`Step`]s. A step exchanges a
//! live path with a staged one. File ids tell whether a step is done, so a step can be repeated and
//! needs no further write.
//!
//! | journal says | state of the files | recovery |
//! | --- | --- | --- |
//! | `prepared` | old | the staging folders are removed |
//! | `committing` | some steps may be done | none done: as `prepared`; else the rest is done |
//! | `undoing` | some steps may be undone | the rest is undone |
//! | `committed` | new | the staging folders are removed |
//! | (no journal) | old or new | the folder is removed |
//!
//! [`recover`] finishes or undoes a transaction. Each user of the journal adds a
//! [`RecoveryPolicy`], no mechanism of its own. Nothing of the replaced state is removed before the
//! journal says so, durably.
//!
//! **A write of another process is never removed.** [`Transaction::begin`] notes the time of the file
//! system's clock, before its caller reads anything. [`Transaction::commit`] looks for files that were written since
//! then, and for processes that use the home, before the exchange and again after it. Such a file or process stops the
//! exchange, or undoes it. Otherwise, the replaced state is removed. The second check looks for processes first: a
//! process without an open file of the replaced state can no longer write to it. A recovery keeps its direction: if
//! files were written, it moves everything that is staged to a folder that stays ([`KeptAs::Evidence`]). If Codex has
//! written a log beside a database since the kill, and the database is still to be exchanged, the log moves there too.
//!
//! **A database that another process has open is never exchanged** (`database_locks`).
//!
//! I want to …
//!
//! - change when a step counts as done, or how it is done → `step`
//! - change the order of an exchange → `transaction`; of a recovery → `recovery`, `remaining`
//! - change what counts as a write of another process → `late_writes`, `write_times`
//! - change what new files keep of the replaced ones → `access`
//! - change where staging folders are, or which ones are trusted → `folder`, `ownership`
//! - exchange a few files of a home → `FileExchange`

mod access;
mod database_locks;
mod document;
mod error;
mod file_exchange;
mod folder;
mod late_writes;
mod ownership;
mod policy;
mod recovery;
mod remaining;
mod step;
#[cfg(test)]
mod tests;
mod transaction;
mod write_times;

pub use error::format_holders;
pub use error::{JournalError, RecoveryObstacle};
pub(crate) use file_exchange::FileExchange;
pub use folder::{KeptAs, list_kept_folders};
pub use folder::{
    is_real_folder, is_staging_folder_within, journal_folder_of_command, parse_kept_name,
    staging_folder_beside, staging_folder_in, staging_folder_within,
};
pub use policy::{IdleHome, NoPolicy, RecoveryPolicy, find_holders, is_recreated_by_codex};
pub use recovery::{Recovery, find_running, recover};
pub use step::Step;
pub use transaction::Transaction;
pub use write_times::wait_for_next_tick;
