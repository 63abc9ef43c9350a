//! Derives the state of an account from its quota windows, and ranks accounts.
//!
//! Pure: no files and no clock; `now` is a parameter.

pub mod account;
pub mod legacy;
pub mod recommend;
pub mod reset_history;
pub mod reset_time;
pub mod session_usage;
pub mod state;
pub mod window;
