//! Errors of the vault.

use super::fault::Fault;
use super::snapshot_id::short_id;
use crate::archive::ArchiveError;
use crate::codex::ProgramError;
use crate::io::IoError;
use crate::restore::RestoreError;
use crate::sync::snapshots::RemoteError;
use std::path::PathBuf;

/// The reason why a vault command failed. The repository keeps every earlier snapshot.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("restic is not installed")]
    NoProgram(#[source] ProgramError),
    /// The program is older than [`super::restic::OLDEST_VERSION`].
    #[error("restic {found} is too old: {}", program.display())]
    TooOld { program: PathBuf, found: String },
    /// The program does not print a version like restic.
    #[error("not restic: {}", .0.display())]
    NotRestic(PathBuf),
    /// Neither a flag nor the configuration names a repository.
    #[error("no vault is set up")]
    NotConfigured,
    /// No source of a password was found.
    #[error("no password for the vault")]
    NoPassword,
    #[error("{fault}: {location}")]
    Restic {
        fault: Fault,
        /// The repository, without credentials.
        location: String,
        #[source]
        reason: ResticMessage,
    },
    /// restic made no progress for this many seconds.
    #[error("restic made no progress for {0} s and was ended")]
    NoProgress(u64),
    #[error("interrupted")]
    Interrupted,
    /// The output of this restic command has a different format than expected.
    #[error("cannot read the output of restic {0}")]
    Output(&'static str, #[source] serde_json::Error),
    /// No snapshot has this id or account.
    #[error("no snapshot in the vault: {0}")]
    NoSnapshot(String),
    /// The prefix matches this many snapshots.
    #[error("{0:?} is the beginning of {1} snapshot ids")]
    Ambiguous(String, usize),
    #[error("not in snapshot {snapshot}: {path}")]
    NoPath {
        /// Short id of the snapshot.
        snapshot: String,
        /// The path as the user gave it.
        path: String,
    },
    /// The tree of a snapshot differs from its manifest.
    #[error("snapshot {id} is damaged: {detail}")]
    DamagedSnapshot {
        /// Short id of the snapshot.
        id: String,
        /// The difference, in lower case.
        detail: String,
    },
    /// The vault has a snapshot of sync that a newer version of this program made.
    #[error("a newer codex-manager on {machine} has synced with this vault (layout {layout})")]
    NewerLayout { machine: String, layout: u32 },
    /// Files changed during every attempt to read them.
    #[error("the Codex home changes too fast: {0}")]
    Changing(String),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A snapshot of sync cannot be used.
    #[error(transparent)]
    Sync(#[from] RemoteError),
    #[error(transparent)]
    Io(#[from] IoError),
}

impl VaultError {
    /// Returns the error that the snapshot with this id is damaged.
    pub(crate) fn damaged_snapshot(id: &str, detail: String) -> Self {
        let id = short_id(id).to_owned();
        Self::DamagedSnapshot { id, detail }
    }

    /// Converts an error about a damaged archive, made from the snapshot `id`, into an error about
    /// the snapshot. Returns other errors unchanged.
    pub(super) fn into_snapshot_error(self, id: &str) -> Self {
        let detail = match self {
            Self::Archive(ArchiveError::Damaged { detail, .. }) => detail,
            Self::Archive(ArchiveError::Unsafe { entry, reason, .. }) => {
                format!("an unsafe entry ({reason}: {entry})")
            }
            other => return other,
        };
        Self::damaged_snapshot(id, detail)
    }

    /// Returns true if the storage accepts new snapshots but removes none.
    pub fn is_append_only(&self) -> bool {
        matches!(self, Self::Restic { fault, .. } if *fault == Fault::AppendOnly)
    }

    /// Returns true if the error proves that the snapshot or the repository is damaged.
    pub fn proves_damage(&self) -> bool {
        match self {
            Self::DamagedSnapshot { .. } | Self::Sync(RemoteError::Damaged { .. }) => true,
            Self::Restic { fault, .. } => *fault == Fault::Damaged,
            Self::Archive(ArchiveError::Newer { .. }) => false,
            Self::Archive(e) => !e.is_environmental(),
            _ => false,
        }
    }
}

/// The message of restic as one line, without credentials.
#[derive(Debug, thiserror::Error)]
#[error("restic: {0}")]
pub struct ResticMessage(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_a_newer_version_is_no_damage() {
        let archive = PathBuf::from("snapshot");
        let newer = VaultError::Archive(ArchiveError::Newer { archive, found: 9 });
        assert!(!newer.proves_damage());
        let damaged = ArchiveError::damaged(std::path::Path::new("snapshot"), "a digest");
        assert!(VaultError::Archive(damaged).proves_damage());
    }
}
