//! Operations on whole folders: list, copy, remove, make durable.

use super::flush;
use super::{
    IoContext, IoError, OrdinaryPath, atomic, beneath, events, file_open, modes, parallel, sharing,
};
use std::ffi::OsString;
use std::fs::{self, FileTimes, FileType, Metadata};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// The reason why a walk leaves out a folder.
pub(crate) const TOO_DEEP: &str = "nested too deeply";

/// Returns true for the path of a folder that a walk leaves out, relative to where it began. Copies of the folder have
/// longer paths, and systems limit them to 4,096 bytes.
pub(crate) fn is_too_deep(relative: &Path) -> bool {
    const MAX_LEVELS: usize = 1000;
    const MAX_BYTES: usize = 3850;
    relative.as_os_str().len() > MAX_BYTES || relative.components().count() > MAX_LEVELS
}

/// Returns the sorted names in a folder with their types. Links are not followed.
pub(crate) fn list(folder: &Path) -> std::io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) => names.push((entry.file_name(), kind)),
            // Removed since it was listed; most systems report the type without this call.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    // In a fixed order, so that archives and messages do not depend on the file system.
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// Returns the entries of a folder in any order; none if it cannot be listed.
pub(crate) fn list_entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// As [`list`]; a missing folder has no entries.
pub(crate) fn list_if_exists(folder: &Path) -> Result<Vec<(OsString, FileType)>, IoError> {
    match list(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.at("list", folder),
    }
}

/// Returns the paths of the folders in a folder, sorted. A missing folder has none.
pub(crate) fn list_folders(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let entries = list_if_exists(folder)?.into_iter();
    let folders = entries.filter(|(_, kind)| kind.is_dir());
    Ok(folders.map(|(name, _)| folder.join(name)).collect())
}

/// Removes a folder that contains nothing but folders. Any other entry stays, with the folders
/// above it.
pub(crate) fn remove_empty_folders(folder: &Path) {
    let is_hollow = list(folder).is_ok_and(|entries| entries.iter().all(|(_, kind)| kind.is_dir()));
    if is_hollow {
        for (name, _) in list(folder).unwrap_or_default() {
            remove_empty_folders(&folder.join(name));
        }
        let _ = sharing::remove_dir(folder);
    }
}

/// Removes a file, link or folder with everything in it. Links are removed, not followed. A missing
/// path is no error.
pub(crate) fn remove(path: &Path) -> Result<(), IoError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => match remove_all(path) {
            // Read-only folders, or more levels than files may be open.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => remove_level_by_level(path),
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
fn remove_all(folder: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(beneath::resolve(folder)?)
}

/// Removes a folder, even if it contains read-only folders: makes each of them writable, and opens one at a time.
fn remove_level_by_level(folder: &Path) -> std::io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let ours = fs::Permissions::from_mode(0o700);
            let _ = fs::set_permissions(beneath::resolve(&folder)?, ours);
        }
        for (name, kind) in list(&folder)? {
            let path = folder.join(name);
            if kind.is_dir() {
                folders.push(path);
            } else {
                sharing::remove_file(&path)?;
            }
        }
        next += 1;
    }
    let mut innermost_first = folders.iter().rev();
    innermost_first.try_for_each(sharing::remove_dir)
}

