//! Exit codes and hints for errors of `sync`.

use super::{CommandError, ErrorKind};
use crate::sync::apply::ApplyError;
use crate::sync::backup::BackupError;
use crate::sync::codexsync::CodexSyncStateError;
use crate::sync::config::SyncConfigError;
use crate::sync::index_updates::IndexUpdateError;
use crate::sync::plan::PlanError;
use crate::sync::resolve::ConflictCopyError;
use crate::sync::restore::SyncRestoreError;
use crate::sync::state::StateError;

impl From<SyncConfigError> for CommandError {
    fn from(error: SyncConfigError) -> Self {
        match error {
            SyncConfigError::Missing(_) => Self::wrap(ErrorKind::Usage, &error)
                .hint("create one with: codex-manager sync init --cloud DIR, or name one with -c FILE; nothing was changed"),
            SyncConfigError::Overlap { .. } => Self::wrap(ErrorKind::Usage, &error)
                .hint("choose folders that do not contain each other; nothing was changed"),
            SyncConfigError::Settings(_) => {
                Self::wrap(ErrorKind::Usage, &error).hint("nothing was changed")
            }
        }
    }
}

impl From<PlanError> for CommandError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Io(e) | PlanError::CodexSyncImport(CodexSyncStateError::Io(e)) => e.into(),
            PlanError::State(e) => e.into(),
            PlanError::NoCloud(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("mount it, start its client, or create it with mkdir; nothing was changed"),
            PlanError::LinkInCloud(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("remove the link: codex-manager needs a real folder there; nothing was changed"),
            PlanError::NotAFolder(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("move it away: codex-manager needs that path for its own files; nothing was changed"),
            PlanError::NoCodexHome(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("mount it, or choose another with --codex-home or paths.local_state_dir; nothing was changed"),
            PlanError::MostFilesMissing { .. } => Self::wrap(ErrorKind::Refused, &error).hint(
                "wait for the cloud client, or copy everything to the folder again: codex-manager sync run --apply --refill; nothing was changed",
            ),
            PlanError::Unmounted(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("mount it, or start its client, then run the same command again; nothing was changed"),
            PlanError::NoManifest(_) => Self::wrap(ErrorKind::Refused, &error).hint(
                "wait for the cloud client, or continue as a first sync: codex-manager sync run --apply --refill; nothing was changed",
            ),
            PlanError::ManifestNotDownloaded(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("let the cloud client download it, or make the folder available offline; nothing was changed"),
            PlanError::InvalidGlob(_) => Self::wrap(ErrorKind::Usage, &error),
            PlanError::NoFileToAllow { ref held, .. } if held.is_empty() => {
                Self::wrap(ErrorKind::Usage, &error)
                    .hint("no file is held back because of a secret; nothing was changed")
            }
            PlanError::NoFileToAllow { ref held, .. } => Self::wrap(ErrorKind::Usage, &error)
                .hint(format!("held back: {}; nothing was changed", held.join(", "))),
            PlanError::CodexSyncImport(e @ CodexSyncStateError::Invalid { .. }) => {
                Self::wrap(ErrorKind::Usage, &e).hint(
                    "without state.manifest_file the first sync compares the files themselves; nothing was changed",
                )
            }
        }
    }
}

impl From<StateError> for CommandError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io(e) => e.into(),
            StateError::Newer { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("upgrade codex-manager; the file was left untouched"),
        }
    }
}

impl From<ApplyError> for CommandError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Interrupted => Self::interrupted()
                .hint("run the same command again: it continues where it stopped"),
            ApplyError::Io(e) => e.into(),
            ApplyError::Backup(e) => e.into(),
            ApplyError::Cloud(e) => e.into(),
            ApplyError::Stopped { snapshot, cause } => Self::from(*cause).hint(format!(
                "files overwritten so far are in {snapshot}; restore them with: codex-manager sync \
                 restore --from {snapshot} --apply"
            )),
        }
    }
}

impl From<BackupError> for CommandError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Io(e) => e.into(),
            BackupError::Clock(e) => e.into(),
            BackupError::Zip { .. } => Self::wrap(ErrorKind::Failed, &error),
            BackupError::List { .. } => {
                Self::wrap(ErrorKind::Refused, &error).hint("nothing was changed")
            }
        }
    }
}

impl From<SyncRestoreError> for CommandError {
    fn from(error: SyncRestoreError) -> Self {
        match error {
            SyncRestoreError::Io(e) => e.into(),
            SyncRestoreError::Backup(e) => e.into(),
            SyncRestoreError::Cloud(e) => e.into(),
            SyncRestoreError::None(ref path) => {
                let folder = path.parent().unwrap_or(path).display().to_string();
                Self::wrap(ErrorKind::Failed, &error)
                    .hint(format!("the snapshots are the folders in {folder}"))
                    .hint("show the newest one: codex-manager sync restore; nothing was changed")
            }
            SyncRestoreError::Changed(_) | SyncRestoreError::Stopped { .. } => {
                Self::wrap(ErrorKind::Failed, &error)
            }
            SyncRestoreError::Outside { .. } => {
                Self::wrap(ErrorKind::Usage, &error).hint("nothing was changed")
            }
            SyncRestoreError::Unsafe { .. } | SyncRestoreError::Damaged { .. } => {
                Self::wrap(ErrorKind::Refused, &error).hint("nothing was changed")
            }
        }
    }
}

impl From<ConflictCopyError> for CommandError {
    fn from(error: ConflictCopyError) -> Self {
        match error {
            ConflictCopyError::Io(e) => e.into(),
            ConflictCopyError::Backup(e) => e.into(),
            ConflictCopyError::NotDownloaded(_) | ConflictCopyError::NoConversation(_) => {
                Self::wrap(ErrorKind::Failed, &error)
                    .hint("sync first: codex-manager sync run --apply; nothing was changed")
            }
            ConflictCopyError::NotConvertible { .. } => {
                Self::wrap(ErrorKind::Failed, &error).hint("nothing was changed")
            }
        }
    }
}

impl From<IndexUpdateError> for CommandError {
    fn from(error: IndexUpdateError) -> Self {
        Self::wrap(ErrorKind::Failed, &error).hint("close Codex, then run the same command again")
    }
}
