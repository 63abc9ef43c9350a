//! Finds the Codex program and prepares its command lines.

use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Environment variables that name a login other than that of the home.
///
/// Codex 0.169 prefers `CODEX_ACCESS_TOKEN` to auth.json in every command, also in `app-server`, where
/// it ignores `OPENAI_API_KEY` and `CODEX_API_KEY` (`codex exec` uses the latter). A probe is about the
/// login in the home, so Codex gets none of these variables.
pub(crate) const LOGIN_VARIABLES: [&str; 3] =
    ["CODEX_ACCESS_TOKEN", "CODEX_API_KEY", "OPENAI_API_KEY"];

/// The reason why no Codex program was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No folder of `PATH` contains the program.
    #[error("not found on PATH: {0}")]
    NotOnPath(String),
    /// The configured path is not an executable file.
    #[error("not an executable file: {}", .0.display())]
    NotAProgram(PathBuf),
}

/// The path of an existing Codex program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Finds the program `configured`, a path or a name; `codex` by default. Names are searched on the
    /// `PATH` of `env`.
    ///
    /// # Errors
    /// The program does not exist or is not executable.
    pub fn find(configured: Option<&Path>, env: &Environment) -> Result<Self, ProgramError> {
        let wanted = configured.unwrap_or(Path::new("codex"));
        if wanted.components().count() > 1 || wanted.is_absolute() {
            let path = env.absolute(wanted);
            return if is_program(&path) {
                Ok(Self { path })
            } else {
                Err(ProgramError::NotAProgram(path))
            };
        }
        let folders = env.get("PATH").map(std::env::split_paths);
        folders
            .into_iter()
            .flatten()
            // An empty entry means the current folder. A program there must not get a login.
            .filter(|folder| !folder.as_os_str().is_empty())
            .flat_map(|folder| {
                let folder = env.absolute(&folder);
                names_of(wanted).into_iter().map(move |n| folder.join(n))
            })
            .find(|path| is_program(path))
            .map(|path| Self { path })
            .ok_or_else(|| ProgramError::NotOnPath(wanted.display().to_string()))
    }

    /// Returns the path of the program, which is absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a command that runs Codex on `home`, with the environment `env` without
    /// [`LOGIN_VARIABLES`].
    ///
    /// The current folder is `home`, so that no `.codex/config.toml` of a project applies.
    pub fn command(&self, home: &Path, env: &Environment) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().envs(env.variables());
        for name in LOGIN_VARIABLES {
            command.env_remove(name);
        }
        command.env("CODEX_HOME", home).current_dir(home);
        command
    }

    /// Returns the version that the program prints, such as "0.169.0"; `None` if it prints none within
    /// `timeout`.
    pub fn version(&self, env: &Environment, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        let mut command = Command::new(&self.path);
        command.env_clear().envs(env.variables()).arg("--version");
        let mut child = ChildGroup::spawn(&mut command).ok()?;
        child.close_input();
        let ChildOutput::Line(line) = child.read_line(deadline) else {
            return None;
        };
        child.finish(deadline);
        let line = String::from_utf8(line).ok()?;
        let version = line.split_whitespace().last()?;
        version
            .starts_with(|c: char| c.is_ascii_digit())
            .then(|| version.to_owned())
    }
}

/// Returns true if a version of Codex, such as "0.169.0", is earlier than `first`, given by its first two
/// numbers. A text that is no version is earlier than any.
pub(crate) fn is_before(version: &str, first: (u32, u32)) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten();
    let version: Option<(u32, u32)> = next().zip(next());
    version.is_none_or(|version| version < first)
}

#[cfg(not(windows))]
fn names_of(name: &Path) -> Vec<PathBuf> {
    vec![name.to_path_buf()]
}

/// Returns the file names of a program. npm installs a `.cmd` beside a script that Windows cannot run.
#[cfg(windows)]
fn names_of(name: &Path) -> Vec<PathBuf> {
    ["exe", "cmd", "bat"]
        .iter()
        .map(|extension| name.with_extension(extension))
        .collect()
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}
