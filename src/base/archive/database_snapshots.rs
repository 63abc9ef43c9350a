//! Snapshots of the databases of a home, each made in a single read transaction.

use super::error::ArchiveError;
use super::format::FileEntry;
use super::format::manifest::is_database_path;
use super::path_note::PathNote;
use super::scan::HomeScan;
use crate::codex::threads::{self, ChildThreads};
use crate::codex::{ListedThread, ThreadFilter, database};
use crate::io::progress::check_interrupt;
use crate::io::staging::Staging;
use crate::io::{message_with_causes, sharing};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub(super) struct DatabaseSnapshot {
    /// The database as the scan listed it.
    pub(super) planned: FileEntry,
    /// Path of the snapshot in the staging folder.
    pub(super) path: PathBuf,
}

/// The snapshots of a home's databases. Each database is attempted once.
#[derive(Default)]
pub(super) struct DatabaseSnapshots {
    pub(super) snapshots: Vec<DatabaseSnapshot>,
    pub(super) skipped: Vec<PathNote>,
    /// The skipped databases that could not be read. They may be sound, unlike those that failed the integrity
    /// check.
    pub(super) unreadable: HashSet<PathBuf>,
}

impl DatabaseSnapshots {
    pub(super) fn has_snapshot_of(&self, path: &Path) -> bool {
        let mut snapshots = self.snapshots.iter();
        snapshots.any(|snapshot| snapshot.planned.path.as_path() == path)
    }

    pub(super) fn was_attempted(&self, path: &Path) -> bool {
        self.has_snapshot_of(path) || self.skipped.iter().any(|note| note.path == path)
    }

    /// Returns the ids of the subagents and side conversations, in lower case.
    pub(super) fn list_child_ids(&self) -> HashSet<String> {
        let children = ThreadFilter {
            children: ChildThreads::Only,
            only_ids: true,
            ..ThreadFilter::default()
        };
        let to_id = |child: ListedThread| child.id.to_lowercase();
        let mut ids = HashSet::new();
        for snapshot in &self.snapshots {
            // Other databases have no such list, and one that cannot be read lists none.
            let listed = threads::list_as(&snapshot.path, &children, to_id);
            ids.extend(listed.unwrap_or_else(|_| Vec::new()));
        }
        ids
    }

    /// Makes snapshots in `staging` of the databases of `scan` that were not attempted before.
    /// Damaged and unreadable databases are added to `skipped`.
    ///
    /// # Errors
    /// The snapshot cannot be written, or the user interrupted the backup.
    pub(super) fn snapshot_all(
        &mut self,
        scan: &HomeScan,
        staging: &Staging,
    ) -> Result<(), ArchiveError> {
        for planned in &scan.databases {
            check_interrupt().map_err(|_| ArchiveError::Interrupted)?;

            let path = planned.path.as_path();
            if self.was_attempted(path) {
                continue;
            }

            let snapshot_path = staging.path(&format!("{}.sqlite", self.snapshots.len()));
            let source = scan.source_paths.source_path(&planned.path);
            match database::write_snapshot(&source, &snapshot_path) {
                Ok(()) => self.snapshots.push(DatabaseSnapshot {
                    planned: planned.clone(),
                    path: snapshot_path,
                }),
                // Deleted since the scan. SQLite reports this as one of several errors.
                Err(_) if !source.exists() => {
                    // The next snapshot gets the same name.
                    let _ = sharing::remove_file(&snapshot_path);
                }
                // The database itself is at fault, so the backup goes on without it. It also does not wait for the
                // program of another database that locks it.
                Err(error)
                    if error.is_source_defect(&source)
                        || (error.is_locked() && !is_database_path(path)) =>
                {
                    let _ = sharing::remove_file(&snapshot_path);
                    if !matches!(error, database::DatabaseError::Damaged { .. }) {
                        self.unreadable.insert(path.to_path_buf());
                    }
                    self.skipped
                        .push(PathNote::new(path, message_with_causes(&error)));
                }
                Err(error) => return Err(error.into()),
            }
        }

        Ok(())
    }
}
