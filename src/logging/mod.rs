//! The log of runs that nobody watches: sync and scheduled jobs.
//!
//! Files are named `<stem>-<machine>-YYYY-MM-DD[.N].log`, UTF-8, readable by their owner alone. A day
//! begins a new one, and so does a size. Two processes may write at once: each line is appended as a
//! whole under a lock, and whoever is about to pass the size moves the file away under the same lock.
//! Nothing that looks like a token is written, in whatever format. A log that cannot be written fails
//! no job.

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

/// What is noted at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Severity {
    /// Everything.
    Debug,
    /// What was done.
    #[default]
    Info,
    /// What went not as wished.
    Warning,
    /// What failed.
    Error,
}

impl Severity {
    /// Its name in a log.
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

/// How a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// What is noted at least.
    pub level: Severity,
    /// The file that names folder and stem; without it `logs/codex-manager.log` of the manager home.
    pub file: Option<PathBuf>,
    /// The form of a line.
    pub format: LogFormat,
    /// How many days a log is kept; 0 for ever.
    pub retention_days: u32,
    /// What becomes of a log that is written no more.
    pub archive: LogArchiving,
    /// The size at which a new file is begun; 0 for never.
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

/// What a log needs to know of the context.
#[derive(Debug, Clone)]
pub struct LogContext {
    /// The manager home.
    pub manager_home: PathBuf,
    /// This machine, as it is called in the configuration.
    pub machine: String,
    /// The clock.
    pub clock: Clock,
    /// The zone whose days are counted and whose times are written.
    pub zone: Zone,
}

/// Listens to events and writes them. Made by [`start`].
#[derive(Debug)]
pub struct LogLayer {
    writer: Arc<LogWriter>,
    level: Severity,
    format: LogFormat,
    context: LogContext,
}

/// A log that was opened.
#[derive(Debug)]
pub struct Log {
    layer: LogLayer,
    writer: Arc<LogWriter>,
    /// What went wrong with it so far; a person is to be told, and the job goes on.
    pub warnings: Vec<String>,
}

impl Log {
    /// Has the events of this process written from now on.
    ///
    /// Once in a process; a second log is not listened to, and that is said by `false`.
    pub fn install(self) -> (LogHandle, bool) {
        let subscriber = tracing_subscriber::registry().with(self.layer);
        let is_first = tracing::subscriber::set_global_default(subscriber).is_ok();
        (LogHandle(self.writer), is_first)
    }

    /// Has the events of `work` in this thread written.
    pub fn record_during<T>(self, work: impl FnOnce() -> T) -> (T, LogHandle) {
        let subscriber = tracing_subscriber::registry().with(self.layer);
        let result = tracing::subscriber::with_default(subscriber, work);
        (result, LogHandle(self.writer))
    }
}

/// What is left of a log to ask.
#[derive(Debug, Clone)]
pub struct LogHandle(Arc<LogWriter>);

impl LogHandle {
    /// Why the log is not complete, if it is not.
    pub fn problem(&self) -> Option<String> {
        self.0.problem()
    }
}

/// Opens the log and tidies up old ones: nothing here fails the job.
pub fn start(settings: &LogSettings, context: LogContext) -> Log {
    let location = LogLocation::of(settings, &context);
    let today = context.zone.at(&context.clock.now()).date_naive();
    let mut warnings = Vec::new();
    match location.create_folder() {
        Err(e) => warnings.push(format!("no log is kept: {e}")),
        Ok(()) => {
            // Whoever else is action does it for us too.
            if let Ok(_lock) = FileLock::try_exclusive(&location.retention_lock()) {
                let actions = retention::plan(
                    &location.list(),
                    today,
                    settings.retention_days,
                    settings.archive,
                );
                for problem in retention::apply(&actions, &location) {
                    warnings.push(format!("an old log could not be tidied up: {problem}"));
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

/// What an event says, as text that is fit to be kept.
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
