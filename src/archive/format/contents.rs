//! The entries that an archive lists.

use super::entry::{FolderEntry, LinkEntry};
use super::file_list::FileList;

/// The entries of an archive that passed the name checks.
#[derive(Debug, Default, Clone)]
pub struct ArchiveContents {
    /// Files. Those of archives of the Python tool have no digest.
    pub files: FileList,
    /// Folders, parents before children.
    pub folders: Vec<FolderEntry>,
    /// Symbolic links with targets inside the home.
    pub links: Vec<LinkEntry>,
}

impl ArchiveContents {
    /// Returns the size of all files together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.bytes()
    }
}

/// The entries of an archive, borrowed from its manifest.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveListing<'a> {
    /// All files; see [`ArchiveContents::files`].
    pub files: &'a FileList,
    /// All folders, parents before children.
    pub folders: &'a [FolderEntry],
    /// All symbolic links; see [`ArchiveContents::links`].
    pub links: &'a [LinkEntry],
}
