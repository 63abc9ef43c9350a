//! What is known: accounts with their last figures, and records of archives and legacy files.

pub mod catalog;
pub mod cooldown;
pub mod records;
pub mod status;
