//! The reason why an archive was not restored.

use crate::accounts::{LeaseError, ProfileError};
use crate::archive::{ArchiveError, PathNote};
use crate::codex::{DatabaseError, Holder};
use crate::io::{IoError, pluralize};
use crate::journal::{JournalError, format_holders};
use std::path::{Path, PathBuf};

/// The reason why an archive was not restored. Unless a variant says otherwise, the restore changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The archive cannot be read, or the safety backup cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Io(#[from] IoError),
    /// A staged database cannot be read or changed, or a live one cannot be copied.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot save the live login to its profile")]
    Profile(#[from] ProfileError),
    /// The account's login is in use, or an interrupted probe holds it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The exchange failed. The steps that were done are undone, or the next command finishes or undoes them.
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the Codex home is in use by {}", format_holders(.0))]
    Busy(Vec<Holder>),
    #[error("the archive is of {archive}, but {live} is signed in")]
    AnotherAccount {
        archive: String,
        /// The account of the live login.
        live: String,
    },
    /// For these conversations, the home and the archive each have turns that the other one lacks. Only with `--merge`.
    #[error("{} diverged between the Codex home and the archive: {}", pluralize(.0.len(), "conversation"), .0.join(", "))]
    Diverged(Vec<String>),
    /// The rollout at this path continues lines that the restore would remove.
    #[error("the restore would remove lines that a rewind or a fork continues: {}", .0.display())]
    Continued(PathBuf),
    #[error("another Codex home shares the databases in {}", .0.display())]
    SharedDatabases(PathBuf),
    /// The archived config.toml sets `sqlite_home` to a folder that this home does not use.
    #[error("the archive's config.toml puts databases outside the home, into {}", .0.display())]
    OutsideDatabases(PathBuf),
    #[error("a file system is mounted inside a folder that would be replaced: {}", .0.display())]
    MountInside(PathBuf),
    /// A container mounts single files so. No rename can replace a mount point.
    #[error("the restore would replace a file that is a mount point: {}", .0.display())]
    MountedFile(PathBuf),
    /// The link at this path belongs to a user, and its target to another one.
    #[error("root does not follow the link of a user to files of another user: {}", .0.display())]
    ForeignLink(PathBuf),
    /// The restore would change files in this folder.
    #[error("cannot list a folder with files that the restore would change: {}", .0.display())]
    UnreadableFolder(PathBuf),
    /// The restore would replace an entry of this folder, or the folder itself.
    #[error("cannot write to a folder with entries that the restore would replace: {}", .0.display())]
    UnwritableFolder(PathBuf),
    /// The folder of `--to` is not empty.
    #[error("the folder is not empty: {}", .0.display())]
    NotEmpty(PathBuf),
    /// The folder of `--to` is inside the Codex home or the manager home, or contains one of them.
    #[error("the folder is inside the Codex home or the manager home, or contains one of them: {}", .0.display())]
    OverlapsHome(PathBuf),
    /// The Codex home, or the folder of `--to`, is a symbolic link without a target. Its disk may not be mounted.
    #[error("the target is a symbolic link to a missing folder: {}", .0.display())]
    DanglingTarget(PathBuf),
    /// Nothing in the archive matches `--only`.
    #[error("the archive has no file or folder {name:?}")]
    NotFound { name: String, archive: PathBuf },
    /// Nothing in the archive matches `--session`.
    #[error("the archive has no conversation {name:?}")]
    NoConversation { name: String, archive: PathBuf },
    /// The archive has the path of `--only`, but would restore nothing there.
    #[error("nothing would be restored there: {}", .0.display())]
    NothingToRestore(PathBuf),
    #[error("the safety backup cannot read {} that the restore would replace or remove; the first is {}: {}", pluralize(items.len(), "path"), items[0].path.display(), items[0].reason)]
    BackupIncomplete {
        /// The files that cannot be saved, with reasons.
        items: Vec<PathNote>,
    },
    /// Codex is configured to store its login in another place than auth.json.
    #[error("{0}")]
    OtherCredentialStore(String),
}

impl RestoreError {
    /// Returns the error for a file of `home` that vanished while it was read, before any file was exchanged. Codex moves
    /// rollouts, and compresses or expands them.
    pub(crate) fn of_home(self, home: &Path) -> Self {
        match self {
            Self::Io(e) | Self::Archive(ArchiveError::Io(e))
                if e.is_not_found() && e.path.starts_with(home) =>
            {
                let (files, kept) = (vec![e.path], Vec::new());
                JournalError::WrittenMeanwhile { files, kept }.into()
            }
            other => other,
        }
    }
}
