//! Opens existing files for reading or appending, for all other modules.
//!
//! A known name may be a pipe or a device: opening a pipe waits for a writer without limit, and
//! opening a device can have side effects. Every opened file is therefore checked to be a regular
//! one, except a file that the user named ([`open_user_named`]).

use super::io_error::{IoContext, IoError};
use super::{beneath, events, sharing};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// The error text for a folder, pipe, socket or device in the place of a file.
const NOT_A_FILE: &str = "not a regular file";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinalLink {
    Follow,
    Refuse,
}

/// Opens a regular file and follows links.
///
/// # Errors
/// The file cannot be opened; it is a folder ([`ErrorKind::IsADirectory`]), or a pipe, socket or
/// device ([`ErrorKind::InvalidInput`]).
pub fn open(path: impl AsRef<Path>) -> io::Result<File> {
    Ok(open_regular_file(path.as_ref(), FinalLink::Follow)?.0)
}

/// Opens a regular file, without following a link.
///
/// # Errors
/// Those of [`open`]; the path is a link.
pub fn open_no_link(path: impl AsRef<Path>) -> io::Result<File> {
    Ok(open_regular_file(path.as_ref(), FinalLink::Refuse)?.0)
}

/// Opens a regular file for appending, without following a link.
///
/// # Errors
/// Those of [`open_no_link`].
pub fn append_no_link(path: impl AsRef<Path>) -> io::Result<File> {
    let mut options = File::options();
    let path = path.as_ref();
    #[cfg(windows)]
    refuse_link(path)?;
    let options = set_open_flags(options.append(true), FinalLink::Refuse);
    let file = sharing::open(options, &beneath::resolve(path)?)?;
    check_is_file(&file.metadata()?)?;
    events::trace!("appended to {}", path.display());
    Ok(file)
}

/// Opens a file to flush it, even if the file is read-only. On Windows the file is opened for writing, because Windows
/// flushes a file only through a writable handle (`FlushFileBuffers`).
pub(super) fn open_to_flush(path: &Path) -> io::Result<File> {
    #[cfg(windows)]
    {
        let permissions = path.metadata()?.permissions();
        if permissions.readonly() {
            sharing::make_writable(path);
            let file = sharing::open(File::options().write(true), path);
            let restored = std::fs::set_permissions(path, permissions);
            return file.and_then(|file| restored.map(|()| file));
        }
        sharing::open(File::options().write(true), path)
    }
    #[cfg(not(windows))]
    open(path)
}

/// Opens a file that the user named. Accepts pipes, which a shell creates for `<(…)`.
///
/// # Errors
/// The file cannot be opened.
#[allow(clippy::disallowed_methods, reason = "blocks on a pipe on purpose")]
pub fn open_user_named(path: impl AsRef<Path>) -> io::Result<File> {
    let file = File::open(&path)?;
    events::trace!("read {}", path.as_ref().display());
    Ok(file)
}

/// Reads a whole regular file.
///
/// # Errors
/// See [`open`].
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_at_most(path, u64::MAX)
}

/// Opens a regular file for reading; `None` if it does not exist.
///
/// # Errors
/// See [`open`].
pub fn open_if_exists(path: &Path) -> Result<Option<File>, IoError> {
    none_if_missing(open(path), path)
}

/// Reads a whole regular file; `None` if it does not exist.
///
/// # Errors
/// See [`open`].
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, IoError> {
    none_if_missing(read(path), path)
}

pub(super) fn none_if_missing<T>(result: io::Result<T>, path: &Path) -> Result<Option<T>, IoError> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some).at("read", path),
    }
}

