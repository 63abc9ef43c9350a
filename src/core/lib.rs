//! The domain of codex-manager: Codex's accounts, conversations and formats. It never prints and never reads the arguments
//! of the process. The environment is a value ([`io::environment`]) that the program reads and passes.
//!
//! It is a crate of its own so that a change of the command line does not compile it again. It is no interface: it changes
//! with the program, in any version. Its modules from the outside in; a module uses only modules below it:
//!
//! - [`transfer`]: exports and imports of the manager home.
//! - [`recovery`]: finishes or undoes what killed commands left.
//! - [`vault`]: snapshots in a restic repository.
//! - [`restore`] (puts archives back), [`archive`] (capture, format, verification),
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

pub mod accounts;
pub mod archive;
pub mod codex;
pub mod conversations;
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
pub mod storage;
pub mod sync;
pub mod transfer;
pub mod usage;
pub mod vault;
