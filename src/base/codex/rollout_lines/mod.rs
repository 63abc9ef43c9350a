//! The lines of rollouts: one table of their kinds, and one parser.
//!
//! [`line_forms`] has each kind of line, what it records, and how it is parsed. A reader names the parts that it
//! wants; lines without them are recognized by their beginnings and not parsed. Codex records the same text up to three
//! times: as the item that the model gets, as an event of older versions, and as a completed item of newer ones. They
//! are returned here with their origin; `conversations::reader` drops the copies. What the model got in the user's name
//! counts as the user's message by its event, because Codex inserts texts of its own; [`user_items`] has the exceptions.
//! Fields are optional, because they differ between versions.

mod content;
mod envelope;
mod event;
mod line_forms;
mod line_parse;
mod line_parts;
mod payloads;
#[cfg(test)]
mod tests;
mod user_items;

pub(crate) use content::{is_placeholder, placeholder};
pub use event::Role;
pub(crate) use event::{
    EventKind, ItemOrigin, LineItem, LineItems, RequestRecord, RolloutEvent, SessionMetaLine,
    TokenEvent, TokenUsage, TurnContext, TurnCounter,
};
pub use line_parse::parse_token_count;
pub(crate) use line_parse::{LineContent, may_have_parts, parse, parse_wanted};
pub use line_parts::LineParts;
pub(crate) use user_items::{UserItems, UserItemsProbe};
