//! Atomic file writes: after a crash, either the old or the new file exists, complete.

use super::io_error::{IoContext, IoError};
use super::lock::{self, FileLock};
use super::temp_name::{TEMP_PREFIX, is_temp_name};
use super::{beneath, events, file_open, flush, modes, owner, sharing, tree};
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::{NamedTempFile, PersistError};

/// Replaces `path` with `bytes`, readable by its owner alone.
///
/// Temp file in the same folder, full write, fsync, rename, fsync of the folder. If `path` is a link, the link is
/// replaced and its target stays unchanged. The folder must exist.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    write_with_mode(path, bytes, None)
}

/// Replaces the existing file `path` with `bytes` like [`write()`], keeping its permissions, its owner and its
/// attributes, for files of other programs.
pub fn write_keeping_mode(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let meta = path.metadata().at("inspect", path)?;
    let temp = write_temp(path, bytes, Some(meta.permissions()))?;
    owner::copy_access_or_warn(path, temp.path());
    temp.replace(path)
}

/// Replaces `path` with `bytes` like [`write()`], readable by other users, for generated files
/// without secrets.
pub fn write_shared(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    #[cfg(unix)]
    let permissions = Some(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    #[cfg(not(unix))]
    let permissions = None;
    write_with_mode(path, bytes, permissions)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: Option<Permissions>) -> Result<(), IoError> {
    write_temp(path, bytes, mode)?.replace(path)
}

/// Writes a temp file beside `path` with this mode; `None` leaves the mode of a temp file (0600).
fn write_temp(path: &Path, bytes: &[u8], mode: Option<Permissions>) -> Result<TempFile, IoError> {
    // In the same folder, because a rename does not cross file systems.
    let mut temp = TempFile::create_beside(path)?;
    temp.file().write_all(bytes).at("write", path)?;
    if let Some(mode) = mode {
        modes::ignore_refusal(temp.file().set_permissions(mode)).at("set the mode of", path)?;
    }
    Ok(temp)
}

/// A temporary file that a rename turns into the final file. A drop before that removes it.
#[derive(Debug)]
pub struct TempFile(NamedTempFile);

impl TempFile {
    /// Creates a temp file (0600) in the folder of `path`.
    pub fn create_beside(path: &Path) -> Result<Self, IoError> {
        Self::create_in(parent_of(path))
    }

    /// Creates a temp file (0600) in `folder`.
    pub fn create_in(folder: &Path) -> Result<Self, IoError> {
        loop {
            let mut builder = tempfile::Builder::new();
            let builder = builder.prefix(TEMP_PREFIX);
            // By default, the library marks the file as temporary on Windows.
            let file = builder.make_in(folder, |path| {
                let mut options = File::options();
                create_private_with(options.read(true).write(true), path)
            });
            let file = file.at("create a file in", folder)?;

            // The lock keeps a cleanup from removing the file, and ends with this process. A cleanup before the lock
            // may already have removed the file. On a disk without locks, the file goes without one.
            let lock_result = lock::try_lock(file.as_file());
            let is_locked_by_cleanup = matches!(lock_result, Err(TryLockError::WouldBlock));
            if !is_locked_by_cleanup && file.path().exists() {
                return Ok(Self(file));
            }
        }
    }

    /// Creates a second name for the file `source` in the folder of `path`. Fails where hard links are impossible.
    pub fn link_beside(source: &Path, path: &Path) -> std::io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(TEMP_PREFIX);
        let file = builder.make_in(parent_of(path), |temp_path| {
            sharing::hard_link(source, temp_path)?;
            file_open::open(temp_path)
        });
        file.map(Self)
    }

    pub fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Syncs the file, renames it to `path`, replacing what is there, and syncs the folder.
    pub fn replace(self, path: &Path) -> Result<(), IoError> {
        self.sync()?;
        self.replace_synced(path)
    }

    /// Renames the file to `path`, replacing what is there, and syncs the folder. The caller must have called
    /// [`TempFile::sync`], which may take long.
    pub fn replace_synced(mut self, path: &Path) -> Result<(), IoError> {
        // The content was synced before. Otherwise a file system may write the rename first, and a
        // power loss leaves an empty file.
        sharing::rename(self.0.path(), path).at("replace", path)?;
        self.0.disable_cleanup(true);
        events::debug!("wrote {}", path.display());
        sync_folder(parent_of(path))
    }

    /// Replaces `path` like [`TempFile::replace`]. The lock in `lock` may be on the file at `path`.
    ///
    /// Windows replaces an open file only on NTFS. On other file systems this closes the lock right before the rename,
    /// so a line that another process appends in between is lost.
    pub(crate) fn replace_locked(
        mut self,
        path: &Path,
        lock: &mut Option<FileLock>,
    ) -> Result<(), IoError> {
        self.sync()?;

        match sharing::rename_at_once(self.path(), path) {
            Err(e) if sharing::is_busy(&e) => {
                *lock = None;
                self.replace_synced(path)
            }
            renamed => {
                renamed.at("replace", path)?;
                self.0.disable_cleanup(true);
                sync_folder(parent_of(path))
            }
        }
    }

    /// Makes the content durable under the temporary name.
    pub fn sync(&self) -> Result<(), IoError> {
        flush::sync_all(self.0.as_file()).at("fsync", self.0.path())
    }

    /// Renames the file to `path` if nothing exists there; else returns an error of the kind
    /// [`ErrorKind::AlreadyExists`]. Syncs nothing, so that many files of a folder share one [`sync_folder`].
    ///
    /// [`ErrorKind::AlreadyExists`]: std::io::ErrorKind::AlreadyExists
    pub fn publish_unsynced(self, path: &Path) -> Result<(), IoError> {
        let renamed = persist_without_replacing(self.0, path).map_err(|e| e.error);
        renamed.at("create", path)
    }

    /// Syncs the file, renames it to `path` if nothing exists there, then syncs the folder. Returns
    /// `Ok(Err(self))` if `path` exists.
    pub fn publish(self, path: &Path) -> Result<Result<(), Self>, IoError> {
        match self.try_publish(path) {
            Ok(()) => Ok(Ok(())),
            Err(PublishError {
                error,
                file: Some(file),
            }) if error.source.kind() == std::io::ErrorKind::AlreadyExists => Ok(Err(file)),
            Err(unpublished) => Err(unpublished.error),
        }
    }

    /// Publishes the file like [`TempFile::publish`]. A failure before the rename returns the file, so that the caller
    /// can try another name.
    pub fn try_publish(self, path: &Path) -> Result<(), PublishError> {
        let unpublished = |error, file| PublishError {
            error,
            file: Some(Self(file)),
        };

        if let Err(e) = flush::sync_all(self.0.as_file()).at("fsync", self.0.path()) {
            return Err(unpublished(e, self.0));
        }

        match persist_without_replacing(self.0, path) {
            Ok(()) => {
                // The file has its final name now, so the caller cannot try another one.
                sync_folder(parent_of(path)).map_err(|error| PublishError { error, file: None })
            }
            Err(e) => {
                let error = IoError {
                    action: "create",
                    path: path.to_path_buf(),
                    source: e.error,
                };
                Err(unpublished(error, e.file))
            }
        }
    }

    /// Keeps the file under its temporary name. A cleanup by a later command removes it.
    pub fn keep(mut self) {
        // `NamedTempFile::keep` also changes the attributes. If Windows refuses that, as below a long path, dropping
        // the error removes the file.
        self.0.disable_cleanup(true);
    }
}

