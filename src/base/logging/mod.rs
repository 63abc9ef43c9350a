//! Writes the log of unattended runs: sync and scheduled jobs.
//!
//! Files are named `<stem>-<machine>-YYYY-MM-DD[.N].log`, in UTF-8, with mode 0600. Each day begins a new
//! file. A file that would exceed the maximum size is renamed to the next free number. Several processes
//! may write at once: each appends a whole line, and renames the file, under one lock. Possible tokens
//! are redacted in all formats. An error of the log never fails the job.

mod file;
mod layer;
mod line;
mod retention;
mod settings;
mod writer;

pub use file::{FOLDER, LogLocation, LogName};
pub use layer::{gather_events, print_events};
pub use line::LogFormat;
pub use settings::{LogArchiving, LogContext, LogSettings, Severity};
pub use writer::LogWriter;

use self::layer::LogLayer;
use std::sync::Arc;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

/// A log that does not receive events yet.
#[derive(Debug)]
pub struct Log {
    layer: LogLayer,
    level: LevelFilter,
    /// Problems with the folder or with old logs, to show to the user. The job continues.
    pub warnings: Vec<String>,
}

impl Log {
    /// Writes all later events of this process to the log.
    ///
    /// Works once in a process. Returns `false` for a second log, which receives no events.
    pub fn install(self) -> (Arc<LogWriter>, bool) {
        let (subscriber, writer) = self.into_subscriber();
        let is_first = tracing::subscriber::set_global_default(subscriber).is_ok();
        (writer, is_first)
    }

    /// Runs `work`, and writes its events in this thread to the log.
    pub fn record_during<T>(self, work: impl FnOnce() -> T) -> (T, Arc<LogWriter>) {
        let (subscriber, writer) = self.into_subscriber();
        (tracing::subscriber::with_default(subscriber, work), writer)
    }

    fn into_subscriber(self) -> (impl Subscriber, Arc<LogWriter>) {
        let writer = Arc::clone(&self.layer.writer);
        let registry = tracing_subscriber::registry().with(self.level);
        (registry.with(self.layer), writer)
    }
}

/// Creates the folder of the log and cleans up old logs. Errors become warnings and do not stop the job.
pub fn start(settings: &LogSettings, context: LogContext) -> Log {
    let location = LogLocation::new(settings, &context);
    let today = context.zone.at(&context.clock.now()).date_naive();

    let warnings = match location.create_folder() {
        Err(e) => vec![format!("this run is not logged: {e}: {}", e.source)],
        Ok(()) => retention::clean_up(&location, settings, today),
    };

    Log {
        layer: LogLayer {
            writer: Arc::new(LogWriter::new(location, settings.max_file_bytes)),
            format: settings.format,
            context,
        },
        level: settings.level.to_tracing_level().into(),
        warnings,
    }
}
