//! A place that has copies of conversations, and the command that restores a conversation from it.

use crate::copies::losses::rollout_copy::CopyOrigin;
use codex_manager_core::inventory::ArchiveRecord;
use codex_manager_core::inventory::archive_names::shortest_name;
use codex_manager_core::io::shell;
use codex_manager_core::vault::snapshot_id::short_id;
use std::path::Path;

#[derive(Debug, Clone)]
pub(crate) struct CopyPlace {
    /// The name of the archive, the id of the snapshot, or the path of the file.
    pub name: String,
    pub kind: CopyPlaceKind,
}

pub(crate) struct SearchedPlace {
    pub place: CopyPlace,
    /// The archive or snapshot at the place; `None` for a file.
    pub source: Option<CopyOrigin>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopyPlaceKind {
    /// An archive, with the shortest name that commands accept for it.
    Archive(String),
    TrashedArchive,
    Snapshot,
    /// A conflict copy of `sync`.
    ConflictCopy,
    /// Another file. No command restores from it.
    File,
}

impl CopyPlace {
    pub(crate) fn for_archive(record: &ArchiveRecord) -> Self {
        Self {
            name: record.path.clone(),
            kind: CopyPlaceKind::Archive(shortest_name(record)),
        }
    }

    pub(crate) fn for_file(path: &Path, kind: CopyPlaceKind) -> Self {
        Self {
            name: path.display().to_string(),
            kind,
        }
    }

    /// Returns the name for output: the beginning of the id of a snapshot, otherwise the full name.
    pub(crate) fn display_name(&self) -> &str {
        match self.kind {
            CopyPlaceKind::Snapshot => short_id(&self.name),
            _ => &self.name,
        }
    }

    /// Returns the command that restores the conversation `id` from this place; `None` for [`CopyPlaceKind::File`].
    pub(crate) fn format_restore_command(&self, id: &str) -> Option<String> {
        let restore_archive = |name: &str| format!("restore {}", shell::quote_if_needed(name));
        let arguments = match &self.kind {
            CopyPlaceKind::Archive(name) => restore_archive(name),
            CopyPlaceKind::TrashedArchive => restore_archive(&self.name),
            CopyPlaceKind::Snapshot => format!("vault restore {}", self.display_name()),
            CopyPlaceKind::ConflictCopy => return Some(format!("codex-manager sync resolve {id}")),
            CopyPlaceKind::File => return None,
        };
        Some(format!("codex-manager {arguments} --session {id}"))
    }
}
