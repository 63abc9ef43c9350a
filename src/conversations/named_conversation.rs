//! A conversation that the user has chosen by its id or name.

use std::path::PathBuf;

#[derive(Debug, Clone)]
pub(crate) struct NamedConversation {
    pub(crate) id: String,
    /// The name of the conversation, or else the first line of its first message; empty if both are unknown.
    pub(crate) title: String,
    /// The Codex home of the conversation.
    pub(crate) home: PathBuf,
    /// The path of the rollout, which may be compressed.
    pub(crate) rollout: PathBuf,
}
