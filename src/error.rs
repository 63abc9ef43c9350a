//! The error type of commands: a kind (the exit code), a message, causes, and hints.
//!
//! Each domain module has its own error types with the path or account concerned. Only this module
//! and its submodules map them to an exit code and to the hint that tells the user what to do.

mod accounts;
mod archive;
mod history;
mod launch;
mod schedule;
mod sync;
mod vault;

use self::ErrorKind::{Failed, Refused, Usage};
pub(crate) use self::vault::STORE_PASSWORD;
use codex_manager_core::codex::{AUTH_JSON, LoginStorageError};
use codex_manager_core::inventory::remedies::{
    describe_making_readable, describe_making_writable, format_rename_aside_command,
    format_unlink_command,
};
use codex_manager_core::io::replacement::Irreplaceable;
use codex_manager_core::io::{atomic, list_causes, progress, shell, user};
use std::error::Error;
use std::fmt;
use std::path::Path;

/// The class of a failure; the number is the exit code. `docs/exit-codes.md` lists all codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
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
pub(crate) enum Outcome {
    /// The command did all of its work.
    Done,
    /// A check found a problem.
    CheckFailed,
    /// Done, but items were skipped or some data is missing.
    Partial,
    /// A launched Codex ended with this exit code.
    Codex(u8),
    /// A launched `codex exec` ended with this exit code because of a usage limit.
    UsageLimit(u8),
}

