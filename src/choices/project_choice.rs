//! The project that the user names.

use crate::choices::conversation_choice::suggest_names;
use crate::choices::listed::{list_threads_as, list_unlisted};
use crate::codex::threads::ThreadFilter;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account::printable;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Returns the folders that `text` denotes. A path denotes that folder. A name denotes all folders of conversations
/// with this name, as in the column PROJECT, unless the current folder has a subfolder of this name.
///
/// # Errors
/// No project has this name, or Codex's list cannot be read.
pub(crate) fn find_project_folders(text: &Path, context: &Context) -> Result<Vec<PathBuf>> {
    let path = context.env.absolute(text);
    let mut components = text.components();
    let is_name = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == text.as_os_str()
    );
    if !is_name || path.is_dir() {
        return Ok(vec![path]);
    }
    let all = ThreadFilter::default();
    let mut folders: BTreeSet<PathBuf> = list_threads_as(&all, context, |row| row.cwd.into())?
        .into_iter()
        .collect();
    let unlisted = list_unlisted(&all, context)?;
    folders.extend(unlisted.into_iter().map(|row| row.cwd.into()));
    let named: Vec<_> = folders
        .iter()
        .filter(|folder| folder.file_name() == Some(text.as_os_str()))
        .cloned()
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    let text = text.to_string_lossy();
    let all_names = folders
        .iter()
        .filter_map(|folder| folder.file_name()?.to_str());
    let all_names: BTreeSet<_> = all_names.collect();
    let message = format!("no project has this name: {}", printable(&text));
    let mut error = CommandError::usage(message);
    error.hints.extend(suggest_names(&text, all_names));
    Err(error.hint("list the projects: codex-manager usage projects"))
}

/// Returns the folders of all projects in `texts`.
///
/// # Errors
/// As [`find_project_folders`].
pub(crate) fn find_all_project_folders(
    texts: &[PathBuf],
    context: &Context,
) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for text in texts {
        folders.extend(find_project_folders(text, context)?);
    }
    Ok(folders)
}
