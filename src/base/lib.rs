//! Reads, searches, repairs and archives one Codex home. `codex-manager-core` decides between copies of a login or a
//! conversation. The modules of this crate from the outside in; a module uses only modules below it:
//!
//! - [`archive`]: capture, format, verification.
//! - [`shutdown`]: ending Codex.
//! - [`storage`]: the disk usage of a home.
//! - [`usage`]: tokens and costs.
//! - [`conversations`]: the contents of conversations and the search index.
//! - [`history`]: conversations and Codex's lists of them.
//! - [`logging`]: logs of unattended runs.
//! - [`quota`]: windows and recommendations.
//! - [`journal`]: changes to several files, as a whole or not at all.
//! - [`codex`]: the file formats and the behaviour of Codex, without policy.
//! - [`io`]: files, locks, clocks and processes, without knowledge of Codex.
//!
//! It is a crate of its own because the compiler works by crates: it compiles this crate and the rooms above at the
//! same time, and a change of these rooms compiles only them. It is no interface: it changes with the program, in any
//! version.
//! `tests/architecture.rs` checks these dependencies.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "unit tests prepare their folders directly"
    )
)]

pub mod archive;
pub mod codex;
pub mod conversations;
pub mod history;
pub mod io;
pub mod journal;
pub mod logging;
pub mod quota;
pub mod shutdown;
pub mod storage;
pub mod usage;
