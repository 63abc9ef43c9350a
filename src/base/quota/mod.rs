//! Derives the state of an account from its quota windows, and ranks accounts.
//!
//! Pure: no files and no clock; `now` is a parameter.

pub mod account;
pub mod legacy;
pub mod recommend;
pub mod reset_history;
pub mod state;
pub mod window;

pub use account::{Account, AccountEntry, LoginState, SessionUsage, WeeklyEvidence};
pub use legacy::{LegacyName, LegacyOptions};
pub use reset_history::WindowHistory;
pub use window::{Observation, QuotaSource};
