//! One observation at an account's quota windows.

use crate::codex::window::{SpendCap, Window};
use crate::io::clock::Timestamp;
use chrono::Duration;
use serde::{Deserialize, Serialize};

/// Resets this near to each other are the same window: servers jitter.
pub const SAME_WINDOW: Duration = Duration::minutes(10);

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuotaSource {
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

impl QuotaSource {
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
    pub source: QuotaSource,
    /// When it was seen.
    pub observed_at: Timestamp,
    /// `ordinaryUsageAllowed` of the server, where it was said.
    #[serde(default)]
    pub usage_allowed: Option<bool>,
    /// The limit on spending that is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_cap: Option<SpendCap>,
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
