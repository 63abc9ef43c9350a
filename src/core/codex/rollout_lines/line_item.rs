//! The items of a line.

use super::content::PayloadText;
use super::event::EventKind;
use chrono::{DateTime, Utc};
use std::borrow::Cow;

/// The form in which Codex recorded an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemOrigin {
    /// A `response_item`: input or output of the model.
    Item = 0,
    /// An `event_msg` of older versions.
    Event = 1,
    /// An `item_completed` event of newer versions, such as Codex 0.169.
    Completed = 2,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LineItem {
    pub origin: ItemOrigin,
    /// The id that a tool call shares with its output and its completed item.
    pub call_id: Option<String>,
    pub kind: EventKind,
}

/// The items of a line, and its time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LineItems {
    pub at: Option<DateTime<Utc>>,
    pub items: Vec<LineItem>,
}

pub(super) type ParsedItems = serde_json::Result<Vec<LineItem>>;
pub(super) type ParseItems = fn(&PayloadText<'_>) -> ParsedItems;

pub(super) fn one_item(origin: ItemOrigin, kind: EventKind) -> Vec<LineItem> {
    vec![item_without_call_id(origin, kind)]
}

pub(super) fn item_without_call_id(origin: ItemOrigin, kind: EventKind) -> LineItem {
    call_item(origin, None, kind)
}

pub(super) fn call_item(
    origin: ItemOrigin,
    call_id: Option<Cow<'_, str>>,
    kind: EventKind,
) -> LineItem {
    LineItem {
        origin,
        call_id: call_id.map(Cow::into_owned),
        kind,
    }
}
