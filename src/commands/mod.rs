//! The commands, one file or folder each: arguments, plan, output, and applying the plan. No command imports another
//! one: what two have in common is in [`choices`](crate::choices), [`steps`](crate::steps) or [`views`](crate::views),
//! and a command that starts another one runs its command line with [`Context::run`](crate::context::Context::run).

pub(crate) mod accounts;
pub(crate) mod backup;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod cooldown;
pub(crate) mod current;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod export;
pub(crate) mod find;
pub(crate) mod history;
pub(crate) mod hook;
pub(crate) mod launch;
pub(crate) mod launches;
pub(crate) mod list;
pub(crate) mod list_backups;
pub(crate) mod man;
pub(crate) mod mcp;
pub(crate) mod normalize;
pub(crate) mod notify;
pub(crate) mod profile;
pub(crate) mod prune;
pub(crate) mod recommend;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod schedule;
pub(crate) mod sessions;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod storage;
pub(crate) mod sync;
pub(crate) mod usage;
pub(crate) mod use_account;
pub(crate) mod vault;
pub(crate) mod verify;