#[derive(Debug)]
pub struct PublishError {
    pub error: IoError,
    /// The file, if it was not renamed. `None` if only the fsync of the folder failed after the rename.
    pub file: Option<TempFile>,
}

/// Renames a temp file to `path` if nothing exists there; else returns an error of the kind
/// [`std::io::ErrorKind::AlreadyExists`]. On a file system without exclusive renames and hard links, this function
/// checks for `path` right before a plain rename.
fn persist_without_replacing(file: NamedTempFile, path: &Path) -> Result<(), PersistError> {
    let renamed = persist_at_resolved_paths(file, path).or_else(|mut e| {
        if path.symlink_metadata().is_ok() {
            e.error = std::io::ErrorKind::AlreadyExists.into();
            return Err(e);
        }

        if let Err(error) = sharing::rename(e.file.path(), path) {
            e.error = error;
            return Err(e);
        }

        e.file.disable_cleanup(true);
        Ok(())
    });

    renamed.inspect(|()| events::debug!("wrote {}", path.display()))
}

/// Calls [`NamedTempFile::persist_noclobber`] with paths that no link can redirect ([`beneath::resolve`]).
fn persist_at_resolved_paths(mut file: NamedTempFile, path: &Path) -> Result<(), PersistError> {
    let persist = || {
        let (from, to) = (beneath::resolve(file.path())?, beneath::resolve(path)?);
        let renamed = tempfile::TempPath::try_from_path(&*from)?.persist_noclobber(&*to);
        renamed.map_err(|mut e| {
            // `file` already removes the temp file when it is dropped.
            e.path.disable_cleanup(true);
            e.error
        })
    };

    match persist() {
        Ok(()) => {
            file.disable_cleanup(true);
            Ok(())
        }
        Err(error) => Err(PersistError { error, file }),
    }
}

