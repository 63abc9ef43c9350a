//! Reads the answer to `account/rateLimits/read`.

use super::{ProbeFailure, text};
use crate::codex::window::{CODEX_LIMIT, CapKind, SpendCap, Window};
use crate::io::clock::{Timestamp, Zone};
use chrono::{DateTime, Duration, Utc};
use serde_json::Value;
use std::ops::RangeInclusive;

/// The end of the year 2199.
const LAST_SECOND: f64 = 7_258_118_399.0;

/// The `rateLimitReachedType` of the windows; other types name a limit on spending.
const WINDOWS_REACHED: &str = "rate_limit_reached";

/// The quota of an account as the server declares it now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccountLimits {
    /// The windows of all limits.
    pub windows: Vec<Window>,
    /// `ordinaryUsageAllowed`, if the server sends it; false where it names a window as reached.
    pub usage_allowed: Option<bool>,
    /// The limit on spending that is used up.
    pub spend_cap: Option<SpendCap>,
    /// The plan, if the server sends it.
    pub plan: Option<String>,
    /// The workspace account id of the figures, if the server sends it.
    pub account_id: Option<String>,
    /// The number of windows that make no sense.
    pub unreadable_windows: usize,
}

impl AccountLimits {
    /// Reads an answer that was given at `now`.
    pub(super) fn read(
        result: &Value,
        now: DateTime<Utc>,
        zone: Zone,
    ) -> Result<Self, ProbeFailure> {
        let Some(answer) = result.as_object() else {
            return Err(ProbeFailure::Protocol("rate limits are no object".into()));
        };
        let main = answer.get("rateLimits").filter(|limit| limit.is_object());
        let mut limits = Self {
            usage_allowed: answer.get("ordinaryUsageAllowed").and_then(Value::as_bool),
            plan: main.and_then(|limit| text(limit, "planType")),
            account_id: text(result, "accountId"),
            ..Self::default()
        };
        let mut seen = Vec::new();
        let by_id = answer.get("rateLimitsByLimitId").and_then(Value::as_object);
        let others = by_id.into_iter().flatten();
        let all = main
            .map(|limit| (CODEX_LIMIT, limit))
            .into_iter()
            .chain(others.map(|(id, limit)| (id.as_str(), limit)));
        for (id, limit) in all {
            let id = text(limit, "limitId").unwrap_or_else(|| id.to_owned());
            // `rateLimits` is repeated among those by id.
            if seen.contains(&id) {
                continue;
            }
            limits.add_windows(&id, limit, now, zone);
            if id == CODEX_LIMIT {
                limits.spend_cap = spend_cap(limit, zone);
                if text(limit, "rateLimitReachedType").as_deref() == Some(WINDOWS_REACHED) {
                    limits.usage_allowed = Some(false);
                }
            }
            seen.push(id);
        }
        Ok(limits)
    }

    /// Adds the windows of one limit: whatever looks like one, by whatever name; "primary" and
    /// "secondary" come first because they sort so.
    fn add_windows(&mut self, limit_id: &str, limit: &Value, now: DateTime<Utc>, zone: Zone) {
        for part in limit.as_object().into_iter().flat_map(|o| o.values()) {
            if part.get("usedPercent").is_none() || part.get("windowDurationMins").is_none() {
                continue;
            }
            match window_of(limit_id, part, now, zone) {
                Some(window) => self.windows.push(window),
                None => self.unreadable_windows += 1,
            }
        }
    }
}

/// `None` where a figure is no number or no sensible one. Some servers count a little beyond 100 %,
/// which is kept; milliseconds taken for seconds would lie far beyond the last time allowed here.
fn window_of(limit_id: &str, part: &Value, now: DateTime<Utc>, zone: Zone) -> Option<Window> {
    let minutes = optional(part, "windowDurationMins", 1.0..=5_256_000.0)?;
    // Codex 0.4x sends a span.
    let in_seconds = optional(part, "resetsInSeconds", 0.0..=LAST_SECOND)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ranges are checked above"
    )]
    Some(Window {
        limit_id: limit_id.to_owned(),
        minutes: minutes.map(|minutes| minutes as u32),
        used_percent: part
            .get("usedPercent")
            .and_then(Value::as_f64)
            .filter(|used| (0.0..=10_000.0).contains(used))?,
        resets_at: resets_at(part, zone)?.or_else(|| {
            let at = now.checked_add_signed(Duration::seconds(in_seconds? as i64))?;
            Some(zone.at(&at))
        }),
    })
}

/// The limit on spending that is used up. `individualLimit` is the amount that an administrator or the
/// user allows; credits that were bought have no reset.
fn spend_cap(limit: &Value, zone: Zone) -> Option<SpendCap> {
    let reached = text(limit, "rateLimitReachedType").unwrap_or_default();
    let individual = limit.get("individualLimit");
    let left = individual.and_then(|it| it.get("remainingPercent")?.as_f64());
    let is_capped = left.is_some_and(|left| left <= 0.0)
        || limit.get("spendControlReached").and_then(Value::as_bool) == Some(true)
        || (reached.ends_with("_limit_reached") && reached != WINDOWS_REACHED);
    if is_capped {
        return Some(SpendCap {
            kind: CapKind::SpendLimit,
            resets_at: individual.and_then(|it| resets_at(it, zone)?),
        });
    }
    reached.ends_with("_credits_depleted").then_some(SpendCap {
        kind: CapKind::Credits,
        resets_at: None,
    })
}

/// `Some(None)` where there is no reset, `None` where it makes no sense.
#[allow(clippy::option_option, reason = "the three cases are three")]
fn resets_at(part: &Value, zone: Zone) -> Option<Option<Timestamp>> {
    let seconds = optional(part, "resetsAt", 1.0..=LAST_SECOND)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range is checked above"
    )]
    let at = seconds.and_then(|at| DateTime::from_timestamp(at as i64, 0));
    Some(at.map(|at| zone.at(&at)))
}

/// The figure `key`, which may be absent or null: `Some(None)`. `None` where it is something else
/// than a number within `range`.
#[allow(clippy::option_option, reason = "the three cases are three")]
fn optional(part: &Value, key: &str, range: RangeInclusive<f64>) -> Option<Option<f64>> {
    match part.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_f64().filter(|v| range.contains(v)).map(Some),
    }
}
