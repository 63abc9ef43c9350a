//! Publishes a new file under its final name, and never replaces an existing file.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::ui::time;
use codex_manager_core::codex::redaction::hide_secrets;
use codex_manager_core::io::{IoContext as _, TempFile};
use std::io::Write as _;
use std::path::Path;

/// Writes an HTML page as a new file, without secrets in its texts, and prints its size and path.
///
/// # Errors
/// The file exists, or cannot be written.
pub(crate) fn write_page(html: &str, path: &Path, context: &Context) -> Result<()> {
    let html = &*hide_secrets(html);
    let mut temp = TempFile::create_beside(path)?;
    temp.file().write_all(html.as_bytes()).at("write", path)?;
    publish_new(temp, path)?;
    let bytes = time::bytes(html.len() as u64);
    let path_text = path.display();
    context.ui.report(format_args!("{bytes} {path_text}"));
    Ok(())
}

/// Publishes `temp` at `path`.
///
/// # Errors
/// A file with this name exists and is left unchanged, or the temp file cannot be renamed.
pub(crate) fn publish_new(temp: TempFile, path: &Path) -> Result<()> {
    temp.publish(path)?.map_err(|_| {
        CommandError::failed(format!("the file exists already: {}", path.display()))
            .hint("choose another name; this file was not changed")
    })
}