/// Makes the entries of a folder durable. Windows flushes no folders: NTFS writes renames to its own
/// journal, in order.
pub fn sync_folder(folder: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    #[allow(clippy::disallowed_methods, reason = "a folder, and no file")]
    File::open(folder)
        .and_then(|f| flush::sync_folder(&f))
        .at("fsync folder", folder)?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Creates a file with mode 0600.
pub fn create_private(path: &Path) -> Result<File, IoError> {
    create_private_with(File::options().write(true), path).at("create", path)
}

/// Creates a file with mode 0600 and opens it with the access of `options`.
fn create_private_with(options: &mut fs::OpenOptions, path: &Path) -> std::io::Result<File> {
    options.create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // At creation: a mode that is set afterwards leaves a moment in which others can open the
        // file.
        options.mode(0o600);
    }
    let file = options.open(beneath::resolve(path)?)?;
    owner::inherit_owner(&file, path);
    Ok(file)
}

/// Creates a folder with mode 0700. Fails if the name is taken, or the folder above is missing.
pub(crate) fn make_folder(path: &Path) -> std::io::Result<()> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "there are no modes"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    let resolved = beneath::resolve(path)?;
    owner::create_folder_with_owner(path, || builder.create(&resolved))
}

/// Like [`create_private_folder`], but syncs nothing, for folders that are staged or temporary. Returns the
/// folders that were missing, outermost first.
pub fn create_unsynced_folder(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let created = create_missing_folders(folder, Path::is_dir)?;
    #[cfg(windows)]
    if let Some(outermost) = created.first() {
        super::access::restrict_new_folder(outermost);
    }
    Ok(created)
}

/// Creates `folder` and its missing parents, with mode 0700. Durable on return.
pub fn create_private_folder(folder: &Path) -> Result<(), IoError> {
    // The name of a folder is stored in the folder above it.
    for created in create_unsynced_folder(folder)? {
        sync_folder(parent_of(&created))?;
    }
    Ok(())
}

/// Returns the folder that contains `path`; the current folder for a bare name.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Renames `from` to `to`, replacing what is there, and fsyncs the folder of `to`. Both must be on one file system.
pub fn rename(from: &Path, to: &Path) -> Result<(), IoError> {
    sharing::rename(from, to).at("rename", from)?;
    events::debug!("renamed {} to {}", from.display(), to.display());
    sync_folder(parent_of(to))
}

