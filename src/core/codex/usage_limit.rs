//! Recognizes turns that ended because of a usage limit, in the lines of a rollout.

use memchr::memmem;
use serde_json::Value;

/// The start of a line, in bytes, that contains the type of its event.
const TYPE_BYTES: usize = 256;

/// Returns true if the line ends a turn because of a usage limit, false if it begins a turn or ends one
/// otherwise; `None` for any other line.
pub(crate) fn turn_hit_limit(line: &[u8]) -> Option<bool> {
    let line_start = &line[..line.len().min(TYPE_BYTES)];
    // Before the parser: a rollout has thousands of other lines.
    memmem::find(line_start, b"\"task_")?;
    let line: Value = serde_json::from_slice(line).ok()?;
    let event = &line["payload"];
    match event["type"].as_str()? {
        "task_started" => Some(false),
        // For some errors `codex_error_info` is an object, and no text.
        "task_complete" => Some(event["error"]["codex_error_info"] == "usage_limit_exceeded"),
        _ => None,
    }
}
