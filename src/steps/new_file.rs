//! Gives a written file its name, for commands that write a new file.

use crate::error::{CommandError, Result};
use crate::io::atomic::TempFile;
use std::path::Path;

/// Publishes `temp` at `path`.
///
/// # Errors
/// A file has the name already, which stays as it is, or the file cannot be named.
pub(crate) fn publish_new(temp: TempFile, path: &Path) -> Result<()> {
    temp.publish(path)?.map_err(|_| {
        CommandError::failed(format!("the file exists already: {}", path.display()))
            .hint("choose another name; nothing was changed")
    })
}
