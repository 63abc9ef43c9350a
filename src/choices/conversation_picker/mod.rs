//! Lets the user choose a conversation on the terminal.
//!
//! Most commands show the screen of [`pick`]. [`rows`] lists the conversations of the home,
//! [`archived`] those of an archive. [`preview`] and [`content_search`] run in threads of the picker, so they own what
//! they use.

mod archived;
mod content_search;
mod pick;
mod preview;
mod rows;

pub(crate) use archived::pick_archived;
pub(crate) use pick::{ConversationPicker, ScreenEnd};
pub(crate) use rows::empty_home_error;
