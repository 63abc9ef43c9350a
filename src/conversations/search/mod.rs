//! Search in conversations.
//!
//! [`query`] is the query language, [`evaluate`] finds conversations by the index, [`texts`] reads their
//! messages from the rollouts, for [`snippet`] and for what the index cannot decide: phrases and code.
//! [`scan`] searches the rollouts themselves, without an index.

pub(crate) mod evaluate;
#[cfg(test)]
mod oracle;
pub(crate) mod query;
pub(crate) mod scan;
pub(crate) mod snippet;
mod texts;
