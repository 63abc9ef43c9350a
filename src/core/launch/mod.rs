//! Starts Codex under a chosen account, and records the account of each conversation.
//!
//! A launch switches the login (or uses an isolated home), appends a record to `launches.jsonl`, starts
//! Codex with the terminal, and then binds the conversation to the account. Evidence are the files that
//! Codex had open, else the rollouts that the account created during the launch in the folder of the
//! launch. Rate limits are never evidence. A launch opens only bound rollouts, and at its end the
//! candidates.
//!
//! I want to …
//!
//! - change the arguments, the environment or the account of a launched Codex → `session`
//! - change what is recorded → `record` (a line), `registry` (the file)
//! - change how a conversation is found → `binding` (the evidence), `settle` (the decision)
//! - share another file with isolated homes → `isolated_home`
//! - choose the account of a folder → `folders`

pub mod binding;
pub mod folders;
pub mod isolated_home;
pub mod program;
pub mod record;
pub mod registry;
pub mod run;
pub mod session;
pub mod settle;
