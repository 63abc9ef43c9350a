//! Building the new state beside the live one: what the archive brings, and hard links to what
//! stays.

use super::plan::RestorePlan;
use super::remains;
use super::rollouts::Rollouts;
use super::step::Step;
use crate::archive::ArchiveError;
use crate::archive::format::OWNERS_MODE;
use crate::archive::manifest::{FileEntry, OUTSIDE_DATABASES};
use crate::archive::reader::Listing;
use crate::archive::sink::Sink;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::long_path;
use crate::io::position;
use crate::io::secret::SecretBytes;
use crate::io::{IoContext, IoError, atomic, tree};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The largest login that is taken out of an archive.
const MAX_LOGIN_BYTES: usize = 16 * 1024 * 1024;

/// Parts of this size go straight to the disk, while others are unpacked.
const LARGE_PART_BYTES: usize = 512 * 1024;

/// A live folder or file that is replaced as a whole: the home, or what a top-level link of it
/// leads to.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Its path in the home; empty for the home itself.
    pub(super) prefix: PathBuf,
    /// Where it is.
    pub(super) live: PathBuf,
    /// Where its new state is built.
    pub(super) staged: PathBuf,
    /// Whether it is exchanged in one call; else entry by entry, because a file system is mounted
    /// on it.
    pub(super) whole: bool,
}

impl Root {
    /// Where the live file `relative` is, a path in the home.
    pub(super) fn live_place(&self, relative: &Path) -> PathBuf {
        match relative.strip_prefix(&self.prefix) {
            Ok(rest) if rest.as_os_str().is_empty() => self.live.clone(),
            Ok(rest) => self.live.join(rest),
            Err(_) => self.live.join(relative),
        }
    }
}

/// The bytes of an archived login and the time of its file.
#[derive(Debug)]
pub(super) struct ArchivedLogin {
    pub(super) bytes: SecretBytes,
    pub(super) mtime_ns: i64,
}

/// The new state while it is built.
#[derive(Debug)]
pub(super) struct Stage {
    /// The home first.
    pub(super) roots: Vec<Root>,
    /// Where databases go that lay outside the archived home.
    pub(super) outside: PathBuf,
    /// The archive's login.
    pub(super) login: Option<ArchivedLogin>,
    /// Rollouts of the archive that are written.
    pub(super) rollouts: Rollouts,
    /// Folders of the archive that are not made, because something that stays stands there.
    pub(super) left_out: BTreeSet<PathBuf>,
}

impl Stage {
    /// Where the file `relative` of the new state is built.
    pub(super) fn place(&self, relative: &Path) -> PathBuf {
        if let Ok(name) = relative.strip_prefix(OUTSIDE_DATABASES) {
            return self.outside.join(name);
        }
        let root = self
            .roots
            .iter()
            .filter(|root| relative.starts_with(&root.prefix))
            .max_by_key(|root| root.prefix.as_os_str().len());
        match root {
            Some(root) => match relative.strip_prefix(&root.prefix) {
                Ok(rest) if rest.as_os_str().is_empty() => root.staged.clone(),
                Ok(rest) => root.staged.join(rest),
                Err(_) => root.staged.join(relative),
            },
            None => self.outside.join(relative),
        }
    }

    /// The root that the file `relative` is in.
    pub(super) fn root_of(&self, relative: &Path) -> &Root {
        let inner = self.roots[1..]
            .iter()
            .find(|root| relative.starts_with(&root.prefix));
        inner.unwrap_or(&self.roots[0])
    }

    /// The home's root.
    pub(super) fn home(&self) -> &Root {
        &self.roots[0]
    }