impl Outcome {
    /// Returns the exit code: 0, 5, 6, 75 (`EX_TEMPFAIL`), or that of Codex.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::CheckFailed => 5,
            Self::Partial => 6,
            Self::Codex(code) => code,
            Self::UsageLimit(_) => 75,
        }
    }

    /// Returns [`Outcome::Partial`] if `partial` is true, else [`Outcome::Done`].
    pub(crate) fn partial_if(partial: bool) -> Self {
        if partial { Self::Partial } else { Self::Done }
    }

    /// Returns [`Outcome::Done`] if `passed` is true, else [`Outcome::CheckFailed`].
    pub(crate) fn passed_if(passed: bool) -> Self {
        if passed {
            Self::Done
        } else {
            Self::CheckFailed
        }
    }

    /// Returns this outcome if it is not [`Outcome::Done`], else `other`.
    pub(crate) fn or(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

/// The result of a step of a command. Modules below the commands have their own error types.
pub(crate) type Result<T, E = CommandError> = std::result::Result<T, E>;

/// A failed command: exit code, message, causes and hints.
#[derive(Debug)]
#[must_use]
pub(crate) struct CommandError {
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

    /// Creates an error of the kind [`ErrorKind::Failed`], with exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Failed, message)
    }

    /// Creates an error of the kind [`ErrorKind::Conflict`], with exit code 2.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Creates an error of the kind [`ErrorKind::CodexRunning`], with exit code 3.
    pub(crate) fn codex_running(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::CodexRunning, message)
    }

    /// Creates an error of the kind [`ErrorKind::Usage`], with exit code 4.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Usage, message)
    }

    /// Creates an error of the kind [`ErrorKind::Refused`], with exit code 5.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Refused, message)
    }

    /// Creates the error for Ctrl-C, with exit code 130.
    pub(crate) fn interrupted() -> Self {
        Self::new(ErrorKind::Interrupted, "interrupted")
    }

    /// Creates the error for a picker or a question that the user left without an answer, with exit code 130.
    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Interrupted, "cancelled").hint("nothing was changed")
    }

    /// Sets `source` and its causes as the causes of this error.
    pub(crate) fn because(mut self, source: impl Error) -> Self {
        self.causes = vec![source.to_string()];
        self.causes.extend(list_causes(&source));
        self
    }

    /// Sets `error` and its causes as the causes of this error.
    pub(crate) fn because_of(mut self, error: &Self) -> Self {
        self.causes = vec![error.to_string()];
        self.causes.extend_from_slice(&error.causes);
        self
    }

    /// Adds a hint about the next step, usually a command.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(crate) fn hint_each(mut self, hints: Vec<String>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// Adds a hint, followed by "nothing was changed".
    fn hint_unchanged(self, hint: impl fmt::Display) -> Self {
        self.hint(format!("{hint}; nothing was changed"))
    }

    /// Removes "nothing was changed" from the hints of an error after a change, and adds `hint`.
    pub(crate) fn after_change(mut self, hint: impl Into<String>) -> Self {
        self.hints.retain(|text| text != "nothing was changed");
        for old_hint in &mut self.hints {
            *old_hint = old_hint.replace("; nothing was changed", "");
        }
        self.hint(hint)
    }

    /// Hides the error without `--verbose`, unless it is a usage error. A shell prompt would repeat the error with
    /// every line, and some errors only tell what the user knows.
    pub(crate) fn silence(mut self) -> Self {
        self.is_silent = !matches!(self.kind, Usage);
        self
    }

    /// Returns the messages of the causes, nearest first.
    pub(crate) fn causes(&self) -> &[String] {
        &self.causes
    }

    /// Returns the message and its causes joined by ": ", for use inside another message.
    pub(crate) fn to_one_line(&self) -> String {
        let mut messages = vec![self.to_string()];
        messages.extend_from_slice(&self.causes);
        messages.join(": ")
    }

    /// Converts the error of a module, with its message and its causes.
    pub(crate) fn wrap(kind: ErrorKind, error: &dyn Error) -> Self {
        Self {
            causes: list_causes(error),
            ..Self::new(kind, error.to_string())
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Fails with [`CommandError::interrupted`] if the user asked to stop.
pub(crate) fn check_interrupt() -> Result<()> {
    progress::check_interrupt().map_err(|_| CommandError::interrupted())
}

pub(crate) const FREE_SPACE: &str = "free some disk space, then run the same command again";

/// Returns the hint for a login that Codex might be unable to store.
pub(crate) fn suggest_login_storage(error: &LoginStorageError) -> String {
    match error {
        LoginStorageError::DiskFull(_) => FREE_SPACE.into(),
        LoginStorageError::OutOfInodes(_) => {
            "remove some files from that disk, then run the same command again".into()
        }
        LoginStorageError::NotWritable(folder) => describe_making_writable(folder),
        LoginStorageError::HardLinked(path) => {
            format!("make it a separate file: {}", format_unlink_command(path))
        }
        LoginStorageError::FileNotWritable(path) => suggest_writable_file(path),
        LoginStorageError::Irreplaceable { path, reason } => suggest_replaceable(path, *reason),
    }
}

/// Returns the hint for a file at `path` that Codex may not write.
fn suggest_writable_file(path: &Path) -> String {
    match path.metadata() {
        Ok(meta) if meta.is_file() && user::other_owner(&meta).is_some() => {
            format!(
                "make it a file of your own: {}",
                format_unlink_command(path)
            )
        }
        Ok(meta) if meta.is_file() => {
            let quoted_path = shell::quote_if_needed(&path.to_string_lossy());
            format!("make it writable: chmod u+rw {quoted_path}")
        }
        _ => format!("move it aside: {}", format_rename_aside_command(path)),
    }
}

/// Returns the hint for an auth.json at `path` that no rename can replace.
fn suggest_replaceable(path: &Path, reason: Irreplaceable) -> String {
    let unprotect = if cfg!(target_vendor = "apple") {
        "chflags nouchg,nouappnd"
    } else {
        "sudo chattr -ia"
    };
    let change = |path: &Path| {
        let quoted_path = shell::quote_if_needed(&path.to_string_lossy());
        format!("make it replaceable: {unprotect} {quoted_path}")
    };
    match reason {
        Irreplaceable::MountPoint => {
            "mount its folder instead of the file; or use another account in a home of its \
             own: codex-manager launch ACCOUNT --isolated"
                .into()
        }
        Irreplaceable::Protected => change(path),
        Irreplaceable::FolderProtected => change(atomic::parent_of(path)),
        Irreplaceable::OfOtherUser => {
            "give the file to the user who runs Codex, or move it to a folder of that user".into()
        }
    }
}

const UPGRADE: &str = "upgrade codex-manager; the file was not changed";

/// An error of a module that has an exit code and hints for the user.
trait Advised: Error + Sized {
    /// Returns the error of the command, with the hints for the user.
    fn to_command_error(&self) -> CommandError;

    /// Returns the error of the command with a hint.
    fn hinted_error(&self, kind: ErrorKind, hint: impl Into<String>) -> CommandError {
        CommandError::wrap(kind, self).hint(hint)
    }

    /// Returns the error of the command with a hint, followed by "nothing was changed".
    fn unchanged_error(&self, kind: ErrorKind, hint: impl fmt::Display) -> CommandError {
        CommandError::wrap(kind, self).hint_unchanged(hint)
    }
}

impl<E: Advised> From<E> for CommandError {
    fn from(error: E) -> Self {
        error.to_command_error()
    }
}

impl Advised for codex_manager_core::io::IoError {
    fn to_command_error(&self) -> CommandError {
        match self.source.kind() {
            std::io::ErrorKind::Interrupted => CommandError::interrupted(),
            std::io::ErrorKind::TimedOut if self.action == "lock" => self.hinted_error(
                Failed,
                "let that process continue or end it, then run the same command again",
            ),
            std::io::ErrorKind::FileTooLarge => {
                self.hinted_error(Failed, "raise the file size limit (ulimit -f)")
            }
            // A rename cannot replace a mount point, as of a single file in a container.
            std::io::ErrorKind::ResourceBusy => {
                self.hinted_error(Failed, "if it is a mount point, mount its folder instead")
            }
            _ if self.is_no_space() => self.hinted_error(Failed, FREE_SPACE),
            // The path is a folder, a pipe or a huge file. Docker makes a folder of a mounted file that does not exist.
            std::io::ErrorKind::InvalidData if self.path.ends_with(AUTH_JSON) => {
                let command = format_rename_aside_command(&self.path);
                self.hinted_error(Failed, format!("move it aside: {command}"))
            }
            std::io::ErrorKind::PermissionDenied if self.action == "list" => {
                self.hinted_error(Failed, describe_making_readable(&self.path))
            }
            _ => CommandError::wrap(Failed, self),
        }
    }
}

impl Advised for LoginStorageError {
    fn to_command_error(&self) -> CommandError {
        self.unchanged_error(Failed, suggest_login_storage(self))
    }
}

impl Advised for codex_manager_core::io::document::DocumentError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Newer { .. } => self.hinted_error(Refused, UPGRADE),
            Self::Io(e) => e.to_command_error(),
        }
    }
}