/// Copies `from` and everything in it to `to`. Folders and links are created anew; files are
/// hard-linked, or copied if that is impossible.
pub(crate) fn link_or_copy_tree(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = from.symlink_metadata().at("inspect", from)?;
    if !meta.is_dir() {
        return link_or_copy_entry(from, &meta, to);
    }
    atomic::create_unsynced_folder(to)?;
    for (name, _) in list(from).at("list", from)? {
        link_or_copy_tree(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Restricts `path` and everything in it to its owner. No effect on systems without file modes.
#[cfg_attr(not(unix), allow(unused_variables, reason = "there are no modes"))]
pub(crate) fn make_private(path: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let meta = path.symlink_metadata().at("inspect", path)?;
        if meta.is_symlink() {
            return Ok(());
        }
        let mode = fs::Permissions::from_mode(if meta.is_dir() { 0o700 } else { 0o600 });
        let set = beneath::resolve(path).and_then(|path| fs::set_permissions(path, mode));
        let set = modes::ignore_refusal(set);
        set.at("set the mode of", path)?;
        if meta.is_dir() {
            for (name, _) in list(path).at("list", path)? {
                make_private(&path.join(name))?;
            }
        }
    }
    Ok(())
}

/// Like [`link_or_copy_tree`], for anything but a folder.
pub(crate) fn link_or_copy_entry(from: &Path, meta: &Metadata, to: &Path) -> Result<(), IoError> {
    if meta.is_symlink() {
        let target = fs::read_link(from).at("read", from)?;
        return make_link(&target, to);
    }
    if meta.is_file() {
        return link_or_copy(from, to);
    }
    // A socket or pipe that cannot be linked is nothing to keep.
    let _ = sharing::hard_link(from, to);
    Ok(())
}

/// Hard-links a file; copies it if that is impossible: on another file system, on one without hard links, and a file
/// of another user. `to` must not exist.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> Result<(), IoError> {
    sharing::hard_link(from, to).or_else(|_| copy_file(from, to))
}

/// Publishes the durable file `from` as `to` too, as [`link_or_copy`] does. Returns false if `to` exists. Durable on
/// return.
pub(crate) fn publish_copy(from: &Path, to: &Path) -> Result<bool, IoError> {
    match sharing::hard_link(from, to) {
        Ok(()) => return atomic::sync_folder(atomic::parent_of(to)).map(|()| true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(_) => {}
    }
    let mut copy = atomic::TempFile::create_beside(to)?;
    copy_content(from, copy.file()).at("copy", from)?;
    Ok(copy.publish(to)?.is_ok())
}

/// Copies the content of a file, its mode and its mtime.
fn copy_content(from: &Path, mut target: &fs::File) -> std::io::Result<()> {
    let mut source = file_open::open(from)?;
    std::io::copy(&mut source, &mut target)?;
    let modified = source.metadata()?.modified()?;
    target.set_times(FileTimes::new().set_modified(modified))?;
    modes::copy(from, target)
}

/// Copies a file with its mode and mtime.
fn copy_file(from: &Path, to: &Path) -> Result<(), IoError> {
    // A clone shares the blocks of the disk. On Linux, copy() below does the same where it can.
    #[cfg(target_vendor = "apple")]
    let source = file_open::open(from).at("read", from)?;
    #[cfg(target_vendor = "apple")]
    if rustix::fs::fclonefileat(
        &source,
        rustix::fs::CWD,
        to,
        rustix::fs::CloneFlags::NOFOLLOW,
    )
    .is_ok()
    {
        // Not for writing: the clone has the mode of the file, which may be read-only.
        let target = file_open::open(to).at("open", to)?;
        let modified = source.metadata().and_then(|meta| meta.modified());
        let times = FileTimes::new().set_modified(modified.at("read", from)?);
        return target.set_times(times).at("set the time of", to);
    }
    let target = atomic::create_private(to)?;
    copy_content(from, &target).at("copy", from)
}

/// Creates a symbolic link to `target` at `path`.
///
/// Windows permits that to administrators and in developer mode. For other users a link to an existing
/// folder becomes a junction, and one to an existing file a hard link or else a copy. A junction needs NTFS; a
/// folder is not copied, because Codex would write to one of the two copies.
pub(crate) fn make_link(target: &Path, path: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        let made = beneath::resolve(path).and_then(|path| std::os::unix::fs::symlink(target, path));
        made.at("create link", path)
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::{symlink_dir, symlink_file};
        let real = atomic::parent_of(path).join(target);
        let (linked, is_folder) = match real.metadata() {
            Ok(meta) if meta.is_dir() => (symlink_dir(target, path), true),
            _ => (symlink_file(target, path), false),
        };
        match linked {
            Err(e) if e.raw_os_error() == Some(ERROR_PRIVILEGE_NOT_HELD) => {
                link_without_privilege(&real, path, is_folder)
                    .unwrap_or_else(|| Err(with_link_remedy(&e)))
            }
            linked => linked,
        }
        .at("create link", path)
    }
}

#[cfg(windows)]
const ERROR_PRIVILEGE_NOT_HELD: i32 = 1314;

/// Adds a remedy for the user to the reason why Windows created no link.
#[cfg(any(windows, test))]
fn with_link_remedy(reason: &std::io::Error) -> std::io::Error {
    let remedy = "turn on Developer Mode in the settings of Windows, or use a disk with NTFS";
    std::io::Error::new(reason.kind(), format!("{reason}; {remedy}"))
}

/// Creates a junction, a hard link or a copy, which need no privilege; `None` if none of them is possible.
#[cfg(windows)]
fn link_without_privilege(
    real: &Path,
    path: &Path,
    is_folder: bool,
) -> Option<std::io::Result<()>> {
    if is_folder {
        let absolute = std::path::absolute(real);
        let linked = absolute.and_then(|real| junction::create(real, path));
        return Some(linked.map_err(|e| with_link_remedy(&e)));
    }
    if !real.is_file() {
        return None;
    }
    Some(link_or_copy(real, path).map_err(|e| e.source))
}

/// The largest number of new files that are synced one by one.
const FEW_FILES: usize = 256;

/// Makes everything below `folder` durable: contents, names and attributes.
pub(crate) fn sync(folder: &Path) -> Result<(), IoError> {
    #[cfg(target_os = "linux")]
    {
        // Syncing the whole file system also waits for the writes of other programs, so a few new files
        // are synced one by one. For many, one call is cheaper; it reports write errors since Linux
        // 5.8, and also works for files that may not be opened.
        if !has_many_new_files(folder)? {
            match sync_entries(folder) {
                Err(e) if e.source.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => return synced,
            }
        }
        #[allow(clippy::disallowed_methods, reason = "a folder, and no file")]
        let folder_file = fs::File::open(folder);
        folder_file
            .and_then(|f| Ok(rustix::fs::syncfs(&f)?))
            .at("sync", folder)
    }
    #[cfg(not(target_os = "linux"))]
    sync_entries(folder)
}

/// Makes everything on the file systems of these paths durable, by one `syncfs` call each. Returns false if a call
/// failed or is unreliable: only Linux reports write errors, and FUSE does not forward the call.
pub(crate) fn sync_file_systems<'a>(paths: impl IntoIterator<Item = &'a Path>) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        const FUSE_MAGIC: u32 = 0x6573_5546;
        #[allow(
            clippy::disallowed_methods,
            reason = "a folder, or a file of this program"
        )]
        let sync = |path: &Path| {
            let file = fs::File::open(path)?;
            if u32::try_from(rustix::fs::fstatfs(&file)?.f_type) == Ok(FUSE_MAGIC) {
                return Ok(false);
            }
            rustix::fs::syncfs(&file)?;
            std::io::Result::Ok(true)
        };
        let mut synced = std::collections::BTreeSet::new();
        paths.into_iter().all(|path| {
            let device = path.metadata().map(|meta| meta.dev());
            device.is_ok_and(|device| !synced.insert(device) || sync(path).unwrap_or(false))
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        paths.into_iter().next().is_none()
    }
}

