//! Parses the answer to `account/rateLimits/read`.

use super::ProbeFailure;
use crate::codex::auth::text_field;
use crate::codex::window::{
    CODEX_LIMIT, CapKind, MAX_WINDOW_MINUTES, ResetCredits, SpendCap, Window,
};
use crate::io::clock::{Timestamp, Zone};
use chrono::{DateTime, Duration, Utc};
use serde_json::Value;
use std::ops::RangeInclusive;

/// The latest accepted time in seconds since 1970: the end of the year 2199. Larger numbers are
/// milliseconds.
const LAST_SECOND: f64 = 7_258_118_399.0;

/// The largest accepted percentage. Some servers report slightly more than 100 % used.
const MAX_USED_PERCENT: f64 = 10_000.0;

/// The `rateLimitReachedType` for an exhausted window; other types name a limit on spending.
const WINDOWS_REACHED: &str = "rate_limit_reached";

/// The quota windows and limits of an account as the server reports them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccountLimits {
    pub windows: Vec<Window>,
    /// `ordinaryUsageAllowed`, if the server sends it; false if the server names a window as reached.
    pub usage_allowed: Option<bool>,
    /// The limit on spending that is used up, if any.
    pub spend_cap: Option<SpendCap>,
    /// The banked resets, if the server sends their number.
    pub reset_credits: Option<ResetCredits>,
    pub plan: Option<String>,
    /// The workspace account id of the account that the limits belong to, if the server sends it.
    pub account_id: Option<String>,
    /// The number of windows with invalid figures, which are not in `windows`.
    pub unreadable_windows: usize,
}

impl AccountLimits {
    /// Parses an answer that arrived at `now`.
    pub(super) fn parse(
        result: &Value,
        now: DateTime<Utc>,
        zone: Zone,
    ) -> Result<Self, ProbeFailure> {
        let Some(answer) = result.as_object() else {
            return Err(ProbeFailure::Protocol(
                "the rate limits are not a JSON object".into(),
            ));
        };

        let main_limit = answer.get("rateLimits").filter(|limit| limit.is_object());
        let mut limits = Self {
            usage_allowed: result["ordinaryUsageAllowed"].as_bool(),
            reset_credits: parse_reset_credits(&result["rateLimitResetCredits"], now, zone),
            plan: main_limit.and_then(|limit| text_field(limit, "planType")),
            account_id: text_field(result, "accountId"),
            ..Self::default()
        };

        let mut added_ids = Vec::new();
        let limits_by_id = answer.get("rateLimitsByLimitId").and_then(Value::as_object);
        let named_limits = limits_by_id.into_iter().flatten();
        let all_limits = main_limit
            .map(|limit| (CODEX_LIMIT, limit))
            .into_iter()
            .chain(named_limits.map(|(id, limit)| (id.as_str(), limit)));

        for (key, limit) in all_limits {
            let id = text_field(limit, "limitId").unwrap_or_else(|| key.to_owned());
            // `rateLimitsByLimitId` repeats the limit in `rateLimits`.
            if added_ids.contains(&id) {
                continue;
            }

            limits.add_windows(&id, limit, now, zone);
            if id == CODEX_LIMIT {
                limits.spend_cap = parse_spend_cap(limit, zone);
                if text_field(limit, "rateLimitReachedType").as_deref() == Some(WINDOWS_REACHED) {
                    limits.usage_allowed = Some(false);
                }
            }
            added_ids.push(id);
        }

        Ok(limits)
    }

    /// Adds the windows of one limit, in the order of the names of their fields. Any field with the keys of a window is
    /// one, because Codex may add windows besides `primary` and `secondary`.
    fn add_windows(&mut self, limit_id: &str, limit: &Value, now: DateTime<Utc>, zone: Zone) {
        for field in limit.as_object().into_iter().flat_map(|o| o.values()) {
            if field.get("usedPercent").is_none() || field.get("windowDurationMins").is_none() {
                continue;
            }
            match parse_window(limit_id, field, now, zone) {
                Some(window) => self.windows.push(window),
                None => self.unreadable_windows += 1,
            }
        }
    }
}