/// Reads the first `limit` bytes of a regular file.
///
/// # Errors
/// See [`open`].
pub(crate) fn read_at_most(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let (file, meta) = open_regular_file(path.as_ref(), FinalLink::Follow)?;
    let mut bytes = Vec::with_capacity(choose_capacity(&meta));
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a whole regular file as text.
///
/// # Errors
/// Those of [`open`]; the content is not UTF-8 ([`ErrorKind::InvalidData`]).
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Reads a regular file of at most `limit` bytes as text.
///
/// # Errors
/// Those of [`read_to_string`]; the file is larger ([`ErrorKind::InvalidData`]).
pub fn read_small_to_string(path: impl AsRef<Path>, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    let (file, meta) = open_regular_file(path.as_ref(), FinalLink::Follow)?;
    // The file may grow after its size was read, so the length of the text is checked, too.
    if meta.len() <= limit {
        file.take(limit + 1).read_to_string(&mut text)?;
        if text.len() as u64 <= limit {
            return Ok(text);
        }
    }

    let message = format!("larger than {limit} bytes");
    // Not `FileTooLarge`, which is the error of a write beyond a limit of the system.
    Err(io::Error::new(ErrorKind::InvalidData, message))
}

/// Returns true if the last byte of a file of lines is no newline: a killed process or a full disk has left a
/// partial line. Moves the position.
pub fn ends_in_partial_line(file: &mut File) -> io::Result<bool> {
    let len = file.metadata()?.len();
    is_partial_line_at(file, len)
}

/// Like [`ends_in_partial_line`], for the first `len` bytes of the file.
pub(crate) fn is_partial_line_at(file: &mut File, len: u64) -> io::Result<bool> {
    let mut last_byte = [b'\n'];
    if let Some(last) = len.checked_sub(1) {
        file.seek(SeekFrom::Start(last))?;
        file.read_exact(&mut last_byte)?;
    }
    Ok(last_byte != *b"\n")
}

/// Checks that `path` is a regular file or does not exist, before a library opens it. Also accepts a path that cannot
/// be inspected.
///
/// # Errors
/// `path` is a folder ([`ErrorKind::IsADirectory`]), or a pipe, socket or device ([`ErrorKind::InvalidInput`]).
pub fn require_file_if_exists(path: &Path) -> io::Result<()> {
    path.metadata().map_or(Ok(()), |meta| check_is_file(&meta))
}

fn open_regular_file(path: &Path, link: FinalLink) -> io::Result<(File, Metadata)> {
    let mut options = File::options();
    #[cfg(windows)]
    if link == FinalLink::Refuse {
        refuse_link(path)?;
    }

    // Below a protected folder `beneath` opens the file; elsewhere the path is opened as usual.
    #[cfg(target_os = "linux")]
    let opened = beneath::open(path, wait_free_flags(link)).transpose();
    #[cfg(not(target_os = "linux"))]
    let opened = None;
    let file =
        opened.unwrap_or_else(|| sharing::open(set_open_flags(options.read(true), link), path));

    #[cfg(unix)]
    let file = file.map_err(|e| {
        // The error of opening a socket.
        if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) {
            io::Error::new(ErrorKind::InvalidInput, NOT_A_FILE)
        } else {
            e
        }
    });

    // Windows refuses to open a folder.
    #[cfg(windows)]
    let file = file.map_err(|e| {
        if e.kind() == ErrorKind::PermissionDenied && path.is_dir() {
            ErrorKind::IsADirectory.into()
        } else {
            e
        }
    });

    let file = file?;
    let meta = file.metadata()?;
    check_is_file(&meta)?;
    events::trace!("read {}", path.display());
    Ok((file, meta))
}

/// Returns the flags that open any entry for reading without waiting for another process.
#[cfg(unix)]
fn wait_free_flags(link: FinalLink) -> rustix::fs::OFlags {
    use rustix::fs::OFlags;
    // `NONBLOCK` for pipes, and `NOCTTY` so that an opened terminal does not become the controlling terminal.
    let mut flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    flags.set(OFlags::NOFOLLOW, link == FinalLink::Refuse);
    flags
}

