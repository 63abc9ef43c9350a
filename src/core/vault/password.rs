//! The source of the vault's password. restic gets the password by a variable or reads it itself. The password is never
//! an argument and never in `config.toml`.

use crate::io::{Environment, IoError, SecretBytes, atomic};
#[cfg(unix)]
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The file in the vault's folder in which `vault init` stores a typed password (0600).
const PASSWORD_FILE: &str = "password";

/// The environment variables from which restic reads a password.
const VARIABLES: [&str; 3] = [
    "RESTIC_PASSWORD",
    "RESTIC_PASSWORD_FILE",
    "RESTIC_PASSWORD_COMMAND",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// A file whose first line is the password.
    File(PathBuf),
    /// A command that prints the password.
    Command(String),
    /// restic's own variables, passed on unchanged.
    Environment,
    /// The text that the user typed at a prompt.
    Typed(SecretBytes),
}

/// A source of the password that flags or settings name. If both fields are set, `file` is used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamedPassword {
    pub file: Option<PathBuf>,
    pub command: Option<String>,
}

impl NamedPassword {
    fn to_password(&self, env: &Environment) -> Option<Password> {
        let file = self.file.as_ref().map(|file| env.absolute(file));
        let command = || self.command.clone().map(Password::Command);
        file.map(Password::File).or_else(command)
    }
}

impl Password {
    /// Returns the first source that is set: flags, restic's variables, `config.toml`, the stored file.
    pub fn find(
        flags: &NamedPassword,
        configured: &NamedPassword,
        env: &Environment,
        vault_folder: &Path,
    ) -> Option<Self> {
        let is_in_environment = || VARIABLES.iter().any(|name| env.get(name).is_some());
        let stored_file = vault_folder.join(PASSWORD_FILE);

        flags
            .to_password(env)
            .or_else(|| is_in_environment().then_some(Self::Environment))
            .or_else(|| configured.to_password(env))
            .or_else(|| stored_file.is_file().then_some(Self::File(stored_file)))
    }

    /// Stores a typed password in the vault's folder, 0600, and returns the path of the file.
    ///
    /// # Errors
    /// The file cannot be written; nothing is stored then.
    pub fn store(secret: &SecretBytes, vault_folder: &Path) -> Result<PathBuf, IoError> {
        atomic::create_private_folder(vault_folder)?;
        let path = vault_folder.join(PASSWORD_FILE);
        let mut line = secret.expose().to_vec();
        line.push(b'\n');
        atomic::write(&path, &line)?;
        Ok(path)
    }

    /// Sets the variables of a restic command.
    pub(super) fn set_variables_of(&self, command: &mut Command) {
        if *self != Self::Environment {
            for name in VARIABLES {
                // restic refuses a password file together with a password command.
                command.env_remove(name);
            }
        }

        match self {
            Self::File(path) => command.env("RESTIC_PASSWORD_FILE", path),
            Self::Command(shell_command) => command.env("RESTIC_PASSWORD_COMMAND", shell_command),
            Self::Environment => command,
            Self::Typed(secret) => {
                // A vault that restic itself made may have a password that is not UTF-8.
                #[cfg(unix)]
                let password: &std::ffi::OsStr = OsStrExt::from_bytes(secret.expose());
                #[cfg(not(unix))]
                let password = &*String::from_utf8_lossy(secret.expose());
                command.env("RESTIC_PASSWORD", password)
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn restic_gets_the_typed_bytes_of_a_password_that_is_not_utf8() {
        let typed = SecretBytes::new(b"caf\xe9".to_vec());
        let mut command = Command::new("restic");
        Password::Typed(typed).set_variables_of(&mut command);
        let mut variables = command.get_envs();
        let (_, value) = variables.find(|(name, _)| *name == VARIABLES[0]).unwrap();
        assert_eq!(value.unwrap().as_bytes(), b"caf\xe9");
    }

    #[test]
    fn password_sources_are_flags_then_variables_then_settings_then_the_stored_file() {
        let folder = tempfile::tempdir().unwrap();
        let env = Environment::default();
        let (mut flags, mut configured) = (NamedPassword::default(), NamedPassword::default());
        let found = Password::find(&flags, &configured, &env, folder.path());
        assert_eq!(found, None);
        Password::store(&SecretBytes::new(b"pw".to_vec()), folder.path()).unwrap();
        let stored = folder.path().join(PASSWORD_FILE);
        assert_eq!(std::fs::read(&stored).unwrap(), b"pw\n");
        let found = |flags: &NamedPassword, configured: &NamedPassword, env: &Environment| {
            Password::find(flags, configured, env, folder.path()).unwrap()
        };
        assert_eq!(found(&flags, &configured, &env), Password::File(stored));
        configured.command = Some("pass show".into());
        let command = Password::Command("pass show".into());
        assert_eq!(found(&flags, &configured, &env), command);
        let set = env.clone().with("RESTIC_PASSWORD", "x");
        assert_eq!(found(&flags, &configured, &set), Password::Environment);
        flags.file = Some("/pw".into());
        let file = Password::File("/pw".into());
        assert_eq!(found(&flags, &configured, &set), file);
    }
}
