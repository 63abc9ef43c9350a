//! Exit codes and hints for errors about archives and restores.

use super::ErrorKind::{CodexRunning, Conflict, Failed, Refused, Usage};
use super::{Advised, CommandError, FREE_SPACE};
use codex_manager_core::codex::{AUTH_JSON, AuthFile, Holder, ProcessRole};
use codex_manager_core::inventory::remedies::{
    describe_making_readable, describe_making_writable, format_rename_aside_command,
};
use codex_manager_core::io::shell;

impl Advised for codex_manager_core::archive::ArchiveError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::Database(e) => e.to_command_error(),
            Self::Replaced(_) => {
                self.hinted_error(Failed, "run the same command again; no archive was created")
            }
            Self::NoSpace(_) => self.unchanged_error(Failed, FREE_SPACE),
            Self::Newer { .. } => self.hinted_error(Refused, "upgrade codex-manager"),
            Self::Damaged { .. } | Self::Unsafe { .. } | Self::Foreign(_) => self.unchanged_error(
                Refused,
                "choose another archive: codex-manager list-backups",
            ),
        }
    }
}

impl Advised for codex_manager_core::codex::database::DatabaseError {
    fn to_command_error(&self) -> CommandError {
        if self.is_disk_full() {
            return self.hinted_error(Failed, FREE_SPACE);
        }
        CommandError::wrap(Failed, self)
    }
}

impl Advised for codex_manager_core::journal::JournalError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Document(e) => e.to_command_error(),
            Self::InProgress { .. } => self.unchanged_error(Failed, "wait for it to end"),
            Self::ForeignFolder(_) => self.unchanged_error(Refused, "inspect it, and remove it if you do not need it"),
            Self::ConflictingSteps(_) => self.unchanged_error(Failed, "restore fewer files at once with --only"),
            Self::Busy(_) => self.unchanged_error(CodexRunning, "end these programs first, the daemon with: codex app-server daemon stop"),
            Self::OpenedMeanwhile { kept, .. } => self.hinted_error(CodexRunning, format_hint_after_undo("end Codex, then run the same command again", kept)),
            Self::WrittenMeanwhile { kept, .. } => self.hinted_error(CodexRunning, format_hint_after_undo("run the same command again", kept)),
            Self::Deferred(obstacle) => obstacle.to_command_error(),
            Self::FolderExists(_) => self.unchanged_error(Refused, "run the other command again to finish it, or move the folder away"),
            Self::DamagedJournal { .. } => self.unchanged_error(Failed, "the replaced files are beside the journal; keep what you need, then move the folder of the journal away"),
        }
    }
}

impl Advised for codex_manager_core::journal::RecoveryObstacle {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::InUse { .. } => self.unchanged_error(
                CodexRunning,
                "end Codex, then finish it with: codex-manager doctor",
            ),
            Self::Unrecognized { .. } => self.unchanged_error(
                Refused,
                "compare the files with their staged copies, keep what you need, and move the staging folder away",
            ),
            Self::MissingFolder { journal, .. } => {
                let journal = journal.display();
                self.unchanged_error(
                    Refused,
                    format!("mount its disk; if the folder no longer exists, remove {journal}"),
                )
            }
        }
    }
}

/// Returns the hint for a change that was undone: the folders with files written in the meantime, and the next step.
fn format_hint_after_undo(next_step: &str, kept_folders: &[std::path::PathBuf]) -> String {
    if kept_folders.is_empty() {
        return format!("{next_step}; nothing was changed");
    }
    let folders = kept_folders.iter().map(|p| p.display().to_string());
    let folders = folders.collect::<Vec<_>>().join(" and ");
    format!("files written in the meantime are in {folders}; {next_step}")
}

/// Returns the hint for a home in use. Names the option for the daemon only if the daemon is one of the holders.
fn hint_for_busy(holders: &[Holder]) -> &'static str {
    if holders
        .iter()
        .any(|holder| holder.role == ProcessRole::Daemon)
    {
        "end these first, or stop Codex's daemon with --stop-daemon"
    } else {
        "end these first"
    }
}