/// Parses one window; `None` if a figure is no number or out of range, such as a time in milliseconds.
fn parse_window(limit_id: &str, object: &Value, now: DateTime<Utc>, zone: Zone) -> Option<Window> {
    let used_percent = object["usedPercent"].as_f64();
    let max_minutes = f64::from(MAX_WINDOW_MINUTES);
    let minutes = parse_optional_number(object, "windowDurationMins", 1.0..=max_minutes)?;

    // Codex 0.4x sends no time of the reset, but the time until then.
    let seconds_until_reset = parse_optional_number(object, "resetsInSeconds", 0.0..=LAST_SECOND)?;

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the ranges are checked above"
    )]
    Some(Window {
        limit_id: limit_id.to_owned(),
        minutes: minutes.map(|minutes| minutes as u32),
        used_percent: used_percent.filter(|used| (0.0..=MAX_USED_PERCENT).contains(used))?,
        resets_at: parse_time(object, "resetsAt", zone)?.or_else(|| {
            let at = now.checked_add_signed(Duration::seconds(seconds_until_reset? as i64))?;
            Some(zone.at(&at))
        }),
    })
}

/// Returns the limit on spending that is used up, if any. `individualLimit` is the maximum that an
/// administrator or the user has set. Bought credits have no reset.
fn parse_spend_cap(limit: &Value, zone: Zone) -> Option<SpendCap> {
    let reached_type = text_field(limit, "rateLimitReachedType").unwrap_or_default();
    let individual_limit = limit.get("individualLimit");
    let remaining_percent = individual_limit.and_then(|cap| cap.get("remainingPercent")?.as_f64());
    let is_capped = remaining_percent.is_some_and(|percent| percent <= 0.0)
        || limit.get("spendControlReached").and_then(Value::as_bool) == Some(true)
        || (reached_type.ends_with("_limit_reached") && reached_type != WINDOWS_REACHED);

    if is_capped {
        return Some(SpendCap {
            kind: CapKind::SpendLimit,
            resets_at: individual_limit.and_then(|cap| parse_time(cap, "resetsAt", zone).flatten()),
        });
    }

    let are_credits_used_up = reached_type.ends_with("_credits_depleted");
    are_credits_used_up.then_some(SpendCap {
        kind: CapKind::Credits,
        resets_at: None,
    })
}

/// Parses the banked resets; `None` if their number is unknown. If the server cannot list the resets, it sends only
/// their number. The list may contain spent resets, and resets that have expired since the server counted.
fn parse_reset_credits(credits: &Value, now: DateTime<Utc>, zone: Zone) -> Option<ResetCredits> {
    let available_count = u32::try_from(credits.get("availableCount")?.as_u64()?).ok()?;

    let listed_credits = credits.get("credits").and_then(Value::as_array);
    let is_available =
        |credit: &&Value| text_field(credit, "status").as_deref() == Some("available");
    let available_credits = listed_credits.into_iter().flatten().filter(is_available);
    let expiry_times: Vec<_> = available_credits
        .map(|credit| parse_time(credit, "expiresAt", zone).flatten())
        .collect();

    let mut spendable_count = available_count;
    // Only a complete list shows how many of the counted resets have expired since.
    if expiry_times.len() >= available_count as usize {
        let is_unexpired = |expiry: &&Option<Timestamp>| expiry.is_none_or(|at| at > now);
        let unexpired_count = expiry_times.iter().filter(is_unexpired).count();
        spendable_count = spendable_count.min(u32::try_from(unexpired_count).unwrap_or(u32::MAX));
    }

    let unexpired = expiry_times.into_iter().flatten().filter(|at| *at > now);
    let mut expires_at: Vec<_> = unexpired.collect();
    expires_at.sort_unstable();

    Some(ResetCredits {
        available: spendable_count,
        expires_at,
    })
}

/// Parses the time `key`: `Some(None)` if it is absent, `None` if it is invalid.
#[allow(clippy::option_option, reason = "absent, valid and invalid differ")]
fn parse_time(object: &Value, key: &str, zone: Zone) -> Option<Option<Timestamp>> {
    let seconds = parse_optional_number(object, key, 1.0..=LAST_SECOND)?;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the range is checked above"
    )]
    let at = seconds.and_then(|at| DateTime::from_timestamp(at as i64, 0));
    Some(at.map(|at| zone.at(&at)))
}

/// Parses the number `key`: `Some(None)` if it is absent or null, `None` if it is no number within
/// `range`.
#[allow(clippy::option_option, reason = "absent, valid and invalid differ")]
fn parse_optional_number(
    object: &Value,
    key: &str,
    range: RangeInclusive<f64>,
) -> Option<Option<f64>> {
    match object.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_f64().filter(|v| range.contains(v)).map(Some),
    }
}
