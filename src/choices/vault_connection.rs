//! The options of all vault commands: repository, password and program.

use crate::context::Context;
use crate::error::{Result, STORE_PASSWORD};
use clap::Args;
use codex_manager_core::io::machine;
use codex_manager_core::vault::password::{NamedPassword, Password};
use codex_manager_core::vault::restic::{DEFAULT_TIMEOUT, Restic, find_program};
use codex_manager_core::vault::{VaultError, vault_folder};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The prefixes of restic's URLs for repositories on servers. A text without one of them is a local folder.
const SCHEMES: [&str; 8] = [
    "s3:", "sftp:", "rest:", "b2:", "azure:", "gs:", "swift:", "rclone:",
];

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Vault options")]
pub(crate) struct ConnectionArgs {
    /// The repository [default: `vault.repository` of config.toml]
    #[arg(long, global = true, value_name = "URL")]
    repo: Option<String>,
    /// A file with the password [default: `$RESTIC_PASSWORD_FILE`, or the file that init made]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "password_command"
    )]
    password_file: Option<PathBuf>,
    /// A command that prints the password [default: `$RESTIC_PASSWORD_COMMAND`]
    #[arg(long, global = true, value_name = "COMMAND")]
    password_command: Option<String>,
    /// The restic program [default: `vault.program` of config.toml, else `restic` on PATH]
    #[arg(long, global = true, value_name = "FILE")]
    restic_bin: Option<PathBuf>,
    /// End restic after this many seconds without progress [default: 600; a drill: 60]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    timeout: Option<u32>,
}

/// The timeout of a drill if `--timeout` is not given. A scheduled job must not wait long for a server that hangs.
const DRILL_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the absolute path of a local folder, without the prefix `local:`. Returns the URL of a server unchanged.
pub(crate) fn to_absolute_url(context: &Context, url: &str) -> String {
    if SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return url.to_owned();
    }
    // restic would resolve a relative path from the working folder of each run.
    let folder = url.strip_prefix("local:").unwrap_or(url);
    let path = context.env.absolute(Path::new(folder));
    path.to_string_lossy().into_owned()
}

impl ConnectionArgs {
    /// Returns the URL of the repository; `None` if neither a flag nor the configuration names one.
    pub(crate) fn repository_url(&self, context: &Context) -> Option<String> {
        let configured_url = context.settings.preferences.vault.repository.as_ref();
        let url = self.repo.as_ref().or(configured_url)?;
        Some(to_absolute_url(context, url))
    }

    pub(crate) fn find_password(&self, context: &Context) -> Option<Password> {
        let flags = NamedPassword {
            file: self.password_file.clone(),
            command: self.password_command.clone(),
        };
        let configured_password = &context.settings.preferences.vault.password;
        let vault = vault_folder(context.manager_home());
        Password::find(&flags, configured_password, &context.env, &vault)
    }

    /// Returns the values of `--password-file`, as an absolute path, and of `--password-command`.
    pub(crate) fn password_options(&self, context: &Context) -> (Option<PathBuf>, Option<String>) {
        let file = self.password_file.as_ref();
        (
            file.map(|path| context.env.absolute(path)),
            self.password_command.clone(),
        )
    }

    /// Returns the program of `--restic-bin`. A path is made absolute; a name without a folder stays a name.
    pub(crate) fn named_program(&self, context: &Context) -> Option<PathBuf> {
        let program = self.restic_bin.as_ref()?;
        Some(context.env.absolute_program(program))
    }

    /// Returns the program of `--restic-bin`, else that of the configuration; `None` if neither names one.
    fn program(&self, context: &Context) -> Option<PathBuf> {
        let configured = &context.settings.preferences.vault.program;
        self.named_program(context).or_else(|| configured.clone())
    }

    /// Fails if restic is not installed, without a prompt for the password.
    pub(crate) fn check_program(&self, context: &Context) -> Result<()> {
        find_program(self.program(context).as_deref(), &context.env)?;
        Ok(())
    }

    /// Prepares restic for `url` with `password`. Runs `restic version`, but does not open the repository.
    ///
    /// # Errors
    /// restic is not installed or too old.
    pub(crate) fn open_restic(
        &self,
        context: &Context,
        url: String,
        password: Password,
    ) -> Result<Restic> {
        let timeout = self.timeout_or_default(DEFAULT_TIMEOUT);
        let program = self.program(context);
        let (env, vault) = (&context.env, vault_folder(context.manager_home()));
        let restic = Restic::open(program.as_deref(), url, password, env, vault, timeout)?;
        Ok(restic)
    }

    fn timeout_or_default(&self, default: Duration) -> Duration {
        let secs = self.timeout.map(u64::from);
        secs.map_or(default, Duration::from_secs)
    }

    /// Returns a copy with the timeout of a drill, unless `--timeout` is given. Also returns the timeout of the copy.
    pub(crate) fn with_drill_timeout(&self) -> (Self, Duration) {
        let timeout = self.timeout_or_default(DRILL_TIMEOUT);
        let mut connection = self.clone();
        connection.timeout = u32::try_from(timeout.as_secs()).ok();
        (connection, timeout)
    }

    /// Prepares restic for the vault. Prompts for a missing password on a terminal.
    ///
    /// # Errors
    /// No vault is set up, restic is not installed or too old, or there is no password.
    pub(crate) fn open(&self, context: &Context) -> Result<Restic> {
        let url = self.repository_url(context);
        let url = url.ok_or(VaultError::NotConfigured)?;
        self.check_program(context)?;

        let password = if let Some(password) = self.find_password(context) {
            password
        } else {
            let answer = context.ui.ask_secret("vault password:")?;
            Password::Typed(answer.ok_or(VaultError::NoPassword)?)
        };
        self.open_restic(context, url, password)
    }
}

/// Returns the name of this machine in snapshots.
pub(crate) fn host(context: &Context) -> String {
    machine::read_name(&context.env).unwrap_or_else(|| "unknown".into())
}

/// Warns if a scheduled run, which has no terminal and few variables, cannot open the vault.
pub(crate) fn warn_if_jobs_cannot_open_vault(context: &Context) {
    let connection = ConnectionArgs::default();
    let ui = &context.ui;
    if connection.repository_url(context).is_none() {
        ui.warn(format_args!(
            "every run will fail with exit code 4: {}",
            VaultError::NotConfigured
        ));
        ui.note("set one up: codex-manager vault init URL");
        return;
    }

    if matches!(
        connection.find_password(context),
        None | Some(Password::Environment)
    ) {
        ui.warn("every run will fail with exit code 4: scheduled runs have no terminal and do not have RESTIC_PASSWORD");
        ui.note(STORE_PASSWORD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drill_timeout_defaults_to_one_minute() {
        let seconds = |timeout| {
            let args = ConnectionArgs {
                timeout,
                ..ConnectionArgs::default()
            };
            let (args, limit) = args.with_drill_timeout();
            (args.timeout, limit.as_secs())
        };
        assert_eq!(seconds(None), (Some(60), 60));
        assert_eq!(seconds(Some(900)), (Some(900), 900));
    }
}
