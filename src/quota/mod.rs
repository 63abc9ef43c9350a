//! Quota windows, what state they put an account into, and which account to recommend.
//!
//! Pure: no files, no clock; `now` is a parameter.

pub mod drift;
pub mod legacy;
pub mod moment;
pub mod recommend;
pub mod session_usage;
pub mod state;
pub mod window;
