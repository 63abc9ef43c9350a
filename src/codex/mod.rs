//! Codex's own formats and habits, as observed on Codex CLI 0.169. No policy of ours.
//!
//! Formats change: what is needed is parsed, the rest is kept verbatim, and each trap is held by a
//! test, with the real program where it can be shown there.

pub mod app_server;
pub mod arguments;
pub mod auth;
pub mod config;
pub mod daemon;
pub mod database;
pub mod database_view;
pub mod home;
pub mod identity;
pub mod login_lock;
pub mod process;
pub mod program;
pub mod redaction;
pub mod rollout;
pub mod sign_in;
pub mod status_text;
pub mod thread_index;
pub mod thread_rows;
pub mod threads;
pub mod token_count;
pub mod window;
