//! Parses `token_count` events of rollouts: their time, and the quota windows at that time.
//!
//! The windows of Codex 0.169 name no account, so a caller has to attribute them by other evidence.

use super::window::Window;
use crate::io::clock::Timestamp;
use chrono::{DateTime, TimeDelta};
use memchr::memmem;
use serde::Deserialize;

/// The start of a line, in bytes, that contains the type of its event.
const TYPE_BYTES: usize = 256;

/// One `token_count` event of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenCount {
    /// The time at which Codex wrote the line.
    pub at: Timestamp,
    /// The windows of its `rate_limits`; empty if the server sent none.
    pub windows: Vec<Window>,
}

#[derive(Deserialize)]
struct RolloutLine {
    timestamp: String,
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    rate_limits: Option<RateLimits>,
}

#[derive(Deserialize)]
struct RateLimits {
    limit_id: Option<String>,
    primary: Option<RateLimitWindow>,
    secondary: Option<RateLimitWindow>,
}

#[derive(Deserialize)]
struct RateLimitWindow {
    used_percent: f64,
    window_minutes: Option<u32>,
    /// The reset in seconds since 1970.
    resets_at: Option<i64>,
    /// Written before 0.50 instead of `resets_at`.
    resets_in_seconds: Option<i64>,
}

/// Parses a line of a rollout; `None` if it is no `token_count` event.
pub(crate) fn parse(line: &[u8]) -> Option<TokenCount> {
    let line_start = &line[..line.len().min(TYPE_BYTES)];
    // Before the parser: a rollout has thousands of other lines.
    memmem::find(line_start, b"\"token_count\"")?;
    let line: RolloutLine = serde_json::from_slice(line).ok()?;
    if line.payload.kind != "token_count" {
        return None;
    }

    let at = DateTime::parse_from_rfc3339(&line.timestamp).ok()?;
    let limits = line.payload.rate_limits;
    let windows = limits
        .map(|limits| convert_windows(limits, at))
        .unwrap_or_default();
    Some(TokenCount { at, windows })
}

fn convert_windows(limits: RateLimits, at: Timestamp) -> Vec<Window> {
    let limit_id = limits
        .limit_id
        .unwrap_or_else(|| super::window::CODEX_LIMIT.to_owned());

    [limits.primary, limits.secondary]
        .into_iter()
        .flatten()
        .map(|window| Window {
            limit_id: limit_id.clone(),
            minutes: window.window_minutes,
            used_percent: window.used_percent,
            resets_at: match (window.resets_at, window.resets_in_seconds) {
                (Some(seconds), _) => {
                    DateTime::from_timestamp(seconds, 0).map(|at| at.fixed_offset())
                }
                (None, Some(seconds)) => {
                    TimeDelta::try_seconds(seconds).and_then(|span| at.checked_add_signed(span))
                }
                (None, None) => None,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_token_count_lines_have_windows() {
        let line = br#"{"timestamp":"2026-11-21T08:00:00.000Z","ordinal":16,"type":"event_msg","payload":{"type":"token_count","info":null,"rate_limits":{"limit_id":"codex","primary":{"used_percent":12.0,"window_minutes":300,"resets_at":1795161384},"secondary":{"used_percent":91.0,"window_minutes":10080,"resets_in_seconds":60},"credits":null}}}"#;
        let count = parse(line).unwrap();
        assert_eq!(count.windows.len(), 2);
        assert!(count.windows[1].is_weekly());
        let reset = count.windows[1].resets_at.unwrap();
        assert_eq!(reset - count.at, TimeDelta::seconds(60));
        // A reset time that no calendar has.
        let text = String::from_utf8_lossy(line).replace(":60}", ":8500000000000}");
        assert_eq!(parse(text.as_bytes()).unwrap().windows[1].resets_at, None);
        let api_key = br#"{"timestamp":"2026-11-21T08:00:00Z","type":"event_msg","payload":{"type":"token_count","rate_limits":{"primary":null,"secondary":null}}}"#;
        assert_eq!(parse(api_key).unwrap().windows, []);
        for other in [
            &br#"{"timestamp":"2026-11-21T08:00:00Z","type":"event_msg","payload":{"type":"user_message","message":"\"token_count\""}}"#[..],
            br#"{"timestamp":"x","payload":{"type":"token_count"}}"#,
            b"\"token_count\"",
            b"",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
