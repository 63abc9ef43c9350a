//! Exit codes and hints of vault errors.

use super::{CommandError, ErrorKind};
use crate::vault::VaultError;
use crate::vault::fault::Fault;

/// The command that installs restic on this system.
const INSTALL: &str = if cfg!(target_os = "macos") {
    "install it: brew install restic"
} else if cfg!(windows) {
    "install it: winget install restic.restic"
} else {
    "install it: sudo apt install restic, or with the package manager of your system"
};

impl From<VaultError> for CommandError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Archive(e) => e.into(),
            VaultError::Restore(e) => e.into(),
            VaultError::Io(e) => e.into(),
            VaultError::Interrupted => Self::interrupted(),
            VaultError::NoProgram(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint(INSTALL)
                .hint("or name the program with --restic-bin FILE, for all commands with: codex-manager config set vault.program FILE"),
            // A prune by rustic could remove data of a backup by restic that is running.
            VaultError::OnlyRustic(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint(INSTALL)
                .hint("rustic ignores the locks of restic and does not know URLs like s3: and sftp:"),
            VaultError::TooOld { .. } => Self::wrap(ErrorKind::Failed, &error)
                .hint("codex-manager needs restic 0.14 or newer"),
            VaultError::NotRestic(_) => Self::wrap(ErrorKind::Usage, &error)
                .hint("name restic with --restic-bin FILE, for all commands with: codex-manager config set vault.program FILE"),
            VaultError::NotConfigured => Self::wrap(ErrorKind::Usage, &error)
                .hint("set one up: codex-manager vault init URL"),
            VaultError::NoPassword => Self::wrap(ErrorKind::Usage, &error)
                .hint("give --password-file FILE or --password-command COMMAND, or set RESTIC_PASSWORD_FILE"),
            VaultError::Restic { fault, .. } => of_fault(fault, &error),
            VaultError::NoProgress(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("run the same command again; --timeout SECONDS allows longer pauses; earlier snapshots are unaffected"),
            VaultError::NoSnapshot(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("list them: codex-manager vault snapshots"),
            VaultError::Ambiguous(..) => Self::wrap(ErrorKind::Failed, &error)
                .hint("give more of the id, from: codex-manager vault snapshots"),
            VaultError::NoPath { .. } => Self::wrap(ErrorKind::Failed, &error)
                .hint("list its files: codex-manager vault ls SNAPSHOT"),
            VaultError::DamagedSnapshot { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("check the vault: codex-manager vault check --read-data; nothing was changed"),
            VaultError::Changing(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("run the same command again when Codex is less busy; earlier snapshots are unaffected"),
            VaultError::Output(..) => Self::wrap(ErrorKind::Failed, &error)
                .hint("this restic may be newer than codex-manager; earlier snapshots are unaffected"),
        }
    }
}

fn of_fault(fault: Fault, error: &VaultError) -> CommandError {
    let wrapped = CommandError::wrap(ErrorKind::Failed, error);
    match fault {
        Fault::NoRepository => wrapped.hint("create it: codex-manager vault init URL"),
        Fault::Exists => wrapped.hint("open it: codex-manager vault init URL, with its password"),
        Fault::WrongPassword => {
            wrapped.hint("give the right password with --password-file FILE; nothing was changed")
        }
        Fault::Locked => wrapped.hint(
            "wait for the other process to end, then run the same command again; if it was killed, its lock expires after 30 minutes, or remove it: restic unlock",
        ),
        Fault::Network => wrapped
            .hint("check the connection, then run the same command again; earlier snapshots are unaffected"),
        Fault::Credentials => wrapped.hint(
            "check the credentials of the storage, for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; nothing was changed",
        ),
        Fault::NoBucket => wrapped.hint("create the bucket first; nothing was changed"),
        Fault::NoSpace => wrapped
            .hint("free some space at the storage, then run the same command again; earlier snapshots are unaffected"),
        Fault::Permission => wrapped.hint("check the owner and mode of the folder"),
        Fault::Damaged => wrapped.hint(
            "if the storage is being replicated, wait for it to finish; else run: codex-manager vault check --read-data",
        ),
        Fault::Killed => {
            wrapped.hint("run the same command again; earlier snapshots are unaffected")
        }
        Fault::Other => wrapped.hint("earlier snapshots are unaffected"),
    }
}
