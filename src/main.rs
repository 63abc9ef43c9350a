//! Keeps a developer's Codex CLI accounts and conversations safe, switchable and portable.
//!
//! The command line over `codex_manager_core`, which has the domain and never prints. Its modules from the outside in;
//! a module uses only modules below it and the library:
//!
//! - [`cli`]: parses the command line, runs one command, returns its exit code.
//! - [`commands`]: one file per command, with its arguments, its plan and its output.
//! - [`mcp`]: the server by which agents search conversations.
//! - [`steps`], [`choices`], [`copies`], [`views`]: what commands have in common.
//! - [`doctor`]: read-only checks of both homes and of the machine.
//! - [`context`], [`config`], [`ui`], [`error`]: settings, output, exit codes and hints of errors.
//!
//! `tests/architecture.rs` checks these dependencies.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "unit tests prepare their folders directly"
    )
)]

mod choices;
mod cli;
mod commands;
mod config;
mod context;
mod copies;
mod doctor;
mod error;
mod mcp;
mod steps;
mod ui;
mod views;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
