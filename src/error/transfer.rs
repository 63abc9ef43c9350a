//! Exit codes and hints for errors about exports and imports.

use super::ErrorKind::{Failed, Refused, Usage};
use super::{Advised, CommandError, FREE_SPACE};

impl Advised for crate::transfer::TransferError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Io(e) => e.advice(),
            Self::Profile(e) => e.advice(),
            Self::Lease(e) => e.advice(),
            Self::Document(e) => e.advice(),
            Self::Interrupted => CommandError::interrupted(),
            Self::PythonHome(e) => e.advice(),
            Self::Exists(_) => self.unchanged(Refused, "choose another name"),
            Self::Locked(_) => self.unchanged(Failed, "list the Codex processes: codex-manager current"),
            Self::Changed(_) => self.unchanged(Failed, "run the same command again"),
            Self::BadKey(_) => self.unchanged(Usage, "give another passphrase, or create a key with age-keygen"),
            Self::NeedsPassphrase(_) => self.unchanged(Usage, "give the passphrase: --passphrase-file FILE"),
            Self::NeedsIdentity(_) => self.unchanged(Usage, "give its private key: --identity FILE"),
            Self::WrongKey { .. } => self.unchanged(Refused, "give another: --passphrase-file FILE or --identity FILE"),
            Self::Foreign { .. } => self.unchanged(Refused, "save a login from an auth.json or an archive with: codex-manager profile save NAME --from FILE"),
            Self::Damaged { .. } => self.unchanged(Refused, "copy it again from the other machine, or export again there: codex-manager profile export FILE"),
            Self::Newer { .. } => self.unchanged(Refused, "upgrade codex-manager"),
            Self::NoSpace(_) => self.unchanged(Failed, FREE_SPACE),
        }
    }
}

impl Advised for crate::transfer::PythonHomeError {
    fn advice(&self) -> CommandError {
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
                return self.hint(Failed, "run the same command again: it copies the rest");
            }
        };
        self.unchanged(kind, hint)
    }
}