    /// Makes the links and folders that the plan takes from the archive. Where a file or link stands
    /// that stays, a folder is left out.
    pub(super) fn structure(
        &mut self,
        contents: Listing<'_>,
        plan: &RestorePlan,
    ) -> Result<(), IoError> {
        for link in contents
            .links
            .iter()
            .filter(|l| plan.writes.contains(l.path.as_path()))
        {
            let path = self.place(link.path.as_path());
            atomic::create_private_folder(atomic::parent_of(&path))?;
            tree::make_link(&link.target, &path)?;
        }
        let mut clear = PathBuf::new();
        for folder in contents.folders {
            let name = folder.path.as_path();
            let path = self.place(name);
            if plan.partial || !is_restored(name) || look(&path).is_ok() {
                continue;
            }
            if let Some(kept) = self.kept_on_the_way(name, plan, &mut clear)? {
                self.left_out.insert(kept);
            } else {
                atomic::create_private_folder(&path)?;
            }
        }
        Ok(())
    }

    /// The live file or link at `folder` or above it that the plan does not remove. `clear` is the
    /// folder before, which has none: folders follow each other by what is above them.
    fn kept_on_the_way(
        &self,
        folder: &Path,
        plan: &RestorePlan,
        clear: &mut PathBuf,
    ) -> Result<Option<PathBuf>, IoError> {
        let root = self.root_of(folder);
        let (mut live, mut relative) = (root.live.clone(), root.prefix.clone());
        for part in folder.strip_prefix(&root.prefix).unwrap_or(folder) {
            live.push(part);
            relative.push(part);
            if clear.starts_with(&relative) {
                continue;
            }
            match look(&live) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) if !plan.removed.contains(&relative) => return Ok(Some(relative)),
                Ok(_) => break,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    break;
                }
                Err(e) => return Err(e).at("read", &live),
            }
        }
        folder.clone_into(clear);
        Ok(None)
    }

    /// Gives the folders that came from the archive their mode and time. Last, because whatever is
    /// put into a folder changes its time.
    /// Those of `kept` have theirs from it.
    pub(super) fn finish_folders(
        &self,
        contents: Listing<'_>,
        kept: Option<&Path>,
    ) -> Result<(), IoError> {
        for folder in contents.folders.iter().rev() {
            let stands = |home: &Path| {
                let there = home.join(folder.path.as_path());
                long_path::with(&there, Path::metadata).is_ok()
            };
            let name = folder.path.as_path();
            // What is carried over in its place may be a link to somebody's folder.
            let is_left_out = || name.ancestors().any(|above| self.left_out.contains(above));
            if kept.is_some_and(stands) || (!self.left_out.is_empty() && is_left_out()) {
                continue;
            }
            let path = self.place(name);
            if is_restored(name) && look(&path).is_ok_and(|m| m.is_dir()) {
                set_attributes(&path, folder.mode | OWNERS_MODE, folder.mtime)?;
            }
        }
        Ok(())
    }
}

fn is_restored(path: &Path) -> bool {
    !matches!(kind_of(path), HomeEntryKind::Transient)
}

/// Takes the planned files out of an archive.
pub(super) struct Extract<'a> {
    stage: &'a Stage,
    plan: &'a RestorePlan,
    login: Mutex<Option<(Vec<u8>, i64)>>,
}

impl<'a> Extract<'a> {
    pub(super) fn new(stage: &'a Stage, plan: &'a RestorePlan) -> Self {
        Self {
            stage,
            plan,
            login: Mutex::new(None),
        }
    }

    /// The archive's login, once everything has been read.
    pub(super) fn into_login(self) -> Option<ArchivedLogin> {
        let login = self
            .login
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)?;
        Some(ArchivedLogin {
            bytes: SecretBytes::new(login.0),
            mtime_ns: login.1,
        })
    }

    fn is_login(&self, entry: &FileEntry) -> bool {
        kind_of(entry.path.as_path()) == HomeEntryKind::Auth && self.plan.wants_login
    }
}

