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
    /// Files in the cloud folder, under other names, in which a cloud client keeps conflicting versions of a
    /// conversation or line-based file.
    pub(crate) client_copies: Vec<ListedFile>,
    /// Placeholders of the file, whose content is not downloaded. Their paths are those of the file.
    pub(crate) placeholders: Vec<ListedFile>,
    /// True if the path on one side is, or leads through, a link that sync does not follow, or if names that differ in
    /// letter case alone cannot be joined. Sync skips the group.
    pub(crate) is_blocked: bool,
}

impl FileGroup {
    /// Returns true if each side has exactly the file of the last sync, by path, size and mtime, and there is no client
    /// copy and no placeholder.
    pub(crate) fn matches_last_sync(&self, last: &SyncedFile) -> bool {
        let is_only_file = |files: &[ListedFile], last: &SideFile| matches!(files, [file] if last.matches(&file.path, file.stat));
        self.client_copies.is_empty()
            && !self.has_placeholder()
            && is_only_file(&self.local, &last.local)
            && is_only_file(&self.remote, &last.remote)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &ListedFile> {
        let both_sides = self.local.iter().chain(&self.remote);
        both_sides.chain(&self.client_copies)
    }

    pub(crate) fn has_placeholder(&self) -> bool {
        !self.placeholders.is_empty()
    }

    pub(crate) fn files_and_placeholders(&self) -> impl Iterator<Item = &ListedFile> {
        self.files().chain(&self.placeholders)
    }

    /// Returns a placeholder of a file to sync, if the group has only placeholders and is not blocked.
    pub(crate) fn only_placeholder(&self) -> Option<&ListedFile> {
        if self.is_blocked || self.files().next().is_some() {
            return None;
        }
        self.placeholders.iter().find(|file| !file.companion)
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

/// Returns the path of a group for output: the path of the first file, in the order local files, remote files, client
/// copies, placeholders.
pub(crate) fn display_path(key: &str, group: &FileGroup) -> String {
    let first = group.files_and_placeholders().next();
    first.map_or_else(|| key.to_owned(), |listed_file| listed_file.path.clone())
}
