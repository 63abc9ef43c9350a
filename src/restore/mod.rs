//! Restores an archive into the Codex home, or into an empty folder.
//!
//! [`apply::apply`] runs the phases 1 to 4. No file of the home changes before the exchange: a
//! restore
//! writes only to its staging folders (`.NAME.codex-manager-restore` beside what it replaces, or
//! `.codex-manager-restore` within it) and, in the manager home, to `backups/`, `profiles/` and
//! `tmp/`.
//!
//! 1. **Plan.** [`plan`] compares the list of the archive with the list of the home
//!    ([`live_files`]) and decides which files are written, removed and kept. It is pure.
//!    *After a kill*: nothing is left.
//! 2. **Stage.** [`apply`] opens a journal in the staging folder ([`swap`]) and writes a pointer to
//!    it into the manager home ([`pending`]). `disk_space` checks every disk that is staged on.
//!    `stage` unpacks the planned files and checks their digests. For `--merge`, `merge` keeps the
//!    longer version of each conversation.
//!    *After a kill*: the journal says `prepared`; the next command removes the staging folders.
//! 3. **Adapt.** `databases` decides where each database goes and updates the paths and the
//!    projections in it (the rows that Codex derives from a rollout); `rollout_index` maps each
//!    conversation to its file. `reinstated_rows`
//!    adds the rows and names of conversations that are restored without a database. [`safety`]
//!    archives everything that will change. `stage` links what stays the same. `login` locks the
//!    account and Codex's login, saves the live login to its profile, and stages the new one.
//!    *After a kill*: as in phase 2; the safety backup and the saved login stay.
//! 4. **Exchange.** `exchange_steps` lists the steps; `partial_swap` does so if files are
//!    exchanged one by one, as on overlays. [`swap`] makes all staged files durable, writes the steps into
//!    the journal, and exchanges each live path with its staged one (`step`). If Codex was started
//!    meanwhile, it undoes all steps. Last, it removes the old state; what cannot be removed is
//!    renamed (`leftovers`).
//!    *After a kill*: the journal says `committing`, `undoing` or `committed`, and both states
//!    still exist, each file live or staged. An ordinary home is exchanged by one step, so it is
//!    the old home or the new one, never a mixture.
//! 5. **Recover.** The next command of any kind reads the journal ([`pending`], `swap::recovery`).
//!    If no step was done, it discards the restore. If the journal says `committing`, it does the
//!    remaining steps; if `undoing`, it undoes the steps that were done.
//!    `login_guard` keeps a login that Codex has renewed meanwhile. `swap::late_writes` keeps other
//!    later writes to replaced files, as `NAME.found-after-restore-N`. While a process uses the
//!    home, or if a disk is missing, nothing is exchanged.
//!    *After a kill*: the next command continues.
//!
//! docs/restore.md explains the design and the behaviour on unusual disks.

pub mod apply;
mod databases;
mod disk_space;
mod exchange_steps;
mod journal_path;
mod leftovers;
pub mod live_files;
mod login;
mod login_guard;
mod merge;
mod partial_swap;
pub mod pending;
pub mod plan;
mod reinstated_rows;
mod rollout_index;
pub mod safety;
mod stage;
mod step;
pub mod swap;

use crate::accounts::lease::LeaseError;
use crate::accounts::profile::ProfileError;
use crate::archive::ArchiveError;
use crate::archive::path_note::PathNote;
use crate::codex::database::DatabaseError;
use crate::codex::process::Holder;
use crate::io::IoError;
use crate::io::quantity::pluralize;
use std::path::PathBuf;

/// The reason why an archive was not restored. Unless a variant says otherwise, nothing was
/// changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be read, or the safety backup cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A staged database cannot be read or changed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The live login cannot be saved to its profile.
    #[error("cannot save the live login to its profile")]
    Profile(#[from] ProfileError),
    /// The account's login is in use, or an interrupted probe holds it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The exchange failed. Its steps were undone, or the next command finishes or undoes them.
    #[error(transparent)]
    Swap(#[from] swap::SwapError),
    /// Processes use the Codex home.
    #[error("the Codex home is in use by {}", join(.0))]
    Busy(Vec<Holder>),
    /// Codex was started during the exchange. The old state was put back.
    #[error("Codex was started during the restore, so it was undone: {}", join(.holders))]
    CodexStarted {
        /// The processes that were started.
        holders: Vec<Holder>,
        /// The folders that the new state was moved to, because these processes may have written to
        /// it.
        left_at: Vec<PathBuf>,
    },
    /// The archive belongs to another account than the live login.
    #[error("the archive is of {archive}, but {live} is signed in")]
    AnotherAccount {
        /// The account of the archive.
        archive: String,
        /// The account of the live login.
        live: String,
    },
    /// Conversations whose versions in the home and in the archive both have turns that the other
    /// lacks. Only with `--merge`.
    #[error("{} diverged between the Codex home and the archive: {}", pluralize(.0.len(), "conversation"), .0.join(", "))]
    Diverged(Vec<String>),
    /// Another Codex home uses the databases in this folder.
    #[error("another Codex home shares the databases in {}", .0.display())]
    SharedDatabases(PathBuf),
    /// The archive's `sqlite_home` names a folder that this home does not use.
    #[error("the archive's config.toml puts databases outside the home, into {}", .0.display())]
    OutsideDatabases(PathBuf),
    /// A file system is mounted below a folder that would be replaced.
    #[error("a file system is mounted inside a folder that would be replaced: {}", .0.display())]
    MountInside(PathBuf),
    /// The folder of `--to` is not empty.
    #[error("the folder is not empty: {}", .0.display())]
    NotEmpty(PathBuf),
    /// The folder of `--to` is inside the Codex home or the manager home, or contains one of them.
    #[error("the folder is inside the Codex home or the manager home, or contains one of them: {}", .0.display())]
    OverlapsHome(PathBuf),
    /// The Codex home is a symbolic link without a target. Its disk may not be mounted.
    #[error("the Codex home is a symbolic link to a missing folder: {}", .0.display())]
    DanglingHome(PathBuf),
    /// Nothing in the archive matches `--only` or `--session`.
    #[error("the archive has no file or conversation {0:?}")]
    NotFound(String),
    /// The safety backup cannot include files that would be replaced or removed.
    #[error("the safety backup cannot read {} that the restore would replace or remove; the first is {}: {}", pluralize(items.len(), "path"), items[0].path.display(), items[0].reason)]
    BackupIncomplete {
        /// The files that cannot be saved, with reasons.
        items: Vec<PathNote>,
        /// True if `--no-safety-backup` lets the restore succeed. Not so for folders, because they
        /// must be read to keep what stays in them.
        can_skip_backup: bool,
    },
    /// Codex is configured to keep its login elsewhere and does not read auth.json.
    #[error(
        "Codex stores its login with cli_auth_credentials_store = \"{0}\" and does not read auth.json"
    )]
    OtherCredentialStore(&'static str),
}

fn join(holders: &[Holder]) -> String {
    holders
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
