//! How a command fails: a kind that decides the exit code, a message, causes, and hints.
//!
//! The domain has its own error types, each with the path or account it failed on. Here, and only
//! here, they are given a kind and the command that helps.

mod accounts;
mod archive;
mod folders;
mod history;
mod inventory;
mod launch;
mod schedule;
mod shutdown;
mod sync;
mod transfer;

use std::error::Error;
use std::fmt;

/// What a failure means for whoever called us. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something went wrong.
    Failed = 1,
    /// Two things contradict each other and somebody must choose.
    Conflict = 2,
    /// Codex is running on the home in question.
    CodexRunning = 3,
    /// Flags or configuration that mean nothing.
    Usage = 4,
    /// Refused for safety, or found wanting; nothing was changed.
    Refused = 5,
    /// The user stopped it.
    Interrupted = 130,
}

/// What a command that did its job says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// What was looked at is not as it should be.
    CheckFailed,
    /// Done, but items were skipped or a figure could not be had.
    Partial,
    /// A launched Codex ended with this exit code.
    Codex(u8),
}

impl Outcome {
    /// The exit code.
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
}

/// A failed command.
#[derive(Debug)]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    /// Lines that name the command that helps, shown after the causes.
    pub hints: Vec<String>,
    /// Whether only the exit code tells of it, and `--verbose` the rest.
    pub is_silent: bool,
}

impl CommandError {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            hints: Vec::new(),
            is_silent: false,
        }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// Exit code 2.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Exit code 3.
    pub fn codex_running(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::CodexRunning, message)
    }

    /// Exit code 4.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Exit code 5.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Exit code 130.
    pub fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The same error with a hint: what to type.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same error for a prompt, where a message would be shown again and again. A command line that
    /// means nothing is said all the same.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.is_silent = !matches!(self.kind, ErrorKind::Usage);
        self
    }

    /// The causes, nearest first.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> = self.source.as_deref().map(|e| e as &dyn Error);
        while let Some(error) = next {
            causes.push(error.to_string());
            next = error.source();
        }
        causes
    }

    /// The message and its causes, for where an error is told among other things.
    pub fn in_one_line(&self) -> String {
        let mut text = vec![self.to_string()];
        text.extend(self.causes());
        text.join(": ")
    }

    /// The same message, causes and all, in front of an error of the domain.
    pub fn wrap(kind: ErrorKind, error: impl Error + Send + Sync + 'static) -> Self {
        let mut wrapped = Self::new(kind, error.to_string());
        // The error's own text is the message; its sources are the causes.
        wrapped.source = Some(Box::new(Causes::of(&error)));
        if error.source().is_none() {
            wrapped.source = None;
        }
        wrapped
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

/// The chain below an error, kept as text.
#[derive(Debug)]
struct Causes {
    text: String,
    next: Option<Box<Causes>>,
}

impl Causes {
    fn of(error: &dyn Error) -> Self {
        fn chain(error: Option<&(dyn Error + 'static)>) -> Option<Box<Causes>> {
            error.map(|e| {
                Box::new(Causes {
                    text: e.to_string(),
                    next: chain(e.source()),
                })
            })
        }
        match chain(error.source()) {
            Some(causes) => *causes,
            None => Self {
                text: error.to_string(),
                next: None,
            },
        }
    }
}

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Causes {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_deref().map(|e| e as &(dyn Error + 'static))
    }
}

impl From<crate::io::IoError> for CommandError {
    fn from(error: crate::io::IoError) -> Self {
        if error.source.kind() == std::io::ErrorKind::Interrupted {
            return Self::interrupted();
        }
        let full = error.is_no_space();
        let too_large = error.source.kind() == std::io::ErrorKind::FileTooLarge;
        let wrapped = Self::wrap(ErrorKind::Failed, error);
        if full {
            wrapped.hint("free some disk space, then run the same command again")
        } else if too_large {
            wrapped.hint("files may not grow that large here (ulimit -f)")
        } else {
            wrapped
        }
    }
}

impl From<crate::io::document::DocumentError> for CommandError {
    fn from(error: crate::io::document::DocumentError) -> Self {
        use crate::io::document::DocumentError;
        match error {
            DocumentError::Newer { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("upgrade codex-manager; the file was left untouched"),
            DocumentError::Io(e) => e.into(),
        }
    }
}

impl From<crate::config::file::ConfigFileError> for CommandError {
    fn from(error: crate::config::file::ConfigFileError) -> Self {
        use crate::config::file::ConfigFileError;
        match error {
            ConfigFileError::Io(e) if e.source.kind() == std::io::ErrorKind::Interrupted => {
                e.into()
            }
            ConfigFileError::Io(e) => {
                let kind = if e.action == "read" {
                    ErrorKind::Usage
                } else {
                    ErrorKind::Failed
                };
                Self::wrap(kind, e)
            }
            ConfigFileError::Value { ref key, .. } => {
                let key = crate::io::shell::word(key);
                Self::wrap(ErrorKind::Usage, error).hint(format!(
                    "go back to the default with: codex-manager config unset {key}"
                ))
            }
            ConfigFileError::Newer { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("upgrade codex-manager; the file was left untouched"),
            ConfigFileError::Syntax { .. } | ConfigFileError::NotATable { .. } => {
                Self::wrap(ErrorKind::Usage, error)
                    .hint("put it right with: codex-manager config edit")
            }
        }
    }
}

impl From<crate::config::KeyError> for CommandError {
    fn from(error: crate::config::KeyError) -> Self {
        use crate::config::KeyError;
        let hint = match error {
            KeyError::Unknown { .. } => "see them all: codex-manager config list",
            KeyError::NoFolder { .. } => {
                "write the whole path, or one that begins with ~, such as folders.~/work"
            }
        };
        Self::wrap(ErrorKind::Usage, error).hint(hint)
    }
}
