//! The location of the owner copy of a login.

use std::path::Path;

/// The location of the owner copy after a save, according to the caller or to the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerLocation<'a> {
    /// In this Codex home.
    Live(&'a Path),
    /// In the profile of the account.
    Profile,
    /// In this Codex home, as the user asserts. This overrides a recorded home that cannot be read, and
    /// a move to another machine.
    AssertedLive(&'a Path),
    /// In the profile, as the user asserts. This overrides the same records as [`Self::AssertedLive`].
    AssertedProfile,
}

impl<'a> OwnerLocation<'a> {
    /// Returns the Codex home that has the owner copy; `None` for the profile.
    pub(super) fn live_home(self) -> Option<&'a Path> {
        match self {
            Self::Live(home) | Self::AssertedLive(home) => Some(home),
            Self::Profile | Self::AssertedProfile => None,
        }
    }

    pub(super) fn is_asserted(self) -> bool {
        matches!(self, Self::AssertedLive(_) | Self::AssertedProfile)
    }
}
