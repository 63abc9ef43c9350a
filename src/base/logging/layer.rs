//! The `tracing` layers: [`LogLayer`] writes events to the log, and [`PrintLayer`] prints them for `--verbose`.

use super::line::{self, LogFormat, redact_field_text};
use super::settings::{LogContext, Severity};
use super::writer::LogWriter;
use chrono::NaiveDate;
use serde_json::Value;
use std::cell::RefCell;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

#[derive(Debug)]
pub(super) struct LogLayer {
    pub(super) writer: Arc<LogWriter>,
    pub(super) format: LogFormat,
    pub(super) context: LogContext,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);

        let at = self.context.zone.at(&self.context.clock.now());
        let record = line::LogRecord {
            at,
            severity: Severity::name_of(*event.metadata().level()),
            machine: &self.context.machine,
            pid: std::process::id(),
            message: &fields.message,
            fields: &fields.other_fields,
        };

        let line = line::format_line(&record, self.format);
        write_or_gather(&self.writer, line, at.date_naive());
    }
}

/// Lines that are written by one call.
struct GatheredLines {
    writer: Arc<LogWriter>,
    date: NaiveDate,
    lines: String,
}

/// The state of [`gather_events`] in a thread.
enum EventGathering {
    /// Each line is written immediately.
    Off,
    /// Lines are gathered, but there is none yet.
    Empty,
    Lines(GatheredLines),
}

impl Drop for GatheredLines {
    fn drop(&mut self) {
        self.writer.write(&self.lines, self.date);
    }
}

thread_local! {
    static GATHERING: RefCell<EventGathering> = const { RefCell::new(EventGathering::Off) };
}

/// Runs `work`, and writes its events of this thread to the log in few large writes, because each write takes a lock
/// and opens the log. A killed process loses gathered events, so use it only to report what is already done.
pub fn gather_events(work: impl FnOnce()) {
    GATHERING.set(EventGathering::Empty);
    work();
    // Dropping the lines writes them.
    drop(GATHERING.replace(EventGathering::Off));
}

fn write_or_gather(writer: &Arc<LogWriter>, line: String, date: NaiveDate) {
    GATHERING.with_borrow_mut(|gathering| match gathering {
        EventGathering::Off => writer.write(&line, date),
        EventGathering::Lines(gathered)
            if gathered.date == date && writer.fits_in_one_write(&gathered.lines, &line) =>
        {
            gathered.lines.push_str(&line);
        }
        // Replacing the gathered lines drops them, which writes them.
        EventGathering::Empty | EventGathering::Lines(_) => {
            *gathering = EventGathering::Lines(GatheredLines {
                writer: Arc::clone(writer),
                date,
                lines: line,
            });
        }
    });
}

/// The message and the fields of an event, redacted.
#[derive(Debug, Default)]
struct EventFields {
    message: String,
    other_fields: Vec<(&'static str, Value)>,
}

impl EventFields {
    fn store_redacted_text(&mut self, field: &Field, text: &str) {
        let text = redact_field_text(field.name(), text);
        if field.name() == "message" {
            self.message = text;
        } else {
            self.store_value(field, text);
        }
    }

    fn store_value(&mut self, field: &Field, value: impl Into<Value>) {
        self.other_fields.push((field.name(), value.into()));
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.store_redacted_text(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.store_value(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.store_value(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.store_value(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.store_redacted_text(field, &format!("{value:?}"));
    }
}

/// Passes the message of each later event of this program, and not of its libraries, to `print`, without the fields.
/// Has no effect in a process that has a log already.
pub fn print_events(print: impl Fn(&str) + Send + Sync + 'static) {
    let subscriber = tracing_subscriber::registry().with(PrintLayer { print });
    // A process has one global subscriber, which cannot be removed. A second call has no effect.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct PrintLayer<F> {
    print: F,
}

impl<S: Subscriber, F: Fn(&str) + Send + Sync + 'static> Layer<S> for PrintLayer<F> {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _context: Context<'_, S>) -> bool {
        // Libraries emit events too, which say nothing about the command of the user.
        metadata.target().starts_with("codex_manager")
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        (self.print)(&fields.message);
    }
}
