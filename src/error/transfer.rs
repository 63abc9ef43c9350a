//! Exit codes and hints for errors about exports and imports.

use super::ErrorKind::{Failed, Refused, Usage};
use super::{Advised, CommandError, FREE_SPACE};

impl Advised for codex_manager_core::transfer::TransferError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Profile(e) => e.to_command_error(),
            Self::Lease(e) => e.to_command_error(),
            Self::Document(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::PythonHome(e) => e.to_command_error(),
            Self::Exists(_) => self.unchanged_error(Refused, "choose another name"),
            Self::Locked(_) => self.unchanged_error(Failed, "list the Codex processes: codex-manager current"),
            Self::Changed(_) => self.unchanged_error(Failed, "run the same command again"),
            Self::BadKey(_) => self.unchanged_error(Usage, "give another passphrase, or create a key with age-keygen"),
            Self::NeedsPassphrase(_) => self.unchanged_error(Usage, "give the passphrase: --passphrase-file FILE"),
            Self::NeedsIdentity(_) => self.unchanged_error(Usage, "give its private key: --identity FILE"),
            Self::WrongKey { .. } => self.unchanged_error(Refused, "give another: --passphrase-file FILE or --identity FILE"),
            Self::Foreign { .. } => self.unchanged_error(Refused, "save a login from an auth.json or an archive with: codex-manager profile save NAME --from FILE"),
            Self::Damaged { .. } => self.unchanged_error(Refused,
                "copy it again from the other machine; if it is damaged there too, export again there: codex-manager profile \
                 export FILE; a login that moved into it first has to be saved again: codex-manager profile save NAME --from \
                 FILE, with the auth.json in the folder of that profile"),
            Self::Newer { .. } => self.unchanged_error(Refused, "upgrade codex-manager"),
            Self::NoSpace(_) => self.unchanged_error(Failed, FREE_SPACE),
        }
    }
}

impl Advised for codex_manager_core::transfer::PythonHomeError {
    fn to_command_error(&self) -> CommandError {
        let (kind, hint) = match self {
            Self::Missing(_) => (
                Failed,
                "name the folder with its backups/: codex-manager config import-python DIR",
            ),
            Self::IsManagerHome(_) => (
                Refused,
                "there is nothing to import; list the archives: codex-manager list-backups",
            ),
            Self::HoldsManagerHome(_) => (
                Refused,
                "choose a manager home outside of it: --manager-home or CODEX_MANAGER_HOME",
            ),
            Self::NotPython(_) => (
                Refused,
                "use it in place with --manager-home, or merge it with: codex-manager profile export",
            ),
            Self::Empty(_) => (
                Refused,
                "import legacy *_auth.json files with: codex-manager normalize DIR",
            ),
            Self::Taken(_) => {
                return self.hinted_error(Failed, "run the same command again: it copies the rest");
            }
        };
        self.unchanged_error(kind, hint)
    }
}
