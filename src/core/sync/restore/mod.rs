//! Restores a snapshot of a sync to the Codex home or to the cloud folder.
//!
//! [`mod@plan`] reads the whole snapshot and refuses what cannot be restored. [`mod@apply`] puts the files in place,
//! each by one rename, after copying what they replace to a safety snapshot.

mod apply;
mod error;
mod plan;
mod snapshot_reader;

pub use apply::apply;
pub use error::SyncRestoreError;
pub use plan::{SyncRestorePlan, plan};
