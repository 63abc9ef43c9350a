//! Quota windows as bars for people and as objects for scripts.

use super::{JsonFields, JsonObject, Style, Ui, chart, object, time};
use chrono::{DateTime, Utc};
use codex_manager_core::codex::window::{CODEX_LIMIT, SpendCap, Window};
use codex_manager_core::io::clock::{Timestamp, Zone};
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::quota::window::Observation;
use serde::Serialize;

/// The label of the line with the banked resets.
const BANKED: &str = "banked";

/// The length of a bar in characters.
const BAR_CELLS: usize = 8;

/// Returns the name of a window in JSON. The keys are an interface.
pub(crate) fn window_name_json(window: &Window) -> JsonObject<impl JsonFields + use<>> {
    object()
        .with("limit_id", window.limit_id.clone())
        .with("label", window.label())
        .with("minutes", window.minutes)
}

/// Returns a window in JSON. The keys are an interface.
pub(crate) fn window_json(window: &Window, zone: Zone) -> impl Serialize + use<> {
    let resets_at = window.resets_at.as_ref();
    let resets_at = resets_at.map(|at| time::rfc3339(&at.to_utc(), zone));
    window_name_json(window)
        .with("used_percent", window.used_percent)
        .with("resets_at", resets_at)
}

/// Returns the figures of an observation in JSON, without banked resets that have expired since the observation.
pub(crate) fn quota_json(
    quota: Option<&Observation>,
    zone: Zone,
    now: &DateTime<Utc>,
) -> JsonObject<impl JsonFields + use<>> {
    // Stored resets may have another offset.
    let time = |at: &Timestamp| time::rfc3339(&at.to_utc(), zone);
    let windows = quota.iter().flat_map(|quota| &quota.windows);
    let windows_json = windows.map(|window| window_json(window, zone));

    let cap = quota.and_then(|quota| quota.spend_cap);
    let cap_json = cap.map(|cap| {
        let resets_at = cap.resets_at.as_ref().map(time);
        object().with("kind", cap.kind).with("resets_at", resets_at)
    });

    let reset_credits = quota.and_then(|quota| quota.reset_credits.as_ref());
    let reset_credits_json = reset_credits.map(|reset_credits| {
        let unexpired = reset_credits.unexpired_at(now);
        let expires_at: Vec<_> = unexpired.expires_at.iter().map(time).collect();
        object()
            .with("available", unexpired.available)
            .with("expires_at", expires_at)
    });

    object()
        .with("windows", windows_json.collect::<Vec<_>>())
        .with("spend_cap", cap_json)
        .with("reset_credits", reset_credits_json)
}

/// Returns a line for each window (label, bar, percentage, reset), one for banked resets, and one for a spend cap.
pub(crate) fn format_window_lines(
    ui: &Ui,
    observation: &Observation,
    zone: Zone,
    now: &DateTime<Utc>,
) -> Vec<String> {
    let windows = &observation.windows;
    let labels: Vec<_> = windows.iter().map(label).collect();
    let width = labels.iter().map(|l| l.chars().count()).max();
    let width = width.unwrap_or(0).max(BANKED.len());

    let mut lines = Vec::new();
    for (label, window) in labels.iter().zip(windows) {
        let quota = format_line(ui, window, zone, now);
        lines.push(format!("{label:<width$}  {quota}"));
    }
    let resets = format_resets(observation, zone, now);
    lines.extend(resets.map(|text| format!("{BANKED:<width$}  {text}")));
    let cap = observation.spend_cap;
    lines.extend(cap.map(|cap| format_cap(ui, cap, zone, now)));
    lines
}

