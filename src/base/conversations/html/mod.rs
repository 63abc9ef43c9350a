//! Writes a transcript as one self-contained HTML page, which has no scripts and no fonts, and loads nothing.
//!
//! Conversations contain texts that web pages and tools returned, so none of their text becomes markup. Messages of the
//! assistant are Markdown; HTML tags in them are shown as text, and links lead only to the web. A content security
//! policy in the page also forbids browsers to load anything.

mod code;
pub mod escape;
mod html_writer;
mod message;
mod page;

pub use html_writer::HtmlWriter;
pub use page::{PageHead, format_page_end, format_page_start};
