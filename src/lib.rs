//! Keeps a developer's Codex CLI accounts and conversations safe, switchable and portable.
//!
//! The map, from the outside in. Dependencies point one way only:
//!
//! - [`cli`] turns what was typed into one command and runs it;
//! - [`commands`] one file for each verb: its arguments, its plan, how it is shown and applied;
//! - [`inventory`], [`quota`], [`archive`], [`accounts`], [`shutdown`], [`history`], [`launch`],
//!   [`logging`], [`schedule`], [`storage`] the domain: what is known, what it means, how a home is kept,
//!   who owns a login, that Codex is closed, what Codex lists, which account a conversation was started
//!   with, what is noted of a run, what runs by itself, and what fills a home; [`transfer`] takes all of
//!   it to another machine;
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
pub(crate) mod config;
pub mod context;
pub mod doctor;
pub mod error;
pub mod history;
pub mod inventory;
pub mod io;
pub mod launch;
pub mod logging;
pub mod quota;
pub mod schedule;
pub mod shutdown;
pub mod storage;
pub mod sync;
pub mod transfer;
pub mod ui;
