//! Keeps file operations inside the folders that this program works on, while another process replaces a folder
//! in them by a link.
//!
//! A check of a path is out of date when the path is used. So on Linux the kernel refuses links while it opens a path
//! (`openat2` with `RESOLVE_NO_SYMLINKS`). A file that is only read is opened in this way. For any other operation,
//! the folder of the file is opened in this way, and the operation uses a path below `/proc/self/fd`.
//!
//! Listings and metadata are not protected, because they open no file, nor are databases, which SQLite opens by path.
//! On kernels before 5.6, in sandboxes without the call, and on other systems, only the checks of the callers protect.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// Selects the links below a protected folder that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowedLinks {
    /// Links directly in the folder. Their targets are protected, too, but with `at_top: false`.
    at_top: bool,
    /// Links to files, if the files are only read.
    to_files: bool,
}

impl FollowedLinks {
    /// For folders that other users can write to.
    pub const NONE: Self = Self {
        at_top: false,
        to_files: false,
    };
    /// For Codex homes: `sessions` may be on another disk.
    pub const AT_TOP: Self = Self {
        at_top: true,
        ..Self::NONE
    };
    /// For manager homes: archives may be on another disk, too.
    pub const TO_FILES: Self = Self {
        to_files: true,
        ..Self::AT_TOP
    };
}

/// A path for an operation. If it is deeper than directly in a protected folder, another process cannot replace its
/// folder by a link while this value exists: it leads through `/proc/self/fd`, which is not for messages.
#[derive(Debug)]
pub(crate) struct ResolvedPath<'a> {
    path: Cow<'a, Path>,
    _folder: Option<File>,
}

impl Deref for ResolvedPath<'_> {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for ResolvedPath<'_> {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Protects everything below `root`, which may be missing or a link, for the rest of the process.
pub fn protect(root: &Path, links: FollowedLinks) {
    #[cfg(target_os = "linux")]
    linux::protect(root, None, links);
    #[cfg(not(target_os = "linux"))]
    let _ = (root, links);
}

/// Like [`protect`], for a path without links: one that appears in it later is not followed.
pub(crate) fn protect_real(root: &Path, links: FollowedLinks) {
    #[cfg(target_os = "linux")]
    linux::protect(root, Some(root), links);
    #[cfg(not(target_os = "linux"))]
    let _ = (root, links);
}

/// Returns a path for an operation on the name `path`, which need not exist. A link with this name is not resolved.
///
/// # Errors
/// The path is below a protected folder, and a folder on the way is missing, or is a link that is not followed.
pub(crate) fn resolve(path: &Path) -> io::Result<ResolvedPath<'_>> {
    #[cfg(target_os = "linux")]
    if let Some((folder, name_path)) = linux::resolve(path)? {
        return Ok(ResolvedPath {
            path: Cow::Owned(name_path),
            _folder: Some(folder),
        });
    }
    Ok(ResolvedPath {
        path: Cow::Borrowed(path),
        _folder: None,
    })
}

/// Returns a path that denotes the entry now at `path`, even if another process replaces it by a link. For a change of
/// its mode or attributes, which follows links.
///
/// # Errors
/// Those of [`resolve`], or there is no entry.
pub(crate) fn resolve_entry(path: &Path) -> io::Result<ResolvedPath<'_>> {
    #[cfg(target_os = "linux")]
    if let Some((entry, fd_path)) = linux::open_entry(path)? {
        return Ok(ResolvedPath {
            path: Cow::Owned(fd_path),
            _folder: Some(entry),
        });
    }
    resolve(path)
}

/// Opens the existing file `path`, following only links that [`FollowedLinks`] permits. Returns `None` if no protected
/// folder contains the file, if it is directly in a folder whose links are followed, or if the system does not have
/// `openat2`. The caller then opens the file by its path.
///
/// # Errors
/// The file cannot be opened, or is a link that is not followed, or is below one.
#[cfg(target_os = "linux")]
pub(super) fn open(path: &Path, flags: rustix::fs::OFlags) -> io::Result<Option<File>> {
    linux::open(path, flags)
}