/// Syncs the files and folders one by one, several in parallel.
fn sync_entries(folder: &Path) -> Result<(), IoError> {
    parallel::run_ordered(
        FEW_FILES,
        |(path, kind): (PathBuf, FileType)| {
            if kind.is_dir() {
                atomic::sync_folder(&path)
            } else if kind.is_file() {
                let synced = file_open::open_to_flush(&path).and_then(|file| {
                    if is_new(&file.metadata()?) {
                        flush::sync_all(&file)
                    } else {
                        flush::sync_data(&file)
                    }
                });
                synced.at("fsync", &path)
            } else {
                Ok(())
            }
        },
        |synced| synced,
        |jobs| {
            walk(folder, &mut |path, kind| {
                jobs.submit((path.to_path_buf(), kind)).is_ok()
            })?;
            Ok(())
        },
    )
}

/// Returns true if `folder` contains more than a few new files, recursively.
#[cfg(target_os = "linux")]
fn has_many_new_files(folder: &Path) -> Result<bool, IoError> {
    let mut seen = 0;
    let whole = walk(folder, &mut |path, kind| {
        seen += usize::from(kind.is_file() && path.symlink_metadata().is_ok_and(|m| is_new(&m)));
        seen <= FEW_FILES
    })?;
    Ok(!whole)
}

/// Returns false for a file with another hard link. It existed before, so it needs no sync.
fn is_new(meta: &Metadata) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::nlink(meta) == 1
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        true
    }
}

/// The files and links below a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct FolderSize {
    /// The number of files and links.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Returns the size of the readable entries of `folder`. Follows no links.
pub(crate) fn measure(folder: &Path) -> FolderSize {
    let mut size = FolderSize::default();
    // A folder that cannot be listed ends the walk. The size is a help for the user only.
    let _ = walk(folder, &mut |path, kind| {
        if !kind.is_dir() {
            size.files += 1;
            size.bytes += path.symlink_metadata().map_or(0, |meta| meta.len());
        }
        true
    });
    size
}

/// The state of a folder that another process writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FolderActivity {
    size: FolderSize,
    newest: Option<SystemTime>,
}

/// Returns the state of the readable entries of `folder`. Each write to a file changes it, even if the size of the file
/// was reserved.
pub(crate) fn activity(folder: &Path) -> FolderActivity {
    let mut newest = None;
    let _ = walk(folder, &mut |path, _| {
        let changed = path.symlink_metadata().and_then(|meta| meta.modified());
        newest = newest.max(changed.ok());
        true
    });
    FolderActivity {
        size: measure(folder),
        newest,
    }
}

/// Calls `visit` for everything below `path`, then for `path`, until it returns false. Returns false
/// then.
fn walk(path: &Path, visit: &mut dyn FnMut(&Path, FileType) -> bool) -> Result<bool, IoError> {
    let meta = path.symlink_metadata().at("inspect", path)?;
    walk_below(path, meta.file_type(), visit)
}

