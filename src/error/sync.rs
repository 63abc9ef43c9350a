//! Exit codes and hints for errors of `sync`.

use super::{CommandError, ErrorKind};
use crate::sync::apply::ApplyError;
use crate::sync::backup::BackupError;
use crate::sync::codexsync::TakeoverError;
use crate::sync::config::ConfigError;
use crate::sync::plan::PlanError;
use crate::sync::register::RegisterError;
use crate::sync::resolve::ResolveError;
use crate::sync::restore::RestoreError;
use crate::sync::state::StateError;

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Missing(_) => Self::wrap(ErrorKind::Usage, error)
                .hint("create one with: codex-manager sync init, or name one with -c FILE"),
            ConfigError::Overlap { .. } => Self::wrap(ErrorKind::Usage, error)
                .hint("choose folders that do not contain each other; nothing was changed"),
            ConfigError::Io(_) | ConfigError::NotToml { .. } | ConfigError::Invalid { .. } => {
                Self::wrap(ErrorKind::Usage, error).hint("nothing was changed")
            }
        }
    }
}

impl From<PlanError> for CommandError {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Io(e) | PlanError::Takeover(TakeoverError::Io(e)) => e.into(),
            PlanError::State(e) => e.into(),
            PlanError::NoCloud(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("mount it, start its client, or create it with mkdir; nothing was changed"),
            PlanError::Linked(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("remove the link: codex-manager needs a real folder there; nothing was changed"),
            PlanError::InPlace(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("move it away: codex-manager needs that path for its own files; nothing was changed"),
            PlanError::NoHome(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("mount it, or choose another with --codex-home or paths.local_state_dir; nothing was changed"),
            PlanError::Hollow { .. } => Self::wrap(ErrorKind::Refused, error).hint(
                "wait for the cloud client; sync run --refill uploads everything again; nothing was changed",
            ),
            PlanError::Unmounted(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("mount it, or start its client, and run the same command again"),
            PlanError::Unmarked(_) => Self::wrap(ErrorKind::Refused, error).hint(
                "wait for the cloud client; sync run --refill continues as a first sync; nothing was changed",
            ),
            PlanError::NotDownloaded(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("let the cloud client download it, or make the folder available offline; nothing was changed"),
            PlanError::Glob(_) => Self::wrap(ErrorKind::Usage, error),
            PlanError::Takeover(e @ TakeoverError::Invalid { .. }) => {
                Self::wrap(ErrorKind::Usage, e).hint(
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
            StateError::Newer { .. } => Self::wrap(ErrorKind::Refused, error)
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
            BackupError::Zip { .. } => Self::wrap(ErrorKind::Failed, error),
            BackupError::List { .. } => {
                Self::wrap(ErrorKind::Refused, error).hint("nothing was changed")
            }
        }
    }
}

impl From<RestoreError> for CommandError {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Io(e) => e.into(),
            RestoreError::Backup(e) => e.into(),
            RestoreError::Cloud(e) => e.into(),
            RestoreError::None(_) | RestoreError::Changed(_) | RestoreError::Stopped { .. } => {
                Self::wrap(ErrorKind::Failed, error)
            }
            RestoreError::Outside { .. } => {
                Self::wrap(ErrorKind::Usage, error).hint("nothing was changed")
            }
            RestoreError::Unsafe { .. } | RestoreError::Damaged { .. } => {
                Self::wrap(ErrorKind::Refused, error).hint("nothing was changed")
            }
        }
    }
}

impl From<ResolveError> for CommandError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Io(e) => e.into(),
            ResolveError::Backup(e) => e.into(),
            ResolveError::State(e) => e.into(),
            ResolveError::NotHere(_) | ResolveError::NoConversation(_) => {
                Self::wrap(ErrorKind::Failed, error)
                    .hint("sync first: codex-manager sync run --apply; nothing was changed")
            }
            ResolveError::NotSplit { .. } => {
                Self::wrap(ErrorKind::Failed, error).hint("nothing was changed")
            }
        }
    }
}

impl From<RegisterError> for CommandError {
    fn from(error: RegisterError) -> Self {
        Self::wrap(ErrorKind::Failed, error).hint("close Codex, then run the same command again")
    }
}
