//! Quota windows as a launched conversation saw them last.

use crate::codex::window::Window;
use crate::io::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// The newest usage that the rollouts of an account's launches hold. Shown beside the figures of
/// the server; it decides nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionUsage {
    /// The rollout that it was read from.
    pub rollout_path: String,
    /// The conversation's id.
    pub session_id: String,
    /// When the tokens were counted.
    pub captured_at: Timestamp,
    /// The windows; empty where Codex wrote none.
    #[serde(default)]
    pub windows: Vec<Window>,
}
