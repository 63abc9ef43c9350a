//! Measures the disk usage of a Codex home and its growth.
//!
//! One walk reads names and sizes. Project and account of a conversation come from the database;
//! only rollouts without a row are opened, for their first line.

mod facts;
mod form;
mod growth;
mod kinds;
mod report;
mod rollout_usage;
mod shares;
pub(crate) mod shrink;
pub(crate) mod vacuum;

pub(crate) use form::Form;
pub(crate) use kinds::Usage;
pub(crate) use report::{StorageReport, UsageShare};

use self::rollout_usage::RolloutUsage;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::{atomic, space};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Measures `home`. `state` is its state database; if it cannot be read, the rollouts are read
/// instead. Databases in the folder `databases` outside of the home are counted too.
pub(crate) fn measure(
    home: &Path,
    databases: Option<&Path>,
    state: Option<&Path>,
    now: DateTime<Utc>,
) -> StorageReport {
    let mut walk = UsageWalk::default();
    walk.add_folder(home, |_| true);
    if let Some(folder) = databases.filter(|folder| !folder.starts_with(home)) {
        walk.add_folder(folder, |kind| {
            matches!(
                kind,
                HomeEntryKind::Database | HomeEntryKind::DatabaseSidecar
            )
        });
    }
    let growth = growth::of(&walk.rollouts, now);
    let free_bytes = space::free_bytes(home);
    let bytes_per_day = growth.map_or(0, |growth| growth.bytes_per_day);
    let mut report = StorageReport {
        total_bytes: walk.total_bytes,
        files: walk.files,
        kinds: walk.usage.finish(home),
        projects: Vec::new(),
        months: Vec::new(),
        accounts: Vec::new(),
        largest: Vec::new(),
        growth,
        unreadable: walk.unreadable,
        free_bytes,
        full_in_days: free_bytes.and_then(|free| free.checked_div(bytes_per_day)),
    };
    shares::add_shares(walk.rollouts, state, &mut report);
    report
}

/// The files found by a walk, counted.
#[derive(Default)]
struct UsageWalk {
    usage: Usage,
    rollouts: Vec<RolloutUsage>,
    total_bytes: u64,
    files: usize,
    unreadable: usize,
    /// The folders of rollouts with temporary files.
    temp_folders: BTreeSet<PathBuf>,
}

impl UsageWalk {
    /// Adds the rollouts in `folder`, which is of this kind.
    fn add_rollouts(&mut self, folder: &Path, kind: HomeEntryKind) {
        for entry in WalkDir::new(folder).follow_root_links(true) {
            let Ok(entry) = entry else { continue };
            if atomic::is_temp_name(entry.file_name()) {
                let folder = atomic::parent_of(entry.path());
                self.temp_folders.insert(folder.to_path_buf());
            }
            if entry.file_type().is_file()
                && let Ok(meta) = entry.metadata()
            {
                let found = RolloutUsage::of(entry.path(), kind, &meta);
                self.rollouts.extend(found);
            }
        }
    }

    /// Adds the files below `top` whose kind `accepts` takes.
    fn add_folder(&mut self, top: &Path, accepts: impl Fn(HomeEntryKind) -> bool) {
        for entry in WalkDir::new(top).follow_root_links(true) {
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
            self.rollouts.extend(RolloutUsage::of(path, kind, &meta));
        }
    }
}
