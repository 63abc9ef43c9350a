//! The copies of conversations outside the home, and the messages that only they have.
//!
//! - reading a conversation of an archive or a snapshot: [`source`]
//! - listing the conversations of an archive: [`archived`]
//! - comparing the home with its copies: [`losses`]
//! - finding the archives with turns that Codex cannot show: [`unreadable_fixes`]

pub(crate) mod archived;
pub(crate) mod losses;
pub(crate) mod source;
pub(crate) mod unreadable_fixes;
