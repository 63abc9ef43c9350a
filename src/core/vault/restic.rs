//! The restic program: finding it, checking its version, preparing its command lines and errors.

use super::error::{ResticMessage, VaultError};
use super::fault::{self, Fault};
use super::password::Password;
use super::process_note::ProcessNote;
use crate::codex::{Program, redaction};
use crate::io::{ChildEnd, Environment, IoContext, PipedChild, StopReason};
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The oldest supported version, that of Debian 12.
pub(crate) const OLDEST_VERSION: (u32, u32) = (0, 14);

/// Default limit of the time without progress.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Maximum number of bytes of the answer to `restic version`, because another program may print without end.
const MAX_ANSWER: u64 = 4096;

/// Limit of the time in which restic retries to reach the repository. The default of restic 0.17 and newer is 15
/// minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Variables with the path of a file or folder, which may be relative.
const FILE_VARIABLES: [&str; 6] = [
    "RESTIC_PASSWORD_FILE",
    "RESTIC_CACERT",
    "RESTIC_TLS_CLIENT_CERT",
    "RESTIC_CACHE_DIR",
    "AWS_SHARED_CREDENTIALS_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// A restic program with a repository and its password.
#[derive(Debug, Clone)]
pub struct Restic {
    program: PathBuf,
    repository: String,
    password: Password,
    env: Environment,
    /// The vault's folder in the manager home.
    pub(super) vault_folder: PathBuf,
    pub(super) timeout: Duration,
    /// Limit of the time in which a command waits while another process locks the repository.
    pub(super) lock_wait: Duration,
}

/// Finds the program `configured`, a path or a name. Without it, finds `restic` on `PATH`.
///
/// # Errors
/// The program does not exist or is not executable.
pub fn find_program(configured: Option<&Path>, env: &Environment) -> Result<PathBuf, VaultError> {
    // Not rustic: it ignores the locks of restic, so a prune by it could remove data of a running backup.
    let program_name = configured.unwrap_or(Path::new("restic"));
    let program = Program::find(Some(program_name), env).map_err(VaultError::NoProgram)?;
    Ok(program.path().to_path_buf())
}

impl Restic {
    /// Prepares the program for `repository`, and checks its version.
    ///
    /// # Errors
    /// There is no such program, it is not restic, or it is older than [`OLDEST_VERSION`].
    pub fn open(
        configured: Option<&Path>,
        repository: String,
        password: Password,
        env: &Environment,
        vault_folder: PathBuf,
        timeout: Duration,
    ) -> Result<Self, VaultError> {
        let restic = Self {
            program: find_program(configured, env)?,
            repository,
            password,
            env: env.clone(),
            vault_folder,
            timeout,
            lock_wait: timeout,
        };

        restic.check_version()?;
        Ok(restic)
    }

    /// Returns this program without a wait for the locks of other processes, for steps that may be left out: its
    /// commands fail at once if a lock is held.
    #[must_use]
    pub fn without_lock_wait(&self) -> Self {
        Self {
            lock_wait: Duration::ZERO,
            ..self.clone()
        }
    }

    /// Returns the URL of the repository, without credentials.
    pub fn location(&self) -> String {
        redaction::redact_message(&self.repository)
    }

    fn check_version(&self) -> Result<(), VaultError> {
        let mut command = self.base_command();
        command.arg("version");

        let mut child = self.start_unlocked(&mut command)?;
        let mut output = String::new();
        let read = (&mut child).take(MAX_ANSWER).read_to_string(&mut output);
        let end = child.finish();

        // A restic that a signal ended may have printed nothing, and must not count as another program.
        let is_killed = end.status.is_some_and(|status| status.code().is_none());
        if end.stop.is_some() || is_killed {
            return Err(self.end_error(&end));
        }

        let output = if read.is_ok() { &*output } else { "" };
        let Some((version_text, version)) = parse_version(output) else {
            return Err(VaultError::NotRestic(self.program.clone()));
        };
        if version < OLDEST_VERSION {
            return Err(VaultError::TooOld {
                program: self.program.clone(),
                found: version_text,
            });
        }

        Ok(())
    }

    /// Returns the command `restic` without the keys of OpenAI and the variables of Codex.
    ///
    /// Other variables stay, because no list could name all that restic and the programs that it starts (rclone, ssh, a
    /// password manager) read, such as the session of a password manager.
    fn base_command(&self) -> Command {
        let mut command = self.env.command(&self.program);
        for (name, _) in self.env.variables() {
            let upper = name.to_string_lossy().to_uppercase();
            // Windows ignores the case of the names of variables.
            if upper.starts_with("OPENAI_") || upper.starts_with("CODEX_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Returns the command `restic ARGS` on the repository.
    pub(super) fn repository_command(&self, args: &[impl AsRef<OsStr>]) -> Command {
        let mut command = self.base_command();

        // Made absolute, because a backup runs in the folder of the tree.
        for name in FILE_VARIABLES {
            if let Some(path) = self.env.get(name) {
                command.env(name, self.env.current_dir.join(path));
            }
        }

        // The URL may contain credentials, and arguments are visible to every user of the machine.
        command
            .env_remove("RESTIC_REPOSITORY_FILE")
            .env("RESTIC_REPOSITORY", &self.repository)
            // restic reads the value of `--time` in the local zone.
            .env("TZ", "UTC")
            // restic then writes a status line twice a second even into a pipe. If this program is killed, its restic
            // ends at the next line, by SIGPIPE.
            .env("RESTIC_PROGRESS_FPS", "2")
            .args(args);

        self.password.set_variables_of(&mut command);
        command
    }

    /// Starts a command that does not lock the repository.
    pub(super) fn start_unlocked(&self, command: &mut Command) -> Result<PipedChild, VaultError> {
        self.spawn(command, Stdio::null())
    }

    fn spawn(&self, command: &mut Command, input: Stdio) -> Result<PipedChild, VaultError> {
        let mut child = PipedChild::spawn(command, input, self.timeout).at("run", &self.program)?;
        child.set_start_timeout(CONNECT_TIMEOUT, fault::is_unreachable);
        Ok(child)
    }

    /// Starts a command that [`Restic::repository_command`] prepared. Creates a note if the command may lock the
    /// repository.
    pub(super) fn start_with_note(
        &self,
        command: &mut Command,
    ) -> Result<(PipedChild, Option<ProcessNote>), VaultError> {
        let subcommand = command.get_args().next().unwrap_or_default();
        let takes_no_lock = ["init", "unlock"].map(OsStr::new).contains(&subcommand)
            || command.get_args().any(|arg| arg == "--no-lock");
        let (is_backup, is_forget) = (subcommand == "backup", subcommand == "forget");
        let note_and_input = if takes_no_lock {
            None
        } else {
            ProcessNote::create(&self.vault_folder, is_backup)
        };
        // The locked file of the note is the standard input of restic; see `ProcessNote`.
        let (mut note, input) = note_and_input.unzip();

        let input = input.map_or_else(Stdio::null, Stdio::from);
        let mut child = match self.spawn(command, input) {
            Ok(child) => child,
            Err(e) => {
                // A process that did not start leaves no lock.
                if let Some(note) = note {
                    note.remove();
                }
                return Err(e);
            }
        };

        if is_forget {
            // Ended at the first refused deletion, which restic 0.14 would retry. Output must not count as progress,
            // because progress ends the time in which the child is checked for a failure.
            child.expect_marks();
            child.set_start_timeout(Duration::ZERO, fault::is_deletion_refused);
        }
        if let Some(note) = &mut note {
            note.set_pid(child.id());
        }
        Ok((child, note))
    }

    /// Returns the error of a restic that failed or was ended.
    pub(super) fn end_error(&self, end: &ChildEnd) -> VaultError {
        match (end.stop, fault::extract_last_retry_reason(&end.stderr)) {
            (Some(StopReason::NoProgress), Some(reason)) => {
                let fault = Fault::from_message(&reason).unwrap_or(Fault::Other);
                return self.fault_error(fault, reason);
            }
            (Some(StopReason::NoProgress), None) => {
                return VaultError::NoProgress(self.timeout.as_secs());
            }
            (Some(StopReason::Interrupted), _) => return VaultError::Interrupted,
            (None, _) => {}
        }

        let code = end.status.and_then(|status| status.code());
        let reason = match (code, end.stderr.trim()) {
            (None, "") => "ended by a signal".to_owned(),
            _ => fault::extract_reason(&end.stderr),
        };
        self.fault_error(Fault::classify(code, &end.stderr), reason)
    }

    pub(super) fn fault_error(&self, fault: Fault, reason: impl Into<String>) -> VaultError {
        VaultError::Restic {
            fault,
            location: self.location(),
            reason: ResticMessage(reason.into()),
        }
    }
}

/// Parses `restic 0.14.0 compiled with …` into the version as text and as numbers.
fn parse_version(version_output: &str) -> Option<(String, (u32, u32))> {
    let mut words = version_output.split_whitespace();
    if words.next() != Some("restic") {
        return None;
    }
    let version = words.next()?;
    let mut numbers = version.split(['.', '-']);
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((version.to_owned(), (major, minor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_from_the_output_of_restic() {
        let printed = "restic 0.14.0 compiled with go1.19.8 on linux/amd64\n";
        assert_eq!(parse_version(printed), Some(("0.14.0".into(), (0, 14))));
        let printed = "restic 0.18.0-dev (compiled manually) compiled with go1.24";
        assert_eq!(parse_version(printed).unwrap().1, (0, 18));
        assert_eq!(parse_version("rustic 0.10.0"), None);
        assert_eq!(parse_version(""), None);
    }
}
