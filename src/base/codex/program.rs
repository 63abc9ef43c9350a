//! Finds the Codex program and prepares its command lines.

use super::arguments::Arguments;
use super::login_storage::{LoginStorageError, check_login_of};
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::{OrdinaryPath as _, clock, file_open};
use chrono::SecondsFormat;
use serde_json::Value;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Environment variables that take precedence over the login of the home in every command of Codex: those of a workload
/// identity, even if they are empty, and an access token. Codex 0.171 knows all of them, 0.169 the first two and the
/// last.
pub const OVERRIDING_VARIABLES: [&str; 6] = [
    "OPENAI_FEDERATION_RULE_ID",
    "OPENAI_IDENTITY_TOKEN_FILE",
    "OPENAI_IDENTITY_TOKEN_SOURCE",
    "OPENAI_SPIFFE_AUDIENCE",
    "OPENAI_SPIFFE_ID",
    "CODEX_ACCESS_TOKEN",
];

/// The API key that `codex exec` prefers to the login of its home.
pub const API_KEY_VARIABLE: &str = "CODEX_API_KEY";

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
    /// Finds the program `configured`, a path or a name; `codex` by default. Names are searched as
    /// [`Environment::find_program`] does.
    ///
    /// # Errors
    /// The program does not exist or is not executable.
    pub fn find(configured: Option<&Path>, env: &Environment) -> Result<Self, ProgramError> {
        let name_or_path = configured.unwrap_or(Path::new("codex"));
        if let Some(path) = env.find_program(name_or_path) {
            return Ok(Self { path });
        }
        if name_or_path.components().count() > 1 || name_or_path.is_absolute() {
            Err(ProgramError::NotAProgram(env.absolute(name_or_path)))
        } else {
            Err(ProgramError::NotOnPath(name_or_path.display().to_string()))
        }
    }

    /// Returns the path of the program, which is absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a command that starts Codex on `home` for the user.
    ///
    /// # Errors
    /// Codex may renew the login of `home`, and could not store it.
    pub fn start_command(
        &self,
        home: &Path,
        env: &Environment,
        args: &[OsString],
    ) -> Result<Command, LoginStorageError> {
        if Arguments::parse(args).may_renew_login() {
            check_login_of(home)?;
        }
        let mut command = Command::new(&self.path);
        command.env_clear().envs(env.variables());
        // `--codex-home` may name another home than the variable does.
        command.args(args).env("CODEX_HOME", home);
        Ok(command)
    }

    /// Returns a command that starts a Codex of this program on `home`, as [`command`](Self::command) does.
    ///
    /// # Errors
    /// Codex could not store the login of `home` if it renewed it.
    pub fn server_command(
        &self,
        home: &Path,
        env: &Environment,
    ) -> Result<Command, LoginStorageError> {
        check_login_of(home)?;
        Ok(self.command(home, env))
    }

    /// Returns a command that runs a subcommand of Codex that renews no login on `home`, with the environment `env`
    /// without the variables that name another login.
    ///
    /// The current folder is `home`, so that no `.codex/config.toml` of a project applies.
    pub(super) fn command(&self, home: &Path, env: &Environment) -> Command {
        let mut command = env.command(&self.path);
        for name in OVERRIDING_VARIABLES {
            command.env_remove(name);
        }
        command
            .env_remove(API_KEY_VARIABLE)
            .env_remove("OPENAI_API_KEY");
        command.env("CODEX_HOME", home).current_dir(home);
        command
    }

    /// Identifies the version of the program without starting it: by the version of its npm package, else by size and
    /// mtime of its file. A start takes long, and 0.98 writes into the home. `None` if the file cannot be read.
    pub fn build_id(&self) -> Option<String> {
        let file = self.path.canonical().ok()?;

        // The script or program is in a subfolder of its npm package.
        let parents = file.ancestors().skip(1).take(3).map(Path::to_path_buf);
        // The script for Windows is beside `node_modules`.
        let windows_package = file.parent()?.join("node_modules").join(NPM_PACKAGE);
        let mut package_candidates = parents.chain([windows_package]);

        package_candidates
            .find_map(|folder| read_npm_version(&folder))
            .or_else(|| {
                let meta = file.metadata().ok()?;
                let modified = clock::from_file_time(meta.modified().ok()?)?;
                let uses_z = true;
                let time = modified.to_rfc3339_opts(SecondsFormat::Secs, uses_z);
                Some(format!("{} bytes of {time}", meta.len()))
            })
    }

    /// Returns the version that the program prints, such as "0.169.0"; `None` if it prints none within
    /// `timeout`.
    pub fn version(&self, env: &Environment, timeout: Duration) -> Option<String> {
        let deadline = Instant::now() + timeout;
        let mut command = env.command(&self.path);
        // Codex 0.98 and newer create their home and write into it even for `--version`. Below a file, they cannot.
        command
            .arg("--version")
            .env("CODEX_HOME", self.path.join("none"));
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

const NPM_PACKAGE: &str = "@openai/codex";

/// The largest `package.json` that is read.
const MAX_PACKAGE_BYTES: u64 = 64 * 1024;

fn read_npm_version(folder: &Path) -> Option<String> {
    let text =
        file_open::read_small_to_string(folder.join("package.json"), MAX_PACKAGE_BYTES).ok()?;
    let package: Value = serde_json::from_str(&text).ok()?;
    if package["name"] != NPM_PACKAGE {
        return None;
    }
    package["version"].as_str().map(str::to_owned)
}

/// Returns true if a version of Codex, such as "0.169.0", is earlier than `first`, given by its first two
/// numbers. A text that is no version is earlier than any.
pub(crate) fn is_version_before(version: &str, first: (u32, u32)) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse().ok());
    let mut next_number = || numbers.next().flatten();
    let major_minor: Option<(u32, u32)> = next_number().zip(next_number());
    major_minor.is_none_or(|major_minor| major_minor < first)
}
