//! Parses a line, and recognizes lines without wanted parts by their beginnings.

use super::content::PayloadText;
use super::envelope::Envelope;
use super::event::{EventKind, LineItem, LineItems, TokenEvent};
use super::line_forms::{ITEM, matching_forms};
use super::line_parts::LineParts;
use crate::io::rfc3339;
use serde::Deserialize;
use serde::de::IgnoredAny;
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
    id: Option<IgnoredAny>,
}

pub(crate) enum LineContent<'a> {
    /// The line has no wanted parts. Only its beginning was read, so the rest may be damaged.
    Skipped {
        /// The time of the line, unparsed.
        timestamp: &'a str,
    },
    /// The whole line was read.
    Read {
        /// The time of the line, unparsed.
        timestamp: Option<Cow<'a, str>>,
        /// All wanted items, and maybe unwanted ones.
        items: Vec<LineItem>,
    },
    /// The line is not a complete JSON object.
    Damaged,
}

impl LineContent<'_> {
    /// Returns the items with the time of the line; `None` if it has no items.
    pub(crate) fn into_items(self) -> Option<LineItems> {
        match self {
            Self::Read { timestamp, items } if !items.is_empty() => Some(LineItems {
                at: timestamp.as_deref().and_then(rfc3339::parse_instant),
                items,
            }),
            _ => None,
        }
    }
}

/// Returns false if a line certainly has no wanted part. Examines only the beginning.
pub(crate) fn may_have_parts(line: &[u8], wanted: LineParts) -> bool {
    match Envelope::parse(line) {
        Some(envelope) => envelope_may_have_parts(&envelope, wanted),
        None => !line.is_empty(),
    }
}

fn envelope_may_have_parts(envelope: &Envelope<'_>, wanted: LineParts) -> bool {
    let (payload_type, after_type) = match envelope.payload_type_and_rest() {
        Some((payload_type, after_type)) => (Some(payload_type), after_type),
        None => (None, &b""[..]),
    };
    let mut forms = matching_forms(envelope.kind, payload_type);
    forms.any(|form| form.may_have_parts(wanted, after_type))
}

/// Parses a line. The result has all wanted items, and maybe unwanted ones. `None` if it has no items, or the line is
/// damaged.
pub(crate) fn parse(line: &[u8], wanted: LineParts) -> Option<LineItems> {
    parse_wanted(line, wanted).into_items()
}

/// Parses a `token_count` event; `None` for any other line.
pub fn parse_token_count(line: &[u8]) -> Option<TokenEvent> {
    let mut items = parse(line, LineParts::TOKENS)?.items.into_iter();
    items.find_map(|item| match item.kind {
        EventKind::Tokens(tokens) => Some(*tokens),
        _ => None,
    })
}

/// Parses a line, unless its beginning shows that it has no wanted parts.
pub(crate) fn parse_wanted(line: &[u8], wanted: LineParts) -> LineContent<'_> {
    if let Some(envelope) = Envelope::parse(line)
        && !envelope_may_have_parts(&envelope, wanted)
    {
        let timestamp = envelope.timestamp;
        // Outputs of tools can have megabytes, so the parser does not read them in vain.
        return LineContent::Skipped { timestamp };
    }

    // A torn line may be invalid UTF-8. It then counts as damaged, because the empty text is no JSON.
    let text = std::str::from_utf8(line).unwrap_or_default();
    if !text.starts_with('{') {
        return LineContent::Damaged;
    }
    let Ok(parsed) = serde_json::from_str::<AnyLine<'_>>(text) else {
        return LineContent::Damaged;
    };

    let timestamp = parsed.timestamp;
    let (kind, json) = match (parsed.kind, parsed.payload) {
        (Some(kind), Some(payload)) => (Some(kind), payload.get()),
        // Before Codex 0.32, a line was an item or the metadata itself.
        (Some(_), None) => (Some(ITEM.into()), text),
        (None, _) if parsed.id.is_some() && timestamp.is_some() => {
            (Some("session_meta".into()), text)
        }
        (None, _) => (None, text),
    };

    let payload = PayloadText {
        json,
        timestamp: timestamp.as_deref(),
        wanted,
        has_envelope: parsed.payload.is_some(),
    };

    let items = kind
        .map(|kind| parse_items(&kind, &payload))
        .unwrap_or_default();
    LineContent::Read { timestamp, items }
}

fn parse_items(kind: &str, payload: &PayloadText<'_>) -> Vec<LineItem> {
    let payload_type = payload.payload_type();
    let type_text = payload_type.as_deref().unwrap_or_default();
    let form = matching_forms(kind.as_bytes(), Some(type_text.as_bytes())).next();
    let form = form.filter(|form| payload.wanted.intersects(form.parts));
    // A payload with fields of other types than expected has no items.
    let items = form.and_then(|form| (form.parse)(payload).ok());
    items.unwrap_or_default()
}
