//! The location and the file names of logs.

use super::settings::{LogContext, LogSettings};
use crate::io::file_open::{self, FinalLink};
use crate::io::{IoContext, IoError, atomic, sharing, tree};
use chrono::NaiveDate;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const DEFAULT_STEM: &str = "codex-manager";
const DEFAULT_EXTENSION: &str = "log";

/// The name of the default folder of logs in the manager home.
pub const FOLDER: &str = "logs";

/// The folder of a log, and the parts of its file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLocation {
    folder: PathBuf,
    /// The part before the date: `<stem>-<machine>-`.
    prefix: String,
    /// `.log`, or the extension of the configured file.
    suffix: String,
}

/// The parts of a log's file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// The local day on which the lines were written.
    pub date: NaiveDate,
    /// 0 for the file to which lines are appended; 1, 2 and so on for the renamed files of that day.
    pub number: u32,
    pub is_zip: bool,
}

impl LogLocation {
    pub fn new(settings: &LogSettings, context: &LogContext) -> Self {
        let default_file = || {
            let name = format!("{DEFAULT_STEM}.{DEFAULT_EXTENSION}");
            context.manager_home.join(FOLDER).join(name)
        };
        let file = settings.file.clone().unwrap_or_else(default_file);

        let text_or = |part: Option<&std::ffi::OsStr>, default: &str| {
            part.map_or(default.to_owned(), |p| p.to_string_lossy().into_owned())
        };
        let stem = text_or(file.file_stem(), DEFAULT_STEM);
        let extension = text_or(file.extension(), DEFAULT_EXTENSION);
        let machine = sanitize_name_part(&context.machine);

        Self {
            folder: atomic::parent_of(&file).to_path_buf(),
            prefix: format!("{}-{machine}-", sanitize_name_part(&stem)),
            suffix: format!(".{}", sanitize_name_part(&extension)),
        }
    }

    /// Creates the folder with mode 0700, unless it exists.
    pub(super) fn create_folder(&self) -> Result<(), IoError> {
        if self.folder.is_dir() {
            return Ok(());
        }
        atomic::create_private_folder(&self.folder)
    }

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

    /// Parses a file name; `None` if this log would never write a file of that name.
    pub fn parse(&self, name: &str) -> Option<LogName> {
        let after_prefix = name.strip_prefix(&self.prefix)?;
        let (without_zip, is_zip) = match after_prefix.strip_suffix(".zip") {
            Some(without_zip) => (without_zip, true),
            None => (after_prefix, false),
        };
        let date_and_number = without_zip.strip_suffix(&self.suffix)?;
        let (date, number) = match date_and_number.split_once('.') {
            None => (date_and_number, 0),
            Some((date, number)) => (date, number.parse().ok()?),
        };

        let parsed = LogName {
            date: NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?,
            number,
            is_zip,
        };

        // The name has to be exactly as written by `path`: not `2026-1-2`, not `.007`.
        let written = self.path(parsed);
        (written.file_name()?.to_str()? == name).then_some(parsed)
    }

    /// Lists the files of this log in the folder, the oldest first. Links and folders are skipped.
    pub(super) fn list(&self) -> Vec<LogName> {
        let mut names: Vec<_> = tree::list_entries(&self.folder)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .filter_map(|entry| self.parse(entry.file_name().to_str()?))
            .collect();
        names.sort();
        names
    }

    /// Returns the next free number of `date`.
    pub(super) fn next_free_number(&self, date: NaiveDate) -> u32 {
        // Zipped logs count too, so that a number is never used twice on a day.
        let logs_of_day = self.list().into_iter().filter(|name| name.date == date);
        logs_of_day.map(|name| name.number).max().unwrap_or(0) + 1
    }

    /// Returns the path of the lock for appending lines and renaming files.
    pub(super) fn write_lock_path(&self) -> PathBuf {
        self.folder.join(format!(".{}write.lock", self.prefix))
    }

    /// Returns the path of the lock for cleaning up old logs.
    pub(super) fn retention_lock_path(&self) -> PathBuf {
        self.folder.join(format!(".{}tidy.lock", self.prefix))
    }

    /// Opens a log for appending. A missing file is created with mode 0600. A link is not followed,
    /// because it may lead anywhere.
    pub(super) fn open_for_append(path: &Path) -> Result<File, IoError> {
        if path.is_symlink() {
            let refused = io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link");
            return Err(refused).at("write the log", path);
        }
        let mut options = File::options();
        options.read(true).append(true);
        // Non-blocking, so that a pipe in the place of a log cannot stop the program.
        let options = file_open::set_open_flags(&mut options, FinalLink::Refuse);
        sharing::open_or_create(options, path).at("write the log", path)
    }
}

/// The largest length, in bytes, of a text in the name of a log. A name has up to three such texts, and at most 255
/// bytes.
const MAX_PART_BYTES: usize = 64;

/// Makes `text` valid as part of a file name on every system: other characters become `-`.
fn sanitize_name_part(text: &str) -> String {
    let is_invalid = |c: char| !c.is_alphanumeric() && !"._-".contains(c);
    let mut name = text.replace(is_invalid, "-");

    // Character by character, because a letter can have four bytes.
    while name.len() > MAX_PART_BYTES {
        name.pop();
    }

    if name.is_empty() {
        "unknown".into()
    } else {
        name
    }
}
