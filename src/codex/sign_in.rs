//! `codex login` in a home of its own.

use super::config::CodexConfig;
use super::process;
use super::program::Program;
use crate::io::environment::Environment;
use crate::io::foreground::{self, ForegroundExit};
use crate::io::{IoError, atomic};
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Makes the empty folder `home` (0700) one in which Codex signs in as it would in `like`, and
/// keeps the login in auth.json whatever `like` does.
///
/// # Errors
/// The file system refuses.
pub fn prepare(home: &Path, like: &Path) -> Result<(), IoError> {
    atomic::create_private_folder(home)?;
    let config = CodexConfig::for_sign_in(like);
    atomic::write(&home.join("config.toml"), config.as_bytes())
}

/// Runs `codex login` with these arguments on `home`, with the terminal. `codex logout` is never
/// run: it would end the login on the server, too.
///
/// # Errors
/// It cannot be started.
pub fn run(
    program: &Program,
    home: &Path,
    env: &Environment,
    arguments: &[OsString],
) -> io::Result<ForegroundExit> {
    let mut command = program.command(home, env);
    command.arg("login").args(arguments);
    foreground::run(&mut command, || process::kill_codex(home))
}
