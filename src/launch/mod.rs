//! Conversations that were started through this program, and the account of each.
//!
//! A launch switches the login (or uses an isolated home), records what it is about to do in
//! `launches.jsonl`, starts Codex with the terminal, and binds the conversation to the account
//! afterwards. The binding rests on files that the launched process had open, else on rollouts that
//! were created in its time with its folder and account. Rate limits are never evidence, and no
//! rollout is opened that is neither bound nor a candidate of a launch that just ended.

pub mod binding;
pub mod folders;
pub mod isolated_home;
pub mod program;
pub mod record;
pub mod registry;
pub mod run;
pub mod session;
pub mod settle;
