//! The walk through a home that counts its files by kind, and the space that each kind could free.

use super::form::Form;
use super::vacuum;
use crate::codex::{ARCHIVED_SESSIONS, DB_BACKUPS, HomeEntryKind, RolloutName, SESSIONS, kind_of};
use crate::history::{ConversationId, files};
use crate::io::{IoError, atomic, clock, progress, shell};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Returns all rollouts of `home`, and the errors of folders that cannot be listed.
pub(super) fn find_rollouts(home: &Path) -> (Vec<RolloutUsage>, Vec<IoError>) {
    let mut rollouts = Vec::new();
    let errors = files::visit_rollouts(home, &mut |entry, _relative, archived| {
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
    kinds: BTreeMap<&'static str, KindUsage>,
    /// The databases, each with the name of its kind.
    databases: Vec<(&'static str, PathBuf)>,
    pub(super) rollouts: Vec<RolloutUsage>,
    pub(super) total_bytes: u64,
    pub(super) files: usize,
    pub(super) unreadable: usize,
}

impl UsageWalk {
    /// Adds the files below `folder` of the kinds that pass `is_counted`. Ends early if the user interrupts.
    pub(super) fn add_folder(&mut self, folder: &Path, is_counted: impl Fn(HomeEntryKind) -> bool) {
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
            if !is_counted(kind) {
                continue;
            }

            self.files += 1;
            self.total_bytes += meta.len();
            let kind_name = kind_name(kind, relative);
            let usage = self.kinds.entry(kind_name).or_default();
            usage.kind = kind_name;
            usage.bytes += meta.len();
            usage.files += 1;
            if kind == HomeEntryKind::Database {
                self.databases.push((kind_name, path.to_path_buf()));
            }
            if kind.is_rollout_folder() {
                let archived = kind == HomeEntryKind::ArchivedSessions;
                self.rollouts
                    .extend(RolloutUsage::from_file(path, archived, &meta));
            }
        }
    }

    /// Returns the kinds, largest first. `shrink_gain` is the number of bytes that compressing the conversations frees.
    pub(super) fn list_kinds(
        &self,
        home: &Path,
        shrink_gain: u64,
        now: DateTime<Utc>,
    ) -> Vec<KindUsage> {
        let logs_since = now - TimeDelta::days(LOG_DAYS);
        let vacuum_gain = |kind: &str| -> u64 {
            let databases = self.databases.iter().filter(|(name, _)| *name == kind);
            databases
                .map(|(_, path)| vacuum::estimate_gain(path, logs_since))
                .sum()
        };

        let mut kinds: Vec<_> = self.kinds.values().cloned().collect();
        for usage in &mut kinds {
            let (reclaimable_bytes, command) = match usage.kind {
                "packages" => (usage.bytes, format_removal(home, &["packages"])),
                "caches" => (usage.bytes, format_removal(home, &[".tmp", "tmp"])),
                "set aside" => (usage.bytes, format_removal(home, &[DB_BACKUPS])),
                "rollouts" => (shrink_gain, "codex-manager storage shrink".to_owned()),
                "databases" => (
                    vacuum_gain("databases"),
                    "codex-manager storage vacuum".to_owned(),
                ),
                "logs" => (
                    vacuum_gain("logs"),
                    format!("codex-manager storage vacuum --keep-logs {LOG_DAYS}d"),
                ),
                _ => continue,
            };
            usage.reclaimable_bytes = reclaimable_bytes;
            usage.command = (reclaimable_bytes > 0).then_some(command);
        }

        kinds.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.kind.cmp(b.kind)));
        kinds
    }
}

/// Returns the command of the system's shell that deletes folders of the home.
fn format_removal(home: &Path, names: &[&str]) -> String {
    let paths = names.iter().map(|name| home.join(name));
    let paths = paths.map(|path| shell::quote_if_needed(&path.display().to_string()));
    let paths: Vec<_> = paths.collect();
    if cfg!(windows) {
        format!("Remove-Item -Recurse -Force {}", paths.join(", "))
    } else {
        format!("rm -rf {}", paths.join(" "))
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
    pub(super) form: Form,
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
            form: if conversation.compressed {
                Form::Compressed
            } else {
                Form::Plain
            },
            path: path.into(),
        })
    }

    /// Returns the day on which the conversation began, or else that of its last change.
    pub(super) fn day(&self) -> Option<NaiveDate> {
        let changed_day = self.changed.map(|at| at.date_naive());
        self.began.or(changed_day)
    }
}

/// Parses the day in `rollout-2026-11-20T10-48-02-….jsonl`.
fn parse_day(name: &str) -> Option<NaiveDate> {
    let day = name.strip_prefix("rollout-")?.get(..10)?;
    NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct KindUsage {
    /// The name of the kind, such as `rollouts` or `databases`.
    pub kind: &'static str,
    pub bytes: u64,
    pub files: usize,
    /// The number of bytes that could be freed without a loss for Codex or the user.
    pub reclaimable_bytes: u64,
    /// The command that frees these bytes, to be run while Codex is closed.
    pub command: Option<String>,
}

/// The age, in days, from which `storage` proposes to delete log entries.
const LOG_DAYS: i64 = 7;

fn kind_name(kind: HomeEntryKind, relative: &Path) -> &'static str {
    let top_folder = relative.iter().next().and_then(|name| name.to_str());
    let file_name = relative.file_name().and_then(|name| name.to_str());
    match kind {
        HomeEntryKind::Sessions => "rollouts",
        HomeEntryKind::ArchivedSessions => "archived",
        HomeEntryKind::Database | HomeEntryKind::DatabaseSidecar => {
            if file_name.is_some_and(|name| name.starts_with(vacuum::LOGS_PREFIX)) {
                "logs"
            } else {
                "databases"
            }
        }
        HomeEntryKind::Tmp => "caches",
        HomeEntryKind::Worktrees => "worktrees",
        _ => match top_folder {
            Some("packages") => "packages",
            Some(DB_BACKUPS) => "set aside",
            Some("log") => "logs",
            _ => "other",
        },
    }
}
