//! Groups the files of both sides by key, and shows a group under one path.

use super::rollouts;
use super::scan::ListedFile;
use super::state::{SideFile, SyncedFile};
use unicode_normalization::UnicodeNormalization;

/// All files of one key. Conversations can have several on each side, other files at most one, except where names
/// differ only in Unicode form or letter case.
#[derive(Debug, Default)]
pub(crate) struct FileGroup {
    pub(crate) local: Vec<ListedFile>,
    pub(crate) remote: Vec<ListedFile>,
    /// Copies in the cloud folder that a cloud client made of conflicting versions, under other names.
    pub(crate) client_copies: Vec<ListedFile>,
    /// True if a file of the group is a placeholder whose content is not downloaded.
    pub(crate) has_placeholder: bool,
    /// True if a link that is not followed is at or above the path on one side; the group is skipped.
    pub(crate) is_blocked: bool,
}

impl FileGroup {
    /// Returns true if each side has exactly the file of the last sync, by path, size and time, and no client made a copy
    /// or a placeholder of it.
    pub(crate) fn matches_last_sync(&self, last: &SyncedFile) -> bool {
        let same = |files: &[ListedFile], place: &SideFile| matches!(files, [one] if place.matches(&one.path, one.stat));
        self.client_copies.is_empty()
            && !self.has_placeholder
            && same(&self.local, &last.local)
            && same(&self.remote, &last.remote)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &ListedFile> {
        self.local
            .iter()
            .chain(&self.remote)
            .chain(&self.client_copies)
    }
}

/// Returns the key of a path in the state: for a conversation one key for all forms and folders, for other files the
/// path in Unicode NFC.
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

/// Returns the path of a group for output: that of its first local file, else of a remote file, else of a client's copy;
/// the key if the group has only a placeholder.
pub(crate) fn display_path(key: &str, group: &FileGroup) -> String {
    let first = group.files().next();
    first.map_or_else(|| key.to_owned(), |found| found.path.clone())
}
