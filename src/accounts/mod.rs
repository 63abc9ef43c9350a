//! Profiles, and which copy of a login is its owner.
//!
//! A refresh token can be spent once, so at any time exactly one copy of a login is the owner: the
//! one in a Codex home, in a profile, or in the scratch home of a probe. All other copies are
//! history. Before a live auth.json is replaced, its login is saved to the profile of its account.

pub(crate) mod isolated;
pub(crate) mod lease;
pub mod login_selection;
pub(crate) mod new_login;
pub(crate) mod owner;
pub mod profile;
pub(crate) mod profile_ops;
pub(crate) mod removed;
pub(crate) mod running;
pub(crate) mod save;
pub(crate) mod source;
pub(crate) mod switch;
