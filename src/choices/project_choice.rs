//! The project that the user names.

use crate::choices::conversation_choice::suggest_similar_names;
use crate::choices::listed::{list_threads_as, list_unlisted};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::account::printable;
use codex_manager_core::codex::ThreadFilter;
use codex_manager_core::codex::folder_key::{folder_name, is_windows_path};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Returns the folders that `name_or_path` denotes. A path denotes one folder, and so does the name of a subfolder of
/// the current folder. Any other name denotes all folders of conversations with this name, as in the column PROJECT.
///
/// # Errors
/// No project has this name, or Codex's list cannot be read.
pub(crate) fn find_project_folders(name_or_path: &Path, context: &Context) -> Result<Vec<PathBuf>> {
    let path = context.env.absolute(name_or_path);
    let mut components = name_or_path.components();
    // `name/` is a path. Its only component lacks the slash, and so differs from the whole text.
    let is_name = matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(name)), None) if name == name_or_path.as_os_str()
    );
    let text = name_or_path.to_string_lossy();
    if is_windows_path(&text) {
        return Ok(vec![name_or_path.to_path_buf()]);
    }
    if !is_name || path.is_dir() {
        return Ok(vec![path]);
    }

    let all = ThreadFilter::default();
    let mut folders: BTreeSet<String> = list_threads_as(&all, context, |row| row.cwd)?;
    let unlisted = list_unlisted(&all, context)?;
    folders.extend(unlisted.into_iter().map(|row| row.cwd));

    let named_folders = folders
        .iter()
        .filter(|folder| folder_name(folder) == Some(&*text));
    let named_folders: Vec<_> = named_folders.map(PathBuf::from).collect();
    if !named_folders.is_empty() {
        return Ok(named_folders);
    }

    let all_names = folders.iter().filter_map(|folder| folder_name(folder));
    let all_names: BTreeSet<_> = all_names.collect();
    let message = format!("no project has this name: {}", printable(&text));
    let mut error = CommandError::usage(message);
    error.hints.extend(suggest_similar_names(&text, all_names));
    Err(error.hint("list the projects: codex-manager usage projects"))
}

/// Returns the folders of all projects in `names_or_paths`.
///
/// # Errors
/// As [`find_project_folders`].
pub(crate) fn find_all_project_folders(
    names_or_paths: &[PathBuf],
    context: &Context,
) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for project in names_or_paths {
        folders.extend(find_project_folders(project, context)?);
    }
    Ok(folders)
}
