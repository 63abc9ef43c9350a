//! Putting an archive back.
//!
//! In this order: validate everything, nobody at home, a safety backup, stage beside the home,
//! look again, replace in one exchange, look once more. See [`plan`] for what is replaced, removed
//! and left alone, [`apply`] for the work and [`swap`] for what a crash leaves.

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

use super::ArchiveError;
use super::scan::PathNote;
use crate::accounts::lease::LeaseError;
use crate::accounts::profile::ProfileError;
use crate::codex::database::DatabaseError;
use crate::codex::process::Holder;
use crate::io::IoError;
use crate::io::quantity::pluralize;
use std::path::PathBuf;

/// Why an archive was not put back. Unless said otherwise nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A database could not be changed as needed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A login could not be saved back.
    #[error("cannot save the live login to its profile")]
    Profile(#[from] ProfileError),
    /// A login is in use, or a killed probe has it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The exchange failed.
    #[error(transparent)]
    Swap(#[from] swap::SwapError),
    /// Somebody uses the home.
    #[error("the Codex home is in use by {}", join(.0))]
    Busy(Vec<Holder>),
    /// Codex was started while the home was being replaced; the old state was put back.
    #[error("Codex was started during the restore, so it was undone: {}", join(.holders))]
    StartedMeanwhile {
        /// Who.
        holders: Vec<Holder>,
        /// Where the new state was left, for what they may have written.
        left_at: Vec<PathBuf>,
    },
    /// The archive is of another account than the one that is signed in.
    #[error("the archive is of {archive}, but {live} is signed in")]
    AnotherAccount {
        /// Whose archive.
        archive: String,
        /// Who is signed in.
        live: String,
    },
    /// Conversations that went on differently here and in the archive.
    #[error("{} went on differently here and in the archive: {}", pluralize(.0.len(), "conversation"), .0.join(", "))]
    Diverged(Vec<String>),
    /// The databases are shared with another home.
    #[error("another Codex home shares the databases in {}", .0.display())]
    SharedDatabases(PathBuf),
    /// The archive's settings put databases into a folder that this home does not use.
    #[error("the archive's config.toml puts databases outside the home, into {}", .0.display())]
    OutsideDatabases(PathBuf),
    /// Another file system is mounted below what would be replaced.
    #[error("a file system is mounted in what would be replaced: {}", .0.display())]
    Mounted(PathBuf),
    /// `--to` names a folder with something in it.
    #[error("the folder is not empty: {}", .0.display())]
    NotEmpty(PathBuf),
    /// The folder lies inside a home, where it would be taken for a part of that, or around one.
    #[error("the folder lies inside a home, or around one: {}", .0.display())]
    AmongHomes(PathBuf),
    /// The home is a link that leads nowhere: its disk may not be mounted.
    #[error("the home is a link to what is not there: {}", .0.display())]
    DanglingHome(PathBuf),
    /// Nothing in the archive fits `--only` or `--session`.
    #[error("nothing in the archive is named {0}")]
    NotFound(String),
    /// What is to be replaced could not be saved first.
    #[error("the safety backup could not take {} of what would be replaced, first {}: {}", items.len(), items[0].path.display(), items[0].reason)]
    Unsaved {
        /// What.
        items: Vec<PathNote>,
        /// Whether the restore could be done without saving them.
        may_go_without: bool,
    },
    /// Codex does not read auth.json here.
    #[error(
        "Codex keeps its login by cli_auth_credentials_store = \"{0}\" and would not read auth.json"
    )]
    OtherStore(&'static str),
}

fn join(holders: &[Holder]) -> String {
    holders
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
