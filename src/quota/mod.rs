//! Derives the state of an account from its quota windows, and ranks accounts.
//!
//! Pure: no files and no clock; `now` is a parameter.

pub mod account;
pub(crate) mod legacy;
pub(crate) mod recommend;
pub(crate) mod reset_history;
pub(crate) mod state;
pub mod window;

pub(crate) use account::{Account, AccountEntry, LoginState, SessionUsage, WeeklyEvidence};
pub(crate) use legacy::{LegacyName, LegacyOptions};
pub(crate) use reset_history::WindowHistory;
pub(crate) use window::{Observation, QuotaSource};
