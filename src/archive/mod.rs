//! Archives of a Codex home: capture, format, checking and putting back.

pub mod metadata;
pub mod names;
