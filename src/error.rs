//! How a command fails: a kind that decides the exit code, a message, causes, and hints.
//!
//! The domain has its own error types, each with the path or account it failed on. Here, and only
//! here, they are given a kind and the command that helps.

mod sync;

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

/// What a command that did its job says about it. The number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done = 0,
    /// What was looked at is not as it should be.
    FoundWanting = 5,
    /// Done, but items were skipped or a figure could not be had.
    Partial = 6,
}

impl Outcome {
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

impl From<crate::config::file::ConfigError> for CommandError {
    fn from(error: crate::config::file::ConfigError) -> Self {
        use crate::config::file::ConfigError;
        match error {
            ConfigError::Io(e) => {
                let kind = if e.action == "read" {
                    ErrorKind::Usage
                } else {
                    ErrorKind::Failed
                };
                Self::wrap(kind, e)
            }
            ConfigError::Value { key, .. } => Self::wrap(ErrorKind::Usage, error).hint(format!(
                "go back to the default with: codex-manager config unset {key}"
            )),
            ConfigError::Newer { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("upgrade codex-manager; the file was left untouched"),
            ConfigError::Syntax { .. } | ConfigError::NotATable { .. } => {
                Self::wrap(ErrorKind::Usage, error)
                    .hint("put it right with: codex-manager config edit")
            }
        }
    }
}

impl From<crate::config::UnknownKey> for CommandError {
    fn from(error: crate::config::UnknownKey) -> Self {
        Self::wrap(ErrorKind::Usage, error).hint("see them all: codex-manager config list")
    }
}

impl From<crate::inventory::resolve::ResolveError> for CommandError {
    fn from(error: crate::inventory::resolve::ResolveError) -> Self {
        let choices = error.choices().join(", ");
        let wrapped = Self::wrap(ErrorKind::Failed, error);
        if choices.is_empty() {
            wrapped.hint("no account is known yet; see codex-manager normalize --help")
        } else {
            wrapped.hint(format!("the accounts are: {choices}"))
        }
    }
}

impl From<crate::inventory::status::StatusError> for CommandError {
    fn from(error: crate::inventory::status::StatusError) -> Self {
        use crate::inventory::status::StatusError;
        match error {
            StatusError::Io(e) => e.into(),
            StatusError::Interrupted => Self::interrupted(),
            StatusError::Text(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("paste what /status shows in Codex, with the lines of the limits"),
            StatusError::AnotherAccount { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("paste the /status of the account that the home is signed in as; nothing was changed"),
        }
    }
}

impl From<crate::inventory::survey::SurveyError> for CommandError {
    fn from(error: crate::inventory::survey::SurveyError) -> Self {
        use crate::inventory::survey::SurveyError;
        match error {
            SurveyError::Status(e) => e.into(),
            SurveyError::Document(e) => e.into(),
        }
    }
}

impl From<crate::archive::ArchiveError> for CommandError {
    fn from(error: crate::archive::ArchiveError) -> Self {
        use crate::archive::ArchiveError;
        match error {
            ArchiveError::Io(e) => e.into(),
            ArchiveError::Interrupted => Self::interrupted(),
            ArchiveError::Database(_) => Self::wrap(ErrorKind::Failed, error),
            ArchiveError::Replaced(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("run the same command again; no archive was made"),
            ArchiveError::NoSpace { .. } => Self::wrap(ErrorKind::Failed, error)
                .hint("free some disk space, then run the same command again; nothing was changed"),
            ArchiveError::Newer { .. } => {
                Self::wrap(ErrorKind::Refused, error).hint("upgrade codex-manager")
            }
            ArchiveError::Damaged { .. }
            | ArchiveError::Unsafe { .. }
            | ArchiveError::Foreign(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("nothing was changed; choose another from codex-manager list-backups"),
        }
    }
}

impl From<crate::accounts::profile::ProfileError> for CommandError {
    fn from(error: crate::accounts::profile::ProfileError) -> Self {
        use crate::accounts::profile::ProfileError;
        match error {
            ProfileError::Io(e) => e.into(),
            ProfileError::Document(e) => e.into(),
            ProfileError::BadName { .. } => Self::wrap(ErrorKind::Usage, error)
                .hint("choose another name, such as work; nothing was changed"),
            ProfileError::Taken { .. }
            | ProfileError::EmailOfAnother { .. }
            | ProfileError::NotAProfile(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("choose another name; nothing was changed"),
            ProfileError::IsLive { .. } => Self::wrap(ErrorKind::Refused, error).hint(
                "switch to another account first: codex-manager use ACCOUNT; nothing was changed",
            ),
            ProfileError::Moved(ref name) => {
                let hint = format!(
                    "sign in again: codex-manager profile login {name}; where this machine has the \
                     login all the same, say so: codex-manager profile save {name} --from and the \
                     auth.json in the folder of that profile; nothing was changed"
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            ProfileError::Ambiguous { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("sign in again: codex-manager profile login NAME; nothing was changed"),
            ProfileError::NoSuchLogin { ref choices, .. } => {
                let hint = if choices.is_empty() {
                    "there is none that differs from the one it has; nothing was changed".into()
                } else {
                    format!("there are: {}; nothing was changed", choices.join(", "))
                };
                Self::wrap(ErrorKind::Failed, error).hint(hint)
            }
            ProfileError::Unknown(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("see them all: codex-manager profile list; nothing was changed"),
        }
    }
}

impl From<crate::accounts::switch::SwitchError> for CommandError {
    fn from(error: crate::accounts::switch::SwitchError) -> Self {
        use crate::accounts::switch::SwitchError;
        match error {
            SwitchError::Io(e) => e.into(),
            SwitchError::Profile(e) => e.into(),
            SwitchError::Interrupted => Self::interrupted(),
            SwitchError::NoProfile(_) => Self::wrap(ErrorKind::Refused, error).hint(
                "take one from a file or an archive: codex-manager profile save NAME --from FILE; nothing was changed",
            ),
            SwitchError::NoLogin { .. } | SwitchError::Intruder { .. } => {
                Self::wrap(ErrorKind::Refused, error).hint(
                    "save a login of the account: codex-manager profile save NAME --from FILE; nothing was changed",
                )
            }
            SwitchError::Moved(ref profile) => {
                let hint = format!(
                    "sign in anew to have one here, too: codex-manager profile login {profile}; nothing was changed"
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            SwitchError::LiveElsewhere { .. } => Self::wrap(ErrorKind::Refused, error).hint(
                "a login in two places stops working in both: switch the other home first; nothing was changed",
            ),
            SwitchError::Stale { ref profile } => {
                let hint = format!(
                    "get a new one: codex-manager profile login {profile}; --force-stale puts this one live all the same; nothing was changed"
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            SwitchError::Locked(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("see who it is: codex-manager current; nothing was changed"),
            SwitchError::Renewing { .. } => Self::wrap(ErrorKind::CodexRunning, error)
                .hint("end these first, or wait; nothing was changed"),
            SwitchError::Daemon(_) => Self::wrap(ErrorKind::CodexRunning, error)
                .hint("stop it with --stop-daemon; nothing was changed"),
            SwitchError::DaemonAtWork { .. } => Self::wrap(ErrorKind::CodexRunning, error)
                .hint("wait for it to end, or cut it off with --force; nothing was changed"),
            SwitchError::NoProgram(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("name Codex with --codex-bin FILE; nothing was changed"),
            SwitchError::NotStopped(_) => Self::wrap(ErrorKind::CodexRunning, error).hint(
                "it may be about to end: run the same command again; no login was changed",
            ),
            SwitchError::Loan(e) => e.into(),
        }
    }
}

impl From<crate::accounts::loan::LoanError> for CommandError {
    fn from(error: crate::accounts::loan::LoanError) -> Self {
        use crate::accounts::loan::LoanError;
        match error {
            LoanError::Io(e) => e.into(),
            LoanError::Profile(e) => e.into(),
            LoanError::Interrupted => Self::interrupted(),
            LoanError::InUse(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("wait for it to end, then run the same command again; nothing was changed"),
            LoanError::StillAsked { .. } => Self::wrap(ErrorKind::CodexRunning, error)
                .hint("wait for it to end, then run the same command again; nothing was changed"),
            LoanError::NoRoom(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("free some disk space, then run the same command again; nothing was changed"),
            LoanError::Lent(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("codex-manager status --all takes it back; nothing was changed"),
            LoanError::Damaged { ref profile, .. } => {
                let hint = format!(
                    "where its login is good, codex-manager profile save {profile} --from FILE with the auth.json of the profile writes it anew; nothing was changed"
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            LoanError::HomeLost { ref profile, .. } => {
                let hint = format!(
                    "mount it again; where it is gone for good, codex-manager use --force-stale {profile} puts the login live all the same; nothing was changed"
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            LoanError::NoLogin(ref profile)
            | LoanError::Moved(ref profile)
            | LoanError::Stale(ref profile) => {
                let hint = format!(
                    "sign in anew: codex-manager profile login {profile}; nothing was changed"
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            LoanError::Live { ref home, .. } => {
                let hint = format!(
                    "ask about it there: codex-manager status --codex-home {}; nothing was changed",
                    home.display()
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
            LoanError::InKeyring { ref home, .. } => {
                let hint = format!(
                    "write cli_auth_credentials_store = \"file\" into {} and sign in again; nothing was changed",
                    home.join("config.toml").display()
                );
                Self::wrap(ErrorKind::Refused, error).hint(hint)
            }
        }
    }
}

impl From<crate::transfer::TransferError> for CommandError {
    fn from(error: crate::transfer::TransferError) -> Self {
        use crate::transfer::TransferError;
        match error {
            TransferError::Io(e) => e.into(),
            TransferError::Profile(e) => e.into(),
            TransferError::Loan(e) => e.into(),
            TransferError::Document(e) => e.into(),
            TransferError::Interrupted => Self::interrupted(),
            TransferError::Exists(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("choose another name; nothing was changed"),
            TransferError::Locked(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("see who it is: codex-manager current; nothing was changed"),
            TransferError::Changed(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("run the same command again; nothing was changed"),
            TransferError::BadKey(_) => Self::wrap(ErrorKind::Usage, error)
                .hint("age-keygen makes a key; nothing was changed"),
            TransferError::NeedsKey(_, true) => Self::wrap(ErrorKind::Usage, error)
                .hint("give its passphrase: --passphrase-file FILE; nothing was changed"),
            TransferError::NeedsKey(_, false) => Self::wrap(ErrorKind::Usage, error)
                .hint("give the key that it is for: --identity FILE; nothing was changed"),
            TransferError::WrongKey { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("give another: --passphrase-file FILE or --identity FILE; nothing was changed"),
            TransferError::Foreign { .. } => Self::wrap(ErrorKind::Refused, error).hint(
                "a login in an auth.json or an archive is taken by codex-manager profile save NAME --from FILE; nothing was changed",
            ),
            TransferError::Damaged { .. } => Self::wrap(ErrorKind::Refused, error).hint(
                "copy it anew from the other machine, or write it again there: codex-manager profile export FILE; nothing was changed",
            ),
            TransferError::Newer { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("upgrade codex-manager; nothing was changed"),
            TransferError::NoSpace { .. } => Self::wrap(ErrorKind::Failed, error)
                .hint("free some disk space, then run the same command again; nothing was changed"),
        }
    }
}

impl From<crate::accounts::source::SourceError> for CommandError {
    fn from(error: crate::accounts::source::SourceError) -> Self {
        use crate::accounts::source::SourceError;
        match error {
            SourceError::Io(e) => e.into(),
            SourceError::Archive(e) => e.into(),
            SourceError::Missing(_) => Self::wrap(ErrorKind::Failed, error).hint(
                "sign in with codex-manager profile login NAME, or name a file: --from FILE; nothing was changed",
            ),
            SourceError::Unreadable { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("sign in anew: codex-manager profile login NAME; nothing was changed"),
        }
    }
}

impl From<crate::archive::restore::swap::SwapError> for CommandError {
    fn from(error: crate::archive::restore::swap::SwapError) -> Self {
        use crate::archive::restore::swap::SwapError;
        match error {
            SwapError::Io(e) => e.into(),
            SwapError::Document(e) => e.into(),
            SwapError::InProgress(_) => {
                Self::wrap(ErrorKind::Failed, error).hint("wait for it to end; nothing was changed")
            }
            SwapError::NotOurs(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("look at it, and remove it if you do not know it; nothing was changed"),
            SwapError::DamagedJournal { .. } => Self::wrap(ErrorKind::Failed, error).hint(
                "the old state may be in the folder new/ beside the journal; nothing was changed",
            ),
        }
    }
}

impl From<crate::history::HistoryError> for CommandError {
    fn from(error: crate::history::HistoryError) -> Self {
        use crate::history::HistoryError;
        match error {
            HistoryError::Io(e) => e.into(),
            HistoryError::Document(e) => e.into(),
            HistoryError::Interrupted => Self::interrupted(),
            HistoryError::Database(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("compare again with: codex-manager history check"),
            HistoryError::Lock(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("Codex is writing it; run the same command again"),
            HistoryError::Busy(_) => Self::wrap(ErrorKind::CodexRunning, error)
                .hint("end these first (codex app-server daemon stop); nothing was changed"),
            HistoryError::Changed(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("run the same command again"),
            HistoryError::NoSnapshot(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("snapshots are made by: codex-manager history repair"),
            HistoryError::DamagedSnapshot { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("nothing was changed"),
            HistoryError::NotRebuilt(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("start codex once, which makes its database, then run the same command again; nothing was changed"),
        }
    }
}

impl From<crate::archive::restore::RestoreError> for CommandError {
    fn from(error: crate::archive::restore::RestoreError) -> Self {
        use crate::archive::restore::RestoreError;
        match error {
            RestoreError::Archive(e) => e.into(),
            RestoreError::Io(e) => e.into(),
            RestoreError::Profile(e) => e.into(),
            RestoreError::Loan(e) => e.into(),
            RestoreError::Swap(e) => e.into(),
            RestoreError::Database(_) => Self::wrap(ErrorKind::Failed, error),
            RestoreError::Busy(_) => Self::wrap(ErrorKind::CodexRunning, error)
                .hint("end these first, or stop Codex's daemon with --stop-daemon; nothing was changed"),
            RestoreError::StartedMeanwhile { ref left_at, .. } => {
                let places: Vec<_> = left_at.iter().map(|p| p.display().to_string()).collect();
                let hint = format!(
                    "what was written meanwhile is in {}; end Codex, then run the same command again",
                    places.join(" and ")
                );
                Self::wrap(ErrorKind::CodexRunning, error).hint(hint)
            }
            RestoreError::AnotherAccount { .. } => Self::wrap(ErrorKind::Refused, error).hint(
                "--yes saves the live login to its profile and goes on; --auth skip leaves it alone; nothing was changed",
            ),
            RestoreError::Diverged(_) => Self::wrap(ErrorKind::Conflict, error)
                .hint("restore without --merge, or put the archive elsewhere with --to DIR; nothing was changed"),
            RestoreError::SharedDatabases(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("restore into a folder of its own with --to DIR; nothing was changed"),
            RestoreError::OutsideDatabases(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("--yes if that is where you want them; --to DIR puts all into one folder; nothing was changed"),
            RestoreError::Mounted(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("unmount it, or restore elsewhere with --to DIR; nothing was changed"),
            RestoreError::AmongHomes(_) => Self::wrap(ErrorKind::Usage, error)
                .hint("name a folder elsewhere; nothing was changed"),
            RestoreError::DanglingHome(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("mount its disk, or remove the link; nothing was changed"),
            RestoreError::NotEmpty(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("name a new or empty folder; nothing was changed"),
            RestoreError::NotFound(_) => Self::wrap(ErrorKind::Failed, error)
                .hint("list what is in an archive with: tar tzf ARCHIVE; nothing was changed"),
            RestoreError::Unsaved(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("mend these, or go on without with --no-safety-backup; nothing was changed"),
            RestoreError::OtherStore(_) => Self::wrap(ErrorKind::Refused, error).hint(
                "set cli_auth_credentials_store = \"file\" in config.toml of the Codex home; nothing was changed",
            ),
        }
    }
}

impl From<crate::closing::ClosingError> for CommandError {
    fn from(error: crate::closing::ClosingError) -> Self {
        use crate::closing::{ClosingError, Reason};
        let running = |error, hint: &str| {
            Self::wrap(ErrorKind::CodexRunning, error).hint(format!("{hint}; nothing was changed"))
        };
        match error {
            ClosingError::Refused(ref refusal) => {
                let hint = match refusal.reason {
                    Reason::Background => "wait for it to end, or end Codex yourself",
                    Reason::InsideCodex => "run the command in a terminal of its own",
                    Reason::AnotherUser | Reason::Stranger | Reason::Unexplained => {
                        "end these first"
                    }
                    Reason::Forbidden => {
                        "end Codex yourself, or set process_detection.allow_terminate_if_running"
                    }
                };
                running(error, hint)
            }
            ClosingError::Declined(_) => {
                running(error, "end Codex, then run the same command again")
            }
            ClosingError::NobodyToAsk(_) => running(
                error,
                "end Codex, or allow to end it with --auto-terminate-without-confirmation",
            ),
            ClosingError::NotGone { .. }
            | ClosingError::NoProgram { .. }
            | ClosingError::Daemon(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("end Codex yourself, then run the same command again; no file was changed"),
            ClosingError::Interrupted => Self::interrupted(),
        }
    }
}

impl From<crate::schedule::ScheduleError> for CommandError {
    fn from(error: crate::schedule::ScheduleError) -> Self {
        use crate::schedule::ScheduleError;
        match error {
            ScheduleError::Io(e) => e.into(),
            ScheduleError::Foreign(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("look at it, and move it away if you do not need it; nothing was changed"),
            ScheduleError::Unwritable { .. } => Self::wrap(ErrorKind::Refused, error)
                .hint("choose a plainer path; nothing was changed"),
            ScheduleError::NoHome => Self::wrap(ErrorKind::Usage, error).hint("set HOME"),
        }
    }
}
