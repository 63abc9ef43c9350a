//! One file for each verb: its arguments, its plan, how it is shown, how it is applied.

pub mod account;
pub mod backup;
pub mod candidates;
pub mod completions;
pub mod config;
pub mod cooldown;
pub mod demo;
pub mod doctor;
pub mod hook;
pub mod list_backups;
pub mod man;
pub mod normalize;
pub mod prune;
pub mod recommend;
pub mod restore;
pub mod status;
pub mod verify;
