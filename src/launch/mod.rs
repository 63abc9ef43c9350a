//! Starts Codex under a chosen account, and records the account of each conversation.
//!
//! A launch switches the login (or uses an isolated home), appends a record to `launches.jsonl`, starts
//! Codex with the terminal, and then binds the conversation to the account. The evidence is the files
//! that the process had open, else rollouts that were created during the launch in its folder by its
//! account. Rate limits are never evidence. Only bound rollouts and candidates of a launch that just
//! ended are opened.
//!
//! I want to …
//!
//! - change the arguments, the environment or the account of a launched Codex → `session`
//! - change what is recorded → `record` (a line), `registry` (the file)
//! - change how a conversation is found → `binding` (the evidence), `settle` (the decision)
//! - share another file with isolated homes → `isolated_home`
//! - choose the account of a folder → `folders`

pub(crate) mod binding;
pub(crate) mod folders;
pub(crate) mod isolated_home;
pub(crate) mod program;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod settle;
