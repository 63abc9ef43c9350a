//! Observations: the quota windows of an account at one time.

use crate::codex::{ResetCredits, SpendCap, Window};
use crate::io::Timestamp;
use chrono::Duration;
use serde::{Deserialize, Serialize};

/// The largest difference between two resets of the same window. Servers report resets with jitter.
pub const SAME_WINDOW: Duration = Duration::minutes(10);

/// The source of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub enum QuotaSource {
    /// A probe of Codex.
    Live,
    /// Text of `/status` that the user pasted.
    StatusFile,
    /// A time that the user typed (`--reset-at`, `cooldown --set`).
    Manual,
    /// The name and time of a legacy `*_auth.json`.
    Legacy,
    Archive,
    /// A file of the Python codex-manager.
    Python,
    /// A rollout of a conversation that `launch` recorded for the account.
    LaunchWrapper,
}

impl QuotaSource {
    /// Returns the name of the source in documents and output.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The quota windows of one account at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub source: QuotaSource,
    pub observed_at: Timestamp,
    /// `ordinaryUsageAllowed` of the server's answer, if the server sent it; false if it named a window as reached.
    pub usage_allowed: Option<bool>,
    /// The limit on spending that is used up, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_cap: Option<SpendCap>,
    /// The banked resets of the account, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_credits: Option<ResetCredits>,
    /// The windows of all limits; may be empty.
    #[serde(default)]
    pub windows: Vec<Window>,
}

impl Observation {
    /// Creates an observation that knows only the windows.
    pub fn new(source: QuotaSource, observed_at: Timestamp, windows: Vec<Window>) -> Self {
        Self {
            source,
            observed_at,
            usage_allowed: None,
            spend_cap: None,
            reset_credits: None,
            windows,
        }
    }

    /// Copies the banked resets of an earlier observation, unless this observation has its own or is from a probe of
    /// Codex. If Codex's answer to a probe has no banked resets, then the account has none.
    pub fn inherit_reset_credits(&mut self, earlier: Option<&Self>) {
        if self.source != QuotaSource::Live && self.reset_credits.is_none() {
            self.reset_credits = earlier.and_then(|earlier| earlier.reset_credits.clone());
        }
    }

    /// Returns the weekly window of Codex's own limit. `None` if the observation lacks it.
    pub fn weekly(&self) -> Option<&Window> {
        self.windows.iter().find(|w| w.is_weekly())
    }

    /// Returns the start of the weekly window: its reset minus seven days of 24 hours.
    pub fn weekly_window_start(&self) -> Option<Timestamp> {
        self.weekly()?.resets_at.map(|at| at - Duration::days(7))
    }
}
