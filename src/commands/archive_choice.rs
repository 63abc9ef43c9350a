//! The archive that the user names.

use crate::archive::names;
use crate::context::Context;
use crate::error::CommandError;
use crate::inventory::store;
use std::path::{Path, PathBuf};

/// The argument that means the newest archive.
pub(super) const LATEST: &str = "latest";

/// Returns the name of the file of an archive.
pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Finds the archive `name`: a path, or a name in `backups/` with or without its suffix.
///
/// # Errors
/// No such file exists.
pub(super) fn find_archive(context: &Context, name: &Path) -> Result<PathBuf, CommandError> {
    let in_backups = store::backups(&context.settings.manager_home).join(name);
    let as_path = context.env.absolute(name);
    let is_name = name.components().count() == 1;
    let order = if is_name {
        [in_backups, as_path]
    } else {
        [as_path, in_backups]
    };
    let with_suffix = |p: &PathBuf| {
        let mut full = p.as_os_str().to_owned();
        full.push(names::ARCHIVE_SUFFIX);
        PathBuf::from(full)
    };
    let candidates = order.iter().cloned().chain(order.iter().map(with_suffix));
    let file = candidates.clone().find(|p| p.is_file());
    // A folder or pipe with an archive's name is returned too, so that opening it gives the precise
    // error.
    let named = || {
        let is_archive = name.to_string_lossy().ends_with(".tar.gz") || !is_name;
        candidates.clone().find(|p| is_archive && p.exists())
    };
    file.or_else(named).ok_or_else(|| {
        CommandError::failed(format!("no such archive: {}", name.display()))
            .hint("list archives with: codex-manager list-backups")
    })
}
