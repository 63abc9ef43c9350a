//! The use of tokens: sums by period, conversation or model, estimated costs, and the parts of a quota window.
//!
//! All sums are computed from the requests that the search index of conversations has recorded.
//!
//! I want to …
//! - add tokens by day, model or another key: [`report`], [`period`]; know what they cost: [`prices`]
//! - print a number: [`figures`]
//! - know what used up a quota window, and when it will be used up: [`window`]

pub mod figures;
pub mod period;
pub mod prices;
pub mod report;
pub mod window;
