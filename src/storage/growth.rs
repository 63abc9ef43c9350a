//! How fast conversations grow, from what the last weeks added.

use super::RolloutUsage;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// Over how many days growth is seen.
const GROWTH_DAYS: i64 = 30;

/// Growth as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Growth {
    /// Over how many days.
    pub days: i64,
    /// How many bytes of conversations that began in these days there are.
    pub bytes: u64,
    /// How many bytes that is a day.
    pub bytes_per_day: u64,
}

/// What the conversations that began in the last 30 days weigh; `None` where there are none, or
/// all of them are of today.
pub(super) fn of(rollouts: &[RolloutUsage], now: DateTime<Utc>) -> Option<Growth> {
    let today = now.date_naive();
    let first = today - TimeDelta::days(GROWTH_DAYS);
    let recent: Vec<_> = rollouts
        .iter()
        .filter_map(|found| {
            let day = found.began.or(found.changed.map(|at| at.date_naive()))?;
            (day > first && day <= today).then_some((day, found.bytes))
        })
        .collect();
    let oldest = rollouts
        .iter()
        .filter_map(|found| found.began)
        .min()
        .or_else(|| recent.iter().map(|(day, _)| *day).min())?;
    let days = (today - oldest.max(first)).num_days();
    let bytes: u64 = recent.iter().map(|(_, bytes)| bytes).sum();
    let divisor = u64::try_from(days).ok().filter(|days| *days > 0)?;
    Some(Growth {
        days,
        bytes,
        bytes_per_day: bytes / divisor,
    })
}
