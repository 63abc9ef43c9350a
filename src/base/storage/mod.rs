//! Measures the disk usage of a Codex home and its growth, and reduces it.
//!
//! A measurement walks once through names and sizes. Project and account of a conversation come from the database, or
//! else from the first line of its rollout. A sample of rollouts is compressed, to estimate what compression frees.
//!
//! I want to …
//!
//! - measure another kind of file → `walk`; another figure of the report → `report`
//! - compress conversations, or expand them → `shrink` (which ones), `form` (one file)
//! - change what goes to the trash, or how → `selection`, `trash` (all entries), `trash_entry` (one)
//! - rewrite databases → `vacuum`

mod facts;
mod form;
mod report;
pub mod selection;
pub mod shrink;
pub mod trash;
pub mod trash_entry;
pub mod vacuum;
mod walk;

pub use form::Form;
pub use report::{LargeConversation, StorageReport, UsageShare};

use self::walk::UsageWalk;
use crate::codex::HomeEntryKind;
use crate::io::space;
use chrono::{DateTime, Utc};
use std::path::Path;

/// Measures `home`. If `state_database` is missing or unreadable, the rollouts are read instead. Databases in
/// `database_folder` are counted too if it is outside of the home.
pub fn measure_home(
    home: &Path,
    manager_home: &Path,
    database_folder: Option<&Path>,
    state_database: Option<&Path>,
    now: DateTime<Utc>,
) -> StorageReport {
    let mut walk = UsageWalk::default();
    let is_counted = |_any_kind| true;
    walk.add_folder(home, is_counted);

    if let Some(folder) = database_folder.filter(|folder| !folder.starts_with(home)) {
        use HomeEntryKind::{Database, DatabaseSidecar};
        walk.add_folder(folder, |kind| matches!(kind, Database | DatabaseSidecar));
    }

    let shrink_gain = shrink::estimate_gain(&walk.rollouts, now);
    let growth = report::measure_growth(&walk.rollouts, now);
    let free_bytes = space::free_bytes(home);
    let bytes_per_day = growth.map_or(0, |growth| growth.bytes_per_day);

    let mut report = StorageReport {
        total_bytes: walk.total_bytes,
        files: walk.files,
        kinds: walk.list_kinds(home, shrink_gain, now),
        growth,
        unreadable: walk.unreadable,
        free_bytes,
        manager: report::measure_manager_home(manager_home),
        full_in_days: free_bytes.and_then(|free| free.checked_div(bytes_per_day)),
        ..StorageReport::default()
    };

    report::add_shares(walk.rollouts, state_database, &mut report);
    report
}
