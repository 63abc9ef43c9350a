//! Publishes a new file under its final name and never replaces an existing one.

use crate::error::{CommandError, Result};
use crate::io::atomic::TempFile;
use std::path::Path;

/// Publishes `temp` at `path`.
///
/// # Errors
/// A file with this name exists and is left unchanged, or the temp file cannot be renamed.
pub(crate) fn publish_new(temp: TempFile, path: &Path) -> Result<()> {
    temp.publish(path)?.map_err(|_| {
        CommandError::failed(format!("the file exists already: {}", path.display()))
            .hint("choose another name; nothing was changed")
    })
}
