//! A place that has copies of conversations, and the command that restores a conversation from it.

use crate::copies::losses::rollout_copy::CopyOrigin;
use chrono::{DateTime, Utc};
use codex_manager_core::archive::{BackupMode, Metadata};
use codex_manager_core::codex::Identity;
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
    /// The archive or snapshot at the place; `None` for a file.
    pub backup: Option<CopyBackup>,
}

/// The properties of an archive or a snapshot with copies.
#[derive(Debug, Clone)]
pub(crate) struct CopyBackup {
    pub made_at: DateTime<Utc>,
    /// The account that was signed in.
    pub account: Option<Identity>,
    pub is_from_other_machine: bool,
    /// True if the backup has all conversations that the home had.
    pub is_full: bool,
}

impl CopyBackup {
    /// `machine` is the id of this machine, if it has one.
    pub(crate) fn new(metadata: &Metadata, machine: Option<&str>) -> Self {
        Self {
            made_at: metadata.created_at.to_utc(),
            account: metadata.identity(),
            is_from_other_machine: metadata.is_from_other_machine(machine),
            is_full: metadata.mode != BackupMode::Auth
                && !metadata.holds_changes_only
                && !metadata.excludes
                && metadata.skipped == 0,
        }
    }
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
    pub(crate) fn for_archive(record: &ArchiveRecord, machine: Option<&str>) -> Self {
        Self {
            name: record.path.clone(),
            kind: CopyPlaceKind::Archive(shortest_name(record)),
            backup: Some(CopyBackup::new(&record.metadata, machine)),
        }
    }

    pub(crate) fn for_file(path: &Path, kind: CopyPlaceKind) -> Self {
        Self {
            name: path.display().to_string(),
            kind,
            backup: None,
        }
    }

    /// Returns false for a file that no command restores, and for a backup of another machine: the home never had its
    /// conversations.
    pub(crate) fn can_have_gone_conversations(&self) -> bool {
        let is_foreign = |backup: &CopyBackup| backup.is_from_other_machine;
        self.kind != CopyPlaceKind::File && !self.backup.as_ref().is_some_and(is_foreign)
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
        if self.kind == CopyPlaceKind::ConflictCopy {
            return Some(format!("codex-manager sync resolve {id}"));
        }
        Some(format!("{} --session {id}", self.format_backup_command()?))
    }

    /// Returns the command that adds the conversations of this place to the home; `None` for a file.
    pub(crate) fn format_merge_command(&self) -> Option<String> {
        Some(format!("{} --merge", self.format_backup_command()?))
    }

    fn format_backup_command(&self) -> Option<String> {
        let restore_archive = |name: &str| format!("restore {}", shell::quote_if_needed(name));
        let arguments = match &self.kind {
            CopyPlaceKind::Archive(name) => restore_archive(name),
            CopyPlaceKind::TrashedArchive => restore_archive(&self.name),
            CopyPlaceKind::Snapshot => format!("vault restore {}", self.display_name()),
            CopyPlaceKind::ConflictCopy | CopyPlaceKind::File => return None,
        };
        Some(format!("codex-manager {arguments}"))
    }
}
