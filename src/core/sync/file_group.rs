//! The files of both sides that have one key, and the path under which output shows them.

use super::rollouts;
use super::scan::ListedFile;
use super::state::{SideFile, SyncedFile};
use unicode_normalization::UnicodeNormalization;

/// All files with one key. A conversation can have several files on each side. Other groups have at most one file on
/// each side, unless names differ only in Unicode form or letter case.
#[derive(Debug, Default)]
pub(crate) struct FileGroup {
    pub(crate) local: Vec<ListedFile>,
    pub(crate) remote: Vec<ListedFile>,
    /// Files in the cloud folder, under other names, in which a cloud client keeps conflicting versions.
    pub(crate) client_copies: Vec<ListedFile>,
    /// True if a file of the group is a placeholder whose content is not downloaded.
    pub(crate) has_placeholder: bool,
    /// True if the path on one side is, or leads through, a link that sync does not follow. Sync skips the group.
    pub(crate) is_blocked: bool,
}

impl FileGroup {
    /// Returns true if each side has exactly the file of the last sync, by path, size and mtime, and there is no client
    /// copy and no placeholder.
    pub(crate) fn matches_last_sync(&self, last: &SyncedFile) -> bool {
        let is_only_file = |files: &[ListedFile], last: &SideFile| matches!(files, [file] if last.matches(&file.path, file.stat));
        self.client_copies.is_empty()
            && !self.has_placeholder
            && is_only_file(&self.local, &last.local)
            && is_only_file(&self.remote, &last.remote)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &ListedFile> {
        self.local
            .iter()
            .chain(&self.remote)
            .chain(&self.client_copies)
    }
}

/// Returns the key of a path in the state. A conversation has one key, whether it is compressed or archived. The key of
/// any other file is the path in Unicode NFC.
pub(crate) fn state_key(path: &str) -> String {
    if let Some(key) = rollouts::key(path) {
        return key;
    }
    if path.is_ascii() {
        path.to_owned()
    } else {
        path.nfc().collect()
    }
}

/// Returns the path of a group for output: that of the first local file, else of a remote file, else of a client copy.
/// A group with only a placeholder has no path, so its key is returned.
pub(crate) fn display_path(key: &str, group: &FileGroup) -> String {
    let first = group.files().next();
    first.map_or_else(|| key.to_owned(), |listed_file| listed_file.path.clone())
}
