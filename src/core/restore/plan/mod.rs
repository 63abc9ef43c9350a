//! Phase 1 of a restore: the request of the user, the list of the live files, and the changes that follow from them and
//! from the list of the archive. Writes nothing.

pub(crate) mod account;
pub(crate) mod continued_lines;
mod links_and_mounts;
pub(crate) mod live_files;
pub mod needed_paths;
pub mod request;
pub(crate) mod restore_plan;
pub(crate) mod rollout_index;
pub(crate) mod session_rollouts;
pub(crate) mod target;
pub mod unchanged_files;
pub(crate) mod writable_folders;

pub use request::{RestoreTarget, Selection};
pub use restore_plan::RestorePlan;
