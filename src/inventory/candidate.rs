//! An archive as the rules of retention see it: whose it is, what it counts with, and whether it is good.

use super::records::{ArchiveProblem, ArchiveRecord};
use crate::archive::metadata::Mode;
use crate::archive::restore::safety::SAFETY_LABEL;
use crate::codex::identity::Identity;
use chrono::{DateTime, Utc};
use serde::Serialize;

/// Archives that count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveClass {
    /// Of the whole home.
    Full,
    /// Of the login and settings.
    Auth,
    /// Of conversations.
    Sessions,
    /// Made before a restore, of whatever that changed.
    Safety,
}

impl ArchiveClass {
    /// The name used in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Auth => "auth",
            Self::Sessions => "sessions",
            Self::Safety => "safety",
        }
    }
}

/// What is known of an archive's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Soundness {
    /// Nobody has looked yet.
    Unchecked,
    /// Its structure is whole: it opens, and describes itself.
    Sound,
    /// `verify` has read every byte of it as it lies there.
    Verified,
    /// It is damaged.
    Damaged(String),
    /// It cannot be read here and now, which says nothing about it.
    Unreadable(String),
}

/// What is known of one archive.
#[derive(Debug, Clone, PartialEq)]
pub struct RetentionCandidate {
    /// Its path below `backups/`.
    pub archive: String,
    /// Whose it is; absent where the home was signed out.
    pub identity: Option<Identity>,
    /// What it counts with.
    pub class: ArchiveClass,
    /// The home that it is of; empty where that is not known, or it is made of a legacy file.
    pub home: String,
    /// Whether the user has left something out of it: it is no match for one that has all.
    pub excludes: bool,
    /// Whether something could not be taken into it: the same goes for it.
    pub incomplete: bool,
    /// When it was made; absent where it does not even say that.
    pub made_at: Option<DateTime<Utc>>,
    /// Its size.
    pub bytes: u64,
    /// Its state.
    pub soundness: Soundness,
}

impl RetentionCandidate {
    /// What a record says; absent where the record has no archive.
    pub fn of(record: &ArchiveRecord) -> Option<Self> {
        let metadata = &record.metadata;
        let bytes = record.archive.as_ref()?.bytes;
        let class = match metadata.mode {
            _ if metadata.label.as_deref() == Some(SAFETY_LABEL) => ArchiveClass::Safety,
            Mode::Full => ArchiveClass::Full,
            Mode::Auth => ArchiveClass::Auth,
            Mode::Sessions => ArchiveClass::Sessions,
        };
        let soundness = match (record.problem(), &record.verified) {
            (Some(ArchiveProblem::Damaged(detail)), _) => Soundness::Damaged(detail.clone()),
            (Some(ArchiveProblem::FoundDamaged), _) => Soundness::Damaged("found by verify".into()),
            (Some(ArchiveProblem::Unreadable(detail)), _) => Soundness::Unreadable(detail.clone()),
            (_, Some(_)) => Soundness::Verified,
            // Without a good sidecar it was opened to be listed.
            (Some(ArchiveProblem::Sidecar(_) | ArchiveProblem::NoArchive), None) => {
                Soundness::Sound
            }
            (None, None) => Soundness::Unchecked,
        };
        let made_at = metadata.created_at.to_utc();
        let home = match metadata.legacy_auth_filename {
            None => metadata.source_codex_home.clone(),
            Some(_) => String::new(),
        };
        Some(Self {
            archive: record.path.clone(),
            identity: metadata.identity(),
            class,
            home,
            excludes: metadata.excludes,
            incomplete: metadata.skipped > 0,
            made_at: (made_at != DateTime::UNIX_EPOCH).then_some(made_at),
            bytes,
            soundness,
        })
    }

    /// Whether it lies in a folder of the Python codex-manager, where nothing is changed.
    pub(super) fn is_foreign(&self) -> bool {
        self.archive.contains('/')
    }

    /// Whether it fills a place of a rule at `now`: it is good, and was made before.
    pub(super) fn counts(&self, now: &DateTime<Utc>) -> bool {
        let is_good = !matches!(
            self.soundness,
            Soundness::Damaged(_) | Soundness::Unreadable(_)
        );
        is_good && self.made_at.is_some_and(|at| at <= *now)
    }
}
