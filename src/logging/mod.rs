//! Writes the log of unattended runs: sync and scheduled jobs.
//!
//! Files are named `<stem>-<machine>-YYYY-MM-DD[.N].log`, in UTF-8, with mode 0600. Each day begins a new
//! file. A file that would exceed the maximum size is renamed to the next free number. Several processes
//! may write at once: each appends a whole line, and renames the file, under one lock. Possible tokens
//! are redacted in all formats. An error of the log never fails the job.

mod file;
mod line;
pub mod retention;
mod writer;

pub use file::{FOLDER, LogLocation, LogName};
pub use line::LogFormat;
pub use writer::LogWriter;

use crate::io::clock::{Clock, Zone};
use crate::io::lock::FileLock;
use retention::LogArchiving;
use std::path::PathBuf;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The severity of an event, or the lowest severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Severity {
    /// Details for finding the cause of a problem.
    Debug,
    /// The steps of a run and their results.
    #[default]
    Info,
    /// Problems that did not stop the run.
    Warning,
    /// Failures of the run.
    Error,
}

impl Severity {
    /// Returns the name in a log line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
        }
    }

    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warning,
            Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Debug => Level::DEBUG,
            Self::Info => Level::INFO,
            Self::Warning => Level::WARN,
            Self::Error => Level::ERROR,
        }
    }
}

/// The settings of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The lowest severity that is logged.
    pub level: Severity,
    /// A path that names folder, stem and extension; `None` for `logs/codex-manager.log` in the manager
    /// home.
    pub file: Option<PathBuf>,
    /// The format of a line.
    pub format: LogFormat,
    /// The number of days after which a log is removed; 0 for never.
    pub retention_days: u32,
    /// The treatment of a log that is no longer written.
    pub archive: LogArchiving,
    /// The maximum size of a file in bytes; 0 for no limit.
    pub max_file_bytes: u64,
}

impl Default for LogSettings {
    /// The defaults of codexsync's `[logging]`.
    fn default() -> Self {
        Self {
            level: Severity::Info,
            file: None,
            format: LogFormat::Text,
            retention_days: 7,
            archive: LogArchiving::Zip,
            max_file_bytes: 10 * 1024 * 1024,
        }
    }
}

/// The environment of a log.
#[derive(Debug, Clone)]
pub struct LogContext {
    /// The manager home, which contains the default folder of logs.
    pub manager_home: PathBuf,
    /// The name of this machine in the configuration.
    pub machine: String,
    /// The source of the times in the log.
    pub clock: Clock,
    /// The time zone of the times, and of the days that begin new files.
    pub zone: Zone,
}

/// The `tracing` layer that writes events to the log. Created by [`start`].
#[derive(Debug)]
pub struct LogLayer {
    writer: Arc<LogWriter>,
    level: Severity,
    format: LogFormat,
    context: LogContext,
}

/// An opened log, which does not receive events yet.
#[derive(Debug)]
pub struct Log {
    layer: LogLayer,
    writer: Arc<LogWriter>,
    /// Problems while opening it, for the user. They do not stop the job.
    pub warnings: Vec<String>,
}

impl Log {
    /// Writes all later events of this process to the log.
    ///
    /// Works once in a process. Returns `false` for a second log, which receives no events.
    pub fn install(self) -> (LogHandle, bool) {
        let subscriber = tracing_subscriber::registry().with(self.layer);
        let is_first = tracing::subscriber::set_global_default(subscriber).is_ok();
        (LogHandle(self.writer), is_first)
    }

    /// Runs `work`, and writes its events in this thread to the log.
    pub fn record_during<T>(self, work: impl FnOnce() -> T) -> (T, LogHandle) {
        let subscriber = tracing_subscriber::registry().with(self.layer);
        let result = tracing::subscriber::with_default(subscriber, work);
        (result, LogHandle(self.writer))
    }
}

/// A handle to ask an installed log for problems.
#[derive(Debug, Clone)]
pub struct LogHandle(Arc<LogWriter>);

impl LogHandle {
    /// Returns the first error of writing the log, if any.
    pub fn problem(&self) -> Option<String> {
        self.0.problem()
    }
}

/// Opens the log and cleans up old ones. Errors become warnings and do not stop the job.
pub fn start(settings: &LogSettings, context: LogContext) -> Log {
    let location = LogLocation::of(settings, &context);
    let today = context.zone.at(&context.clock.now()).date_naive();
    let mut warnings = Vec::new();
    match location.create_folder() {
        Err(e) => warnings.push(format!("this run is not logged: {e}")),
        Ok(()) => {
            // If another process holds the lock, it is cleaning up already.
            if let Ok(_lock) = FileLock::try_exclusive(&location.retention_lock()) {
                let actions = retention::plan(
                    &location.list(),
                    today,
                    settings.retention_days,
                    settings.archive,
                );
                for problem in retention::apply(&actions, &location) {
                    warnings.push(format!("cannot clean up an old log: {problem}"));
                }
            }
        }
    }
    let writer = Arc::new(LogWriter::new(location, settings.max_file_bytes));
    Log {
        layer: LogLayer {
            writer: Arc::clone(&writer),
            level: settings.level,
            format: settings.format,
            context,
        },
        writer,
        warnings,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _context: Context<'_, S>) -> bool {
        *metadata.level() <= self.level.level()
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.level().into())
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let at = self.context.zone.at(&self.context.clock.now());
        let record = line::LogRecord {
            at,
            severity: Severity::of(*event.metadata().level()),
            machine: &self.context.machine,
            pid: std::process::id(),
            message: &fields.message,
            fields: &fields.others,
        };
        self.writer
            .write(&line::render(&record, self.format), at.date_naive());
    }
}

/// The message and the fields of an event, redacted.
#[derive(Debug, Default)]
struct EventFields {
    message: String,
    others: Vec<(&'static str, line::FieldValue)>,
}

impl EventFields {
    fn take(&mut self, field: &Field, value: line::FieldValue) {
        if field.name() == "message" {
            self.message = value.into_text();
        } else {
            self.others.push((field.name(), value));
        }
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, line::FieldValue::text(field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, line::FieldValue::Integer(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, line::FieldValue::Integer(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, line::FieldValue::Boolean(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.take(field, line::FieldValue::text(field.name(), &text));
    }
}
