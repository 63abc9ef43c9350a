//! Transcripts as one self-contained HTML page: no scripts, no fonts, and nothing loaded from elsewhere.
//!
//! Conversations contain what web pages and tools returned, so no text of them becomes markup. Messages of the
//! assistant are Markdown, in which HTML is text and a link leads only to the web. A policy in the page forbids
//! browsers to load anything, too.

mod code;
pub(crate) mod escape;
mod html_writer;
mod image;
mod message;
mod page;

pub(crate) use html_writer::HtmlWriter;
pub(crate) use page::{PageHead, format_page_end, format_page_start};
