//! Opens, renames and removes files that other processes may have open.
//!
//! On Windows, such a call fails while another process has the file open and does not share it: a virus scanner, the
//! search index, a cloud client, or Codex. Most of them close the file after milliseconds, so the call is repeated for
//! a second. On other systems the call succeeds at once.

use super::{beneath, owner, user};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

const RETRY_TIMEOUT: Duration = Duration::from_secs(1);

const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// A file that another process has open and does not share.
#[derive(Debug, thiserror::Error)]
#[error("another process has the file open")]
struct FileInUse;

impl From<FileInUse> for io::Error {
    fn from(in_use: FileInUse) -> Self {
        Self::new(io::ErrorKind::ResourceBusy, in_use)
    }
}

/// Returns true if another process has the file open and does not share it.
fn is_in_use(error: &io::Error) -> bool {
    /// The codes `ERROR_SHARING_VIOLATION` and `ERROR_LOCK_VIOLATION`.
    const IN_USE: [i32; 2] = [32, 33];
    let code = error.raw_os_error();
    let typed_error = error.get_ref().and_then(|e| e.downcast_ref::<FileInUse>());
    typed_error.is_some() || cfg!(windows) && code.is_some_and(|code| IN_USE.contains(&code))
}

/// Returns true if a rename or a removal may succeed later. Windows reports a target that another
/// process has open, or that is about to vanish, as "access denied".
pub(super) fn is_busy(error: &io::Error) -> bool {
    is_in_use(error) || cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied
}

/// Returns [`FileInUse`] instead of `error` if another process has the file open: Windows reports that as "access
/// denied".
fn detect_file_in_use(error: io::Error, path: &Path) -> io::Error {
    #[cfg(windows)]
    if is_busy(&error) {
        use std::os::windows::fs::OpenOptionsExt;
        // An open without sharing fails exactly if another process has the file open.
        let exclusive_open = fs::File::options().read(true).share_mode(0).open(path);
        if is_in_use(&error) || exclusive_open.is_err_and(|e| is_in_use(&e)) {
            return FileInUse.into();
        }
    }
    let _ = path;
    error
}

/// Repeats `action` while it fails with an error that `is_transient` accepts, for at most a second.
pub(super) fn retry<T>(
    is_transient: impl Fn(&io::Error) -> bool,
    mut action: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let started_at = Instant::now();
    loop {
        match action() {
            Err(e) if is_transient(&e) && started_at.elapsed() < RETRY_TIMEOUT => {
                std::thread::sleep(RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

/// Opens a file; waits while another process does not share it.
pub(super) fn open(options: &fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    retry(is_in_use, || options.open(path))
}

/// Opens a file for writing with the access of `options`, and waits as [`open`] does.
pub fn open_to_write(options: &fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    let path = user::followed_path(path)?;
    open(
        &user::without_late_links(options),
        &beneath::resolve(&path)?,
    )
}

/// Opens a file for writing. Creates it if it is missing, with mode 0600 and the owner of its folder.
pub fn open_or_create(options: &mut fs::OpenOptions, path: &Path) -> io::Result<fs::File> {
    options.create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    owner::create_file_if_missing(path)?;
    open_to_write(options, path)
}

/// Renames `from` to `to`, replacing it even if it is read-only. The rename is not durable on return.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = retry(is_busy, || rename_at_once(from, to));
    renamed.map_err(|e| detect_file_in_use(e, to))
}

/// Like [`rename`], but does not wait for other programs to close the files.
#[allow(clippy::disallowed_methods, reason = "the rename itself")]
pub(super) fn rename_at_once(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(all(debug_assertions, target_os = "linux"))]
    emulation::refuse_open_file(to)?;
    // The next attempt succeeds if the read-only attribute was the only obstacle.
    fs::rename(beneath::resolve(from)?, beneath::resolve(to)?).inspect_err(|_| make_writable(to))
}

/// Removes a file or link, even if it is read-only. The removal is not durable on return.
#[allow(clippy::disallowed_methods, reason = "the removal itself")]
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    let path = path.as_ref();
    let removed = retry(is_busy, || {
        // The next attempt succeeds if the read-only attribute was the only obstacle.
        fs::remove_file(beneath::resolve(path)?).inspect_err(|_| make_writable(path))
    });
    removed.map_err(|e| detect_file_in_use(e, path))
}

/// Gives the file `from` the second name `to`, which must not exist.
pub fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(beneath::resolve(from)?, beneath::resolve(to)?)
}

/// Removes an empty folder. The removal is not durable on return.
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    fs::remove_dir(beneath::resolve(path.as_ref())?)
}

