//! Parses one line of a rollout into its items.
//!
//! Codex records the same text up to three times: as the item that the model gets, as an event of older
//! versions, and as a completed item of newer ones. All of them are returned here, with their origin;
//! [`super::reader`] drops the copies. Fields are optional, because they differ between versions.

mod command_line;
mod content;
mod event_message;
mod line_item;
mod parse;
mod response_item;
#[cfg(test)]
mod tests;

pub(super) use line_item::{LineItem, LineItems, Origin};
pub(super) use parse::{may_have_items, parse};
