//! Exit codes and hints of vault errors.

use super::ErrorKind::{Failed, Refused, Usage};
use super::{Advised, CommandError};
use codex_manager_core::vault::VaultError;
use codex_manager_core::vault::fault::Fault;

/// The hint with the command that installs restic on this system.
const INSTALL: &str = if cfg!(target_os = "macos") {
    "install it: brew install restic"
} else if cfg!(windows) {
    "install it: winget install restic.restic"
} else {
    "install it: sudo apt install restic, or with the package manager of your system"
};

/// The command that stores the password. The hint names this command, not an option, because commands such as
/// `sync run` have no option for the password.
pub(crate) const STORE_PASSWORD: &str =
    "store it once: codex-manager vault init URL --password-file FILE";

/// The places that a wrong password may come from.
const CORRECT_PASSWORD: &str = "correct it where it is set: --password-file, a variable RESTIC_PASSWORD…, vault.password_file, or the stored file";

impl Advised for VaultError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Archive(e) => e.to_command_error(),
            Self::Restore(e) => e.to_command_error(),
            Self::Sync(e) => e.to_command_error(),
            Self::Io(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::NoProgram(_) => self.hinted_error(Failed, INSTALL)
                .hint("or pass its path to a vault command: --restic-bin FILE; for all commands: codex-manager config set vault.program FILE"),
            Self::TooOld { .. } => self.hinted_error(Failed, "codex-manager needs restic 0.14 or newer"),
            Self::NotRestic(_) => self.hinted_error(Usage, "pass the path of restic to a vault command: --restic-bin FILE; for all commands: codex-manager config set vault.program FILE"),
            Self::NotConfigured => self.hinted_error(Usage, "set one up: codex-manager vault init URL"),
            Self::NoPassword => self.hinted_error(Usage, STORE_PASSWORD),
            Self::Restic { fault, .. } => to_fault_error(*fault, self),
            Self::NoProgress(_) => self.hinted_error(Failed, "run the same command again; a vault command allows longer pauses with --timeout SECONDS; earlier snapshots are unaffected"),
            Self::NoSnapshot(_) => self.hinted_error(Failed, "list them: codex-manager vault snapshots"),
            Self::Ambiguous(..) => self.hinted_error(Failed, "give more characters of the id; list the ids: codex-manager vault snapshots"),
            Self::NoPath { .. } => self.hinted_error(Failed, "list its files: codex-manager vault ls SNAPSHOT"),
            Self::DamagedSnapshot { .. } => self.unchanged_error(Refused, "check the vault: codex-manager vault check --read-data"),
            Self::NewerLayout { .. } => self.unchanged_error(Refused, "update codex-manager on this machine"),
            Self::Changing(_) => self.hinted_error(Failed, "run the same command again when Codex is less busy; earlier snapshots are unaffected"),
            Self::Output(..) => self.hinted_error(Failed, "this restic may be newer than codex-manager; earlier snapshots are unaffected"),
        }
    }
}

fn to_fault_error(fault: Fault, error: &VaultError) -> CommandError {
    let wrapped = CommandError::wrap(Failed, error);
    match fault {
        Fault::NoRepository => wrapped
            .hint("if its disk is not mounted, mount it first; if it was moved, name its new place; else create it: codex-manager vault init URL"),
        Fault::Exists => wrapped.hint("use it with its password: codex-manager vault init URL"),
        Fault::WrongPassword => wrapped.hint_unchanged(CORRECT_PASSWORD),
        Fault::Locked => wrapped.hint("wait for the other process to end, then run the same command again; if it was killed, its lock expires after 30 minutes, or remove it: restic unlock"),
        Fault::Network => wrapped.hint("check the connection, then run the same command again; earlier snapshots are unaffected"),
        Fault::Credentials => wrapped.hint_unchanged("check the credentials of the storage; for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        Fault::AppendOnly => wrapped.hint_unchanged("an append-only vault: remove snapshots on a machine that may delete, or on the server"),
        Fault::NoBucket => wrapped.hint_unchanged("create the bucket first"),
        Fault::NoSpace => wrapped.hint("free some space at the storage, then run the same command again; earlier snapshots are unaffected"),
        Fault::Permission => wrapped.hint("check the owner and mode of the folder"),
        Fault::Damaged => wrapped.hint("if the storage is being replicated, wait for it to finish; else run: codex-manager vault check --read-data"),
        Fault::Killed => {
            wrapped.hint("run the same command again; earlier snapshots are unaffected")
        }
        Fault::Other => wrapped.hint("earlier snapshots are unaffected"),
    }
}
