//! Search in conversations.
//!
//! [`query`] is the query language, [`word_forms`] knows the forms of words, [`postings`] reads which texts have a word,
//! [`evaluate`] finds conversations with all terms, [`forgiving`] leaves terms out if there are none,
//! [`conversation_texts`] reads their messages from the rollouts, for [`snippet`] and for what the index cannot decide:
//! phrases and code.
//! [`scan`] searches the rollouts themselves, without an index. [`conversation_filter`] selects what is searched.

mod candidates;
pub(crate) mod conversation_filter;
mod conversation_texts;
pub(crate) mod evaluate;
pub(crate) mod forgiving;
mod found_conversation;
mod postings;
pub(crate) mod query;
pub(crate) mod relaxation;
pub(crate) mod scan;
pub(crate) mod snippet;
#[cfg(test)]
mod tests;
mod texts;
mod wanted_term;
mod word_forms;
