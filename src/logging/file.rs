//! Where logs are and how their files are called.

use super::{LogContext, LogSettings};
use crate::io::{IoContext, IoError, atomic};
use chrono::NaiveDate;
use std::fs::File;
use std::path::{Path, PathBuf};

const DEFAULT_STEM: &str = "codex-manager";
const DEFAULT_EXTENSION: &str = "log";

/// The folder of the manager home where logs stand.
pub const FOLDER: &str = "logs";

/// The folder, and the part of the names that all our logs share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLocation {
    folder: PathBuf,
    /// `<stem>-<machine>-`.
    prefix: String,
    /// `.log`, or what the configured file has.
    suffix: String,
}

/// What the name of one of our logs says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// Its day.
    pub date: NaiveDate,
    /// Which it is of those that were moved away that day; 0 is the one that is written to.
    pub number: u32,
    /// Whether it is a zip.
    pub is_zip: bool,
}

impl LogLocation {
    /// Where the log with these settings is.
    pub fn of(settings: &LogSettings, context: &LogContext) -> Self {
        let default = || {
            let name = format!("{DEFAULT_STEM}.{DEFAULT_EXTENSION}");
            context.manager_home.join(FOLDER).join(name)
        };
        let file = settings.file.clone().unwrap_or_else(default);
        let part = |part: Option<&std::ffi::OsStr>, default: &str| {
            part.map_or(default.to_owned(), |p| p.to_string_lossy().into_owned())
        };
        let stem = part(file.file_stem(), DEFAULT_STEM);
        let machine = file_name_part(&context.machine);
        Self {
            folder: atomic::parent_of(&file).to_path_buf(),
            prefix: format!("{}-{machine}-", file_name_part(&stem)),
            suffix: format!(
                ".{}",
                file_name_part(&part(file.extension(), DEFAULT_EXTENSION))
            ),
        }
    }

    /// The folder, made where it is missing.
    pub(super) fn create_folder(&self) -> Result<(), IoError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        atomic::create_private_folder(&self.folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of a log.
    pub fn path(&self, name: LogName) -> PathBuf {
        let number = match name.number {
            0 => String::new(),
            number => format!(".{number}"),
        };
        let zip = if name.is_zip { ".zip" } else { "" };
        let date = name.date.format("%Y-%m-%d");
        self.folder
            .join(format!("{}{date}{number}{}{zip}", self.prefix, self.suffix))
    }

    /// What a file name says, if it is one of ours.
    pub fn parse(&self, name: &str) -> Option<LogName> {
        let rest = name.strip_prefix(&self.prefix)?;
        let (rest, is_zip) = match rest.strip_suffix(".zip") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_suffix(&self.suffix)?;
        let (date, number) = match rest.split_once('.') {
            None => (rest, 0),
            Some((date, number)) => (date, number.parse().ok()?),
        };
        let parsed = LogName {
            date: NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?,
            number,
            is_zip,
        };
        // Only what we would have written ourselves: not `2026-1-2`, not `.007`.
        let written = self.path(parsed);
        (written.file_name()?.to_str()? == name).then_some(parsed)
    }

    /// Our logs in the folder, those of plain files alone, oldest first.
    pub(super) fn list(&self) -> Vec<LogName> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut names: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter_map(|entry| self.parse(entry.file_name().to_str()?))
            .collect();
        names.sort();
        names
    }

    /// The first number that no log of that day has.
    pub(super) fn free_number(&self, date: NaiveDate) -> u32 {
        let taken = self.list().into_iter().filter(|name| name.date == date);
        taken.map(|name| name.number).max().unwrap_or(0) + 1
    }

    /// The lock under which lines are appended and files moved away.
    pub(super) fn write_lock(&self) -> PathBuf {
        self.folder.join(format!(".{}write.lock", self.prefix))
    }

    /// The lock under which old logs are tidied up.
    pub(super) fn retention_lock(&self) -> PathBuf {
        self.folder.join(format!(".{}tidy.lock", self.prefix))
    }

    /// The log, open for appending; made readable by its owner alone where it is missing. A link is
    /// not followed: it may lead anywhere.
    pub(super) fn open(path: &Path) -> Result<File, IoError> {
        let mut options = File::options();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            options
                .mode(0o600)
                .custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
        }
        options.open(path).at("write the log", path)
    }
}

/// `text` as part of a file name on every system.
fn file_name_part(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(64)
        .collect();
    if name.is_empty() {
        "unknown".into()
    } else {
        name
    }
}
