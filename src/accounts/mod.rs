//! Profiles, and who owns a login.
