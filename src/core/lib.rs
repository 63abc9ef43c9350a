//! The domain of codex-manager: accounts, and several copies of a home. It never prints and never reads the arguments
//! of the process. The environment is a value ([`io::environment`]) that the program reads and passes.
//!
//! It is a crate of its own so that a change of the command line does not compile it again. It is no interface: it
//! changes with the program, in any version. Its modules from the outside in; a module uses only modules below it, and
//! those of
//! `codex-manager-base`, which it re-exports:
//!
//! - [`transfer`]: exports and imports of the manager home.
//! - [`launch`]: Codex under a chosen account.
//! - [`schedule`]: jobs of the system's scheduler.
//! - [`recovery`]: finishes or undoes what killed commands left.
//! - [`vault`]: snapshots in a restic repository.
//! - [`inventory`]: records of accounts and archives.
//! - [`sync`]: conversations between machines.
//! - [`restore`]: puts archives back.
//! - [`accounts`]: profiles and logins.
//!
//! `tests/architecture.rs` checks these dependencies.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "unit tests prepare their folders directly"
    )
)]

pub use codex_manager_base::{
    archive, codex, conversations, history, io, journal, logging, quota, shutdown, storage, usage,
};

pub mod accounts;
pub mod inventory;
pub mod launch;
pub mod recovery;
pub mod restore;
pub mod schedule;
pub mod sync;
pub mod transfer;
pub mod vault;