fn walk_below(
    path: &Path,
    kind: FileType,
    visit: &mut dyn FnMut(&Path, FileType) -> bool,
) -> Result<bool, IoError> {
    if kind.is_dir() {
        for (name, kind) in list(path).at("list", path)? {
            if !walk_below(&path.join(name), kind, visit)? {
                return Ok(false);
            }
        }
    }
    Ok(visit(path, kind))
}

/// Returns true if the absolute path `path` is `folder` or below it, after resolving links. Neither
/// need exist.
pub(crate) fn lies_in(path: &Path, folder: &Path) -> bool {
    resolve_links(path).starts_with(resolve_links(folder))
}

/// Returns the absolute path without links. A link to a missing path is resolved too, so that the
/// result does not depend on whether a disk is mounted.
pub(crate) fn resolve_links(path: &Path) -> PathBuf {
    const LINKS: u32 = 40;
    follow(path, LINKS)
}

/// Resolves the links of `path`; of the links to missing paths at most `links`.
fn follow(path: &Path, links: u32) -> PathBuf {
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            Component::CurDir => {}
            part => {
                real.push(part);
                if let Ok(there) = real.canonical() {
                    real = there;
                } else if let (Ok(to), true) = (fs::read_link(&real), links > 0) {
                    real.pop();
                    real = follow(&real.join(to), links - 1);
                }
            }
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_paths_have_the_form_that_users_write() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonical().unwrap();
        assert!(!root.as_os_str().as_encoded_bytes().starts_with(br"\\"));
        let missing = folder.path().join("a").join("..").join("b");
        assert_eq!(resolve_links(&missing), root.join("b"));
        assert!(lies_in(&missing, folder.path()));
        assert!(!lies_in(folder.path(), &missing));
    }

    #[test]
    fn a_copy_of_a_read_only_file_has_its_content_time_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        atomic::write(&from, b"text").unwrap();
        let file = fs::OpenOptions::new().write(true).open(&from).unwrap();
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        file.set_modified(at).unwrap();
        let mut permissions = file.metadata().unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&from, permissions).unwrap();
        copy_file(&from, &to).unwrap();
        assert_eq!(file_open::read(&to).unwrap(), b"text");
        let copied = to.metadata().unwrap();
        assert_eq!(copied.modified().unwrap(), at);
        assert!(copied.permissions().readonly());
    }

    #[test]
    fn a_refused_link_reports_its_path_and_a_remedy() {
        let refused = std::io::Error::from(std::io::ErrorKind::Unsupported);
        let linked: std::io::Result<()> = Err(with_link_remedy(&refused));
        let error = linked.at("create link", Path::new("link")).unwrap_err();
        assert_eq!(error.source.kind(), refused.kind());
        let text = format!("{error}: {}", error.source);
        for part in ["link", &refused.to_string(), "Developer Mode", "NTFS"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[cfg(windows)]
    #[test]
    fn without_the_privilege_a_link_to_a_file_is_a_hard_link_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "text").unwrap();
        fs::write(at("taken"), "other").unwrap();
        let link = |to: &str, name: &str| link_without_privilege(&at(to), &at(name), false);
        link("file", "link").unwrap().unwrap();
        let numbers = crate::io::file_id::read_device_and_inode;
        assert_eq!(numbers(&at("file")), numbers(&at("link")));
        let taken = link("file", "taken").unwrap().unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(at("taken")).unwrap(), b"other");
        assert!(link("missing", "dangling").is_none());
        assert_eq!(list(folder.path()).unwrap().len(), 3);
    }

    #[cfg(windows)]
    #[test]
    fn without_the_privilege_a_link_to_a_folder_is_a_junction() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/file"), "text").unwrap();
        let linked = link_without_privilege(&at("folder"), &at("link"), true);
        linked.unwrap().unwrap();
        assert_eq!(fs::read(at("link/file")).unwrap(), b"text");
    }

    #[cfg(unix)]
    #[test]
    fn lies_in_resolves_links_and_accepts_missing_paths() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("home/sessions")).unwrap();
        std::os::unix::fs::symlink(at("home"), at("alias")).unwrap();
        std::os::unix::fs::symlink("sessions", at("home/inner")).unwrap();
        for (path, expected) in [
            ("home", true),
            ("home/x/y", true),
            ("alias", true),
            ("alias/x", true),
            ("alias/inner/../x", true),
            ("new/../alias/x", true),
            ("home-2", false),
            ("home/../x", false),
            ("x", false),
            ("", false),
        ] {
            assert_eq!(lies_in(&at(path), &at("home")), expected, "{path}");
            assert_eq!(lies_in(&at(path), &at("alias")), expected, "{path}");
        }
        assert!(lies_in(&at("none/x"), &at("none")));
    }
}
