//! This program as other ones start it.

use crate::context::Context;
use crate::error::{CommandError, Result};
use codex_manager_core::io::OrdinaryPath;
use std::path::{Path, PathBuf};

/// The name of this program on `PATH`.
pub(crate) const NAME: &str = "codex-manager";

/// Returns the path of this program: its entry on `PATH` if it has one, otherwise its real path. An upgrade replaces
/// the real file but keeps the entry.
///
/// # Errors
/// The system does not know the path.
pub(crate) fn find_this_program(context: &Context) -> Result<PathBuf> {
    let exe = std::env::current_exe()
        .map_err(|e| CommandError::failed("cannot find the path of this program").because(e))?;
    let path_entry = exe
        .file_name()
        .and_then(|name| context.env.find_program(Path::new(name)))
        .filter(|path| path.canonical().ok() == exe.canonical().ok());
    Ok(path_entry.unwrap_or(exe))
}

/// Returns the name for programs with the `PATH` of the user: [`NAME`], or the path of this program if `PATH` has
/// another one of the name. The launcher of the npm package is such a one: it would start Node for each prompt.
///
/// # Errors
/// The same as of [`find_this_program`].
pub(crate) fn name_of_this_program(context: &Context) -> Result<String> {
    let program = find_this_program(context)?;
    let named = context.env.find_program(Path::new(NAME));
    Ok(match named {
        Some(other) if other.canonical().ok() != program.canonical().ok() => {
            program.to_string_lossy().into_owned()
        }
        _ => NAME.to_owned(),
    })
}
