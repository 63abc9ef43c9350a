//! Operations on whole folders: list, measure, remove.

use super::io_error::{IoContext, IoError};
use super::{beneath, events, sharing};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use walkdir::WalkDir;

/// The message for a folder that a walk skips ([`is_too_deep`]).
pub const TOO_DEEP: &str = "nested too deeply";

/// Returns true if a walk must skip the folder at this path, which is relative to the root of the walk. Systems limit a
/// path to 4,096 bytes, and a copy of the folder elsewhere may have a longer path.
pub fn is_too_deep(relative: &Path) -> bool {
    const MAX_LEVELS: usize = 1000;
    const MAX_BYTES: usize = 3850;
    // Components are counted only in long paths, because most paths have fewer bytes than `MAX_LEVELS`.
    let len = relative.as_os_str().len();
    len > MAX_BYTES || (len > MAX_LEVELS && relative.components().count() > MAX_LEVELS)
}

/// Returns the sorted names in a folder with their types. Links are not followed.
pub fn list(folder: &Path) -> std::io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) => names.push((entry.file_name(), kind)),
            // Another process has removed the entry since the folder was listed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }

    // In a fixed order, so that archives and messages do not depend on the file system.
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// Returns the entries of a folder in any order; nothing if the folder cannot be listed.
pub(crate) fn list_entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// Like [`list`]; a missing folder has no entries.
pub fn list_if_exists(folder: &Path) -> Result<Vec<(OsString, FileType)>, IoError> {
    match list(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.at("list", folder),
    }
}

/// Like [`list_if_exists`]; `None` for a folder that this user may not list.
pub fn list_if_permitted(folder: &Path) -> Result<Option<Vec<(OsString, FileType)>>, IoError> {
    match list_if_exists(folder) {
        Err(e) if e.source.kind() == std::io::ErrorKind::PermissionDenied => Ok(None),
        entries => entries.map(Some),
    }
}

/// Returns the paths of the folders in a folder, sorted. A missing folder has none.
pub fn list_folders(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let entries = list_if_exists(folder)?.into_iter();
    let folders = entries.filter(|(_, kind)| kind.is_dir());
    Ok(folders.map(|(name, _)| folder.join(name)).collect())
}

/// Removes `folder` if it contains nothing but folders, recursively. A folder with any other entry stays, with its
/// subfolders and the folders above it.
pub fn remove_empty_folders(folder: &Path) {
    let Ok(entries) = list(folder) else { return };
    if entries.iter().all(|(_, kind)| kind.is_dir()) {
        for (name, _) in entries {
            remove_empty_folders(&folder.join(name));
        }
        let _ = sharing::remove_dir(folder);
    }
}

/// Removes a file, link or folder with everything in it. Links are removed, not followed. A missing
/// path is no error.
pub fn remove(path: &Path) -> Result<(), IoError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => match remove_whole_folder(path) {
            // The folder may contain read-only folders, or have more levels than this process may have open files.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => remove_folder_by_folder(path),
            removed => removed,
        },
        Ok(_) => sharing::remove_file(path),
        Err(e) => Err(e),
    };

    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e).at("remove", path),
        Ok(()) => {
            events::trace!("removed {}", path.display());
            Ok(())
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the one place that removes whole folders"
)]
fn remove_whole_folder(folder: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(beneath::resolve(folder)?)
}

/// Removes a folder, even if it contains read-only folders: makes each of them writable, and opens one at a time.
fn remove_folder_by_folder(root: &Path) -> std::io::Result<()> {
    let mut unread_folders = vec![root.to_path_buf()];
    // Folders that contain nothing but folders now. Each comes before its subfolders.
    let mut emptied_folders = Vec::new();
    while let Some(folder) = unread_folders.pop() {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let private = fs::Permissions::from_mode(0o700);
            // The removal below reports what is wrong.
            let _ = fs::set_permissions(beneath::resolve(&folder)?, private);
        }

        for (name, kind) in list(&folder)? {
            let path = folder.join(name);
            if kind.is_dir() {
                unread_folders.push(path);
            } else {
                sharing::remove_file(&path)?;
            }
        }

        emptied_folders.push(folder);
    }

    let mut innermost_first = emptied_folders.iter().rev();
    innermost_first.try_for_each(sharing::remove_dir)
}

/// Restricts `path` and everything in it to its owner. No effect on systems without file modes.
#[cfg_attr(not(unix), allow(unused_variables, reason = "there are no modes"))]
pub fn make_private(path: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = path.symlink_metadata().at("inspect", path)?;
        if meta.is_symlink() {
            return Ok(());
        }

        let mode = fs::Permissions::from_mode(if meta.is_dir() { 0o700 } else { 0o600 });
        let result = beneath::resolve(path).and_then(|path| fs::set_permissions(path, mode));
        super::modes::ignore_refusal(result).at("set the mode of", path)?;

        if meta.is_dir() {
            for (name, _kind) in list(path).at("list", path)? {
                make_private(&path.join(name))?;
            }
        }
    }
    Ok(())
}

/// The number of the files and links below a folder, and their total size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct FolderSize {
    pub files: u64,
    pub bytes: u64,
}

/// Returns the size of everything below `folder`, up to the first folder in it that cannot be listed: the size is only
/// shown to the user, so an incomplete one is better than an error. Follows no links.
pub fn measure(folder: &Path) -> FolderSize {
    read_activity(folder).size
}

/// A summary of a folder that changes with every write to a file in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FolderActivity {
    size: FolderSize,
    newest: Option<SystemTime>,
}

/// Summarizes `folder`, up to the first folder in it that cannot be listed. The newest mtime shows writes to files
/// whose size was reserved.
pub(crate) fn read_activity(folder: &Path) -> FolderActivity {
    let mut activity = FolderActivity::default();
    for entry in WalkDir::new(folder)
        .follow_root_links(false)
        .into_iter()
        .map_while(Result::ok)
    {
        let Ok(meta) = entry.metadata() else { continue };
        activity.newest = activity.newest.max(meta.modified().ok());
        if !meta.is_dir() {
            activity.size.files += 1;
            activity.size.bytes += meta.len();
        }
    }
    activity
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linked_folder_is_not_measured() {
        let root = tempfile::tempdir().unwrap();
        let (folder, link) = (root.path().join("folder"), root.path().join("link"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), vec![0; 10_000]).unwrap();
        std::os::unix::fs::symlink(&folder, &link).unwrap();
        assert_eq!(measure(&folder).bytes, 10_000);
        assert!(measure(&link).bytes < 10_000);
    }
}
