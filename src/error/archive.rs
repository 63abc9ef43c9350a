//! Exit codes and hints for errors about archives and restores.

use super::ErrorKind::{CodexRunning, Conflict, Failed, Refused, Usage};
use super::{Advised, CommandError, FREE_SPACE};

impl Advised for crate::archive::ArchiveError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Io(e) => e.advice(),
            Self::Interrupted => CommandError::interrupted(),
            Self::Database(e) => e.advice(),
            Self::Replaced(_) => {
                self.hint(Failed, "run the same command again; no archive was created")
            }
            Self::NoSpace(_) => self.unchanged(Failed, FREE_SPACE),
            Self::Newer { .. } => self.hint(Refused, "upgrade codex-manager"),
            Self::Damaged { .. } | Self::Unsafe { .. } | Self::Foreign(_) => self.unchanged(
                Refused,
                "choose another archive: codex-manager list-backups",
            ),
        }
    }
}

impl Advised for crate::codex::database::DatabaseError {
    fn advice(&self) -> CommandError {
        if self.is_disk_full() {
            return self.hint(Failed, FREE_SPACE);
        }
        CommandError::wrap(Failed, self)
    }
}

impl Advised for crate::journal::JournalError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Io(e) => e.advice(),
            Self::Document(e) => e.advice(),
            Self::InProgress(_) => self.unchanged(Failed, "wait for it to end"),
            Self::ForeignFolder(_) => self.unchanged(Refused, "inspect it, and remove it if you do not need it"),
            Self::ConflictingSteps(_) => self.unchanged(Failed, "restore fewer files at once with --only"),
            Self::Busy(_) => self.unchanged(CodexRunning, "end these programs first, the daemon with: codex app-server daemon stop"),
            Self::Opened { kept, .. } => self.hint(CodexRunning, hint_for_undone("end Codex, then run the same command again", kept)),
            Self::Written { kept, .. } => self.hint(CodexRunning, hint_for_undone("run the same command again", kept)),
            Self::Deferred(obstacle) => obstacle.advice(),
            Self::Occupied(_) => self.unchanged(Refused, "run that command again to finish it, or move the folder away"),
            Self::DamagedJournal { .. } => self.unchanged(Failed, "the replaced files are beside the journal; keep what you need, then move that folder away"),
        }
    }
}

impl Advised for crate::journal::RecoveryObstacle {
    fn advice(&self) -> CommandError {
        match self {
            Self::InUse { .. } => self.unchanged(
                CodexRunning,
                "end Codex, then finish it with: codex-manager doctor",
            ),
            Self::Unrecognized { .. } => self.unchanged(
                Refused,
                "compare both, keep what you need, and move that folder away",
            ),
            Self::MissingFolder { journal, .. } => {
                let journal = journal.display();
                self.unchanged(
                    Refused,
                    format!("mount its disk; if the folder no longer exists, remove {journal}"),
                )
            }
            Self::NotKept { .. } => self.hint(
                Refused,
                "move what you need out of that folder, then run the command again",
            ),
        }
    }
}

/// Returns the hint for a change that was undone: the folders with files written in the meantime, and the next step.
fn hint_for_undone(next: &str, kept: &[std::path::PathBuf]) -> String {
    let places: Vec<_> = kept.iter().map(|p| p.display().to_string()).collect();
    match places.join(" and ") {
        none if none.is_empty() => format!("{next}; nothing was changed"),
        places => format!("files written in the meantime are in {places}; {next}"),
    }
}

impl Advised for crate::recovery::RecoveryError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Journal(e) => e.advice(),
            Self::History(e) => e.advice(),
            Self::Trash(e) => e.advice(),
            Self::Io(e) => e.advice(),
        }
    }
}

impl Advised for crate::restore::RestoreError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Archive(e) => e.advice(),
            Self::Io(e) => e.advice(),
            Self::Profile(e) => e.advice(),
            Self::Lease(e) => e.advice(),
            Self::Journal(e) => e.advice(),
            Self::Database(e) => e.advice(),
            Self::Busy(_) => self.unchanged(CodexRunning, "end these first, or stop Codex's daemon with --stop-daemon"),
            Self::AnotherAccount { .. } => self.unchanged(Refused, "--yes saves the live login to its profile and continues; --auth skip keeps it in place"),
            Self::Diverged(_) => self.unchanged(Conflict, "restore without --merge, or into another folder with --to DIR"),
            Self::Continued(_) => self.unchanged(Refused, "restore into another folder with --to DIR"),
            Self::SharedDatabases(_) => self.unchanged(Refused, "restore into a separate folder with --to DIR")
                .hint("if this home was only moved and no other home uses them: codex-manager history repair"),
            Self::OutsideDatabases(_) => self.unchanged(Refused, "--yes restores them there; --to DIR restores everything into one folder"),
            Self::MountInside(_) => self.unchanged(Refused, "unmount it, or restore into another folder with --to DIR"),
            Self::OverlapsHome(_) => self.unchanged(Usage, "choose a folder outside of both homes"),
            Self::DanglingHome(_) => self.unchanged(Refused, "mount its disk, or remove the link"),
            Self::NotEmpty(_) => self.unchanged(Refused, "choose a new or empty folder"),
            Self::NotFound(_) => self.unchanged(Failed, "list the files of the archive: tar tzf FILE")
                .hint("choose one of its conversations: codex-manager restore ARCHIVE --session"),
            Self::NothingToRestore(_) => self.hint(Failed, "nothing was changed"),
            Self::BackupIncomplete { .. } => self.unchanged(Refused, "make these files readable; files, but not folders, can also be restored without a safety backup: --no-safety-backup"),
            Self::OtherCredentialStore(_) => self.unchanged(Refused, "set cli_auth_credentials_store = \"file\" in config.toml of the Codex home"),
        }
    }
}
