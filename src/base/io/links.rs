//! Links, and copies of files that cannot be linked.

use super::io_error::{IoContext, IoError};
use super::ordinary_path::OrdinaryPath;
use super::tree::list;
use super::{atomic, file_open, modes, owner, sharing};
use std::fs::{self, FileTimes, Metadata};
use std::path::{Component, Path, PathBuf};

/// Copies `from` and everything in it to `to`. Folders and links are created anew; files are
/// hard-linked, or copied if that is impossible.
pub fn link_or_copy_tree(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = from.symlink_metadata().at("inspect", from)?;
    if !meta.is_dir() {
        return link_or_copy_entry(from, &meta, to);
    }
    atomic::create_unsynced_folder(to)?;
    for (name, _kind) in list(from).at("list", from)? {
        link_or_copy_tree(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Like [`link_or_copy_tree`], for anything but a folder.
pub fn link_or_copy_entry(from: &Path, meta: &Metadata, to: &Path) -> Result<(), IoError> {
    if meta.is_symlink() {
        let target = fs::read_link(from).at("read", from)?;
        return make_link(&target, to);
    }
    if meta.is_file() {
        return link_or_copy(from, to);
    }
    // A socket or pipe has no content, so it is left out if it cannot be linked.
    let _ = sharing::hard_link(from, to);
    Ok(())
}

/// Creates `to` as a hard link to the file `from`. If that is impossible, copies the file: from another file system,
/// from one without hard links, or from another user. `to` must not exist.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<(), IoError> {
    sharing::hard_link(from, to).or_else(|_| copy_file(from, to))
}

/// Makes the durable file `from` also appear as `to`, by a hard link or else a copy, durable on return. Returns false
/// if `to` exists.
pub fn publish_copy(from: &Path, to: &Path) -> Result<bool, IoError> {
    match sharing::hard_link(from, to) {
        Ok(()) => return atomic::sync_folder(atomic::parent_of(to)).map(|()| true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(_) => {}
    }
    let mut copy = atomic::TempFile::create_beside(to)?;
    copy_content(from, copy.file()).at("copy", from)?;
    owner::copy_attributes(from, copy.path());
    Ok(copy.publish(to)?.is_ok())
}

/// Copies the content of a file, its mode and its mtime.
fn copy_content(from: &Path, mut target: &fs::File) -> std::io::Result<()> {
    let mut source = file_open::open(from)?;
    std::io::copy(&mut source, &mut target)?;
    let modified = source.metadata()?.modified()?;
    target.set_times(FileTimes::new().set_modified(modified))?;
    modes::copy_mode(from, target)
}

/// Copies a file with its mode, its mtime and its attributes. `to` must not exist. Not durable.
pub fn copy_file(from: &Path, to: &Path) -> Result<(), IoError> {
    // A clone shares the blocks of the disk. On Linux, `std::io::copy` does the same where it can.
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
    copy_content(from, &target).at("copy", from)?;
    owner::copy_attributes(from, to);
    Ok(())
}

/// Creates a symbolic link to `target` at `path`.
///
/// Windows permits that to administrators and in developer mode. For other users a link to an existing
/// folder becomes a junction, and one to an existing file a hard link or else a copy. A junction needs NTFS; a
/// folder is not copied, because Codex would write to one of the two copies.
pub fn make_link(target: &Path, path: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        let result =
            super::beneath::resolve(path).and_then(|path| std::os::unix::fs::symlink(target, path));
        result.at("create link", path)
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::{symlink_dir, symlink_file};

        // Windows has one kind of link for folders and another one for files.
        let real = atomic::parent_of(path).join(target);
        let (link_result, is_folder) = match real.metadata() {
            Ok(meta) if meta.is_dir() => (symlink_dir(target, path), true),
            _ => (symlink_file(target, path), false),
        };

        match link_result {
            Err(e) if e.raw_os_error() == Some(ERROR_PRIVILEGE_NOT_HELD) => {
                link_without_privilege(&real, path, is_folder)
                    .unwrap_or_else(|| Err(with_link_remedy(&e)))
            }
            link_result => link_result,
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

/// Creates a junction, a hard link or a copy, which need no privilege. `None` if `real` is neither a folder nor a file.
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

/// Returns true if the absolute path `path` is `folder` or below it, after resolving links. Neither
/// need exist.
pub fn lies_in(path: &Path, folder: &Path) -> bool {
    resolve_links(path).starts_with(resolve_links(folder))
}

/// Resolves the links of an absolute path that need not exist. A link to a missing path is resolved too, so that the
/// result does not depend on which disks are mounted.
pub fn resolve_links(path: &Path) -> PathBuf {
    const MAX_LINKS: u32 = 40;
    resolve_with_link_limit(path, MAX_LINKS)
}

/// Like [`resolve_links`], but follows at most `max_links` nested links to missing paths, which may form a circle.
fn resolve_with_link_limit(path: &Path, max_links: u32) -> PathBuf {
    let may_follow = max_links > 0;
    let mut real = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(real.pop()),
            Component::CurDir => {}
            component => {
                real.push(component);
                if let Ok(resolved) = real.canonical() {
                    real = resolved;
                } else if may_follow && let Ok(target) = fs::read_link(&real) {
                    real.pop();
                    real = resolve_with_link_limit(&real.join(target), max_links - 1);
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
    fn canonical_paths_have_no_windows_prefix_and_missing_ones_are_resolved() {
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
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
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