impl Sink for Extract<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        self.is_login(entry) || self.plan.writes.contains(entry.path.as_path())
    }

    fn part(&self, entry: &FileEntry, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        if self.is_login(entry) {
            let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            let (whole, _) = login.get_or_insert_with(|| (Vec::new(), entry.mtime));
            // A login is a few kilobytes and comes in one part; more is none.
            if offset == whole.len() as u64 && whole.len() + bytes.len() <= MAX_LOGIN_BYTES {
                whole.extend_from_slice(bytes);
            }
            return Ok(());
        }
        let path = self.stage.place(entry.path.as_path());
        let file = match open_private(&path) {
            Err(e) if e.is_not_found() => {
                atomic::create_private_folder(atomic::parent_of(&path))?;
                open_private(&path)?
            }
            other => other?,
        };
        Ok(write_without_holes(&file, bytes, offset, entry.size).at("write", &path)?)
    }

    fn done(&self, entry: &FileEntry) -> Result<(), ArchiveError> {
        if self.is_login(entry) {
            return Ok(());
        }
        Ok(set_attributes(
            &self.stage.place(entry.path.as_path()),
            entry.mode,
            entry.mtime,
        )?)
    }
}

/// Blocks of zeros of this size are left out: a sparse file comes back as one.
const HOLE_BYTES: usize = 64 * 1024;

/// Writes a part of a file of `size` bytes, but for the blocks of zeros in it.
fn write_without_holes(file: &File, bytes: &[u8], offset: u64, size: u64) -> io::Result<()> {
    let is_hole = |block: &[u8]| block.len() == HOLE_BYTES && block.iter().all(|b| *b == 0);
    let write = match bytes.len() {
        LARGE_PART_BYTES.. => position::write_past_cache,
        _ => position::write_all_at,
    };
    let mut written = 0;
    for (i, block) in bytes.chunks(HOLE_BYTES).enumerate() {
        if is_hole(block) {
            let at = i * HOLE_BYTES;
            write(file, &bytes[written..at], offset + written as u64)?;
            written = at + block.len();
        }
    }
    write(file, &bytes[written..], offset + written as u64)?;
    // Whoever writes the last part gives the file its size, in case that ends with a hole.
    if written == bytes.len() && offset + written as u64 == size {
        file.set_len(size)?;
    }
    Ok(())
}

/// Opens a staged file, which several threads may write parts of; made if it is not there.
fn open_private(path: &Path) -> Result<File, IoError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    long_path::with(path, |path| options.open(path)).at("create", path)
}

/// What stands at a path; a link is not followed.
pub(super) fn look(path: &Path) -> io::Result<Metadata> {
    long_path::with(path, Path::symlink_metadata)
}

/// Carries what stays from the live state into the new one, by hard links.
pub(super) struct Carry<'a> {
    pub(super) plan: &'a RestorePlan,
    /// Names that are never carried: our own folders in a home.
    pub(super) skip: &'a BTreeSet<PathBuf>,
    /// The conversations' folders and the like are left out when nothing is in them any more.
    pub(super) exact: bool,
}

