//! The `tracing` layer of `--verbose`: prints each event instead of writing it to a log.

use super::layer::EventFields;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Passes each later event of this process to `print`, in one line without its fields. Has no effect in a
/// process that has a log already.
pub(crate) fn print_events(print: impl Fn(&str) + Send + Sync + 'static) {
    let subscriber = tracing_subscriber::registry().with(StepLayer { print });
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct StepLayer<F> {
    print: F,
}

impl<S: Subscriber, F: Fn(&str) + Send + Sync + 'static> Layer<S> for StepLayer<F> {
    fn enabled(&self, metadata: &Metadata<'_>, _context: Context<'_, S>) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        (self.print)(&fields.message);
    }
}
