//! The `tracing` layers: one writes events to the log, that of `--verbose` prints them.

use super::line::{self, FieldValue, LogFormat};
use super::settings::LogContext;
use super::severity::Severity;
use super::writer::LogWriter;
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The `tracing` layer that writes events to the log.
#[derive(Debug)]
pub(super) struct LogLayer {
    pub(super) writer: Arc<LogWriter>,
    pub(super) level: Severity,
    pub(super) format: LogFormat,
    pub(super) context: LogContext,
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
            severity: Severity::from_level(*event.metadata().level()),
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
    others: Vec<(&'static str, FieldValue)>,
}

impl EventFields {
    fn store(&mut self, field: &Field, value: FieldValue) {
        if field.name() == "message" {
            self.message = value.into_text();
        } else {
            self.others.push((field.name(), value));
        }
    }
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.store(field, FieldValue::text(field.name(), value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.store(field, FieldValue::Integer(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.store(field, FieldValue::Integer(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.store(field, FieldValue::Boolean(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.store(field, FieldValue::text(field.name(), &text));
    }
}

/// Passes each later event of this process to `print`, in one line without its fields. Has no effect in a
/// process that has a log already.
pub(crate) fn print_events(print: impl Fn(&str) + Send + Sync + 'static) {
    let subscriber = tracing_subscriber::registry().with(StepLayer { print });
    // There can be one subscriber, and it cannot be removed.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct StepLayer<F> {
    print: F,
}

impl<S: Subscriber, F: Fn(&str) + Send + Sync + 'static> Layer<S> for StepLayer<F> {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _context: Context<'_, S>) -> bool {
        // Libraries emit events too, which say nothing about the command of the user.
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        (self.print)(&fields.message);
    }
}
