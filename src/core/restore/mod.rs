//! Restores an archive into the Codex home, or into an empty folder.
//!
//! [`apply::apply`] runs the phases 1 to 4. No file of the home changes before the exchange: a restore writes only to
//! its staging folders (`.NAME.codex-manager-restore` beside what it replaces, or `.codex-manager-restore` within it)
//! and, in the manager home, to `backups/`, `profiles/` and `tmp/`.
//!
//! 1. **Plan.** [`plan`] compares the list of the archive with the list of the home
//!    (`plan::live_files`) and decides which files are written, removed and kept. It writes nothing.
//!    *After a kill*: nothing is left.
//! 2. **Stage.** `workspace` opens a journal in the staging folder ([`crate::journal`]) and writes a pointer to
//!    it into the manager home (`recover::journal_pointer`). `equal_rollouts` links the rollouts that the home
//!    already has. `workspace` then checks the space of every disk. `extract` unpacks the other planned files
//!    into the `stage` and checks their digests. For `--merge`, `merge` keeps the longer version of each
//!    conversation.
//!    *After a kill*: the journal says `prepared`; the next command removes the staging folders.
//! 3. **Settle.** `outside_databases` decides where each database goes; `databases` updates the
//!    paths and the projections in it (the rows that Codex derives from a rollout); `plan::rollout_index`
//!    maps each conversation to its file. `reinstated_rows`
//!    adds the rows and names of conversations that are restored without a database. `safety`
//!    archives everything that will change. `unchanged` links what stays the same. `login` locks the
//!    account and Codex's login, saves the live login to its profile, and stages the new one.
//!    *After a kill*: as in phase 2; the safety backup and the saved login stay.
//! 4. **Exchange.** `exchange` lists the steps, also if files are exchanged one by one, as on
//!    overlays. The transaction makes all staged files durable, writes the
//!    steps into the journal, and exchanges each live path with its staged one. If files of the home were
//!    written since the plan, or a process opened it, it exchanges nothing or undoes all steps. Last, it
//!    removes the old state; what cannot be removed is renamed.
//!    *After a kill*: the journal says `committing`, `undoing` or `committed`, and both states
//!    still exist, each file live or staged. An ordinary home is exchanged by one step, so it is
//!    the old home or the new one, never a mixture.
//! 5. **Recover.** The next command of any kind reads the journal (`recover::pending`). If no step was done,
//!    it discards the restore. If the journal says `committing`, it does the remaining steps; if
//!    `undoing`, it undoes the steps that were done. `login_guard` keeps a login that Codex has
//!    renewed meanwhile. If other replaced files were written meanwhile, the replaced state is kept
//!    as a whole. While a process uses the home, or if a disk is missing, nothing is exchanged.
//!    *After a kill*: the next command continues.
//!
//! docs/restore.md explains the design and the behaviour on unusual disks.
//!
//! Each phase is a folder or a file of this name. I want to …
//!
//! - change what is written, removed or kept → `plan::restore_plan`
//! - change where files are staged, or the checks of disks → `stage::workspace`
//! - adapt what is in the databases → `settle::databases`; where they are → `settle::outside_databases`
//! - change which login goes live → `settle::login`; what a recovery does with logins → `recover::login_guard`
//! - change the order in which the states are exchanged → `exchange`

pub mod apply;
mod error;
mod exchange;
pub mod plan;
mod recover;
mod settle;
mod stage;

pub use plan::request::{RestoreRequest, RestoreTarget, Selection};
pub use plan::target::find_holders;
pub use settle::login::{LoginPreview, preview_login};
pub(crate) use settle::outside_databases::OutsideDatabases;

pub use error::RestoreError;
pub use plan::{needed_paths, request};
pub use recover::pending;
pub use stage::list_mounts;
