//! The Codex program: where it is, what it is called with.

use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Variables that name a login other than the home's own.
///
/// Codex 0.169 takes `CODEX_ACCESS_TOKEN` before auth.json in every command, also in `app-server`;
/// there it ignores `OPENAI_API_KEY` and `CODEX_API_KEY` (`codex exec` takes the latter). Whoever
/// asks about a home means the login in that home, so a child of ours is given none of them.
pub const LOGIN_VARIABLES: [&str; 3] = ["CODEX_ACCESS_TOKEN", "CODEX_API_KEY", "OPENAI_API_KEY"];

/// There is no Codex to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No folder of `PATH` has it.
    #[error("no program on PATH: {0}")]
    NotOnPath(String),
    /// The path that was given is no program.
    #[error("not a program: {}", .0.display())]
    NotAProgram(PathBuf),
}

/// A Codex program that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// The program `configured`, a path or a bare name, else `codex`; bare names are sought on the
    /// `PATH` of `env`.
    ///
    /// # Errors
    /// There is none.
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
            // An empty entry means the current folder: nobody wants a login handed to that.
            .filter(|folder| !folder.as_os_str().is_empty())
            .flat_map(|folder| {
                let folder = env.absolute(&folder);
                names_of(wanted).into_iter().map(move |n| folder.join(n))
            })
            .find(|path| is_program(path))
            .map(|path| Self { path })
            .ok_or_else(|| ProgramError::NotOnPath(wanted.display().to_string()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program about to run on `home`, in the environment `env` without [`LOGIN_VARIABLES`].
    ///
    /// It starts in `home`, so that no project's own `.codex/config.toml` has a say.
    pub fn command(&self, home: &Path, env: &Environment) -> Command {
        let mut command = Command::new(&self.path);
        command.env_clear().envs(env.variables());
        for name in LOGIN_VARIABLES {
            command.env_remove(name);
        }
        command.env("CODEX_HOME", home).current_dir(home);
        command
    }

    /// The version it names, such as "0.169.0", if it does so within `timeout`.
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

#[cfg(not(windows))]
fn names_of(name: &Path) -> Vec<PathBuf> {
    vec![name.to_path_buf()]
}

/// npm installs a `.cmd` beside a script that Windows cannot run.
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
