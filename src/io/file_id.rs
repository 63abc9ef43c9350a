//! Which file a name means, however it is named.

use super::reach;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A file, folder or link on a disk, for as long as it is there. Two that are there at one time differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    dev: u64,
    ino: u64,
}

impl FileId {
    /// What `path` names; a link is not followed. `None` where nothing has the name, or the system does not
    /// say.
    pub fn of(path: &Path) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let meta = reach::with(path, Path::symlink_metadata).ok()?;
            Some(Self {
                dev: meta.dev(),
                ino: meta.ino(),
            })
        }
        #[cfg(windows)]
        {
            use std::fs::OpenOptions;
            use std::os::windows::fs::OpenOptionsExt;
            use winapi_util::file;
            /// Without these a folder cannot be opened, and of a link what it leads to is.
            const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
            const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
            let mut options = OpenOptions::new();
            // No right is wanted but to look: what others have open, or forbid to read, can be looked at.
            options.access_mode(0);
            options.custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT);
            let opened = reach::with(path, |path| options.open(path)).ok()?;
            // Not by its times: a new file gets those of one that had its name a moment before.
            let found = file::information(&opened).ok()?;
            Some(Self {
                dev: found.volume_serial_number(),
                ino: found.file_index(),
            })
        }
        #[cfg(not(any(unix, windows)))]
        {
            let _ = path;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::atomic;
    use std::fs;

    #[test]
    fn a_file_keeps_what_it_is_under_another_name_and_a_new_one_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        atomic::write(&at("a"), b"one").unwrap();
        let one = FileId::of(&at("a")).unwrap();
        fs::hard_link(at("a"), at("second")).unwrap();
        atomic::rename(&at("a"), &at("b")).unwrap();
        assert_eq!(FileId::of(&at("b")), Some(one));
        assert_eq!(FileId::of(&at("second")), Some(one));
        assert_eq!(FileId::of(&at("a")), None);
        // At once under the name of the first: as old as that by its times, on some systems.
        atomic::write(&at("a"), b"two").unwrap();
        assert_ne!(FileId::of(&at("a")), Some(one));
        fs::create_dir(at("folder")).unwrap();
        assert_ne!(FileId::of(&at("folder")), FileId::of(folder.path()));
    }
}
