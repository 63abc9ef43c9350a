//! The walk through a home that counts its files.

use super::kinds::Usage;
use crate::codex::{ARCHIVED_SESSIONS, HomeEntryKind, RolloutName, SESSIONS, kind_of};
use crate::history::ConversationId;
use crate::io::{atomic, progress, temp_name};
use chrono::{DateTime, NaiveDate, Utc};
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Walks through a folder until its end, or until the user interrupts.
fn walk_interruptibly(folder: &Path) -> impl Iterator<Item = walkdir::Result<walkdir::DirEntry>> {
    let walk = WalkDir::new(folder).follow_root_links(true);
    walk.into_iter().take_while(|_| !progress::is_interrupted())
}

/// The files found by a walk, counted.
#[derive(Default)]
pub(super) struct UsageWalk {
    pub(super) usage: Usage,
    pub(super) rollouts: Vec<RolloutUsage>,
    pub(super) total_bytes: u64,
    pub(super) files: usize,
    pub(super) unreadable: usize,
    /// The folders of rollouts with temporary files.
    pub(super) temp_folders: BTreeSet<PathBuf>,
}

impl UsageWalk {
    /// Finds all rollouts of `home`.
    pub(super) fn find_rollouts(home: &Path) -> Self {
        let mut walk = Self::default();
        walk.add_rollouts(&home.join(SESSIONS), HomeEntryKind::Sessions);
        walk.add_rollouts(
            &home.join(ARCHIVED_SESSIONS),
            HomeEntryKind::ArchivedSessions,
        );
        walk
    }

    /// Adds the rollouts in `folder`, which is of this kind.
    fn add_rollouts(&mut self, folder: &Path, kind: HomeEntryKind) {
        for entry in walk_interruptibly(folder) {
            let Ok(entry) = entry else { continue };
            if temp_name::is_temp_name(entry.file_name()) {
                let folder = atomic::parent_of(entry.path());
                self.temp_folders.insert(folder.to_path_buf());
            }
            if entry.file_type().is_file()
                && let Ok(meta) = entry.metadata()
            {
                let found = RolloutUsage::from_file(entry.path(), kind, &meta);
                self.rollouts.extend(found);
            }
        }
    }

    /// Adds the files below `top` of the kinds that pass `accepts`.
    pub(super) fn add_folder(&mut self, top: &Path, accepts: impl Fn(HomeEntryKind) -> bool) {
        for entry in walk_interruptibly(top) {
            let Ok(entry) = entry else {
                self.unreadable += 1;
                continue;
            };
            if entry.file_type().is_dir() {
                continue;
            }
            let Ok(meta) = entry.metadata() else {
                self.unreadable += 1;
                continue;
            };
            let path = entry.path();
            let relative = path.strip_prefix(top).unwrap_or(path);
            let kind = kind_of(relative);
            if !accepts(kind) {
                continue;
            }
            self.files += 1;
            self.total_bytes += meta.len();
            self.usage.add(kind, relative, path, meta.len());
            self.rollouts
                .extend(RolloutUsage::from_file(path, kind, &meta));
        }
    }
}

/// A rollout with the facts from its name and metadata.
pub(super) struct RolloutUsage {
    pub(super) path: Box<Path>,
    pub(super) id: Option<ConversationId>,
    pub(super) began: Option<NaiveDate>,
    pub(super) changed: Option<DateTime<Utc>>,
    pub(super) bytes: u64,
    pub(super) archived: bool,
    pub(super) compressed: bool,
}

impl RolloutUsage {
    /// Returns `None` for a file that is no rollout.
    pub(super) fn from_file(path: &Path, kind: HomeEntryKind, meta: &Metadata) -> Option<Self> {
        if !kind.is_rollout_folder() {
            return None;
        }
        let conversation = RolloutName::parse(path)?;
        Some(Self {
            id: conversation.id().map(ConversationId::of),
            began: parse_day(&conversation.name),
            changed: meta.modified().ok().map(Into::into),
            bytes: meta.len(),
            archived: kind == HomeEntryKind::ArchivedSessions,
            compressed: conversation.compressed,
            path: path.into(),
        })
    }
}

/// Parses the day in `rollout-2026-11-20T10-48-02-….jsonl`.
fn parse_day(name: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix("rollout-")?.get(..10)?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}
