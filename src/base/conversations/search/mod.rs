//! Searches in conversations.
//!
//! - [`query`] parses the query language, and [`word_forms`] knows the forms of words;
//! - [`postings`] reads from the index which texts have a word;
//! - [`candidates`] finds the conversations with the terms, and [`evaluate`] ranks them;
//! - [`forgiving`] ignores terms if no conversation has all of them;
//! - [`conversation_texts`] reads texts from the rollouts, to cut a [`snippet`] and to check phrases and code;
//! - [`scan`] searches the rollouts themselves, without the index;
//! - [`conversation_filter`] selects the conversations that are searched.

mod candidates;
pub mod conversation_filter;
mod conversation_texts;
pub mod evaluate;
pub mod forgiving;
mod options;
mod postings;
pub mod query;
pub mod scan;
pub mod snippet;
#[cfg(test)]
mod tests;
mod wanted_term;
mod word_forms;