/// Formats the banked resets as "2 resets, one until Fri 28 Nov"; `None` if none is left or their number is unknown.
pub(crate) fn format_resets(
    observation: &Observation,
    zone: Zone,
    now: &DateTime<Utc>,
) -> Option<String> {
    let unexpired = observation.reset_credits.as_ref()?.unexpired_at(now);
    let (available, expires_at) = (unexpired.available, unexpired.expires_at);

    let count = pluralize(available, "reset");
    let day = |at: &Timestamp| time::format_day(&at.to_utc(), zone, now);
    let Some(first_day) = expires_at.first().map(day) else {
        return (available > 0).then_some(count);
    };

    let expiring_count = expires_at.iter().filter(|at| day(at) == first_day).count();
    Some(match expiring_count {
        _ if expiring_count >= available as usize => format!("{count} until {first_day}"),
        1 => format!("{count}, one until {first_day}"),
        _ => format!("{count}, {expiring_count} until {first_day}"),
    })
}

fn format_cap(ui: &Ui, cap: SpendCap, zone: Zone, now: &DateTime<Utc>) -> String {
    let text = cap.describe();
    let when = |at: Timestamp| time::format_full(&at.to_utc(), zone, now);
    match cap.resets_at {
        Some(at) if cap.is_over(now) => format!("{text}; was reset {}", when(at)),
        Some(at) => format!("{}, resets {}", ui.paint(Style::Bad, text), when(at)),
        None => format!("{}; no reset known", ui.paint(Style::Bad, text)),
    }
}

/// Formats the origin of an observation as "source: live, recorded Fri 20 Nov 12:00, 5 min ago".
pub(crate) fn format_origin(observation: &Observation, zone: Zone, now: &DateTime<Utc>) -> String {
    format!(
        "source: {}, recorded {}",
        observation.source.name(),
        time::format_full(&observation.observed_at.to_utc(), zone, now)
    )
}

/// Returns the label of a window, preceded by the id of its limit if that is not the main limit of Codex.
pub(crate) fn label(window: &Window) -> String {
    if window.limit_id == CODEX_LIMIT {
        window.label()
    } else {
        format!("{} {}", window.limit_id, window.label())
    }
}

fn format_line(ui: &Ui, window: &Window, zone: Zone, now: &DateTime<Utc>) -> String {
    let resets_at = window.resets_at;
    let reset = resets_at.map(|at| time::format_full(&at.to_utc(), zone, now));
    let percent_left = (100.0 - window.used_percent).clamp(0.0, 100.0);

    // Codex reports a new window only with the next request. Until then, an ended one is shown as free, with its last
    // figure.
    if window.is_over(now) {
        let bar = ui.paint(Style::Dim, draw_bar(100.0));
        let reset = reset.unwrap_or_default();
        return format!(
            "{bar} 100 % left, reset {reset}; before: {} % left",
            format_percent(percent_left)
        );
    }

    let is_exhausted = percent_left <= 0.0;
    let exhausted_text = if is_exhausted { ", exhausted" } else { "" };
    let bar = ui.paint(style_of(percent_left), draw_bar(percent_left));
    let reset = reset.map_or(String::new(), |reset| format!(", resets {reset}"));
    let percent = format_percent(percent_left);
    format!("{bar} {percent:>3} % left{exhausted_text}{reset}")
}

/// Returns the style for the remaining percentage of a window.
pub(crate) fn style_of(percent_left: f64) -> Style {
    match percent_left {
        percent_left if percent_left <= 0.0 => Style::Bad,
        percent_left if percent_left <= 20.0 => Style::Warn,
        _ => Style::Good,
    }
}

/// Draws the remaining percentage of a window as a bar.
pub(crate) fn draw_bar(percent: f64) -> String {
    // A window that is not exhausted never looks empty, and a used one never looks full.
    let filled = match percent {
        percent if percent < 0.5 => 0,
        percent if percent < 99.5 => chart::to_steps(percent, 100.0, BAR_CELLS).min(BAR_CELLS - 1),
        _ => BAR_CELLS,
    };
    "█".repeat(filled) + &"░".repeat(BAR_CELLS - filled)
}

/// Formats a number with one decimal place, or with none if it is whole.
fn format_percent(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), Into::into)
}
