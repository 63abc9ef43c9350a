//! The use of tokens: sums by period, conversation or model, estimated costs, and the parts of a quota window.
//!
//! All is computed from rows that the index of conversations has counted.

pub(crate) mod calendar;
mod calendar_svg;
pub(crate) mod figures;
pub(crate) mod html_page;
pub(crate) mod period;
pub(crate) mod prices;
pub(crate) mod report;
pub(crate) mod stack;
pub(crate) mod window;
