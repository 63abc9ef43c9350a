//! Recognizes turns that ended because of a usage limit, in the lines of a rollout.

use memchr::memmem;
use serde::Deserialize;

/// The start of a line, in bytes, that contains the type of its event.
const TYPE_BYTES: usize = 256;

#[derive(Deserialize)]
struct TurnLine {
    payload: TurnEvent,
}

#[derive(Deserialize)]
struct TurnEvent {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    error: Option<TurnError>,
}

#[derive(Deserialize)]
struct TurnError {
    /// A word, or for some errors an object.
    codex_error_info: serde_json::Value,
}

/// Returns true if the line ends a turn because of a usage limit, false if it begins a turn or ends one
/// otherwise; `None` for any other line.
pub(crate) fn parse(line: &[u8]) -> Option<bool> {
    let start = &line[..line.len().min(TYPE_BYTES)];
    // Before the parser: a rollout has thousands of other lines.
    memmem::find(start, b"\"task_")?;
    let event = serde_json::from_slice::<TurnLine>(line).ok()?.payload;
    match event.kind.as_str() {
        "task_started" => Some(false),
        "task_complete" => Some(
            event
                .error
                .is_some_and(|error| error.codex_error_info == "usage_limit_exceeded"),
        ),
        _ => None,
    }
}
