//! Parses the lines about a whole conversation or turn: metadata, settings, tokens of requests, compactions.

use super::content::PayloadText;
use super::event::{EventKind, SessionMetaLine};
use super::line_item::{ItemOrigin, ParsedItems, one_item};
use serde::Deserialize;
use std::borrow::Cow;

pub(super) fn parse_session_meta(payload: &PayloadText<'_>) -> ParsedItems {
    let meta = Box::new(SessionMetaLine {
        payload: serde_json::from_str(payload.json)?,
        has_envelope: payload.has_envelope,
    });
    Ok(one_item(ItemOrigin::Item, EventKind::Meta(meta)))
}

pub(super) fn parse_turn_context(payload: &PayloadText<'_>) -> ParsedItems {
    let context = serde_json::from_str(payload.json)?;
    Ok(one_item(ItemOrigin::Item, EventKind::TurnContext(context)))
}

pub(super) fn parse_request(payload: &PayloadText<'_>) -> ParsedItems {
    let record = serde_json::from_str(payload.json)?;
    Ok(one_item(ItemOrigin::Item, EventKind::Request(record)))
}

pub(super) fn parse_compaction(payload: &PayloadText<'_>) -> ParsedItems {
    #[derive(Deserialize)]
    struct Compacted<'a> {
        #[serde(borrow, default)]
        message: Option<Cow<'a, str>>,
    }
    // The history that replaces the messages repeats them, so it is not read.
    let Compacted { message } = serde_json::from_str(payload.json)?;
    let kind = EventKind::Compaction(message.unwrap_or_default().into_owned());
    Ok(one_item(ItemOrigin::Item, kind))
}
