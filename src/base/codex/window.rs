//! Quota windows as Codex's server declares them.

use crate::io::clock::{Timestamp, fast_time};
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

/// The limit id of Codex's own windows. Windows of other limits are shown, but do not affect the state
/// of an account.
pub const CODEX_LIMIT: &str = "codex";

/// The length of the weekly window in minutes.
pub const WEEKLY_MINUTES: u32 = 10_080;

/// The longest accepted window: ten years.
pub(crate) const MAX_WINDOW_MINUTES: u32 = 5_256_000;

/// The time before its expiry at which a banked reset is announced.
const EXPIRY_NOTICE: Duration = Duration::days(3);

pub const WEEKLY_LABEL: &str = "weekly";

/// A limit on spending that is used up. Codex refuses the account although its windows have quota left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendCap {
    pub kind: CapKind,
    /// The time of the reset; `None` if the server does not report one.
    pub resets_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapKind {
    /// The maximum that an administrator or the user has set.
    SpendLimit,
    /// The balance of bought credits.
    Credits,
}

impl SpendCap {
    /// Describes the reached limit in a few words, for messages.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            CapKind::SpendLimit => "spend limit reached",
            CapKind::Credits => "credits used up",
        }
    }

    /// Returns true if the reset of the limit has passed, so that it no longer counts.
    pub fn is_over(&self, now: &DateTime<Utc>) -> bool {
        self.resets_at.is_some_and(|at| at <= *now)
    }
}

/// Banked resets of the weekly window, which the user can spend in Codex. This program never spends one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetCredits {
    /// The number of resets that can be spent.
    pub available: u32,
    /// The known expiries, earliest first. Resets without one do not expire, or the server does not list them.
    #[serde(default)]
    pub expires_at: Vec<Timestamp>,
}

impl ResetCredits {
    /// Returns the resets that have not expired at `now`.
    #[must_use]
    pub fn unexpired_at(&self, now: &DateTime<Utc>) -> Self {
        let expired = self.expires_at.partition_point(|at| *at <= *now);
        let expired_count = u32::try_from(expired).unwrap_or(u32::MAX);
        Self {
            available: self.available.saturating_sub(expired_count),
            expires_at: self.expires_at[expired..].to_vec(),
        }
    }

    /// Returns the next expiry if it is less than three days ahead.
    pub fn next_expiry_if_soon(&self, now: &DateTime<Utc>) -> Option<Timestamp> {
        let expiry = self.expires_at.iter().find(|at| **at > *now)?;
        (*expiry - EXPIRY_NOTICE < *now).then_some(*expiry)
    }
}

/// One quota window, as the server or a status screen shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// The id of the limit that the window belongs to; [`CODEX_LIMIT`] for Codex's own windows.
    pub limit_id: String,
    /// The length in minutes, if the server names it.
    pub minutes: Option<u32>,
    /// The used part in percent. Some servers report slightly more than 100.
    pub used_percent: f64,
    #[serde(default, deserialize_with = "fast_time::deserialize_option")]
    pub resets_at: Option<Timestamp>,
}

impl Window {
    /// Creates the weekly window of Codex's own limit.
    pub fn new_weekly(used_percent: f64, resets_at: Option<Timestamp>) -> Self {
        Self {
            limit_id: CODEX_LIMIT.into(),
            minutes: Some(WEEKLY_MINUTES),
            used_percent,
            resets_at,
        }
    }

    /// Names the window by its length: "5h", "weekly", "3d", "90min"; "window" if the length is unknown.
    pub fn label(&self) -> String {
        match self.minutes {
            None => "window".into(),
            Some(WEEKLY_MINUTES) => WEEKLY_LABEL.into(),
            Some(minutes) if minutes > 0 && minutes % 1440 == 0 => format!("{}d", minutes / 1440),
            Some(minutes) if minutes > 0 && minutes % 60 == 0 => format!("{}h", minutes / 60),
            Some(minutes) => format!("{minutes}min"),
        }
    }

    /// Returns true for the weekly window of Codex's own limit.
    pub fn is_weekly(&self) -> bool {
        self.limit_id == CODEX_LIMIT && self.minutes == Some(WEEKLY_MINUTES)
    }

    /// Returns true if the reset has passed, so that `used_percent` is out of date.
    pub fn is_over(&self, now: &DateTime<Utc>) -> bool {
        self.resets_at.is_some_and(|at| at <= *now)
    }
}
