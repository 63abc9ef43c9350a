//! All files of one key, on both sides.

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
    /// Returns true if path, size and time are unchanged on both sides since the last sync.
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
pub(crate) fn key_of(path: &str) -> String {
    if let Some(key) = rollouts::key(path) {
        return key;
    }
    if path.is_ascii() {
        path.to_owned()
    } else {
        path.nfc().collect()
    }
}

/// Returns the path of a group for output: that of the local file, else of the remote one.
pub(crate) fn display_path(key: &str, group: &FileGroup) -> String {
    let found = group.local.first().or(group.remote.first());
    let path = found
        .or(group.client_copies.first())
        .map(|found| &found.path);
    path.map_or_else(|| key.to_owned(), Clone::clone)
}
