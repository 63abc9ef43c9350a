//! Builds the new state beside the live one: files from the archive, and hard links to files that
//! stay the same.

use super::plan::RestorePlan;
use super::rollout_index::RolloutIndex;
use crate::archive::ArchiveError;
use crate::archive::contents::ArchiveListing;
use crate::archive::entry::FileEntry;
use crate::archive::entry_name::EntryName;
use crate::archive::format::OWNER_ACCESS_MODE;
use crate::archive::manifest::EXTERNAL_DATABASES_FOLDER;
use crate::archive::sink::Sink;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::position;
use crate::io::secret::SecretBytes;
use crate::io::{IoContext, IoError, atomic, tree};
use crate::journal;
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The largest login that is read from an archive, in bytes.
const MAX_LOGIN_BYTES: usize = 16 * 1024 * 1024;

/// The size from which a part of a file bypasses the page cache, so that the disk works while other
/// parts are unpacked.
const LARGE_PART_BYTES: usize = 512 * 1024;

/// A live folder or file that is replaced as a whole: the home, or the target of a top-level link
/// in it.
#[derive(Debug, Clone)]
pub(super) struct StageRoot {
    /// The path in the home; empty for the home itself.
    pub(super) prefix: PathBuf,
    /// The absolute path of the live folder or file.
    pub(super) live: PathBuf,
    /// The path that its new state is built at.
    pub(super) staged: PathBuf,
    /// True if it is exchanged in one call. False: entry by entry, because it is a mount point or
    /// nothing can be created beside it.
    pub(super) whole: bool,
}

impl StageRoot {
    /// Returns the absolute path of the live file `relative`, a path in the home.
    pub(super) fn live_path(&self, relative: &Path) -> PathBuf {
        match relative.strip_prefix(&self.prefix) {
            Ok(rest) if rest.as_os_str().is_empty() => self.live.clone(),
            Ok(rest) => self.live.join(rest),
            Err(_) => self.live.join(relative),
        }
    }
}

/// The bytes of an archived login, and the modification time of its file.
#[derive(Debug)]
pub(super) struct ArchivedLogin {
    pub(super) bytes: SecretBytes,
    pub(super) mtime_ns: i64,
}

/// The new state while it is built.
#[derive(Debug)]
pub(super) struct Stage {
    /// The home first, then the targets of links.
    pub(super) roots: Vec<StageRoot>,
    /// The folder for databases that were outside of the archived home.
    pub(super) outside: PathBuf,
    /// The login of the archive, if the plan wants it.
    pub(super) login: Option<ArchivedLogin>,
    /// The archive's rollouts that are written.
    pub(super) rollouts: RolloutIndex,
    /// Live files and links that stay at or above the path of a folder of the archive, which is
    /// therefore not created.
    pub(super) blocking_entries: BTreeSet<PathBuf>,
}

