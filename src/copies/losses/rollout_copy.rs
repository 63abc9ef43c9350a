//! Copies of rollouts in archives, snapshots and single files, for the comparison with the live rollouts.

use crate::copies::source::ConversationSource;
use codex_manager_core::archive::FileEntry;
use codex_manager_core::codex::RolloutName;
use codex_manager_core::io::ContentDigest;
use std::path::PathBuf;

/// A copy of a rollout, which may have messages that the live rollout lacks. Equal copies in several places are one.
#[derive(Debug)]
pub(crate) struct RolloutCopy {
    pub rollout_name: RolloutName,
    pub content: CopyContent,
    /// The indexes of the places with this copy, the newest first.
    pub places: Vec<usize>,
}

#[derive(Debug)]
pub(crate) enum CopyContent {
    Entry(FileEntry),
    File(PathBuf),
}

impl RolloutCopy {
    /// Returns the id of the rollout, in lower case.
    pub(crate) fn rollout_id(&self) -> String {
        self.rollout_name
            .rollout_id()
            .unwrap_or_default()
            .to_lowercase()
    }

    /// Returns the length of the plain text; `None` for a compressed copy and for a file.
    pub(crate) fn known_text_len(&self) -> Option<u64> {
        match &self.content {
            CopyContent::Entry(entry) if !self.rollout_name.compressed => Some(entry.size),
            _ => None,
        }
    }

    /// Returns true if this copy is an entry of an archive with this name and the stored version of `entry`.
    pub(crate) fn is_equal_to_entry(&self, rollout_name: &RolloutName, entry: &FileEntry) -> bool {
        let CopyContent::Entry(own_entry) = &self.content else {
            return false;
        };
        self.rollout_name == *rollout_name && version_of(own_entry) == version_of(entry)
    }
}

/// The size of a stored file, with the digest, or with the modification time if the archive has no digest.
pub(crate) type StoredVersion = (u64, Result<ContentDigest, i64>);

pub(crate) fn version_of(entry: &FileEntry) -> StoredVersion {
    (entry.size, entry.digest.ok_or(entry.mtime))
}

/// An archive or a snapshot with copies of rollouts. Several threads of this program read it at the same time.
pub(crate) type CopyOrigin = Box<dyn ConversationSource + Send + Sync>;
