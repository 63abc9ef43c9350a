//! Parses a line, and recognizes lines without items by their beginnings.

use super::event_message::event;
use super::line_item::{LineItem, LineItems, Origin, item};
use super::response_item::response_item;
use crate::conversations::event::{EventKind, EventSelection, TurnContext};
use crate::history::rfc3339;
use crate::history::rollout::Envelope;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Deserialize)]
struct AnyLine<'a> {
    #[serde(borrow, default)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

/// Returns false if a line surely has no item of `selection`. Looks only at its beginning.
pub(in crate::conversations) fn may_have_items(line: &[u8], selection: EventSelection) -> bool {
    let Some(envelope) = Envelope::of(line) else {
        return !line.is_empty();
    };
    match (envelope.kind, envelope.payload()) {
        (b"response_item" | b"event_msg", Some((payload, _))) => {
            is_selected(envelope.kind, payload, selection)
        }
        (kind, _) => is_selected(kind, b"message", selection) || kind == b"event_msg",
    }
}

/// Parses a line. Returns `None` if it has no item of `selection`, or is damaged.
pub(in crate::conversations) fn parse(line: &[u8], selection: EventSelection) -> Option<LineItems> {
    if !may_have_items(line, selection) {
        return None;
    }
    // A torn line may have invalid UTF-8 in the middle of a message; it is not JSON then either.
    let text = std::str::from_utf8(line).ok()?;
    let parsed: AnyLine<'_> = serde_json::from_str(text).ok()?;
    let payload = parsed.payload?.get();
    let kind = parsed.kind?;
    let at = parsed.timestamp.as_deref().and_then(rfc3339::instant);
    let items = match &*kind {
        "response_item" => response_item(payload),
        "event_msg" => event(payload, line, selection),
        "compacted" => vec![compaction(payload)],
        "turn_context" if selection == EventSelection::All => turn_context(payload),
        "token_usage_record" if selection == EventSelection::All => request(payload),
        _ => Vec::new(),
    };
    (!items.is_empty()).then_some(LineItems { at, items })
}

/// Returns false for kinds of lines that surely have no item.
fn is_selected(kind: &[u8], payload: &[u8], selection: EventSelection) -> bool {
    match kind {
        b"response_item" => matches!(
            payload,
            b"message"
                | b"reasoning"
                | b"function_call"
                | b"function_call_output"
                | b"custom_tool_call"
                | b"custom_tool_call_output"
                | b"local_shell_call"
                | b"web_search_call"
        ),
        b"event_msg" => match payload {
            b"token_count" => selection == EventSelection::All,
            other => matches!(
                other,
                b"user_message"
                    | b"agent_message"
                    | b"agent_reasoning"
                    | b"item_completed"
                    | b"exec_command_end"
                    | b"patch_apply_end"
            ),
        },
        b"turn_context" | b"token_usage_record" => selection == EventSelection::All,
        b"compacted" => true,
        _ => false,
    }
}

fn compaction(payload: &str) -> LineItem {
    #[derive(Deserialize)]
    struct Compacted<'a> {
        #[serde(borrow, default)]
        message: Cow<'a, str>,
    }
    // The history that replaces the messages repeats them, so it is not read.
    let summary = serde_json::from_str::<Compacted<'_>>(payload);
    let summary = summary.map(|compacted| compacted.message.into_owned());
    item(
        Origin::Item,
        EventKind::Compaction(summary.unwrap_or_default()),
    )
}

fn request(payload: &str) -> Vec<LineItem> {
    let record = serde_json::from_str(payload).map(Box::new);
    let request = record.map(|record| item(Origin::Item, EventKind::Request(record)));
    request.into_iter().collect()
}

fn turn_context(payload: &str) -> Vec<LineItem> {
    #[derive(Deserialize)]
    struct Context {
        #[serde(default)]
        model: Option<String>,
        #[serde(default)]
        cwd: Option<String>,
    }
    let Ok(Context { model, cwd }) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let kind = EventKind::TurnContext(TurnContext { model, cwd });
    vec![item(Origin::Item, kind)]
}
