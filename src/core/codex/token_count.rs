//! Token counts of rollouts: their time, and the quota windows at that time.
//!
//! The windows of Codex 0.169 name no account, so a caller has to attribute them by other evidence.

use super::window::{CODEX_LIMIT, Window};
use crate::io::clock::Timestamp;
use chrono::{DateTime, TimeDelta};
use serde::Deserialize;

/// One `token_count` event of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenCount {
    /// The time at which Codex wrote the line.
    pub at: Timestamp,
    /// The windows of its `rate_limits`; empty if the server sent none.
    pub windows: Vec<Window>,
}

#[derive(Deserialize)]
pub(super) struct RateLimits {
    limit_id: Option<String>,
    primary: Option<RateLimitWindow>,
    secondary: Option<RateLimitWindow>,
}

#[derive(Deserialize)]
struct RateLimitWindow {
    used_percent: f64,
    window_minutes: Option<u32>,
    /// The reset in seconds since 1970.
    resets_at: Option<i64>,
    /// Written before 0.50 instead of `resets_at`.
    resets_in_seconds: Option<i64>,
}

impl RateLimits {
    /// Returns the windows that the server sent at `at`.
    pub(super) fn into_windows(self, at: Timestamp) -> Vec<Window> {
        let limit_id = self.limit_id.unwrap_or_else(|| CODEX_LIMIT.to_owned());
        let windows = [self.primary, self.secondary].into_iter().flatten();
        let windows = windows.map(|window| Window {
            limit_id: limit_id.clone(),
            minutes: window.window_minutes,
            used_percent: window.used_percent,
            resets_at: match (window.resets_at, window.resets_in_seconds) {
                (Some(seconds), _) => {
                    DateTime::from_timestamp(seconds, 0).map(|at| at.fixed_offset())
                }
                (None, Some(seconds)) => {
                    TimeDelta::try_seconds(seconds).and_then(|span| at.checked_add_signed(span))
                }
                (None, None) => None,
            },
        });
        windows.collect()
    }
}
