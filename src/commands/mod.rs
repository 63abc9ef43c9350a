//! One file for each verb: its arguments, its plan, how it is shown, how it is applied.

pub mod account;
pub mod backup;
pub mod closing;
pub mod cooldown;
pub mod current;
pub mod demo;
pub mod doctor;
pub mod history;
pub mod list;
pub mod list_backups;
pub mod log;
pub mod normalize;
pub mod profile;
mod profile_export;
mod profile_import;
mod profile_login;
pub mod recommend;
mod refresh;
pub mod restore;
pub mod schedule;
pub mod status;
mod status_history;
pub mod storage;
mod survey;
pub mod use_account;
pub mod verify;
