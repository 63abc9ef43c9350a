//! Exit codes and hints for errors of `sync`.

use super::ErrorKind::{Failed, Refused, Usage};
use super::{Advised, CommandError};
use codex_manager_core::io::settings::SettingsError;
use codex_manager_core::sync::apply::ApplyError;
use codex_manager_core::sync::backup::BackupError;
use codex_manager_core::sync::codexsync::CodexSyncStateError;
use codex_manager_core::sync::config::SyncConfigError;
use codex_manager_core::sync::index_updates::IndexUpdateError;
use codex_manager_core::sync::plan::PlanError;
use codex_manager_core::sync::resolve::ConflictCopyError;
use codex_manager_core::sync::restore::SyncRestoreError;
use codex_manager_core::sync::snapshots::RemoteError;

impl Advised for SyncConfigError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Missing(_) => self.unchanged_error(
                Usage,
                "create one with: codex-manager sync init --cloud DIR, or name one with -c FILE",
            ),
            Self::Overlap { .. } => {
                self.unchanged_error(Usage, "choose folders that do not contain each other")
            }
            Self::Settings(e @ SettingsError::Newer { .. }) => e.to_command_error(),
            Self::Settings(_) => self.unchanged_error(
                Usage,
                "fix it, then check it with: codex-manager sync validate",
            ),
        }
    }
}

impl Advised for PlanError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::CodexSyncImport(e) => e.to_command_error(),
            Self::State(e) => e.to_command_error(),
            Self::NoCloud(_) => self.unchanged_error(Refused, "mount it, start its client, or create it with mkdir"),
            Self::NotAFolder(_) => self.unchanged_error(Refused, "move it away: codex-manager needs a real folder there"),
            Self::NoCodexHome(_) => self.unchanged_error(Refused, "mount it, or choose another with --codex-home or paths.local_state_dir"),
            Self::MostFilesMissing { .. } => self.unchanged_error(Refused, "wait for the cloud client, or copy everything to the folder again: codex-manager sync run --apply --refill"),
            Self::Unmounted(_) => self.unchanged_error(Refused, "mount it, or start its client, then run the same command again"),
            Self::NoManifest(_) => self.unchanged_error(Refused, "wait for the cloud client, or continue as a first sync: codex-manager sync run --apply --refill"),
            Self::ManifestNotDownloaded(_) => self.unchanged_error(Refused, "let the cloud client download it, or make the folder available offline"),
            Self::InvalidGlob(_) => CommandError::wrap(Usage, self),
        }
    }
}

impl Advised for RemoteError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::State(e) => e.to_command_error(),
            Self::Plan(e) => e.to_command_error(),
            Self::Damaged { machine, .. } => self.unchanged_error(
                Refused,
                format!("sync {machine} again, or check the vault: codex-manager vault check --read-data; if the machine is gone: codex-manager sync forget {machine}"),
            ),
            Self::Newer(_) => self.unchanged_error(Refused, "upgrade codex-manager"),
            Self::OtherDisk(_) => self.unchanged_error(
                Usage,
                "sync makes hard links from one to the other: move the manager home, or name another one with --manager-home",
            ),
            Self::Changed(_) => self.hinted_error(Failed, "end Codex, then run the same command again"),
        }
    }
}

impl Advised for CodexSyncStateError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Invalid { .. } => self.unchanged_error(
                Usage,
                "remove state.manifest_file from sync.toml: the first sync then compares the files themselves",
            ),
        }
    }
}

impl Advised for ApplyError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Interrupted => CommandError::interrupted()
                .hint("run the same command again: it continues where it stopped"),
            Self::Io(e) => e.to_command_error(),
            Self::Backup(e) => e.to_command_error(),
            // The cloud folder may have been unmounted while steps were applied.
            Self::Cloud(e) => e
                .to_command_error()
                .after_change("files that this run had already copied, if any, stay as they are"),
            Self::Stopped { snapshot, cause } => cause.to_command_error().hint(format!(
                "files overwritten so far are in {snapshot}; restore them with: codex-manager sync \
                 restore --from {snapshot} --apply"
            )),
        }
    }
}

impl Advised for BackupError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Clock(e) => e.to_command_error(),
            Self::NotAZip(_) => CommandError::wrap(Failed, self),
            Self::List { .. } => self.hinted_error(Refused, "nothing was changed"),
        }
    }
}

impl Advised for SyncRestoreError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Backup(e) => e.to_command_error(),
            Self::Cloud(e) => e.to_command_error(),
            Self::NoSuchSnapshot(path) => {
                let folder = path.parent().unwrap_or(path).display();
                let hint = format!("the snapshots are the folders and .zip files in {folder}");
                self.hinted_error(Failed, hint)
                    .hint_unchanged("show the newest one: codex-manager sync restore")
            }
            Self::NoSnapshots(_) => self.unchanged_error(
                Failed,
                "a sync creates one before it overwrites or deletes a file",
            ),
            Self::NoLocalFiles(_) => self.unchanged_error(
                Failed,
                "restore a version that a sync replaced in the vault to this machine: codex-manager sync restore --target local",
            ),
            Self::Changed(_) | Self::Stopped { .. } => CommandError::wrap(Failed, self),
            Self::Outside { .. } => {
                self.unchanged_error(Usage, "give the name of a folder or .zip file in it")
            }
            Self::Unsafe { .. } | Self::Damaged { .. } => {
                self.unchanged_error(Refused, "choose another snapshot: --from NAME")
            }
        }
    }
}

impl Advised for ConflictCopyError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Backup(e) => e.to_command_error(),
            Self::NotDownloaded(_) | Self::NoConversation(_) => {
                self.unchanged_error(Failed, "sync first: codex-manager sync run --apply")
            }
            Self::NotConvertible { .. } => self.hinted_error(Failed, "nothing was changed"),
        }
    }
}

impl Advised for IndexUpdateError {
    fn to_command_error(&self) -> CommandError {
        self.hinted_error(Failed, "close Codex, then run the same command again")
    }
}
