//! Estimates the growth of conversations from the last 30 days.

use super::rollout_usage::RolloutUsage;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

/// The longest period, in days, over which growth is measured.
const GROWTH_DAYS: i64 = 30;

/// The measured growth of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Growth {
    /// The length of the period, at most 30 days.
    pub days: i64,
    /// The size of conversations that began in the period.
    pub bytes: u64,
    /// The average growth per day.
    pub bytes_per_day: u64,
}

/// Measures the conversations that began in the last 30 days. Returns `None` if there are no
/// conversations, or all are of today.
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
