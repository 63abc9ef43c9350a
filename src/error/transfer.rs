//! Exit codes and hints for errors about exports and imports.

use super::{CommandError, ErrorKind};

impl From<crate::transfer::TransferError> for CommandError {
    fn from(error: crate::transfer::TransferError) -> Self {
        use crate::transfer::TransferError;
        match error {
            TransferError::Io(e) => e.into(),
            TransferError::Profile(e) => e.into(),
            TransferError::Lease(e) => e.into(),
            TransferError::Document(e) => e.into(),
            TransferError::Interrupted => Self::interrupted(),
            TransferError::PythonHome(e) => e.into(),
            TransferError::Exists(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("choose another name; nothing was changed"),
            TransferError::Locked(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("list the Codex processes: codex-manager current; nothing was changed"),
            TransferError::Changed(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("run the same command again; nothing was changed"),
            TransferError::BadKey(_) => Self::wrap(ErrorKind::Usage, &error)
                .hint("create a key with age-keygen; nothing was changed"),
            TransferError::NeedsKey(_, true) => Self::wrap(ErrorKind::Usage, &error)
                .hint("give the passphrase: --passphrase-file FILE; nothing was changed"),
            TransferError::NeedsKey(_, false) => Self::wrap(ErrorKind::Usage, &error)
                .hint("give its private key: --identity FILE; nothing was changed"),
            TransferError::WrongKey { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("give another: --passphrase-file FILE or --identity FILE; nothing was changed"),
            TransferError::Foreign { .. } => Self::wrap(ErrorKind::Refused, &error).hint(
                "save a login from an auth.json or an archive with: codex-manager profile save NAME --from FILE; nothing was changed",
            ),
            TransferError::Damaged { .. } => Self::wrap(ErrorKind::Refused, &error).hint(
                "copy it again from the other machine, or export again there: codex-manager profile export FILE; nothing was changed",
            ),
            TransferError::Newer { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("upgrade codex-manager; nothing was changed"),
            TransferError::NoSpace(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("free some disk space, then run the same command again; nothing was changed"),
        }
    }
}

impl From<crate::transfer::PythonHomeError> for CommandError {
    fn from(error: crate::transfer::PythonHomeError) -> Self {
        use crate::transfer::PythonHomeError;
        let (kind, hint) = match &error {
            PythonHomeError::Missing(_) => (
                ErrorKind::Failed,
                "name the folder with its backups/: codex-manager config import-python DIR",
            ),
            PythonHomeError::IsManagerHome(_) => (
                ErrorKind::Refused,
                "there is nothing to import; list the archives: codex-manager list-backups",
            ),
            PythonHomeError::HoldsManagerHome(_) => (
                ErrorKind::Refused,
                "choose a manager home outside of it: --manager-home or CODEX_MANAGER_HOME",
            ),
            PythonHomeError::NotPython(_) => (
                ErrorKind::Refused,
                "use it in place with --manager-home, or merge it with: codex-manager profile export",
            ),
            PythonHomeError::Empty(_) => (
                ErrorKind::Refused,
                "import legacy *_auth.json files with: codex-manager normalize DIR",
            ),
            PythonHomeError::Taken(_) => {
                return Self::wrap(ErrorKind::Failed, &error)
                    .hint("run the same command again: it copies the rest");
            }
        };
        let hint = format!("{hint}; nothing was changed");
        Self::wrap(kind, &error).hint(hint)
    }
}