#[cfg(target_os = "linux")]
mod linux {
    use super::FollowedLinks;
    use crate::io::ordinary_path::OrdinaryPath;
    use crate::io::user;
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::{Errno, retry_on_intr};
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Component, Path, PathBuf};
    use std::sync::{Arc, OnceLock, PoisonError, RwLock};

    #[derive(Debug)]
    struct ProtectedRoot {
        /// The path as the caller of [`protect`] spelled it.
        spelled: PathBuf,
        /// `spelled` with its links resolved, at the first use.
        real: OnceLock<PathBuf>,
        links: FollowedLinks,
    }

    static ROOTS: RwLock<Vec<Arc<ProtectedRoot>>> = RwLock::new(Vec::new());

    /// A path below a protected folder, as `base` and `relative`.
    struct PlaceBelow<'a> {
        root: Arc<ProtectedRoot>,
        /// The protected folder, in the spelling of the caller's path.
        base: &'a Path,
        relative: &'a Path,
    }

    /// The result of opening a path without following links.
    enum Opened {
        File(File),
        Link,
        /// An old kernel, or a sandbox that refuses unknown calls.
        Unsupported,
    }

    impl ProtectedRoot {
        fn real_path(&self) -> &Path {
            self.real.get_or_init(|| {
                let mut resolved = self.spelled.ancestors().filter_map(|existing| {
                    let missing = self.spelled.strip_prefix(existing).ok()?;
                    Some(existing.canonical().ok()?.join(missing))
                });
                resolved.next().unwrap_or_else(|| self.spelled.clone())
            })
        }
    }

    /// `real` is `root` with its links resolved, if the caller knows it.
    pub(super) fn protect(root: &Path, real: Option<&Path>, links: FollowedLinks) {
        if !root.is_absolute() {
            return;
        }

        let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
        if roots.iter().all(|protected| protected.spelled != root) {
            // Never removed: a path that was protected once stays so while this process runs.
            roots.push(Arc::new(ProtectedRoot {
                spelled: root.to_path_buf(),
                real: real.map_or_else(OnceLock::new, |real| real.to_path_buf().into()),
                links,
            }));
        }
    }

    /// Returns the place of `path` below the innermost protected folder that contains it.
    fn locate_below_root(path: &Path) -> Option<PlaceBelow<'_>> {
        let roots = ROOTS.read().unwrap_or_else(PoisonError::into_inner);
        let find_innermost = |spelling: fn(&ProtectedRoot) -> &Path| {
            let containing_roots = roots.iter().filter_map(|root| {
                let relative = path.strip_prefix(spelling(root)).ok()?;
                Some((root, relative))
            });
            containing_roots.min_by_key(|(_, relative)| relative.components().count())
        };

        // The caller may spell the folder as it was protected, or by its real path.
        let (root, relative) = find_innermost(|root| &root.spelled)
            .or_else(|| find_innermost(ProtectedRoot::real_path))?;

        // A path with `..` is not protected. Another process cannot add `..` to a path, because no entry has that name.
        let is_plain = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        // The path without the components of `relative`.
        let base = path.ancestors().nth(relative.components().count())?;

        (is_plain && relative.file_name().is_some()).then(|| PlaceBelow {
            root: Arc::clone(root),
            base,
            relative,
        })
    }

    impl PlaceBelow<'_> {
        fn is_at_top(&self) -> bool {
            self.relative.components().count() == 1
        }

        /// Protects the link at the top of the folder through which the path goes. Returns false if there is no such
        /// link, or if it is not followed. Afterwards, [`locate_below_root`] returns the link as the innermost folder
        /// of the path.
        ///
        /// # Errors
        /// Root does not follow the link.
        fn follow_top_link(&self) -> io::Result<bool> {
            let Some(first) = self.relative.components().next() else {
                return Ok(false);
            };

            let link = self.base.join(first);
            let is_followed = self.root.links.at_top
                && !self.is_at_top()
                && link.symlink_metadata().is_ok_and(|meta| meta.is_symlink());

            if is_followed {
                let links = FollowedLinks {
                    at_top: false,
                    ..self.root.links
                };
                let target = user::followed_path(&link)?;
                protect(&link, Some(&*target).filter(|real| *real != link), links);
            }
            Ok(is_followed)
        }
    }

    fn open_without_links(path: &Path, flags: OFlags) -> io::Result<Opened> {
        let flags = flags | OFlags::CLOEXEC;
        match retry_on_intr(|| openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS))
        {
            Ok(file) => Ok(Opened::File(file.into())),
            Err(Errno::LOOP) => Ok(Opened::Link),
            // seccomp filters of containers answer unknown calls by EPERM.
            Err(Errno::NOSYS | Errno::PERM) => Ok(Opened::Unsupported),
            Err(e) => Err(e.into()),
        }
    }

    fn link_error() -> io::Error {
        let message = "it is a link, or a folder above it is one";
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }

    /// Opens the folder that contains `path`. Returns the folder, and the path of the entry below `/proc/self/fd`.
    /// `None` if `path` is not protected, is directly in a protected folder, or the system lacks `openat2` or `/proc`.
    pub(super) fn resolve(path: &Path) -> io::Result<Option<(File, PathBuf)>> {
        let Some(place) = locate_below_root(path).filter(|place| !place.is_at_top()) else {
            return Ok(None);
        };

        let real = place.root.real_path().join(place.relative);
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Ok(None);
        };

        // `O_PATH` needs no permission to read the folder, only to go through it.
        match open_without_links(parent, OFlags::PATH | OFlags::DIRECTORY)? {
            Opened::File(folder) => {
                let fd_path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
                Ok(has_proc(&fd_path).then(|| (folder, fd_path.join(name))))
            }
            Opened::Unsupported => Ok(None),
            Opened::Link if place.follow_top_link()? => resolve(path),
            Opened::Link => Err(link_error()),
        }
    }

    /// Opens the entry `path` itself. Returns it with its path below `/proc/self/fd`; `None` without `/proc`.
    pub(super) fn open_entry(path: &Path) -> io::Result<Option<(File, PathBuf)>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = File::from(rustix::fs::open(
            &*super::resolve(path)?,
            flags,
            Mode::empty(),
        )?);
        let fd_path = PathBuf::from(format!("/proc/self/fd/{}", entry.as_raw_fd()));
        Ok(has_proc(&fd_path).then_some((entry, fd_path)))
    }

    /// Returns true if `/proc` is mounted and shows the open `folder` of this process.
    fn has_proc(folder: &Path) -> bool {
        static HAS_PROC: OnceLock<bool> = OnceLock::new();
        *HAS_PROC.get_or_init(|| folder.metadata().is_ok())
    }

    pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<Option<File>> {
        let is_followed_at_top =
            |place: &PlaceBelow<'_>| place.is_at_top() && place.root.links.at_top;
        let Some(place) = locate_below_root(path) else {
            return Ok(None);
        };
        if is_followed_at_top(&place) {
            return open_at_top(path, flags);
        }

        match open_without_links(&place.root.real_path().join(place.relative), flags)? {
            Opened::File(file) => Ok(Some(file)),
            Opened::Unsupported => Ok(None),
            Opened::Link if place.follow_top_link()? => open(path, flags),
            // Only the last name may be a link: its folder is opened without links.
            Opened::Link if place.root.links.to_files => {
                user::check_link(path)?;
                let resolved = super::resolve(path)?;
                let file = rustix::fs::open(&*resolved, flags | OFlags::CLOEXEC, Mode::empty())?;
                Ok(Some(file.into()))
            }
            Opened::Link => Err(link_error()),
        }
    }

    /// Opens an entry directly in a folder whose links are followed, for root. Other users open it by its path.
    fn open_at_top(path: &Path, flags: OFlags) -> io::Result<Option<File>> {
        if !user::is_root() || flags.contains(OFlags::NOFOLLOW) {
            return Ok(None);
        }
        let folder = path.parent().unwrap_or(path).canonical()?;
        let entry = folder.join(path.file_name().unwrap_or_default());
        match open_without_links(&user::followed_path(&entry)?, flags)? {
            Opened::File(file) => Ok(Some(file)),
            Opened::Unsupported => Ok(None),
            // It has just replaced the entry.
            Opened::Link => Err(link_error()),
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_only_where_the_folder_allows_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("outside/2026/10")).unwrap();
        fs::write(at("outside/2026/10/file"), "outside").unwrap();
        for (name, links, top, below, file) in [
            ("cloud", FollowedLinks::NONE, false, false, false),
            ("home", FollowedLinks::AT_TOP, true, false, false),
            ("manager", FollowedLinks::TO_FILES, true, false, true),
        ] {
            let root = at(name);
            fs::create_dir_all(root.join("real/2026")).unwrap();
            symlink(at("outside"), root.join("top")).unwrap();
            symlink(at("outside/2026/10"), root.join("real/2026/10")).unwrap();
            symlink(at("outside/2026/10/file"), root.join("real/link")).unwrap();
            // The root itself may be a link, and is known by both names.
            symlink(&root, at(&format!("{name}-link"))).unwrap();
            protect(&at(&format!("{name}-link")), links);
            for root in [root, at(&format!("{name}-link"))] {
                let reads = |path: &str| {
                    open(&root.join(path), OFlags::RDONLY).is_ok_and(|file| file.is_some())
                };
                let reaches = |path: &str| resolve(&root.join(path)).is_ok();
                assert_eq!(reads("top/2026/10/file"), top, "{name}");
                assert_eq!(reaches("top/2026/10/new"), top, "{name}");
                assert_eq!(reads("real/2026/10/file"), below, "{name}");
                assert_eq!(reaches("real/2026/10/new"), below, "{name}");
                assert_eq!(reads("real/link"), file, "{name}");
                assert!(reaches("real/link"), "{name}");
                assert!(reaches("new"), "{name}");
            }
        }
    }

    #[test]
    fn a_resolved_path_stays_in_its_folder_after_a_link_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("root/below")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        protect(&at("root"), FollowedLinks::NONE);
        let path = at("root/below/new");
        let reached = resolve(&path).unwrap();
        fs::rename(at("root/below"), at("root/was")).unwrap();
        symlink(at("outside"), at("root/below")).unwrap();
        fs::write(&reached, "text").unwrap();
        assert_eq!(fs::read_dir(at("outside")).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(at("root/was/new")).unwrap(), "text");
    }
}
