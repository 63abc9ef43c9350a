//! Random names and ids.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Returns 16 random hex digits. The standard library seeds its hash maps from the system's randomness.
pub fn random_id() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}
