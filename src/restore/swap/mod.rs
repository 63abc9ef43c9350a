//! Exchanges a staged state with the live one. A *swap* is the whole operation with its journal; an
//! *exchange* is one step, which exchanges two paths. A kill at any moment leaves the whole old
//! state or the whole new one, or a journal from which a later process completes one of them.
//!
//! First everything is staged and made durable. Then each step exchanges two paths, with one call
//! if the system has it. The journal beside the home lists the steps. Inode numbers show whether a
//! step is done, so no write has to follow it.

mod begin;
#[cfg(test)]
mod crash_states;
mod error;
mod journal;
mod late_writes;
mod recovery;
#[cfg(test)]
mod test_fixture;
mod transaction;

pub(super) use error::join_holders;
pub use error::{RecoveryObstacle, SwapError};
pub use recovery::{Recovery, RecoveryGuard, is_in_progress, recover};
pub use transaction::{Swap, SwapOutcome};
