//! A conversation of the model.

use crate::conversations::event::Role;
use std::path::PathBuf;

/// A conversation with the texts that a search has to find.
#[derive(Clone)]
pub(super) struct Modeled {
    pub(super) session: String,
    /// The texts that are found in it.
    pub(super) texts: Vec<(Role, String)>,
    pub(super) lines: Vec<String>,
    pub(super) title: String,
    pub(super) path: PathBuf,
    pub(super) is_listed: bool,
    pub(super) updated_ms: i64,
}
