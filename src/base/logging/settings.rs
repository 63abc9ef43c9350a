//! The settings of a log.

use super::line::LogFormat;
use crate::io::clock::{Clock, Zone};
use smart_default::SmartDefault;
use std::path::PathBuf;
use tracing::Level;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogArchiving {
    /// Compress the log into a separate zip file.
    #[default]
    Zip,
    /// Leave the log as plain text.
    Text,
}

/// The settings of a log. The defaults are those of `[logging]` in codexSync, because `sync` reads its configurations.
#[derive(Debug, Clone, PartialEq, Eq, SmartDefault)]
pub struct LogSettings {
    /// The lowest severity that is logged.
    pub level: Severity,
    /// A path that names folder, stem and extension; `None` for `logs/codex-manager.log` in the manager
    /// home.
    pub file: Option<PathBuf>,
    pub format: LogFormat,
    /// The number of days after which a log is removed; 0 for never.
    #[default = 7]
    pub retention_days: u32,
    pub archive: LogArchiving,
    /// The maximum size of a file in bytes; 0 for no limit.
    #[default(10 * 1024 * 1024)]
    pub max_file_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct LogContext {
    /// The manager home, which contains the default folder of logs.
    pub manager_home: PathBuf,
    /// The name of this machine, for file names and lines.
    pub machine: String,
    pub clock: Clock,
    /// The time zone of the times, and of the days that begin new files.
    pub zone: Zone,
}

/// The severity of an event, or the lowest severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    /// Details for finding the cause of a problem.
    Debug,
    /// The steps of a run and their results.
    #[default]
    Info,
    /// Problems that did not stop the run.
    Warning,
    Error,
}

impl Severity {
    /// Returns the name of an event's level in a log line.
    pub(super) fn name_of(level: Level) -> &'static str {
        match level {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => "DEBUG",
        }
    }

    pub(super) fn to_tracing_level(self) -> Level {
        match self {
            Self::Debug => Level::DEBUG,
            Self::Info => Level::INFO,
            Self::Warning => Level::WARN,
            Self::Error => Level::ERROR,
        }
    }
}
