//! The properties of an archive that the retention rules need: account, class, home, time, condition.

use super::records::{ArchiveProblem, ArchiveRecord};
use crate::archive::{BackupMode, Metadata};
use crate::codex::Identity;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// The class of an archive. Retention rules apply to each class separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[derive(strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum ArchiveClass {
    Full,
    /// A backup of login and settings.
    Auth,
    Sessions,
    /// A backup that a restore made of the files that it changed, or of the whole home.
    Safety,
}

impl ArchiveClass {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        match metadata.mode {
            _ if metadata.is_safety() => Self::Safety,
            BackupMode::Full => Self::Full,
            BackupMode::Auth => Self::Auth,
            BackupMode::Sessions => Self::Sessions,
        }
    }

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The known condition of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Soundness {
    /// The archive was not opened yet.
    Unchecked,
    /// The archive can be opened: footer, manifest and index are intact.
    Sound,
    /// `verify` read every byte of exactly this file.
    Verified,
    Damaged(String),
    /// The archive could not be read this time, so its condition is unknown.
    Unreadable(String),
}

/// The properties of an archive, or of a snapshot in the vault, that the retention rules use.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionCandidate {
    /// The path of the archive relative to `backups/`, or the id of the snapshot.
    pub archive: String,
    /// The account; `None` if the home was signed out.
    pub identity: Option<Identity>,
    pub class: ArchiveClass,
    /// The archived home, preceded by `HOST:` for snapshots. Empty if the home is unknown, or if the archive was made
    /// from a legacy file.
    pub home: String,
    /// The id of the machine that made the snapshot or archive. Several machines may have one host name. `None` for
    /// archives that this machine made.
    pub machine: Option<String>,
    /// True if the archive was made with `--exclude`. Such archives count separately.
    pub excludes: bool,
    /// The number of conversations that can be read; `None` if it is unknown.
    pub conversations: Option<u64>,
    /// True if the archive is known to have no conversations that can be read.
    pub lacks_conversations: bool,
    /// True if unreadable files are missing in the archive. Such archives count separately.
    pub incomplete: bool,
    /// True for an archive of a single login, or of the files that a restore changed.
    pub is_partial: bool,
    /// The time of the backup; `None` if the archive does not record it.
    pub made_at: Option<DateTime<Utc>>,
    pub bytes: u64,
    pub soundness: Soundness,
}

impl RetentionCandidate {
    /// Returns the properties of a recorded archive; `None` for a record without an archive. `machine` is the id of
    /// this machine.
    pub fn from_record(record: &ArchiveRecord, machine: Option<&str>) -> Option<Self> {
        let metadata = &record.metadata;
        let bytes = record.archive.as_ref()?.bytes;

        let soundness = match (record.problem(), &record.verified) {
            (Some(ArchiveProblem::Damaged(detail)), _) => Soundness::Damaged(detail.clone()),
            (Some(ArchiveProblem::FoundDamaged), _) => Soundness::Damaged("found by verify".into()),
            (Some(ArchiveProblem::Unreadable(detail)), _) => Soundness::Unreadable(detail.clone()),
            (_, Some(_)) => Soundness::Verified,
            // If the sidecar is bad, the listing has opened the archive. A record with `NoArchive` does not get here.
            (Some(ArchiveProblem::Sidecar(_) | ArchiveProblem::NoArchive), None) => {
                Soundness::Sound
            }
            (None, None) => Soundness::Unchecked,
        };

        // The folder of a legacy file is not the home that its login came from.
        let home = match metadata.legacy_auth_filename {
            None => metadata.source_codex_home.clone(),
            Some(_) => String::new(),
        };

        Some(Self {
            archive: record.path.clone(),
            identity: metadata.identity(),
            class: ArchiveClass::of(metadata),
            home,
            // Archives of older versions do not record their machine, so they count as archives of this machine.
            machine: match &metadata.machine {
                Some(id) if metadata.is_from_other_machine(machine) => Some(id.clone()),
                _ => None,
            },
            excludes: metadata.excludes,
            conversations: metadata.conversation_count(),
            lacks_conversations: metadata.has_no_conversations(),
            incomplete: metadata.skipped > 0,
            is_partial: metadata.is_single_login() || metadata.holds_changes_only,
            made_at: metadata.made_at().map(|at| at.to_utc()),
            bytes,
            soundness,
        })
    }

    /// Returns true for archives in folders of the Python codex-manager, which this program never moves.
    pub(super) fn is_in_python_folder(&self) -> bool {
        self.archive.contains('/')
    }

    /// Returns true if a rule may keep the archive: it could be read and has no known damage, and its time is known and
    /// not in the future.
    pub(super) fn is_eligible_for_rules(&self, now: &DateTime<Utc>) -> bool {
        let is_undamaged = !matches!(
            self.soundness,
            Soundness::Damaged(_) | Soundness::Unreadable(_)
        );
        is_undamaged && self.made_at.is_some_and(|at| at <= *now)
    }
}