impl Advised for codex_manager_core::io::settings::SettingsError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) if e.source.kind() == std::io::ErrorKind::Interrupted => {
                e.to_command_error()
            }
            // The user named or wrote the file, so a failed read is a usage error.
            Self::Io(e) if e.action == "read" => CommandError::wrap(Usage, e),
            Self::Io(e) => CommandError::wrap(Failed, e),
            Self::Value { key, .. } => {
                let key = shell::quote_if_needed(key);
                let fix = format!("reset it to the default: codex-manager config unset {key}");
                self.hinted_error(Usage, fix)
            }
            Self::Newer { .. } => self.hinted_error(Refused, UPGRADE),
            Self::Syntax { .. } | Self::NotATable { .. } => {
                self.hinted_error(Usage, "fix it with: codex-manager config edit")
            }
        }
    }
}

impl Advised for crate::config::KeyError {
    fn to_command_error(&self) -> CommandError {
        let hint = match self {
            Self::Unknown { .. } => "list all settings: codex-manager config list",
            Self::NoFolder { .. } => {
                "give an absolute path, or one that begins with ~, such as folders.~/code"
            }
        };
        self.hinted_error(Usage, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_after_a_change_does_not_say_that_nothing_was_changed() {
        let cancelled = CommandError::interrupted().after_change("run it again");
        assert_eq!(cancelled.hints, ["run it again"]);
        let refused = CommandError::failed("full").hint_unchanged("free some space");
        let refused = refused.after_change("run it again");
        assert_eq!(refused.hints, ["free some space", "run it again"]);
    }

    #[test]
    fn an_unmounted_cloud_folder_while_steps_are_applied_does_not_say_that_nothing_was_changed() {
        use codex_manager_core::sync::apply::ApplyError;
        use codex_manager_core::sync::plan::PlanError;
        let unmounted = ApplyError::Cloud(PlanError::Unmounted("cloud".into()));
        let hints = CommandError::from(unmounted).hints.join("\n");
        assert!(hints.contains("mount it") && !hints.contains("nothing was changed"));
    }
}
