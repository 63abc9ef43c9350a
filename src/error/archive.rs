//! Exit codes and hints for errors about archives and restores.

use super::{CommandError, ErrorKind};

impl From<crate::archive::ArchiveError> for CommandError {
    fn from(error: crate::archive::ArchiveError) -> Self {
        use crate::archive::ArchiveError;
        match error {
            ArchiveError::Io(e) => e.into(),
            ArchiveError::Interrupted => Self::interrupted(),
            ArchiveError::Database(e) => e.into(),
            ArchiveError::Replaced(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("run the same command again; no archive was created"),
            ArchiveError::NoSpace(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("free some disk space, then run the same command again; nothing was changed"),
            ArchiveError::Newer { .. } => {
                Self::wrap(ErrorKind::Refused, &error).hint("upgrade codex-manager")
            }
            ArchiveError::Damaged { .. }
            | ArchiveError::Unsafe { .. }
            | ArchiveError::Foreign(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("choose another archive: codex-manager list-backups; nothing was changed"),
        }
    }
}

impl From<crate::codex::database::DatabaseError> for CommandError {
    fn from(error: crate::codex::database::DatabaseError) -> Self {
        let full = error.is_no_space();
        let wrapped = Self::wrap(ErrorKind::Failed, &error);
        if full {
            wrapped.hint("free some disk space, then run the same command again")
        } else {
            wrapped
        }
    }
}

impl From<crate::journal::JournalError> for CommandError {
    fn from(error: crate::journal::JournalError) -> Self {
        use crate::journal::{JournalError, RecoveryObstacle};
        match error {
            JournalError::Io(e) => e.into(),
            JournalError::Document(e) => e.into(),
            JournalError::InProgress(_) => {
                Self::wrap(ErrorKind::Failed, &error).hint("wait for it to end; nothing was changed")
            }
            JournalError::ForeignFolder(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("inspect it, and remove it if you do not need it; nothing was changed"),
            JournalError::ConflictingSteps(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("restore fewer files at once with --only; nothing was changed"),
            JournalError::Busy(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("end these programs first, the daemon with: codex app-server daemon stop; nothing was changed"),
            JournalError::Opened { ref kept, .. } => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint(hint_for_undone("end Codex, then run the same command again", kept)),
            JournalError::Written { ref kept, .. } => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint(hint_for_undone("run the same command again", kept)),
            JournalError::Deferred(RecoveryObstacle::InUse { .. }) => {
                Self::wrap(ErrorKind::CodexRunning, &error).hint(
                    "end Codex, then finish it with: codex-manager doctor; nothing was changed",
                )
            }
            JournalError::Deferred(RecoveryObstacle::Unrecognized { .. }) => Self::wrap(
                ErrorKind::Refused,
                &error,
            )
            .hint(
                "compare both, keep what you need, and move that folder away; nothing was changed",
            ),
            JournalError::Deferred(RecoveryObstacle::MissingFolder { ref journal, .. }) => {
                Self::wrap(ErrorKind::Refused, &error)
                    .hint(format!(
                        "mount its disk; if the folder no longer exists, remove {}; nothing was changed",
                        journal.display()
                    ))
            }
            JournalError::Deferred(RecoveryObstacle::NotKept { .. }) => {
                Self::wrap(ErrorKind::Refused, &error)
                    .hint("move what you need out of that folder, then run the command again")
            }
            JournalError::Occupied(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("run that command again to finish it, or move the folder away; nothing was changed"),
            JournalError::DamagedJournal { .. } => Self::wrap(ErrorKind::Failed, &error).hint(
                "the replaced files are beside the journal; keep what you need, then move that folder away; nothing was changed",
            ),
        }
    }
}

/// Returns the hint for a change that was undone, with the folders that have later writes.
fn hint_for_undone(next: &str, kept: &[std::path::PathBuf]) -> String {
    let places: Vec<_> = kept.iter().map(|p| p.display().to_string()).collect();
    match places.join(" and ") {
        none if none.is_empty() => format!("{next}; nothing was changed"),
        places => format!("files written in the meantime are in {places}; {next}"),
    }
}

impl From<crate::recovery::RecoveryError> for CommandError {
    fn from(error: crate::recovery::RecoveryError) -> Self {
        use crate::recovery::RecoveryError;
        match error {
            RecoveryError::Journal(e) => e.into(),
            RecoveryError::History(e) => e.into(),
            RecoveryError::Trash(e) => e.into(),
            RecoveryError::Io(e) => e.into(),
        }
    }
}

impl From<crate::restore::RestoreError> for CommandError {
    fn from(error: crate::restore::RestoreError) -> Self {
        use crate::restore::RestoreError;
        match error {
            RestoreError::Archive(e) => e.into(),
            RestoreError::Io(e) => e.into(),
            RestoreError::Profile(e) => e.into(),
            RestoreError::Lease(e) => e.into(),
            RestoreError::Journal(e) => e.into(),
            RestoreError::Database(e) => e.into(),
            RestoreError::Busy(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("end these first, or stop Codex's daemon with --stop-daemon; nothing was changed"),
            RestoreError::AnotherAccount { .. } => Self::wrap(ErrorKind::Refused, &error).hint(
                "--yes saves the live login to its profile and continues; --auth skip keeps it in place; nothing was changed",
            ),
            RestoreError::Diverged(_) => Self::wrap(ErrorKind::Conflict, &error)
                .hint("restore without --merge, or into another folder with --to DIR; nothing was changed"),
            RestoreError::Continued(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("restore into another folder with --to DIR; nothing was changed"),
            RestoreError::SharedDatabases(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("restore into a separate folder with --to DIR; nothing was changed")
                .hint("if this home was only moved and no other home uses them: codex-manager history repair"),
            RestoreError::OutsideDatabases(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("--yes restores them there; --to DIR restores everything into one folder; nothing was changed"),
            RestoreError::MountInside(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("unmount it, or restore into another folder with --to DIR; nothing was changed"),
            RestoreError::OverlapsHome(_) => Self::wrap(ErrorKind::Usage, &error)
                .hint("choose a folder outside of both homes; nothing was changed"),
            RestoreError::DanglingHome(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("mount its disk, or remove the link; nothing was changed"),
            RestoreError::NotEmpty(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("choose a new or empty folder; nothing was changed"),
            RestoreError::NotFound(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("list the files of the archive: tar tzf FILE; nothing was changed")
                .hint("choose one of its conversations: codex-manager restore ARCHIVE --session"),
            RestoreError::BackupIncomplete { can_skip_backup: true, .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("fix these, or restore without a safety backup: --no-safety-backup; nothing was changed"),
            RestoreError::BackupIncomplete { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("make these readable; nothing was changed"),
            RestoreError::OtherCredentialStore(_) => Self::wrap(ErrorKind::Refused, &error).hint(
                "set cli_auth_credentials_store = \"file\" in config.toml of the Codex home; nothing was changed",
            ),
        }
    }
}
