//! The functions of the fuzz targets, shared with the tests in `tests/support/fuzzing.rs`.

#![allow(dead_code, reason = "the tests use more of it")]

#[path = "../../tests/support/fuzzing.rs"]
mod inputs;
#[path = "../../tests/support/hostile.rs"]
mod hostile;

/// One function per fuzz target.
pub mod fuzzing {
    use super::inputs;

    /// Reads `bytes` as an archive.
    pub fn archive(bytes: &[u8]) {
        inputs::archive(bytes);
    }

    /// Reads `bytes` as the manifest of an archive.
    pub fn manifest(bytes: &[u8]) {
        inputs::manifest(bytes);
    }

    /// Reads `bytes` as the index of an archive.
    pub fn index(bytes: &[u8]) {
        inputs::index(bytes);
    }

    /// Reads `bytes` as a tar stream.
    pub fn tar(bytes: &[u8]) {
        inputs::tar(bytes);
    }

    /// Reads `bytes` as a sidecar.
    pub fn metadata(bytes: &[u8]) {
        inputs::metadata(bytes);
    }
}
