//! Pasted `/status` text.

use crate::io::clock::Zone;
use crate::quota::window::Window;
use chrono::{DateTime, Utc};

/// What pasted text says.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusText {
    /// The account, where it is named.
    pub email: Option<String>,
    /// Its plan, where it is named.
    pub plan: Option<String>,
    /// The windows that were understood.
    pub windows: Vec<Window>,
}

/// Why the text says nothing.
#[derive(Debug, thiserror::Error)]
#[error("no quota in the text")]
pub struct StatusTextError;

/// Reads pasted text.
///
/// # Errors
/// There is no quota in it.
pub fn parse(_text: &str, _now: DateTime<Utc>, _zone: Zone) -> Result<StatusText, StatusTextError> {
    Err(StatusTextError)
}