/// Renames `from` to `to` and fsyncs the folder of `to`. If `to` exists, returns an error of the kind
/// [`std::io::ErrorKind::AlreadyExists`]. On a system without exclusive renames, this function checks for `to` right
/// before the rename, so a file that another process creates in between is replaced.
pub fn rename_to_free(from: &Path, to: &Path) -> Result<(), IoError> {
    rename_to_free_unsynced(from, to)?;
    events::debug!("renamed {} to {}", from.display(), to.display());
    sync_folder(parent_of(to))
}

/// Like [`rename_to_free`], but syncs nothing.
pub fn rename_to_free_unsynced(from: &Path, to: &Path) -> Result<(), IoError> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;

        let resolve = |path| beneath::resolve(path).at("rename", from);
        let (source, target) = (resolve(from)?, resolve(to)?);
        match renameat_with(CWD, &*source, CWD, &*target, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            // This system, file system or sandbox has no exclusive rename.
            Err(e) if super::exchange::is_unsupported(e) || e == Errno::PERM => {}
            Err(e) => return Err(std::io::Error::from(e)).at("rename", from),
        }
    }

    if to.symlink_metadata().is_ok() {
        return Err(std::io::ErrorKind::AlreadyExists.into()).at("rename", from);
    }
    sharing::rename(from, to).at("rename", from)
}

/// Creates the missing folders from the existing `root` down to `folder`. New ones are 0700 and durable
/// on return. A missing `root` is not created.
pub fn create_durable_below(root: &Path, folder: &Path) -> Result<(), IoError> {
    for created in create_unsynced_below(root, folder)? {
        sync_folder(parent_of(&created))?;
    }
    Ok(())
}

/// Like [`create_durable_below`], but syncs nothing. Returns the folders that were missing, outermost first.
pub fn create_unsynced_below(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    create_missing_folders(folder, |path| path == root || path.exists())
}

/// Creates `folder` and the folders above it (0700), up to the innermost one that `is_present` accepts. Returns the
/// folders that were missing, outermost first.
fn create_missing_folders(
    folder: &Path,
    is_present: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, IoError> {
    let ancestors = folder.ancestors();
    let missing: Vec<_> = ancestors
        .take_while(|path| !path.as_os_str().is_empty() && !is_present(path))
        .collect();

    for missing_folder in missing.iter().rev() {
        match make_folder(missing_folder) {
            // Another process created it first.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && missing_folder.is_dir() => {}
            created => created.at("create folder", missing_folder)?,
        }
    }

    Ok(missing.into_iter().rev().map(Path::to_path_buf).collect())
}

/// Returns `path` with `suffix` appended to its file name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns `path`, `path`+`-2`, `path`+`-3`, …
fn numbered_paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = (2_u64..).map(|number| with_suffix(path, &format!("-{number}")));
    std::iter::once(path.to_path_buf()).chain(numbered)
}

/// Returns the first of `path`, `path`+`-2`, `path`+`-3`, … that does not exist.
pub fn find_free_path(path: &Path) -> PathBuf {
    let free_path = numbered_paths(path).find(|path| path.symlink_metadata().is_err());
    // The numbers do not run out, so the default is never used.
    free_path.unwrap_or_else(|| path.to_path_buf())
}

/// Copies `path` to the first free name of `path`+suffix, `path`+suffix+`-2`, … Returns that name. The copy is durable
/// on return.
pub fn keep_copy(path: &Path, suffix: &str) -> Result<PathBuf, IoError> {
    let mut source = file_open::open(path).at("read", path)?;

    for candidate in numbered_paths(&with_suffix(path, suffix)) {
        let mut temp = TempFile::create_beside(&candidate)?;
        source.rewind().at("read", path)?;
        std::io::copy(&mut source, temp.file()).at("write", &candidate)?;

        match temp.try_publish(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(PublishError { error, file: None }) => {
                // The name may not be durable, so this copy cannot be relied on.
                let _ = sharing::remove_file(&candidate);
                return Err(error);
            }
            Err(e) if e.error.source.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.error),
        }
    }
    unreachable!("the loop above has no end")
}

