//! Starts Codex under a chosen account, and records the account of each conversation.
//!
//! A launch switches the login (or uses an isolated home), appends a record to `launches.jsonl`, starts
//! Codex with the terminal, and then binds the conversation to the account. The evidence is the files
//! that the process had open, else rollouts that were created during the launch in its folder by its
//! account. Rate limits are never evidence. Only bound rollouts and candidates of a launch that just
//! ended are opened.

pub(crate) mod binding;
pub(crate) mod folders;
pub(crate) mod isolated_home;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod settle;
