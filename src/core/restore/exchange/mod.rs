//! Phase 4: the steps that exchange the staged state with the live one.

pub(crate) mod exchange_steps;
pub(crate) mod single_files;
