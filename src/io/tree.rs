//! Whole folders: listing them, removing them, making them durable.

use super::{IoContext, IoError, parallel, regular};
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::path::{Component, Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// The names in a folder, in their order, and what each is; links are not followed.
pub fn list(folder: &Path) -> std::io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) => names.push((entry.file_name(), kind)),
            // Gone meanwhile; most systems need not look for this.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// Removes a file, link or folder with everything in it. Links are removed, not followed.
/// What is not there is no error.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that removes whole folders"
)]
pub fn remove(path: &Path) -> Result<(), IoError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => match fs::remove_dir_all(path) {
            // Folders that may not be written to; more levels than files may be open.
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => remove_level_by_level(path),
            removed => removed,
        },
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Removes a folder that cannot be removed the fast way: each folder in it is made writable, and one
/// is open at a time.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that removes whole folders"
)]
fn remove_level_by_level(folder: &Path) -> std::io::Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        }
        for (name, kind) in list(&folder)? {
            let path = folder.join(name);
            if kind.is_dir() {
                folders.push(path);
            } else {
                fs::remove_file(&path)?;
            }
        }
        next += 1;
    }
    folders.iter().rev().try_for_each(fs::remove_dir)
}

/// Up to so many entries are made durable one by one.
const FEW_ENTRIES: usize = 256;

/// Makes everything below `folder` durable: contents, names and attributes.
pub fn sync(folder: &Path) -> Result<(), IoError> {
    #[cfg(target_os = "linux")]
    {
        // For a few files not the whole file system: that waits for what other programs have
        // written, too. For many, one call is cheaper than a journal commit each; it reports write
        // errors since Linux 5.8. It also serves where a file may not be opened.
        if !is_large(folder)? {
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

/// Makes file after file durable, several at a time.
fn sync_entries(folder: &Path) -> Result<(), IoError> {
    parallel::ordered(
        FEW_ENTRIES,
        |entry: DirEntry| match entry.file_type() {
            kind if kind.is_dir() => super::atomic::sync_folder(entry.path()),
            kind if kind.is_file() => regular::open(entry.path())
                .and_then(|f| f.sync_all())
                .at("fsync", entry.path()),
            _ => Ok(()),
        },
        |synced| synced,
        |jobs| {
            for entry in WalkDir::new(folder).contents_first(true) {
                if jobs
                    .submit(entry.map_err(walking).at("walk", folder)?)
                    .is_err()
                {
                    break;
                }
            }
            Ok(())
        },
    )
}

/// Whether more than a few entries are below `folder`.
#[cfg(target_os = "linux")]
fn is_large(folder: &Path) -> Result<bool, IoError> {
    let mut seen = 0;
    for entry in WalkDir::new(folder) {
        entry.map_err(walking).at("walk", folder)?;
        seen += 1;
        if seen > FEW_ENTRIES {
            return Ok(true);
        }
    }
    Ok(false)
}

fn walking(error: walkdir::Error) -> std::io::Error {
    error
        .into_io_error()
        .unwrap_or_else(|| std::io::ErrorKind::Other.into())
}

/// Whether the absolute path `path` is `folder` or lies within it, whatever links lead there. Neither
/// need exist.
pub fn lies_in(path: &Path, folder: &Path) -> bool {
    real(path).starts_with(real(folder))
}

/// The path without links, as far as there is something.
fn real(path: &Path) -> PathBuf {
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            Component::CurDir => {}
            part => {
                real.push(part);
                if let Ok(there) = real.canonicalize() {
                    real = there;
                }
            }
        }
    }
    real
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lies_in_another_by_links_and_before_it_exists() {
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
