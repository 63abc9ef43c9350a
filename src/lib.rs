//! Keeps a developer's Codex CLI accounts and conversations safe, switchable and portable.
//!
//! The modules from the outside in. A module uses only modules below it:
//!
//! - [`cli`]: parses the command line, runs one command, returns its exit code.
//! - [`commands`]: one file per command, with its arguments, its plan and its output.
//! - `steps`, `choices`, `copies`, `views`: what commands have in common.
//! - [`doctor`]: read-only checks of both homes and of the machine.
//! - [`context`], `config`, [`ui`], [`error`]: settings, output, exit codes and hints of errors.
//! - [`transfer`]: exports and imports of the manager home.
//! - [`vault`]: snapshots in a restic repository.
//! - The domain: [`restore`] (puts archives back), [`archive`] (capture, format, verification),
//!   [`accounts`] (profiles and logins), [`inventory`] (records of accounts and archives), [`quota`]
//!   (windows and recommendations), [`history`] (conversations and Codex's lists of them),
//!   [`conversations`] (their contents and the search index),
//!   [`storage`] (disk usage of a home), [`launch`] (Codex under a chosen account), [`shutdown`]
//!   (ending Codex), [`sync`] (conversations between machines), [`schedule`] (jobs of the system's
//!   scheduler), [`logging`] (logs of unattended runs).
//! - [`codex`]: the file formats and the behaviour of Codex, without policy.
//! - [`io`]: files, locks, clocks and processes, without knowledge of Codex.
//!
//! `tests/architecture.rs` checks these dependencies.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "unit tests prepare their folders directly"
    )
)]

pub mod accounts;
pub mod archive;
mod choices;
pub mod cli;
pub mod codex;
pub mod commands;
pub mod config;
pub mod context;
pub mod conversations;
mod copies;
pub mod doctor;
pub mod error;
pub mod history;
pub mod inventory;
pub mod io;
pub mod journal;
pub mod launch;
pub mod logging;
pub mod quota;
pub mod recovery;
pub mod restore;
pub mod schedule;
pub mod shutdown;
pub mod steps;
pub mod storage;
pub mod sync;
pub mod transfer;
pub mod ui;
pub mod usage;
pub mod vault;
mod views;
