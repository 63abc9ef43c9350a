//! Quota windows as Codex's server declares them.

use crate::io::clock::Timestamp;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The limit id of Codex's own windows. Windows of other limits are shown and decide nothing.
pub const CODEX_LIMIT: &str = "codex";

/// The length of the weekly window in minutes.
pub const WEEKLY_MINUTES: u32 = 10_080;

/// One quota window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Which limit it belongs to.
    pub limit_id: String,
    /// Its length, if the server says so.
    #[serde(default)]
    pub minutes: Option<u32>,
    /// How much of it is used, in percent.
    pub used_percent: f64,
    /// When it starts anew.
    #[serde(default)]
    pub resets_at: Option<Timestamp>,
}

impl Window {
    /// The label by length: "5h", "weekly", else minutes, hours or days.
    pub fn label(&self) -> String {
        match self.minutes {
            None => "window".into(),
            Some(WEEKLY_MINUTES) => "weekly".into(),
            Some(m) if m > 0 && m % 1440 == 0 => format!("{}d", m / 1440),
            Some(m) if m > 0 && m % 60 == 0 => format!("{}h", m / 60),
            Some(m) => format!("{m}min"),
        }
    }

    /// Whether it is the weekly window of Codex's own limit.
    pub fn is_weekly(&self) -> bool {
        self.limit_id == CODEX_LIMIT && self.minutes == Some(WEEKLY_MINUTES)
    }

    /// Whether its reset has passed, so that its figure is no longer evidence.
    pub fn is_over(&self, now: &DateTime<Utc>) -> bool {
        self.resets_at.is_some_and(|at| at <= *now)
    }
}
