//! The entries of a conversation in JSON.

use crate::conversations::transcript::TranscriptEntry;
use crate::io::clock::Zone;
use crate::ui::time;
use serde::Serialize;

/// An entry of a conversation in JSON. Its keys are an interface.
#[derive(Serialize)]
pub(crate) struct EntryJson<'a> {
    /// The conversation that has the entry: that of the document, or one that it continues.
    session_id: &'a str,
    turn: u32,
    role: &'static str,
    at: Option<String>,
    text: &'a str,
    tool: Option<&'a str>,
}

impl<'a> EntryJson<'a> {
    /// The time is written in `zone`.
    pub(crate) fn new(session_id: &'a str, entry: &'a TranscriptEntry, zone: Zone) -> Self {
        Self {
            session_id,
            turn: entry.turn,
            role: entry.kind.role(),
            at: entry.at.map(|at| time::rfc3339(&at, zone)),
            text: &entry.text,
            tool: entry.tool.as_deref(),
        }
    }
}