impl Stage {
    /// Returns the staged path of the file `relative`, a path in the home.
    pub(super) fn staged_path(&self, relative: &Path) -> PathBuf {
        if let Ok(name) = relative.strip_prefix(EXTERNAL_DATABASES_FOLDER) {
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

    /// Returns the root that contains the file `relative`.
    pub(super) fn root_of(&self, relative: &Path) -> &StageRoot {
        let inner = self.roots[1..]
            .iter()
            .find(|root| relative.starts_with(&root.prefix));
        inner.unwrap_or(&self.roots[0])
    }

    /// Returns the root of the home, which is always the first.
    pub(super) fn home(&self) -> &StageRoot {
        &self.roots[0]
    }

    /// Returns the paths, relative to the home, of the staging folders in it.
    pub(super) fn staging_folders(&self) -> BTreeSet<PathBuf> {
        let roots = self.roots.iter();
        let own = roots.map(|root| {
            let within = journal::folder_within(&root.live);
            let name = within.file_name().unwrap_or_default();
            root.prefix.join(name)
        });
        own.collect()
    }

    /// Returns the archive's files at paths where Codex keeps databases, whether they are databases
    /// or not, with their staged paths.
    pub(super) fn database_files(&self, plan: &RestorePlan) -> Vec<(EntryName, PathBuf)> {
        let is_database = |name: &EntryName| {
            name.as_path().parent() == Some(Path::new(EXTERNAL_DATABASES_FOLDER))
                || kind_of(name.as_path()) == HomeEntryKind::Database
        };
        let names = plan.writes.iter().filter(is_database);
        names
            .map(|name| {
                let path = self.staged_path(name.as_path());
                (name, path)
            })
            .collect()
    }

    /// Creates the links and folders that the plan takes from the archive. A folder is left out if
    /// a live file or link that stays has its path.
    pub(super) fn create_links_and_folders(
        &mut self,
        contents: ArchiveListing<'_>,
        plan: &RestorePlan,
    ) -> Result<(), IoError> {
        for link in contents
            .links
            .iter()
            .filter(|l| plan.writes.contains(l.path.as_path()))
        {
            let path = self.staged_path(link.path.as_path());
            atomic::create_private_folder(atomic::parent_of(&path))?;
            tree::make_link(&link.target, &path)?;
        }
        let mut last_clear = PathBuf::new();
        for folder in contents.folders {
            let name = folder.path.as_path();
            let path = self.staged_path(name);
            if plan.partial || !is_restorable(name) || lstat(&path).is_ok() {
                continue;
            }
            if let Some(kept) = self.blocking_entry(name, plan, &mut last_clear)? {
                self.blocking_entries.insert(kept);
            } else {
                atomic::create_private_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the live file or link at `folder` or above it that the plan does not remove.
    /// `last_clear` is the previous folder without one; the folders are sorted, so its ancestors
    /// need no second check.
    fn blocking_entry(
        &self,
        folder: &Path,
        plan: &RestorePlan,
        last_clear: &mut PathBuf,
    ) -> Result<Option<PathBuf>, IoError> {
        let root = self.root_of(folder);
        let (mut live, mut relative) = (root.live.clone(), root.prefix.clone());
        for part in folder.strip_prefix(&root.prefix).unwrap_or(folder) {
            live.push(part);
            relative.push(part);
            if last_clear.starts_with(&relative) {
                continue;
            }
            match lstat(&live) {
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
        folder.clone_into(last_clear);
        Ok(None)
    }

    /// Sets mode and time of the folders that came from the archive. Has to run last, because
    /// adding an entry changes a folder's time. With `live_home`, folders that exist there keep
    /// their own mode and time.
    pub(super) fn set_folder_attributes(
        &self,
        contents: ArchiveListing<'_>,
        live_home: Option<&Path>,
    ) -> Result<(), IoError> {
        for folder in contents.folders.iter().rev() {
            let exists_in = |home: &Path| {
                let path = home.join(folder.path.as_path());
                path.metadata().is_ok()
            };
            let name = folder.path.as_path();
            // A link that was kept in its place may lead to a folder outside of the home.
            let is_left_out = || {
                name.ancestors()
                    .any(|above| self.blocking_entries.contains(above))
            };
            if live_home.is_some_and(exists_in)
                || (!self.blocking_entries.is_empty() && is_left_out())
            {
                continue;
            }
            let path = self.staged_path(name);
            if is_restorable(name) && lstat(&path).is_ok_and(|m| m.is_dir()) {
                set_attributes(&path, folder.mode | OWNER_ACCESS_MODE, folder.mtime)?;
            }
        }
        Ok(())
    }
}

fn is_restorable(path: &Path) -> bool {
    !matches!(kind_of(path), HomeEntryKind::Transient)
}

/// Writes the planned files of an archive into the stage.
pub(super) struct ExtractSink<'a> {
    stage: &'a Stage,
    plan: &'a RestorePlan,
    login: Mutex<Option<(Vec<u8>, i64)>>,
}

impl<'a> ExtractSink<'a> {
    pub(super) fn new(stage: &'a Stage, plan: &'a RestorePlan) -> Self {
        Self {
            stage,
            plan,
            login: Mutex::new(None),
        }
    }

    /// Returns the archive's login. Valid once the whole archive was read.
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

impl Sink for ExtractSink<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        self.is_login(entry) || self.plan.writes.contains(entry.path.as_path())
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        if self.is_login(entry) {
            let mut login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
            let (whole, _) = login.get_or_insert_with(|| (Vec::new(), entry.mtime));
            // A login is a few kilobytes and comes in one part. A larger file is not a login.
            if offset == whole.len() as u64 && whole.len() + bytes.len() <= MAX_LOGIN_BYTES {
                whole.extend_from_slice(bytes);
            }
            return Ok(());
        }
        let path = self.stage.staged_path(entry.path.as_path());
        let file = match open_private(&path) {
            Err(e) if e.is_not_found() => {
                atomic::create_private_folder(atomic::parent_of(&path))?;
                open_private(&path)?
            }
            other => other?,
        };
        Ok(write_sparse(&file, bytes, offset, entry.size).at("write", &path)?)
    }

    fn finish_file(&self, entry: &FileEntry) -> Result<(), ArchiveError> {
        if self.is_login(entry) {
            return Ok(());
        }
        Ok(set_attributes(
            &self.stage.staged_path(entry.path.as_path()),
            entry.mode,
            entry.mtime,
        )?)
    }
}

/// The size, in bytes, of the blocks that become holes if they contain only zeros. Shorter runs of
/// zeros are written.
const HOLE_BYTES: usize = 64 * 1024;

/// Writes a part of a file of `size` bytes, except for blocks of zeros.
fn write_sparse(file: &File, bytes: &[u8], offset: u64, size: u64) -> io::Result<()> {
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
    // The last part sets the length, because the file may end with a hole.
    if written == bytes.len() && offset + written as u64 == size {
        file.set_len(size)?;
    }
    Ok(())
}

/// Opens or creates a staged file (0600) without truncating it: several threads write parts of it.
fn open_private(path: &Path) -> Result<File, IoError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).at("create", path)
}

/// Returns the metadata of a path without following a link at its end.
pub(super) fn lstat(path: &Path) -> io::Result<Metadata> {
    path.symlink_metadata()
}

/// Hard-links unchanged live files into the stage.
pub(super) struct HardLinker<'a> {
    plan: &'a RestorePlan,
    /// Staging folders in the home, which are skipped.
    staging_folders: &'a BTreeSet<PathBuf>,
    /// Leaves out folders of kinds that the archive covers if nothing remains in them.
    drop_empty_folders: bool,
}

impl<'a> HardLinker<'a> {
    /// Links what `plan` leaves unchanged, except for the staging folders in the home.
    pub(super) fn new(plan: &'a RestorePlan, staging_folders: &'a BTreeSet<PathBuf>) -> Self {
        Self {
            plan,
            staging_folders,
            drop_empty_folders: !plan.partial && !plan.merge,
        }
    }

    /// Links everything in `root`. Does nothing for a root that is a file.
    pub(super) fn link_root(&self, root: &StageRoot) -> Result<(), IoError> {
        match root.live.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(meta) if !meta.is_dir() => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(e).at("read", &root.live),
        }
        atomic::create_private_folder(&root.staged)?;
        self.link_folder_contents(&root.live, &root.prefix, &root.staged)?;
        if root.staged.is_dir() {
            copy_attributes(&root.live, &root.staged)?;
        }
        Ok(())
    }

    /// Returns true for a `-wal`, `-shm` or `-journal` of a database that is replaced or removed.
    /// It would not fit the new database; SQLite may have created it after the plan was made.
    fn is_stale_sidecar(&self, relative: &Path) -> bool {
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

    /// Links the entry `path` of a root.
    pub(super) fn link_entry_of(&self, root: &StageRoot, path: &Path) -> Result<(), IoError> {
        let relative = root.prefix.join(path);
        self.link_entry(&root.live.join(path), &relative, &root.staged.join(path))
    }

    /// Returns true if the live file `relative` is removed, or must not be linked. The login is never linked: `login`
    /// stages it.
    fn is_dropped(&self, relative: &Path) -> bool {
        self.plan.removed.contains(relative)
            || self.is_stale_sidecar(relative)
            || self.staging_folders.contains(relative)
            || relative == Path::new(home::AUTH_JSON)
            || (kind_of(relative) == HomeEntryKind::Transient
                && journal::kept_as(relative).is_some())
    }

    /// Returns true if the live file `relative` is replaced or removed.
    pub(super) fn is_replaced_or_dropped(&self, relative: &Path) -> bool {
        self.is_dropped(relative) || self.plan.writes.contains(relative)
    }

    /// Fails if swapping `live` would discard a file that the plan neither replaces nor removes.
    /// The safety backup does not have such files.
    ///
    /// # Errors
    /// There is such a file, or `live` cannot be read.
    pub(super) fn check_no_loss(&self, live: &Path, relative: &Path) -> Result<(), IoError> {
        let meta = match lstat(live) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("read", live)?,
        };
        if self.is_dropped(relative) || (!meta.is_dir() && self.is_replaced_or_dropped(relative)) {
            return Ok(());
        }
        if meta.is_dir() {
            return tree::list(live)
                .at("list", live)?
                .into_iter()
                .try_for_each(|(name, _)| {
                    self.check_no_loss(&live.join(&name), &relative.join(&name))
                });
        }
        let why =
            "the archive has something else at this path, and the safety backup does not have it";
        Err(io::Error::new(io::ErrorKind::AlreadyExists, why)).at("keep", live)
    }

    fn link_folder_contents(
        &self,
        live: &Path,
        relative: &Path,
        staged: &Path,
    ) -> Result<(), IoError> {
        // Lists the whole folder first: one open descriptor per level would be too many for a deep
        // path.
        for (name, _) in tree::list(live).at("list", live)? {
            self.link_entry(
                &live.join(&name),
                &relative.join(&name),
                &staged.join(&name),
            )?;
        }
        Ok(())
    }

    fn link_entry(&self, live: &Path, relative: &Path, staged: &Path) -> Result<(), IoError> {
        if self.is_dropped(relative) {
            return Ok(());
        }
        let meta = match lstat(live) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // An unreadable entry cannot be linked, and would be removed with the old home.
            other => other.at("read", live)?,
        };
        let staged_meta = lstat(staged);
        if meta.is_dir() {
            match staged_meta {
                Ok(new) if !new.is_dir() => return self.check_no_loss(live, relative),
                Ok(_) => {
                    self.link_folder_contents(live, relative, staged)?;
                    return copy_attributes(live, staged);
                }
                Err(_) => {}
            }
            let captured = self.drop_empty_folders
                && !matches!(
                    kind_of(relative),
                    HomeEntryKind::Unknown | HomeEntryKind::Transient | HomeEntryKind::Tmp
                );
            if !captured {
                atomic::create_private_folder(staged)?;
            }
            self.link_folder_contents(live, relative, staged)?;
            if lstat(staged).is_ok_and(|m| m.is_dir()) {
                copy_attributes(live, staged)?;
            }
            return Ok(());
        }
        if staged_meta.is_ok() {
            return self.check_no_loss(live, relative);
        }
        atomic::create_private_folder(atomic::parent_of(staged))?;
        tree::share_file(live, &meta, staged)
    }
}

fn copy_attributes(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = from.metadata().at("read", from)?;
    set_permissions(to, meta.permissions())?;
    set_modified(to, meta.modified().at("read", from)?)
}

/// Sets the permission bits and the modification time.
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
    fs::set_permissions(path, permissions).at("set the mode of", path)
}

fn set_modified(path: &Path, at: SystemTime) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
        // By name, not by descriptor: the mode may forbid opening the file.
        let (secs, nanos) = match at.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
            // A time before 1970 with a fraction belongs to the second that begins before it.
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
        utimensat(CWD, path, &times, AtFlags::empty())
            .map_err(io::Error::from)
            .at("set the time of", path)
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

/// Returns true if the operation failed because this user may not do it.
pub(super) fn is_access_denied(error: &IoError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
