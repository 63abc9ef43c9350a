//! Profiles, and which copy of a login is its owner.
//!
//! A refresh token can be spent once, so at any time exactly one copy of a login is the owner: the
//! one in a Codex home, in a profile, or in the scratch home of a probe. All other copies are
//! history. Before a live auth.json is replaced, its login is saved to the profile of its account.

pub mod isolated;
pub mod lease;
pub mod login_selection;
pub mod new_login;
pub mod owner;
pub mod profile;
pub mod profile_ops;
pub mod removed;
pub mod running;
pub mod save;
pub mod source;
pub mod switch;
