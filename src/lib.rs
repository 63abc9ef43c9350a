//! Keeps a developer's Codex CLI accounts and conversations safe, switchable and portable.
//!
//! The map, from the outside in. Dependencies point one way only:
//!
//! - [`cli`] turns what was typed into one command and runs it;
//! - [`commands`] one file for each verb: its arguments, its plan, how it is shown and applied;
//! - [`inventory`], [`quota`], [`archive`], [`accounts`] the domain: what is known, what it means,
//!   how a home is kept, and who owns a login;
//! - [`doctor`] what can be wrong with all of that;
//! - [`codex`] the formats and habits of Codex itself, without any policy of ours;
//! - [`io`] files, locks and clocks; knows nothing of Codex.
//!
//! [`config`], [`ui`] and [`error`] are used by `cli` and `commands` alone.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "unit tests prepare their folders directly"
    )
)]

pub mod accounts;
pub mod archive;
pub mod cli;
pub mod codex;
pub mod commands;
pub mod config;
pub mod context;
pub mod doctor;
pub mod error;
pub mod inventory;
pub mod io;
pub mod quota;
pub mod ui;
