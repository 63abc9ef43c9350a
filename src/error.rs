//! The error type of commands: a kind (the exit code), a message, causes, and hints.
//!
//! Each domain module has its own error types with the path or account concerned. Only this module
//! and its submodules map them to an exit code and to the hint that tells the user what to do.

mod accounts;
mod archive;
mod conversations;
mod folders;
mod history;
mod inventory;
mod launch;
mod schedule;
mod shutdown;
mod sync;
mod transfer;
mod vault;

use crate::io::causes_of;
use std::error::Error;
use std::fmt;

/// The class of a failure; the number is the exit code. `docs/exit-codes.md` lists all codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// An operation failed, for example on the file system.
    Failed = 1,
    /// Two states contradict each other and the user has to choose.
    Conflict = 2,
    /// Codex is running on the home that the command would change.
    CodexRunning = 3,
    Usage = 4,
    /// Refused for safety, or a check failed; nothing was changed.
    Refused = 5,
    /// The user interrupted the command.
    Interrupted = 130,
}

/// The result of a command that ran without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The command did all of its work.
    Done,
    /// A check found a problem.
    CheckFailed,
    /// Done, but items were skipped or some data is missing.
    Partial,
    /// A launched Codex ended with this exit code.
    Codex(u8),
}

impl Outcome {
    /// Returns the exit code: 0, 5, 6, or that of Codex.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::CheckFailed => 5,
            Self::Partial => 6,
            Self::Codex(code) => code,
        }
    }

    /// [`Outcome::Partial`] if `partial`, else [`Outcome::Done`].
    pub fn partial_if(partial: bool) -> Self {
        if partial { Self::Partial } else { Self::Done }
    }

    /// [`Outcome::Done`] if `passed`, else [`Outcome::CheckFailed`].
    pub(crate) fn passed_if(passed: bool) -> Self {
        if passed {
            Self::Done
        } else {
            Self::CheckFailed
        }
    }
}

/// The result of a step of a command. Below the commands, a room has its own error.
pub(crate) type Result<T, E = CommandError> = std::result::Result<T, E>;

/// A failed command: exit code, message, causes and hints.
#[derive(Debug)]
pub struct CommandError {
    /// The class of the failure, which is the exit code.
    pub kind: ErrorKind,
    message: String,
    causes: Vec<String>,
    /// The next steps for the user, one line each; shown after the causes.
    pub hints: Vec<String>,
    /// True if the message is printed only with `--verbose`; the exit code stays.
    pub is_silent: bool,
}

impl CommandError {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            is_silent: false,
        }
    }

    /// Creates an error with exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// Creates an error with exit code 2.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Creates an error with exit code 3.
    pub fn codex_running(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::CodexRunning, message)
    }

    /// Creates an error with exit code 4.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Creates an error with exit code 5.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Creates the error for Ctrl-C, with exit code 130.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Creates the error for a picker that the user left without a choice, with exit code 130.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Interrupted, "cancelled").hint("nothing was changed")
    }

    /// Adds the cause of the error.
    #[must_use]
    pub fn because(mut self, source: impl Error) -> Self {
        self.causes = vec![source.to_string()];
        self.causes.extend(causes_of(&source));
        self
    }

    /// Adds the error of a command, with its causes, as the cause of this one.
    #[must_use]
    pub fn after(mut self, error: &Self) -> Self {
        self.causes = vec![error.to_string()];
        self.causes.extend_from_slice(&error.causes);
        self
    }

    /// Adds a hint: what the user can do next, usually a command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Silences the error for shell prompts, where it would repeat with every line. Usage errors stay
    /// visible.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.is_silent = !matches!(self.kind, ErrorKind::Usage);
        self
    }

    /// Returns the messages of the causes, nearest first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// Returns the message and its causes joined by ": ", for use inside another message.
    pub fn in_one_line(&self) -> String {
        let mut text = vec![self.to_string()];
        text.extend_from_slice(&self.causes);
        text.join(": ")
    }

    /// Converts an error of the domain, keeping its message and its causes.
    pub fn wrap(kind: ErrorKind, error: &dyn Error) -> Self {
        Self {
            causes: causes_of(error),
            ..Self::new(kind, error.to_string())
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<crate::io::IoError> for CommandError {
    fn from(error: crate::io::IoError) -> Self {
        if error.source.kind() == std::io::ErrorKind::Interrupted {
            return Self::interrupted();
        }
        let full = error.is_no_space();
        let too_large = error.source.kind() == std::io::ErrorKind::FileTooLarge;
        let wrapped = Self::wrap(ErrorKind::Failed, &error);
        if full {
            wrapped.hint("free some disk space, then run the same command again")
        } else if too_large {
            wrapped.hint("the file size limit is too low (ulimit -f)")
        } else {
            wrapped
        }
    }
}

impl From<crate::io::document::DocumentError> for CommandError {
    fn from(error: crate::io::document::DocumentError) -> Self {
        use crate::io::document::DocumentError;
        match error {
            DocumentError::Newer { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("upgrade codex-manager; the file was not changed"),
            DocumentError::Io(e) => e.into(),
        }
    }
}

impl From<crate::io::settings::SettingsError> for CommandError {
    fn from(error: crate::io::settings::SettingsError) -> Self {
        use crate::io::settings::SettingsError;
        match error {
            SettingsError::Io(e) if e.source.kind() == std::io::ErrorKind::Interrupted => e.into(),
            SettingsError::Io(e) => {
                let kind = if e.action == "read" {
                    ErrorKind::Usage
                } else {
                    ErrorKind::Failed
                };
                Self::wrap(kind, &e)
            }
            SettingsError::Value { ref key, .. } => {
                let key = crate::io::shell::word(key);
                Self::wrap(ErrorKind::Usage, &error).hint(format!(
                    "reset it to the default: codex-manager config unset {key}"
                ))
            }
            SettingsError::Newer { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("upgrade codex-manager; the file was not changed"),
            SettingsError::Syntax { .. } | SettingsError::NotATable { .. } => {
                Self::wrap(ErrorKind::Usage, &error).hint("fix it with: codex-manager config edit")
            }
        }
    }
}

impl From<crate::config::KeyError> for CommandError {
    fn from(error: crate::config::KeyError) -> Self {
        use crate::config::KeyError;
        let hint = match error {
            KeyError::Unknown { .. } => "list all settings: codex-manager config list",
            KeyError::NoFolder { .. } => {
                "give an absolute path, or one that begins with ~, such as folders.~/code"
            }
        };
        Self::wrap(ErrorKind::Usage, &error).hint(hint)
    }
}