/// Sets `O_NONBLOCK`, so that opening a pipe does not wait for its other end (no effect on regular files), and
/// `O_NOFOLLOW` to refuse a link. Does nothing on Windows.
pub(crate) fn set_open_flags(options: &mut OpenOptions, link: FinalLink) -> &mut OpenOptions {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(wait_free_flags(link).bits().cast_signed());
    }
    #[cfg(not(unix))]
    let _ = link;
    options
}

/// Fails if `path` is a link. The flag by which Windows refuses to follow a link would also open the placeholders of
/// cloud files.
#[cfg(windows)]
fn refuse_link(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_symlink() => Err(io::Error::new(ErrorKind::InvalidInput, NOT_A_FILE)),
        _ => Ok(()),
    }
}

fn check_is_file(meta: &Metadata) -> io::Result<()> {
    if meta.is_file() {
        Ok(())
    } else if meta.is_dir() {
        Err(ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, NOT_A_FILE))
    }
}

/// Returns the initial buffer size for reading a file: its size, at most 1 MiB, because the reported size
/// may be wrong.
fn choose_capacity(meta: &Metadata) -> usize {
    const MAX_CAPACITY: u64 = 1 << 20;
    usize::try_from(meta.len().min(MAX_CAPACITY)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_file_is_flushed_and_stays_read_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut permissions = file.path().metadata().unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(file.path(), permissions).unwrap();
        crate::io::flush::sync_all(&open_to_flush(file.path()).unwrap()).unwrap();
        assert!(file.path().metadata().unwrap().permissions().readonly());
    }

    #[test]
    fn a_folder_is_not_opened_as_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for (path, kind) in [
            (folder.path().to_path_buf(), ErrorKind::IsADirectory),
            (folder.path().join("none"), ErrorKind::NotFound),
        ] {
            assert_eq!(open(&path).unwrap_err().kind(), kind);
            assert_eq!(open_no_link(&path).unwrap_err().kind(), kind);
            let may_be_created = kind == ErrorKind::NotFound;
            assert_eq!(require_file_if_exists(&path).is_ok(), may_be_created);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_a_file_is_read_but_not_opened_by_the_no_link_functions() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink("file", at("file-link")).unwrap();
        assert_eq!(read_to_string(at("file")).unwrap(), "text");
        assert_eq!(read(at("file-link")).unwrap(), b"text");
        assert!(open_no_link(at("file")).is_ok());
        assert!(open_no_link(at("file-link")).is_err());
        assert!(append_no_link(at("file")).is_ok());
        assert!(append_no_link(at("file-link")).is_err());
    }

    #[test]
    fn read_small_to_string_refuses_a_file_beyond_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_small_to_string(&file, 4).unwrap(), "text");
        let large = read_small_to_string(&file, 3).unwrap_err();
        assert_eq!(large.kind(), ErrorKind::InvalidData);
    }

    /// Windows has no pipes, sockets and devices among its files.
    #[cfg(unix)]
    #[test]
    fn pipes_sockets_and_folders_are_refused_without_waiting() {
        use std::fs;
        use std::os::unix::fs::symlink;
        use std::os::unix::net::UnixListener;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // rustix has no call for it on macOS.
        let pipe = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(pipe.unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for name in ["pipe", "folder"] {
            symlink(name, at(&format!("{name}-link"))).unwrap();
        }
        for (name, kind) in [
            ("pipe", ErrorKind::InvalidInput),
            ("pipe-link", ErrorKind::InvalidInput),
            ("socket", ErrorKind::InvalidInput),
            ("folder", ErrorKind::IsADirectory),
            ("folder-link", ErrorKind::IsADirectory),
            ("nothing", ErrorKind::NotFound),
        ] {
            assert_eq!(open(at(name)).unwrap_err().kind(), kind, "{name}");
            let passes = require_file_if_exists(&at(name)).is_ok();
            assert_eq!(passes, name == "nothing", "{name}");
        }
        assert!(open(Path::new("/dev/null")).is_err());
    }
}
