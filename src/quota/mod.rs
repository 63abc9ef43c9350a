//! Quota windows, what state they put an account into, and which account to recommend.
//!
//! Pure: no files, no clock; `now` is a parameter.

pub mod legacy;
pub mod recommend;
pub mod reset_history;
pub mod reset_time;
pub mod session_usage;
pub mod state;
pub mod window;
