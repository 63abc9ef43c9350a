//! Quota windows as Codex's server declares them.

use crate::io::clock::Timestamp;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The limit id of Codex's own windows. Windows of other limits are shown and decide nothing.
pub const CODEX_LIMIT: &str = "codex";

/// The length of the weekly window in minutes.
pub const WEEKLY_MINUTES: u32 = 10_080;

/// A limit on spending that is used up: Codex refuses the account although its windows have quota left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpendCap {
    /// The limit.
    pub kind: CapKind,
    /// The time at which it starts anew; `None` where the server names none.
    #[serde(default)]
    pub resets_at: Option<Timestamp>,
}

/// The kinds of limits on spending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CapKind {
    /// The amount that an administrator or the user allows.
    SpendLimit,
    /// The credits that were bought.
    Credits,
}

impl CapKind {
    /// The name used in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::SpendLimit => "spend-limit",
            Self::Credits => "credits",
        }
    }
}

impl SpendCap {
    /// What happened, in words.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            CapKind::SpendLimit => "spend limit reached",
            CapKind::Credits => "credits used up",
        }
    }

    /// Whether its reset has passed, so that it no longer counts.
    pub fn is_over(&self, now: &DateTime<Utc>) -> bool {
        self.resets_at.is_some_and(|at| at <= *now)
    }
}

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
