//! A conversation that the user named.

use std::path::PathBuf;

#[derive(Debug, Clone)]
pub(crate) struct NamedConversation {
    pub(crate) id: String,
    /// Its name, or the first line of its first message; empty if unknown.
    pub(crate) title: String,
    /// The Codex home that it is in.
    pub(crate) home: PathBuf,
    /// Its rollout, plain or compressed.
    pub(crate) rollout: PathBuf,
}
