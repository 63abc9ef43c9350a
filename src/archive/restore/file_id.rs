//! Which file a name means, told by what a rename, and a reboot, leave as it is.

use super::stage::has_layers;
use crate::io::{IoContext, IoError, atomic, reach};
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::Path;

/// Tells files of one file system apart. Which file system it is, is not told: its number may be another
/// after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileId {
    /// The inode, or what the system has for one.
    ino: u64,
    /// When it was made, in nanoseconds since 1970, where that never changes: a disk that makes its
    /// numbers up gives another file the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<i64>,
}

impl FileId {
    /// That of what stands at `path`, to be compared with later; a link is not followed.
    ///
    /// # Errors
    /// It cannot be looked at. Nothing is no error.
    pub(super) fn note(path: &Path) -> Result<Option<Self>, IoError> {
        let Some((id, _)) = look(path)? else {
            return Ok(None);
        };
        // What is moved out of a lower layer is made anew in the upper one, under the same number.
        let parent = atomic::parent_of(path);
        let is_copied = reach::with(parent, |parent| Ok(has_layers(parent))).unwrap_or(true);
        Ok(Some(Self {
            born: id.born.filter(|_| !is_copied),
            ..id
        }))
    }

    /// Whether it is the same file, as far as both know.
    pub(super) fn is(self, other: Self) -> bool {
        let agree = |(a, b)| a == b;
        self.ino == other.ino && self.born.zip(other.born).is_none_or(agree)
    }
}

/// What stands at a path, if anything does; a link is not followed.
///
/// # Errors
/// It cannot be told.
pub(super) fn look(path: &Path) -> Result<Option<(FileId, Metadata)>, IoError> {
    let looked = reach::with(path, |path| {
        let meta = path.symlink_metadata()?;
        Ok((id_of(path, &meta)?, meta))
    });
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).at("look at", path),
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
fn id_of(_path: &Path, meta: &Metadata) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    // Elsewhere the time can be set, or goes along with that of the last change.
    let born = cfg!(target_os = "linux").then(|| meta.created().ok());
    let born = born.flatten();
    Ok(FileId {
        ino: meta.ino(),
        born: born
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_nanos()).ok()),
    })
}

/// The volume's serial number and the file's index in it.
#[cfg(not(unix))]
fn id_of(path: &Path, _meta: &Metadata) -> std::io::Result<FileId> {
    use std::hash::{Hash, Hasher};
    /// FNV-1a: another process has to get the same.
    struct Stable(u64);
    impl Hasher for Stable {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut options = std::fs::OpenOptions::new();
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        // Folders, too, and links themselves.
        options.access_mode(0);
        options.custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT);
    }
    #[cfg(not(windows))]
    options.read(true);
    let handle = same_file::Handle::from_file(options.open(path)?)?;
    let mut hasher = Stable(0xcbf2_9ce4_8422_2325);
    handle.hash(&mut hasher);
    Ok(FileId {
        ino: hasher.finish(),
        born: None,
    })
}
