//! Reads and writes `config.toml` on the disk.

use super::file::ConfigFile;
use codex_manager_core::io::lock::FileLock;
use codex_manager_core::io::settings::SettingsError;
use codex_manager_core::io::{IoContext, IoError, OrdinaryPath, atomic, file_open};
use std::path::{Path, PathBuf};

/// The lock of the documents in the manager home.
const LOCK_NAME: &str = codex_manager_core::inventory::cooldown::LOCK_NAME;

impl ConfigFile {
    /// Reads the file of a manager home. A missing file counts as empty.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has a newer schema. The settings are not validated.
    pub(crate) fn read(manager_home: &Path) -> Result<Self, SettingsError> {
        let path = Self::path_in(manager_home);
        let text = read_text_or_empty(&path)?;
        Self::parse(path, &text)
    }
}

/// Reads, changes and writes the file of a manager home under its lock. If `config.toml` is a symbolic
/// link, the link stays and its target is written, because users keep their settings in a dotfiles
/// repository.
///
/// # Errors
/// The errors of [`ConfigFile::read`] and of `change`, and failed writes. The file is unchanged then.
pub(crate) fn update<R, E: From<SettingsError>>(
    manager_home: &Path,
    change: impl FnOnce(&mut ConfigFile) -> Result<R, E>,
) -> Result<R, E> {
    let to_error = |e: IoError| E::from(SettingsError::Io(e));
    atomic::create_private_folder(manager_home).map_err(to_error)?;
    let _lock =
        FileLock::acquire_unless_interrupted(&manager_home.join(LOCK_NAME)).map_err(to_error)?;
    let mut file = ConfigFile::read(manager_home)?;
    let original_text = file.text();
    let result = change(&mut file)?;
    if file.text() != original_text {
        write(file.path(), &file.text()).map_err(to_error)?;
    }
    Ok(result)
}

/// Replaces the file by `after` if its text is still `before`. Returns false and changes nothing if another process has
/// changed the file.
///
/// # Errors
/// The file cannot be read or written. It is unchanged then.
pub(crate) fn replace_if_unchanged(
    manager_home: &Path,
    before: &str,
    after: &ConfigFile,
) -> Result<bool, IoError> {
    atomic::create_private_folder(manager_home)?;
    let _lock = FileLock::acquire_unless_interrupted(&manager_home.join(LOCK_NAME))?;
    if read_text_or_empty(after.path())? != before {
        return Ok(false);
    }
    write(after.path(), &after.text())?;
    Ok(true)
}

/// Returns the text of the file, or an empty string if it does not exist.
///
/// # Errors
/// The file exists and cannot be read.
pub(crate) fn read_text_or_empty(path: &Path) -> Result<String, IoError> {
    match file_open::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.at("read", path),
    }
}

/// Returns the path to write to: `path`, or its target if it is a symbolic link.
///
/// # Errors
/// The link is dangling. Its target may be on a disk that is not mounted, so it is not replaced.
pub(crate) fn resolve_link_target(path: &Path) -> Result<PathBuf, IoError> {
    if path.is_symlink() {
        return path.canonical().at("follow the link", path);
    }
    Ok(path.to_path_buf())
}

/// Replaces the file with mode 0600. If `path` is a symbolic link, replaces its target instead and keeps the
/// permissions of the target.
///
/// # Errors
/// The link is dangling, or the file cannot be written. It is unchanged then.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), IoError> {
    let target = resolve_link_target(path)?;
    if path.is_symlink() {
        atomic::write_keeping_mode(&target, text.as_bytes())
    } else {
        atomic::write(&target, text.as_bytes())
    }
}
