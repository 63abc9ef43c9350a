//! Search in conversations.
//!
//! [`query`] is the query language, [`postings`] reads which texts have a word,
//! [`evaluate`] finds conversations by it, [`texts`] reads their
//! messages from the rollouts, for [`snippet`] and for what the index cannot decide: phrases and code.
//! [`scan`] searches the rollouts themselves, without an index. [`conversation_filter`] selects what is searched.

pub(crate) mod conversation_filter;
pub(crate) mod evaluate;
mod postings;
pub(crate) mod query;
pub(crate) mod scan;
pub(crate) mod snippet;
#[cfg(test)]
mod tests;
mod texts;
