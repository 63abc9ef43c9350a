//! The inode identity of a version of a file.

use crate::io::disk_clock;
use serde::{Deserialize, Serialize};

/// Identifies a version of a file by values that programs cannot set, unlike the size and the modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InodeStamp {
    /// Time of the last inode change in nanoseconds since 1970. Zero means unknown: the file never
    /// counts as unchanged.
    pub ctime: i64,
    /// Inode number. Zero on systems without inodes.
    pub ino: u64,
    /// Device number. Zero on systems without device numbers.
    pub dev: u64,
}

impl InodeStamp {
    /// Reads the stamp from a file's metadata.
    ///
    /// On Windows the stamp is the time of the last write, as in restic, although programs can set it: the standard
    /// library returns neither the time of the last change nor the file index.
    pub(crate) fn of(meta: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Self {
                ctime: disk_clock::changed_ns(meta),
                ino: meta.ino(),
                dev: meta.dev(),
            }
        }
        #[cfg(not(unix))]
        {
            Self {
                ctime: disk_clock::modified_ns(meta),
                ..Self::default()
            }
        }
    }

    /// Returns true if both stamps are of one inode. False on systems without inodes.
    pub(crate) fn is_same_inode(self, other: Self) -> bool {
        self.ino != 0 && (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Returns this stamp if every change of the file from now on would give another stamp. Otherwise returns the
    /// default stamp, which never counts as unchanged. `reached_time` is a time that the clock of the file's disk has
    /// reached, in nanoseconds since 1970.
    ///
    /// This clock advances only every few milliseconds, so a file can change twice within one tick and keep its ctime.
    /// A ctime before `reached_time` is of an earlier tick, which is over.
    #[must_use]
    pub(crate) fn discard_if_ambiguous(self, reached_time: i64) -> Self {
        const SECOND: i64 = 1_000_000_000;

        // A ctime of whole seconds can come from a file system with a resolution of one or two seconds.
        let is_whole_second = self.ctime % SECOND == 0;
        let clock_resolution = if is_whole_second { 2 * SECOND } else { 0 };

        if self.ctime.saturating_add(clock_resolution) < reached_time {
            self
        } else {
            Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_stable_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        crate::io::atomic::write(&path, b"text").unwrap();
        let stamp = || InodeStamp::of(&path.metadata().unwrap());
        let first = stamp();
        assert_eq!(stamp(), first);
        assert_eq!(first.discard_if_ambiguous(i64::MAX), first);
        assert_ne!(first.ctime, 0);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let later =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2_000_000_000);
        file.set_modified(later).unwrap();
        assert_ne!(stamp(), first);
    }
}
