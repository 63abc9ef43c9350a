//! The forecast of an account's weekly window, as a hint. No state and no rank depends on the forecast.

use crate::context::Context;
use chrono::{DateTime, Utc};
use codex_manager_core::quota::state::{AccountState, Verdict};
use codex_manager_core::quota::{Account, AccountEntry};
use codex_manager_core::usage::window::{Pace, forecast_pace};

/// Returns the forecast of the weekly window. `None` without figures of it.
fn forecast_week(entry: &AccountEntry, context: &Context) -> Option<Pace> {
    let observation = entry.observation.as_ref()?;
    let observed_at = observation.observed_at.to_utc();
    forecast_pace(observation.weekly()?, observed_at, context.now())
}

/// Returns the forecast in few words: `on pace`, `exhausted on Fri`, `exhausted today`, `exhausted`; empty if
/// it is not known.
pub(crate) fn format_pace(entry: &AccountEntry, context: &Context) -> String {
    let zone = context.zone();
    let day = |at: &DateTime<Utc>| zone.at(at).date_naive();
    match forecast_week(entry, context) {
        None => String::new(),
        Some(Pace::Lasts) => "on pace".into(),
        Some(Pace::Exhausted) => "exhausted".into(),
        Some(Pace::ExhaustedAt(at)) if day(&at) == day(&context.now()) => "exhausted today".into(),
        Some(Pace::ExhaustedAt(at)) => format!("exhausted on {}", zone.at(&at).format("%a")),
    }
}

/// Returns `at this pace, the weekly quota runs out on Fri 27 Nov` if the weekly window of the live account will be
/// used up before its reset. Returns `None` for other accounts: they are not in use, so the forecast does not apply.
pub(crate) fn format_exhaustion_hint(
    account: &Account,
    verdict: &Verdict,
    context: &Context,
) -> Option<String> {
    if !account.current || verdict.state != AccountState::Ready {
        return None;
    }
    let Pace::ExhaustedAt(at) = forecast_week(&account.entry, context)? else {
        return None;
    };
    let day = context.zone().at(&at).format("%a %-d %b");
    Some(format!("at this pace, the weekly quota runs out on {day}"))
}