impl Carry<'_> {
    /// Carries the whole of `root`; for a file there is nothing to carry.
    pub(super) fn root(&self, root: &Root) -> Result<(), IoError> {
        match root.live.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(meta) if !meta.is_dir() => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(e).at("read", &root.live),
        }
        atomic::create_private_folder(&root.staged)?;
        self.folder(&root.live, &root.prefix, &root.staged)?;
        if root.staged.is_dir() {
            copy_attributes(&root.live, &root.staged)?;
        }
        Ok(())
    }

    /// Whether this is what SQLite kept beside a database that is replaced or removed. It would
    /// not fit the new one; it may have come after the plan was made.
    fn is_beside_replaced(&self, relative: &Path) -> bool {
        kind_of(relative) == HomeEntryKind::DatabaseSidecar
            && relative.to_str().is_some_and(|text| {
                home::SIDECAR_SUFFIXES
                    .iter()
                    .filter_map(|s| text.strip_suffix(s))
                    .any(|base| {
                        let base = Path::new(base);
                        self.plan.removed.contains(base) || self.plan.writes.contains(base)
                    })
            })
    }

    /// Carries one entry of a root, by its path there.
    pub(super) fn within(&self, root: &Root, path: &Path) -> Result<(), IoError> {
        let relative = root.prefix.join(path);
        self.entry(&root.live.join(path), &relative, &root.staged.join(path))
    }

    /// Whether the live file `relative` is not to be carried over.
    fn goes(&self, relative: &Path) -> bool {
        self.plan.removed.contains(relative)
            || self.is_beside_replaced(relative)
            || self.skip.contains(relative)
            || relative == Path::new(home::AUTH_JSON)
            || (kind_of(relative) == HomeEntryKind::Transient
                && remains::is_named_remains(relative))
    }

    /// Whether the live file `relative` is replaced or goes.
    pub(super) fn replaces(&self, relative: &Path) -> bool {
        self.goes(relative) || self.plan.writes.contains(relative)
    }

    /// Sees to it that nothing at `live` goes with what is exchanged for it but what is replaced or
    /// removed: no safety backup has the rest.
    ///
    /// # Errors
    /// There is something else.
    pub(super) fn check_replaced(&self, live: &Path, relative: &Path) -> Result<(), IoError> {
        let meta = match look(live) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("read", live)?,
        };
        if self.goes(relative) || (!meta.is_dir() && self.replaces(relative)) {
            return Ok(());
        }
        if meta.is_dir() {
            return tree::list(live)
                .at("list", live)?
                .into_iter()
                .try_for_each(|(name, _)| {
                    self.check_replaced(&live.join(&name), &relative.join(&name))
                });
        }
        let why = "the archive has something else in its place";
        Err(io::Error::new(io::ErrorKind::AlreadyExists, why)).at("keep", live)
    }

    fn folder(&self, live: &Path, relative: &Path, staged: &Path) -> Result<(), IoError> {
        // The whole list first: a folder that stays open at each level is too much for a deep path.
        for (name, _) in tree::list(live).at("list", live)? {
            self.entry(
                &live.join(&name),
                &relative.join(&name),
                &staged.join(&name),
            )?;
        }
        Ok(())
    }

    fn entry(&self, live: &Path, relative: &Path, staged: &Path) -> Result<(), IoError> {
        if self.goes(relative) {
            return Ok(());
        }
        let meta = match look(live) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // What is not carried over would be removed with the old home.
            other => other.at("read", live)?,
        };
        let standing = look(staged);
        if meta.is_dir() {
            match standing {
                Ok(new) if !new.is_dir() => return self.check_replaced(live, relative),
                Ok(_) => {
                    self.folder(live, relative, staged)?;
                    return copy_attributes(live, staged);
                }
                Err(_) => {}
            }
            let captured = self.exact
                && !matches!(
                    kind_of(relative),
                    HomeEntryKind::Unknown | HomeEntryKind::Transient | HomeEntryKind::Tmp
                );
            if !captured {
                atomic::create_private_folder(staged)?;
            }
            self.folder(live, relative, staged)?;
            if look(staged).is_ok_and(|m| m.is_dir()) {
                copy_attributes(live, staged)?;
            }
            return Ok(());
        }
        if standing.is_ok() {
            return self.check_replaced(live, relative);
        }
        atomic::create_private_folder(atomic::parent_of(staged))?;
        tree::share_file(live, &meta, staged)
    }
}

/// Whether the whole home can be exchanged in one call: it is an ordinary folder, on one file
/// system with the folder beside it, and nothing is mounted on it.
pub(super) fn can_exchange_whole(home: &Path, beside: &Path) -> Result<bool, IoError> {
    if !home.exists() {
        return Ok(true);
    }
    Ok(crate::io::space::same_file_system(home, beside)
        && mounts_in(home)?.is_empty()
        && exchanges_folders(beside))
}

/// Whether the disk of this folder of ours takes names for one that differ in letter case alone. Asked
/// of the disk: the system does not say, and some folders of one disk do and others do not.
pub(super) fn ignores_case(folder: &Path) -> Result<bool, IoError> {
    let probe = folder.join("case-probe");
    drop(atomic::create_private(&probe)?);
    let found = folder.join("CASE-PROBE").symlink_metadata().is_ok();
    tree::remove(&probe)?;
    Ok(found)
}

/// Tries it with two empty folders.
fn exchanges_folders(folder: &Path) -> bool {
    let (a, b) = (folder.join("try-a"), folder.join("try-b"));
    let made = fs::create_dir(&a).is_ok() && fs::create_dir(&b).is_ok();
    let works = made && crate::io::exchange::exchange(&a, &b).is_ok();
    let _ = (fs::remove_dir(&a), fs::remove_dir(&b));
    works
}

