//! A conversation that the user has chosen by its id or name.

use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct NamedConversation {
    pub id: String,
    /// The name of the conversation, or else the first line of its first message; empty if both are unknown.
    pub title: String,
    /// The Codex home of the conversation.
    pub home: PathBuf,
    /// The path of the rollout, which may be compressed.
    pub rollout: PathBuf,
}
