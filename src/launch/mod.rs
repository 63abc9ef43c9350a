//! Starting Codex under an account.

pub mod folders;
