//! Lets the user choose a conversation on the terminal.
//!
//! Most commands show [`search_screen`], which calls [`pick`]. [`rows`] lists the conversations of the home,
//! [`archived`] those of an archive. [`preview`] and [`content_search`] run in threads of the picker, so they own what
//! they use.

mod archived;
mod content_search;
mod pick;
mod preview;
mod rows;
mod search_screen;

pub(crate) use archived::pick_archived;
pub(crate) use pick::ConversationPicker;
pub(crate) use rows::empty_home_error;
pub(crate) use search_screen::ScreenEnd;
