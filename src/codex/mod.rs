//! The formats and the behaviour of Codex, as observed on Codex CLI 0.169. Contains no policy of
//! codex-manager.
//!
//! Formats change between versions, so the modules parse what they need and keep the rest verbatim.
//! Each quirk has a test, against the real Codex where it can be reproduced there.

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