/// Returns the temp files in `folder`; nothing if the folder cannot be listed.
fn list_temps(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    tree::list_entries(folder).filter(|entry| is_temp_name(&entry.file_name()))
}

/// Removes temp files in `folder` that no process is writing.
pub fn remove_stale_temps(folder: &Path) {
    for path in list_temps(folder).map(|temp| temp.path()) {
        // Removed under its lock, so that a process that has just created the file notices the removal.
        if let Ok(file) = file_open::open(&path)
            && lock::try_lock(&file).is_ok()
        {
            let _ = sharing::remove_file(path);
        }
    }
}

/// Returns the temp files in `folder` that no process has locked.
pub fn find_unlocked_temps(folder: &Path) -> Vec<PathBuf> {
    select_unlocked(list_temps(folder))
}

/// Like [`find_unlocked_temps`], but leaves out files younger than a minute, which their process may not have locked
/// yet.
pub fn find_stale_temps(folder: &Path, now: SystemTime) -> Vec<PathBuf> {
    const MIN_AGE: Duration = Duration::from_secs(60);
    let is_old = |temp: &fs::DirEntry| {
        let modified = temp.metadata().and_then(|m| m.modified());
        modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age >= MIN_AGE))
    };
    select_unlocked(list_temps(folder).filter(is_old))
}

fn select_unlocked(temps: impl Iterator<Item = fs::DirEntry>) -> Vec<PathBuf> {
    let paths = temps.map(|temp| temp.path());
    paths.filter(|path| lock::is_free(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temp_file_with_a_future_mtime_is_not_stale() {
        use crate::io::clock::Clock;
        use std::time::Duration;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{TEMP_PREFIX}x"));
        let file = create_private(&path).unwrap();
        let now: SystemTime = Clock::System.now().into();
        let hour = Duration::from_secs(3600);
        for (at, is_stale) in [(now - hour, true), (now, false), (now + hour, false)] {
            file.set_modified(at).unwrap();
            assert_eq!(!find_stale_temps(folder.path(), now).is_empty(), is_stale);
            assert_eq!(find_unlocked_temps(folder.path()).len(), 1);
        }
    }

    #[test]
    fn a_temp_file_below_a_long_path_is_kept() {
        let root = tempfile::tempdir().unwrap();
        // Longer than the 260 characters that Windows accepts without a prefix.
        let long = "x".repeat(100);
        let folder = root.path().join(&long).join(&long).join(&long);
        fs::create_dir_all(&folder).unwrap();
        let temp = TempFile::create_in(&folder).unwrap();
        let path = temp.path().to_path_buf();
        temp.keep();
        assert!(path.exists());
    }

    #[test]
    fn publish_unsynced_and_rename_to_free_replace_no_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("place");
        let make = |text: &str| {
            let mut temp = TempFile::create_beside(&place).unwrap();
            temp.file().write_all(text.as_bytes()).unwrap();
            temp.sync().unwrap();
            temp
        };
        make("ours").publish_unsynced(&place).unwrap();
        assert_eq!(file_open::read(&place).unwrap(), b"ours");
        let other = folder.path().join("other");
        write(&other, b"other").unwrap();
        let taken = std::io::ErrorKind::AlreadyExists;
        let named = make("late").publish_unsynced(&place);
        assert_eq!(named.unwrap_err().source.kind(), taken);
        let renamed = rename_to_free(&other, &place);
        assert_eq!(renamed.unwrap_err().source.kind(), taken);
        assert_eq!(file_open::read(&place).unwrap(), b"ours");
        assert_eq!(file_open::read(&other).unwrap(), b"other");
        rename_to_free(&other, &folder.path().join("third")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
