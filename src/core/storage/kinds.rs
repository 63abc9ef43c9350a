//! Disk usage by kind of file, and the space that each kind could free.

use super::vacuum;
use crate::codex::{DB_BACKUPS, HomeEntryKind};
use crate::io::shell;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// Sums by kind, built up during the walk.
#[derive(Debug, Default)]
pub(crate) struct KindSums {
    kinds: BTreeMap<&'static str, (u64, usize)>,
    databases: Vec<PathBuf>,
    logs: Vec<PathBuf>,
}

/// The age, in days, from which `storage` proposes to delete log entries.
pub(super) const LOG_DAYS: i64 = 7;

impl KindSums {
    /// Adds a file to the sums of its kind.
    pub(super) fn add(&mut self, kind: HomeEntryKind, relative: &Path, path: &Path, bytes: u64) {
        let name = kind_name(kind, relative);
        let (total, files) = self.kinds.entry(name).or_default();
        *total += bytes;
        *files += 1;
        if kind == HomeEntryKind::Database {
            let databases = match name {
                "logs" => &mut self.logs,
                _ => &mut self.databases,
            };
            databases.push(path.to_path_buf());
        }
    }

    /// Returns the kinds, largest first. `shrink_gain` is the number of bytes that compressing the
    /// conversations frees.
    pub(super) fn into_kind_usages(
        self,
        home: &Path,
        shrink_gain: u64,
        now: DateTime<Utc>,
    ) -> Vec<KindUsage> {
        let logs_since = now - TimeDelta::days(LOG_DAYS);
        let vacuum_gain = |paths: &[PathBuf]| -> u64 {
            paths
                .iter()
                .map(|path| vacuum::estimate_gain(path, logs_since))
                .sum()
        };
        let storage_command =
            |arguments: String| Some(format!("codex-manager storage {arguments}"));

        let mut kinds: Vec<_> = self
            .kinds
            .into_iter()
            .map(|(kind, (bytes, files))| {
                let removal_command = |names: &[&str]| {
                    let paths = names
                        .iter()
                        .map(|name| home.join(name).display().to_string());
                    let paths: Vec<_> = paths.map(|path| shell::quote_if_needed(&path)).collect();
                    Some(if cfg!(windows) {
                        format!("Remove-Item -Recurse -Force {}", paths.join(", "))
                    } else {
                        format!("rm -rf {}", paths.join(" "))
                    })
                };

                let (reclaimable_bytes, command) = match kind {
                    "packages" => (bytes, removal_command(&["packages"])),
                    "rollouts" => (shrink_gain, storage_command("shrink".to_owned())),
                    "logs" => {
                        let vacuum = format!("vacuum --keep-logs {LOG_DAYS}d");
                        (vacuum_gain(&self.logs), storage_command(vacuum))
                    }
                    "caches" => (bytes, removal_command(&[".tmp", "tmp"])),
                    "set aside" => (bytes, removal_command(&[DB_BACKUPS])),
                    "databases" => (
                        vacuum_gain(&self.databases),
                        storage_command("vacuum".to_owned()),
                    ),
                    _ => (0, None),
                };

                KindUsage {
                    kind,
                    bytes,
                    files,
                    reclaimable_bytes,
                    command: command.filter(|_| reclaimable_bytes > 0),
                }
            })
            .collect();

        kinds.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.kind.cmp(b.kind)));
        kinds
    }
}

fn kind_name(kind: HomeEntryKind, relative: &Path) -> &'static str {
    let top_folder = relative.iter().next().and_then(|name| name.to_str());
    let file_name = relative.file_name().and_then(|name| name.to_str());
    match kind {
        HomeEntryKind::Sessions => "rollouts",
        HomeEntryKind::ArchivedSessions => "archived",
        HomeEntryKind::Database | HomeEntryKind::DatabaseSidecar => {
            if file_name.is_some_and(|name| name.starts_with("logs_")) {
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
