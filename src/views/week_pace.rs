//! The forecast of an account's weekly window, for prompts. No state and no rank depends on the forecast.

use crate::context::Context;
use crate::quota::account::AccountEntry;
use crate::usage::window::{Pace, forecast_pace};
use chrono::{DateTime, Utc};

/// Returns the forecast in few words: `on pace`, `exhausted on Fri`, `exhausted today`, `exhausted`; empty if
/// it is not known.
pub(crate) fn format_pace(entry: &AccountEntry, context: &Context) -> String {
    let observation = entry.observation.as_ref();
    let pace = observation.and_then(|observation| {
        let observed_at = observation.observed_at.to_utc();
        forecast_pace(observation.weekly()?, observed_at, context.now())
    });
    let zone = context.zone();
    let day = |at: &DateTime<Utc>| zone.at(at).date_naive();
    match pace {
        None => String::new(),
        Some(Pace::Lasts) => "on pace".into(),
        Some(Pace::Exhausted) => "exhausted".into(),
        Some(Pace::ExhaustedAt(at)) if day(&at) == day(&context.now()) => "exhausted today".into(),
        Some(Pace::ExhaustedAt(at)) => format!("exhausted on {}", zone.at(&at).format("%a")),
    }
}