/// The mount points at and below the real folder `folder`. To exchange or remove what is above one
/// would reach into another file system.
///
/// # Errors
/// The system does not say: then nothing may be removed.
#[cfg(target_os = "linux")]
pub(super) fn mounts_in(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    use std::os::unix::ffi::OsStringExt;
    // A bind mount is on the same device as its parent: only the list of mounts tells.
    let list = Path::new("/proc/self/mountinfo");
    let mounts = crate::io::file_open::read(list).at("read the list of mounts", list)?;
    Ok(mounts
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(4))
        .map(|escaped| PathBuf::from(OsString::from_vec(unescape(escaped))))
        .filter(|mount| mount.starts_with(folder))
        .collect())
}

/// Undoes the octal escapes of the list of mounts.
#[cfg(target_os = "linux")]
fn unescape(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let escape = rest.get(..3).filter(|_| *first == b'\\');
        let value = escape.and_then(|e| u8::from_str_radix(std::str::from_utf8(e).ok()?, 8).ok());
        plain.push(value.unwrap_or(*first));
        text = if value.is_some() { &rest[3..] } else { rest };
    }
    plain
}

#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(super) fn mounts_in(_folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    Ok(Vec::new())
}

/// The steps that put the new state of the home's top-level entries into place one by one.
pub(super) fn steps_by_entry(
    home: &Root,
    tops: &BTreeSet<OsString>,
    old: &Path,
) -> Result<Vec<Step>, IoError> {
    atomic::create_private_folder(old)?;
    let mut steps = Vec::new();
    // The login last: while it is not replaced, the old account is whole.
    let login = OsString::from(home::AUTH_JSON);
    let ordered = tops.iter().filter(|t| **t != login).chain(tops.get(&login));
    for top in ordered {
        let (live, staged) = (home.live.join(top), home.staged.join(top));
        if staged.symlink_metadata().is_ok() {
            steps.push(Step::new(live, staged));
        } else if live.symlink_metadata().is_ok() {
            steps.push(Step::new(live, old.join(top)));
        }
    }
    Ok(steps)
}

fn copy_attributes(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = long_path::with(from, Path::metadata).at("read", from)?;
    set_permissions(to, meta.permissions())?;
    set_modified(to, meta.modified().at("read", from)?)
}

/// Mode (permission bits alone) and time.
pub(super) fn set_attributes(path: &Path, mode: u32, mtime_ns: i64) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    let nanos = Duration::from_nanos(mtime_ns.unsigned_abs());
    let at = if mtime_ns >= 0 {
        UNIX_EPOCH + nanos
    } else {
        UNIX_EPOCH - nanos
    };
    set_modified(path, at)
}

fn set_permissions(path: &Path, permissions: fs::Permissions) -> Result<(), IoError> {
    long_path::with(path, |path| fs::set_permissions(path, permissions)).at("set the mode of", path)
}

fn set_modified(path: &Path, at: SystemTime) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
        // By name, not through an open file: the mode may forbid to open it.
        let (secs, nanos) = match at.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
            // The second that it lies in begins before it.
            Err(before) => match (
                before.duration().as_secs(),
                before.duration().subsec_nanos(),
            ) {
                (secs, 0) => (-secs.cast_signed(), 0),
                (secs, nanos) => (-secs.cast_signed() - 1, 1_000_000_000 - nanos),
            },
        };
        let time = Timespec {
            tv_sec: secs,
            tv_nsec: i64::from(nanos),
        };
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: time,
        };
        let set = |path: &Path| Ok(utimensat(CWD, path, &times, AtFlags::empty())?);
        long_path::with(path, set).at("set the time of", path)
    }
    #[cfg(not(unix))]
    {
        if path.is_dir() {
            return Ok(());
        }
        fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|f| f.set_times(fs::FileTimes::new().set_modified(at)))
            .at("set the time of", path)
    }
}
