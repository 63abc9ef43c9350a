//! Keeps a developer's Codex CLI accounts and conversations safe, switchable and portable.
//!
//! The library has [`cli`] for the binary and [`testing`] for the tests, and no other interface. Its modules from the
//! outside in; a module uses only modules below it:
//!
//! - [`cli`]: parses the command line, runs one command, returns its exit code.
//! - [`commands`]: one file per command, with its arguments, its plan and its output.
//! - [`mcp`]: the server by which agents search conversations.
//! - `steps`, `choices`, `copies`, `views`: what commands have in common.
//! - [`doctor`]: read-only checks of both homes and of the machine.
//! - [`context`], `config`, [`ui`], [`error`]: settings, output, exit codes and hints of errors.
//! - [`transfer`]: exports and imports of the manager home.
//! - [`recovery`]: finishes or undoes what killed commands left.
//! - [`vault`]: snapshots in a restic repository.
//! - The domain: [`restore`] (puts archives back), [`archive`] (capture, format, verification),
//!   [`accounts`] (profiles and logins), [`inventory`] (records of accounts and archives), [`quota`]
//!   (windows and recommendations), [`history`] (conversations and Codex's lists of them),
//!   [`conversations`] (their contents and the search index),
//!   [`storage`] (disk usage of a home), [`launch`] (Codex under a chosen account), [`shutdown`]
//!   (ending Codex), [`sync`] (conversations between machines), [`schedule`] (jobs of the system's
//!   scheduler), [`usage`] (tokens and costs), [`logging`] (logs of unattended runs).
//! - [`journal`]: changes to several files, as a whole or not at all.
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

mod accounts;
mod archive;
mod choices;
pub mod cli;
mod codex;
mod commands;
mod config;
mod context;
mod conversations;
mod copies;
mod doctor;
mod error;
mod history;
mod inventory;
mod io;
mod journal;
mod launch;
mod logging;
mod mcp;
mod quota;
mod recovery;
mod restore;
mod schedule;
mod shutdown;
mod steps;
mod storage;
mod sync;
pub mod testing;
mod transfer;
mod ui;
mod usage;
mod vault;
mod views;
