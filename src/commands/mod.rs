//! One file for each verb: its arguments, its plan, how it is shown, how it is applied.

pub mod account;
pub mod cooldown;
pub mod normalize;
pub mod recommend;
pub mod status;