impl Advised for codex_manager_core::recovery::RecoveryError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Journal(e) => e.to_command_error(),
            Self::History(e) => e.to_command_error(),
            Self::Trash(e) => e.to_command_error(),
            Self::Io(e) => e.to_command_error(),
        }
    }
}

impl Advised for codex_manager_core::restore::RestoreError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Archive(e) => e.to_command_error(),
            Self::Io(e) if e.path.ends_with(AUTH_JSON) && AuthFile::cannot_be_login(e) => {
                let command = format_rename_aside_command(&e.path);
                let hint = format!("move it aside: {command}; or keep it with --auth skip");
                self.unchanged_error(Failed, hint)
            }
            Self::Io(e) => e.to_command_error(),
            Self::Profile(e) => e.to_command_error(),
            Self::Lease(e) => e.to_command_error(),
            Self::Journal(e) => e.to_command_error(),
            Self::Database(e) => e.to_command_error(),
            Self::Busy(holders) => self.unchanged_error(CodexRunning, hint_for_busy(holders)),
            Self::AnotherAccount { .. } => self.unchanged_error(Refused, "--yes saves the live login to its profile and continues; --auth skip keeps it in place"),
            Self::Diverged(_) => self.unchanged_error(Conflict, "restore without --merge, or into another folder with --to DIR"),
            Self::Continued(_) => self.unchanged_error(Refused, "keep the longer versions with --merge, or restore into another folder with --to DIR"),
            Self::SharedDatabases(_) => self.unchanged_error(Refused, "restore into a separate folder with --to DIR")
                .hint("if this home was only moved and no other home uses them: codex-manager history repair"),
            Self::OutsideDatabases(_) => self.unchanged_error(Refused, "--yes restores them there; --to DIR restores everything into one folder"),
            Self::ForeignLink(_) => self.unchanged_error(Refused, "run the command as that user, or remove the link"),
            Self::UnreadableFolder(folder) => self.unchanged_error(Refused, describe_making_readable(folder)),
            Self::UnwritableFolder(folder) => self.unchanged_error(Refused, describe_making_writable(folder)),
            Self::MountInside(_) => self.unchanged_error(Refused, "unmount it, or restore into another folder with --to DIR"),
            Self::MountedFile(path) if path.ends_with(AUTH_JSON) => self.unchanged_error(Refused, "unmount it, and mount its folder instead; or keep the login with --auth skip"),
            Self::MountedFile(_) => self.unchanged_error(Refused, "unmount it, and mount its folder instead; or restore the rest with --only or --session"),
            Self::OverlapsHome(_) => self.unchanged_error(Usage, "choose a folder outside of both homes"),
            Self::DanglingTarget(_) => self.unchanged_error(Refused, "mount its disk, or remove the link"),
            Self::NotEmpty(_) => self.unchanged_error(Refused, "choose a new or empty folder"),
            Self::NotFound { archive, .. } => {
                let name = shell::quote_if_needed(&archive.to_string_lossy());
                self.unchanged_error(Failed, format!("list the files: tar tzf {name}"))
            }
            Self::NoConversation { archive, .. } => {
                let archive = shell::quote_if_needed(&archive.to_string_lossy());
                self.unchanged_error(Failed, format!("choose one of its conversations: codex-manager restore {archive} --session"))
            }
            Self::NothingToRestore(_) => self.hinted_error(Failed, "the home keeps its own id, and logins and temporary files may be left out; nothing was changed"),
            Self::BackupIncomplete { .. } => self.unchanged_error(Refused, "make these files readable; files, but not folders, can also be restored without a safety backup: --no-safety-backup"),
            Self::OtherCredentialStore(_) => self.unchanged_error(Refused, "set cli_auth_credentials_store = \"file\" in config.toml of the Codex home"),
        }
    }
}
