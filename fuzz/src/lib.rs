//! The fuzz targets' share of the tests' support: the same functions, run on other inputs.

#![allow(dead_code, reason = "the tests use more of it")]

#[path = "../../tests/support/fuzzing.rs"]
mod inputs;
#[path = "../../tests/support/hostile.rs"]
mod hostile;

/// One function for each target.
pub mod fuzzing {
    use super::inputs;

    /// The target `archive`.
    pub fn archive(bytes: &[u8]) {
        inputs::archive(bytes);
    }

    /// The target `manifest`.
    pub fn manifest(bytes: &[u8]) {
        inputs::manifest(bytes);
    }

    /// The target `index`.
    pub fn index(bytes: &[u8]) {
        inputs::index(bytes);
    }

    /// The target `tar`.
    pub fn tar(bytes: &[u8]) {
        inputs::tar(bytes);
    }

    /// The target `metadata`.
    pub fn metadata(bytes: &[u8]) {
        inputs::metadata(bytes);
    }
}
