//! Starts Codex under a chosen account, and records the account of each conversation.
//!
//! A launch switches the login (or uses an isolated home), appends a record to `launches.jsonl`, starts
//! Codex with the terminal, and then binds the conversation to the account. The evidence is the files
//! that the process had open, else rollouts that were created during the launch in its folder by its
//! account. Rate limits are never evidence. Only bound rollouts and candidates of a launch that just
//! ended are opened.

pub mod binding;
pub mod folders;
pub mod isolated_home;
pub mod program;
pub mod record;
pub mod registry;
pub mod run;
pub mod session;
pub mod settle;
