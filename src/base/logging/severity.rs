//! The severity of an event.

use tracing::Level;

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
