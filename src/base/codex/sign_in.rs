//! Runs `codex login` in a scratch home.

use super::home::CONFIG_TOML;
use super::program::Program;
use super::{config, process};
use crate::io::environment::Environment;
use crate::io::foreground::{self, ForegroundExit};
use crate::io::{IoError, atomic};
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Creates the scratch home `login_home` (mode 0700) with the sign-in settings of `codex_home`. Codex stores the new
/// login in auth.json of the scratch home, even if `codex_home` uses the keyring.
///
/// # Errors
/// The folder or its `config.toml` cannot be created.
pub fn create_login_home(login_home: &Path, codex_home: &Path) -> Result<(), IoError> {
    atomic::create_private_folder(login_home)?;
    let config = config::format_scratch_config(codex_home, config::SIGN_IN_KEYS);
    atomic::write(&login_home.join(CONFIG_TOML), config.as_bytes())
}

/// Runs `codex login` with these arguments on the scratch home `login_home`, attached to the terminal.
///
/// `codex logout` is never run, because it would also revoke the login on the server.
///
/// # Errors
/// Codex cannot be started.
pub fn run_codex_login(
    program: &Program,
    login_home: &Path,
    env: &Environment,
    arguments: &[OsString],
) -> io::Result<ForegroundExit> {
    // After Ctrl-C Codex may still wait for the browser, so all programs of the scratch home are
    // ended.
    let mut command = program.command(login_home, env);
    command.arg("login").args(arguments);
    foreground::run(&mut command, || process::kill_codex(login_home))
}
