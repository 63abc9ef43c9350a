//! Quota windows as a server declares them, and one look at them.

use crate::io::clock::Timestamp;
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

/// The limit id of Codex's own windows. Windows of other limits are shown and decide nothing.
pub const CODEX_LIMIT: &str = "codex";

/// The length of the weekly window in minutes.
pub const WEEKLY_MINUTES: u32 = 10_080;

/// Resets this near to each other are the same window: servers jitter.
pub const SAME_WINDOW: Duration = Duration::minutes(10);

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

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Codex itself was asked.
    Live,
    /// Pasted `/status` text.
    StatusFile,
    /// Said by hand (`--reset-at`, `cooldown --set`).
    Manual,
    /// The name and time of a legacy `*_auth.json`.
    Legacy,
    /// An archive's sidecar.
    Archive,
    /// What the Python codex-manager left behind.
    Python,
    /// A rollout of a session that `launch` bound.
    LaunchWrapper,
}

impl Source {
    /// The name used in documents and output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::StatusFile => "status-file",
            Self::Manual => "manual",
            Self::Legacy => "legacy",
            Self::Archive => "archive",
            Self::Python => "python",
            Self::LaunchWrapper => "launch-wrapper",
        }
    }
}

/// The windows of one account as they were seen at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Who said so.
    pub source: Source,
    /// When it was seen.
    pub observed_at: Timestamp,
    /// `ordinaryUsageAllowed` of the server, where it was said.
    #[serde(default)]
    pub usage_allowed: Option<bool>,
    /// The windows: none, one or many.
    #[serde(default)]
    pub windows: Vec<Window>,
}

impl Observation {
    /// The weekly window of Codex's own limit.
    pub fn weekly(&self) -> Option<&Window> {
        self.windows.iter().find(|w| w.is_weekly())
    }

    /// When the weekly window began: its reset minus seven days of 24 hours.
    pub fn session_start_at(&self) -> Option<Timestamp> {
        self.weekly()?.resets_at.map(|at| at - Duration::days(7))
    }
}
