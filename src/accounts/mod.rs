//! Profiles, and who owns a login.
//!
//! A refresh token can be spent once, so at any time exactly one copy of a login is its owner: the
//! live home, a profile, or the scratch home in which Codex is asked about a profile. All others are
//! history. Before a live auth.json is replaced, its login
//! is saved back to the profile of its account.

pub mod isolated;
pub mod lease;
pub mod login_selection;
pub mod new_login;
pub mod profile;
pub mod profile_ops;
pub mod removed;
pub mod running;
pub mod save;
pub mod source;
pub mod switch;
