//! Disk usage by kind of file, and the space that each kind could free.

use crate::codex::database_view;
use crate::codex::home::{DB_BACKUPS, HomeEntryKind};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The disk usage of one kind of file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KindUsage {
    /// The name of the kind, such as `rollouts` or `databases`.
    pub kind: &'static str,
    /// The size of its files.
    pub bytes: u64,
    /// The number of its files.
    pub files: usize,
    /// The bytes that could be freed without losing anything that Codex or the user needs.
    pub reclaimable_bytes: u64,
    /// The command that frees them, to be run while Codex is closed.
    pub command: Option<String>,
}

/// Sums by kind, built up during the walk.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    kinds: BTreeMap<&'static str, (u64, usize)>,
    databases: Vec<PathBuf>,
}

impl Usage {
    /// Adds a file to the sums of its kind.
    pub(super) fn add(&mut self, kind: HomeEntryKind, relative: &Path, path: &Path, bytes: u64) {
        let name = name_of(kind, relative);
        let (sum, files) = self.kinds.entry(name).or_default();
        *sum += bytes;
        *files += 1;
        if name == "databases" && kind == HomeEntryKind::Database {
            self.databases.push(path.to_path_buf());
        }
    }

    /// Returns the kinds, largest first.
    pub(super) fn finish(self, home: &Path) -> Vec<KindUsage> {
        let free: Vec<(u64, &PathBuf)> = self
            .databases
            .iter()
            .map(|path| (free_bytes(path), path))
            .filter(|(free, _)| *free > 0)
            .collect();
        let mut kinds: Vec<_> = self
            .kinds
            .into_iter()
            .map(|(kind, (bytes, files))| {
                let remove = |names: &[&str]| {
                    let paths: Vec<_> = names.iter().map(|n| shown(&home.join(n))).collect();
                    Some(format!("rm -rf {}", paths.join(" ")))
                };
                let (reclaimable_bytes, command) = match kind {
                    "packages" => (bytes, remove(&["packages"])),
                    "logs" => (
                        bytes,
                        Some(format!("rm -rf {}/logs_*.sqlite*", shown(home))),
                    ),
                    "caches" => (bytes, remove(&[".tmp", "tmp"])),
                    "set aside" => (bytes, remove(&[DB_BACKUPS])),
                    "databases" => {
                        let largest = free.iter().max();
                        let command =
                            largest.map(|(_, path)| format!("sqlite3 {} VACUUM", shown(path)));
                        (free.iter().map(|(free, _)| free).sum(), command)
                    }
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

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn name_of(kind: HomeEntryKind, relative: &Path) -> &'static str {
    let top = relative.iter().next().and_then(|top| top.to_str());
    let name = relative.file_name().and_then(|name| name.to_str());
    match kind {
        HomeEntryKind::Sessions => "rollouts",
        HomeEntryKind::ArchivedSessions => "archived",
        HomeEntryKind::Database | HomeEntryKind::DatabaseSidecar => {
            if name.is_some_and(|name| name.starts_with("logs_")) {
                "logs"
            } else {
                "databases"
            }
        }
        HomeEntryKind::Tmp => "caches",
        _ => match top {
            Some("packages") => "packages",
            Some(DB_BACKUPS) => "set aside",
            Some("log") => "logs",
            _ => "other",
        },
    }
}

/// Returns the size of a database's free pages; 0 if it cannot be read.
fn free_bytes(path: &Path) -> u64 {
    let free = database_view::read(path, |connection| {
        let number = |pragma| {
            connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0))
        };
        Ok(number("freelist_count")?.saturating_mul(number("page_size")?))
    });
    free.ok()
        .and_then(|free| u64::try_from(free).ok())
        .unwrap_or(0)
}
