//! The databases of a home, each taken in one transaction of its own.

use super::ArchiveError;
use super::manifest::FileEntry;
use super::scan::{LeftOut, Scan};
use crate::codex::database;
use crate::io::progress::is_interrupted;
use crate::io::staging::Staging;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A database that was taken, and where its copy is.
pub(super) struct Snapshot {
    pub(super) planned: FileEntry,
    pub(super) copy: PathBuf,
}

/// The databases of a home, each looked at once.
#[derive(Default)]
pub(super) struct Databases {
    pub(super) taken: Vec<Snapshot>,
    pub(super) skipped: Vec<LeftOut>,
    pub(super) unreadable: HashSet<PathBuf>,
}

impl Databases {
    pub(super) fn has(&self, path: &Path) -> bool {
        let taken = self.taken.iter().map(|s| s.planned.path.as_path());
        taken
            .chain(self.skipped.iter().map(|s| &*s.path))
            .any(|known| known == path)
    }

    /// Takes those of a scan that were not seen before.
    pub(super) fn take(&mut self, scan: &Scan, staging: &Staging) -> Result<(), ArchiveError> {
        for planned in &scan.databases {
            if is_interrupted() {
                return Err(ArchiveError::Interrupted);
            }
            let path = planned.path.as_path();
            if self.has(path) {
                continue;
            }
            let copy = staging.path(&format!("{}.sqlite", self.taken.len()));
            let source = scan.places.source(&planned.path);
            match database::snapshot(&source, &copy) {
                Ok(()) => self.taken.push(Snapshot {
                    planned: planned.clone(),
                    copy,
                }),
                Err(_) if !source.exists() => {
                    let _ = fs::remove_file(&copy);
                }
                Err(error) if error.is_source_defect(&source) => {
                    let _ = fs::remove_file(&copy);
                    if !matches!(error, database::DatabaseError::Damaged { .. }) {
                        self.unreadable.insert(path.to_path_buf());
                    }
                    self.skipped.push(LeftOut::new(path, chain(&error)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