/// Emulates Windows on Linux, in debug builds if `SWITCH` is set: refuses to replace a file that is open in any
/// process, including this one.
#[cfg(all(debug_assertions, target_os = "linux"))]
mod emulation {
    use super::{FileInUse, Path, fs, io};

    /// The variable of the environment that turns it on.
    const SWITCH: &str = "CODEX_MANAGER_TESTS_OPEN_FILES_ARE_IN_USE";

    #[allow(clippy::disallowed_methods, reason = "no setting: a switch of tests")]
    pub(super) fn refuse_open_file(path: &Path) -> io::Result<()> {
        if std::env::var_os(SWITCH).is_none() || !path.is_file() {
            return Ok(());
        }
        let real = dunce::canonicalize(path)?;
        let processes = fs::read_dir("/proc")?.flatten();
        let handles = processes.filter_map(|process| fs::read_dir(process.path().join("fd")).ok());
        let mut files = handles.flatten().flatten().map(|handle| handle.path());
        if files.any(|file| fs::read_link(file).is_ok_and(|file| file == real)) {
            return Err(FileInUse.into());
        }
        Ok(())
    }
}

/// Clears the read-only attribute, with which Windows does not replace, remove or flush a file. Does nothing on other
/// systems, where the mode of the folder decides.
pub(super) fn make_writable(path: &Path) {
    #[cfg(windows)]
    if let Ok(meta) = path.symlink_metadata()
        && meta.is_file()
        && meta.permissions().readonly()
    {
        let mut permissions = meta.permissions();
        permissions.set_readonly(false);
        let _ = fs::set_permissions(path, permissions);
    }
    #[cfg(not(windows))]
    let _ = path;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_retried_only_while_its_error_is_transient() {
        let mut attempts = 0;
        let result = retry(
            |e| e.kind() == io::ErrorKind::ResourceBusy,
            || {
                attempts += 1;
                match attempts {
                    1 | 2 => Err(io::ErrorKind::ResourceBusy.into()),
                    _ => Err::<(), _>(io::ErrorKind::NotFound.into()),
                }
            },
        );
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(attempts, 3);
    }

    #[test]
    fn read_only_files_are_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["kept", "new"] {
            fs::write(at(name), name).unwrap();
        }
        let mut permissions = at("kept").metadata().unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(at("kept"), permissions).unwrap();
        rename(&at("new"), &at("kept")).unwrap();
        assert_eq!(fs::read(at("kept")).unwrap(), b"new");
        let mut permissions = at("kept").metadata().unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(at("kept"), permissions).unwrap();
        remove_file(at("kept")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(windows)]
    #[test]
    fn a_file_open_without_sharing_is_kept_and_reported_after_a_second() {
        use std::os::windows::fs::OpenOptionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["held", "new"] {
            fs::write(at(name), name).unwrap();
        }
        let mut options = fs::File::options();
        let held = options.read(true).share_mode(0).open(at("held")).unwrap();
        let since = Instant::now();
        let read = open(fs::File::options().read(true), &at("held"));
        assert!(is_in_use(&read.unwrap_err()));
        let replaced = rename(&at("new"), &at("held"));
        for error in [replaced, remove_file(at("held"))] {
            let text = error.unwrap_err().to_string();
            assert_eq!(text, "another process has the file open");
        }
        assert!(since.elapsed() >= 3 * RETRY_TIMEOUT);
        drop(held);
        assert_eq!(fs::read(at("held")).unwrap(), b"held");
        rename(&at("new"), &at("held")).unwrap();
        assert_eq!(fs::read(at("held")).unwrap(), b"new");
    }
}
