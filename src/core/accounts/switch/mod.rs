//! Switches the live login to another account.
//!
//! The order makes it safe: lock the accounts, take Codex's lock, read the live login and plan,
//! stop the daemon, save the live login to its profile, and only then replace it by one rename. A
//! kill in between leaves either the old or the new login live, complete, and the other one in its profile.

mod apply;
mod error;
mod idle_login;
mod plan;
mod request;
mod switch_record;

pub use apply::{SwitchReport, apply};
pub use error::SwitchError;
pub use plan::{PlannedSave, SwitchPlan, plan_from_disk};
pub use request::{DaemonPolicy, SwitchRequest};
pub use switch_record::read_previous_account;
pub(crate) use switch_record::{SwitchRecord, read_last_switch};
