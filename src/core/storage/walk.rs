//! The walk through a home that counts its files.

use super::kinds::KindSums;
use crate::codex::{ARCHIVED_SESSIONS, HomeEntryKind, RolloutName, SESSIONS, kind_of};
use crate::history::{ConversationId, files};
use crate::io::{IoError, atomic, clock, progress};
use chrono::{DateTime, NaiveDate, Utc};
use std::fs::Metadata;
use std::path::Path;
use walkdir::WalkDir;

/// Returns all rollouts of `home`, and the errors of folders that cannot be listed.
pub(super) fn find_rollouts(home: &Path) -> (Vec<RolloutUsage>, Vec<IoError>) {
    let mut rollouts = Vec::new();
    let errors = files::visit_rollouts(home, &mut |entry, _, archived| {
        if !progress::is_interrupted()
            && let Ok(meta) = entry.metadata()
        {
            rollouts.extend(RolloutUsage::from_file(&entry.path(), archived, &meta));
        }
    });
    (rollouts, errors)
}

/// Removes the temp files that killed conversions left beside rollouts of `home`. They are as large as conversations.
pub(super) fn remove_temps_of_killed_conversions(home: &Path) {
    for top in [SESSIONS, ARCHIVED_SESSIONS] {
        let walk = WalkDir::new(home.join(top)).follow_root_links(true);
        let folders = walk.into_iter().flatten();
        for folder in folders.filter(|entry| entry.path().is_dir()) {
            atomic::remove_stale_temps(folder.path());
        }
    }
}

/// Counts the files that a walk finds.
#[derive(Default)]
pub(super) struct UsageWalk {
    pub(super) kinds: KindSums,
    pub(super) rollouts: Vec<RolloutUsage>,
    pub(super) total_bytes: u64,
    pub(super) files: usize,
    pub(super) unreadable: usize,
}

impl UsageWalk {
    /// Adds the files below `folder` of the kinds that pass `counts`. Ends early if the user interrupts.
    pub(super) fn add_folder(&mut self, folder: &Path, counts: impl Fn(HomeEntryKind) -> bool) {
        let walk = WalkDir::new(folder).follow_root_links(true).into_iter();
        for entry in walk.take_while(|_| !progress::is_interrupted()) {
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
            let relative = path.strip_prefix(folder).unwrap_or(path);
            let kind = kind_of(relative);
            if !counts(kind) {
                continue;
            }

            self.files += 1;
            self.total_bytes += meta.len();
            self.kinds.add(kind, relative, path, meta.len());
            if kind.is_rollout_folder() {
                let archived = kind == HomeEntryKind::ArchivedSessions;
                self.rollouts
                    .extend(RolloutUsage::from_file(path, archived, &meta));
            }
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
    fn from_file(path: &Path, archived: bool, meta: &Metadata) -> Option<Self> {
        let conversation = RolloutName::parse(path)?;
        Some(Self {
            id: conversation.id().map(ConversationId::of),
            began: parse_day(&conversation.name),
            changed: meta.modified().ok().and_then(clock::from_file_time),
            bytes: meta.len(),
            archived,
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
