//! A conversation that the user named.

use std::path::PathBuf;

#[derive(Debug, Clone)]
pub(crate) struct NamedConversation {
    pub(crate) id: String,
    /// The name, or the first line of the first message; empty if unknown.
    pub(crate) title: String,
    /// The Codex home of the conversation.
    pub(crate) home: PathBuf,
    /// The rollout, plain or compressed.
    pub(crate) rollout: PathBuf,
}
