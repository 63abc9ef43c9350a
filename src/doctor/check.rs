//! The result of a check.

use codex_manager_core::inventory::remedies;
use codex_manager_core::io::{IoError, shell};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Returns true if `docs/doctor.md` describes the check with this id. The ids are an interface for scripts.
fn is_documented(id: &str) -> bool {
    include_str!("../../docs/doctor.md").contains(&format!("| `{id}` | "))
}

/// The severity of a finding; the highest one decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// No problem was found.
    Ok,
    /// A problem that does not change the exit code.
    Warn,
    /// A problem that makes `doctor` exit with 5.
    Fail,
}

/// The result of one check. Serialized as JSON; the keys are an interface.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// An id of `docs/doctor.md`.
    pub(crate) id: &'static str,
    pub(crate) status: Status,
    /// The finding as a sentence fragment, with the file or account that it is about.
    pub(crate) message: String,
    /// The consequence for the user, if there is one.
    pub(crate) why: Option<&'static str>,
    pub(crate) fix: Option<Remedy>,
}

/// The way to fix a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Remedy {
    /// A complete command. A test runs it and checks that the finding is gone.
    Command(String),
    /// A description of the action to take.
    Advice(String),
}

impl Check {
    /// Creates a finding without consequence and fix.
    pub(crate) fn new(id: &'static str, status: Status, message: impl Into<String>) -> Self {
        debug_assert!(is_documented(id), "{id}");
        Self {
            id,
            status,
            message: message.into(),
            why: None,
            fix: None,
        }
    }

    pub(crate) fn ok(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, message)
    }

    pub(crate) fn warn(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, message)
    }

    pub(crate) fn fail(id: &'static str, message: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, message)
    }

    /// Creates a finding about `paths`, with their number and the first of them; `None` if there are none.
    pub(super) fn about_paths(
        id: &'static str,
        status: Status,
        finding: &str,
        paths: &[PathBuf],
    ) -> Option<Self> {
        let first = paths.first()?.display();
        let message = match paths.len() {
            1 => format!("{finding}: {first}"),
            n => format!("{finding}: {n} paths, the first is {first}"),
        };
        Some(Self::new(id, status, message))
    }

    /// Creates the finding that a file or a dangling link is in the place of a folder.
    pub(super) fn not_a_folder(id: &'static str, path: &Path) -> Self {
        let message = format!("not a folder, or a dangling link: {}", path.display());
        Self::fail(id, message).advised("mount its disk, or move it away")
    }

    /// Adds the consequence for the user.
    pub(crate) fn because(mut self, why: &'static str) -> Self {
        self.why = Some(why);
        self
    }

    /// Adds the complete command that fixes the problem.
    pub(crate) fn fixed_by(mut self, command: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Command(command.into()));
        self
    }

    /// Adds a backup as the fix, or refers to the check of the Codex home if there is none to back up.
    pub(super) fn fixed_by_backup(self, codex_home: &Path) -> Self {
        if codex_home.is_dir() {
            self.fixed_by("codex-manager backup")
        } else {
            self.advised("fix the Codex home first: see the check \"home\"")
        }
    }

    /// Adds a description of the fix, for a problem that no single command fixes.
    pub(crate) fn advised(mut self, advice: impl Into<String>) -> Self {
        self.fix = Some(Remedy::Advice(advice.into()));
        self
    }

    /// Adds the fix for missing or excessive permissions: `chmod` with `mode`, such as `u+rw`, or `chown` if another
    /// user owns `path`.
    pub(super) fn fixed_by_chmod(self, mode: &str, path: &Path) -> Self {
        let quoted = shell::quote_if_needed(&path.to_string_lossy());
        match remedies::describe_taking_ownership(path) {
            Some(advice) => self.advised(advice),
            None => self.fixed_by(format!("chmod {mode} {quoted}")),
        }
    }

    /// Adds the fix for a file that cannot be read: permissions, or the renaming of a folder, pipe or device.
    pub(super) fn fixed_by_making_readable(self, error: &IoError) -> Self {
        let source = &error.source;
        // Only errors of the system have a number. An error without a number means that the path is no regular file.
        if source.raw_os_error().is_some() && source.kind() != ErrorKind::IsADirectory {
            self.fixed_by_chmod("u+rw", &error.path)
        } else {
            self.fixed_by(remedies::format_rename_aside_command(&error.path))
        }
    }
}
