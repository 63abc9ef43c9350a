//! The quota windows that a launched conversation recorded last.

use crate::codex::Window;
use crate::io::Timestamp;
use serde::{Deserialize, Serialize};

/// The newest usage in the rollouts of an account's launches. It is shown beside the figures of the
/// server, and does not affect the state of the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionUsage {
    /// The path of the rollout that contains it.
    pub rollout_path: String,
    pub session_id: String,
    /// The time of the `token_count` event.
    pub captured_at: Timestamp,
    /// The windows of the event; empty if Codex wrote none.
    #[serde(default)]
    pub windows: Vec<Window>,
}
