//! The temp files of planned texts.

use tempfile::SpooledTempFile;

/// Bytes of a text that are held in memory. Beyond that it moves to an unnamed temp file.
const SPOOL_BYTES: usize = 1 << 20;

/// Creates an empty text.
pub(super) fn create() -> SpooledTempFile {
    SpooledTempFile::new(SPOOL_BYTES)
}
