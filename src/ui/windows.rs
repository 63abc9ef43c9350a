//! Quota windows as bars for people and as objects for scripts.

use super::time::{self, rfc3339_of};
use super::{Style, Ui};
use crate::codex::window::{CODEX_LIMIT, SpendCap, Window};
use crate::io::clock::{Timestamp, Zone};
use crate::quota::window::Observation;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// The length of a bar in characters.
const BAR_CELLS: usize = 8;

/// A window in JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct WindowJson {
    limit_id: String,
    label: String,
    minutes: Option<u32>,
    used_percent: f64,
    resets_at: Option<String>,
}

impl From<&Window> for WindowJson {
    fn from(window: &Window) -> Self {
        Self {
            limit_id: window.limit_id.clone(),
            label: window.label(),
            minutes: window.minutes,
            used_percent: window.used_percent,
            resets_at: window.resets_at.as_ref().map(rfc3339_of),
        }
    }
}

/// The figures of an observation in JSON output.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct QuotaJson {
    pub(crate) windows: Vec<WindowJson>,
    pub(crate) spend_cap: Option<SpendCapJson>,
}

impl From<&Observation> for QuotaJson {
    fn from(observation: &Observation) -> Self {
        Self {
            windows: observation.windows.iter().map(Into::into).collect(),
            spend_cap: observation.spend_cap.map(Into::into),
        }
    }
}

/// A spend cap in JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SpendCapJson {
    kind: &'static str,
    resets_at: Option<String>,
}

impl From<SpendCap> for SpendCapJson {
    fn from(cap: SpendCap) -> Self {
        Self {
            kind: cap.kind.name(),
            resets_at: cap.resets_at.as_ref().map(rfc3339_of),
        }
    }
}

/// A line for each window (label, bar, percentage, reset), and one for a spend cap.
pub(crate) fn lines(
    ui: &Ui,
    observation: &Observation,
    zone: Zone,
    now: &DateTime<Utc>,
) -> Vec<String> {
    let windows = &observation.windows;
    let labels: Vec<_> = windows.iter().map(label).collect();
    let width = labels.iter().map(|l| l.chars().count()).max();
    let width = width.unwrap_or(0).max("weekly".len());
    labels
        .iter()
        .zip(windows)
        .map(|(label, window)| format!("{label:<width$}  {}", line(ui, window, zone, now)))
        .chain(
            observation
                .spend_cap
                .map(|cap| cap_line(ui, cap, zone, now)),
        )
        .collect()
}

fn cap_line(ui: &Ui, cap: SpendCap, zone: Zone, now: &DateTime<Utc>) -> String {
    let what = cap.describe();
    let when = |at: Timestamp| time::full(&at.to_utc(), zone, now);
    match cap.resets_at {
        Some(at) if cap.is_over(now) => format!("{what}; reset since {}", when(at)),
        Some(at) => format!("{}, resets {}", ui.paint(Style::Bad, what), when(at)),
        None => format!("{}; no reset known", ui.paint(Style::Bad, what)),
    }
}

/// "source: live, seen Fri 20 Nov 12:00, 5 min ago": where figures come from and how old they are.
pub(crate) fn origin(observation: &Observation, zone: Zone, now: &DateTime<Utc>) -> String {
    format!(
        "source: {}, recorded {}",
        observation.source.name(),
        time::full(&observation.observed_at.to_utc(), zone, now)
    )
}

/// Returns the label of a window; with its limit, if that is not Codex's own.
pub(crate) fn label(window: &Window) -> String {
    if window.limit_id == CODEX_LIMIT {
        window.label()
    } else {
        format!("{} {}", window.limit_id, window.label())
    }
}

fn line(ui: &Ui, window: &Window, zone: Zone, now: &DateTime<Utc>) -> String {
    let when = window
        .resets_at
        .map(|at| time::full(&at.to_utc(), zone, now));
    let left = (100.0 - window.used_percent).clamp(0.0, 100.0);
    if window.is_over(now) {
        let bar = ui.paint(Style::Dim, bar(100.0));
        let when = when.unwrap_or_default();
        return format!(
            "{bar} 100 % left, reset {when}; before: {} % left",
            percent(left)
        );
    }
    let word = if left <= 0.0 { ", exhausted" } else { "" };
    let bar = ui.paint(style_of(left), bar(left));
    let when = when.map_or(String::new(), |when| format!(", resets {when}"));
    format!("{bar} {:>3} % left{word}{when}", percent(left))
}

/// Returns the style of what is left of a window, in percent.
pub(crate) fn style_of(left: f64) -> Style {
    match left {
        left if left <= 0.0 => Style::Bad,
        left if left <= 20.0 => Style::Warn,
        _ => Style::Good,
    }
}

/// Draws what is left of a window, in percent.
pub(crate) fn bar(left: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the number of cells"
    )]
    let mut full = (left.clamp(0.0, 100.0) / 100.0 * BAR_CELLS as f64).round() as usize;
    // A window that is not exhausted never looks empty, and a used one never looks full.
    if full == 0 && left >= 0.5 {
        full = 1;
    }
    if full == BAR_CELLS && left < 99.5 {
        full = BAR_CELLS - 1;
    }
    format!("{}{}", "█".repeat(full), "░".repeat(BAR_CELLS - full))
}

/// Whole where it is whole, else with one digit behind the point.
fn percent(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), Into::into)
}
