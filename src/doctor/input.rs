//! The input of all checks.

use crate::inventory::records::ArchiveRecord;
use crate::inventory::store;
use crate::io::clock::Zone;
use crate::io::environment::Environment;
use chrono::{DateTime, Utc};
use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub(crate) struct DoctorInput<'a> {
    pub(crate) codex_home: &'a Path,
    pub(crate) manager_home: &'a Path,
    /// The Codex program, if a flag or the configuration names one.
    pub(crate) codex_bin: Option<&'a Path>,
    pub(crate) env: &'a Environment,
    /// The time against which ages are measured.
    pub(crate) now: DateTime<Utc>,
    /// The zone in which times are shown.
    pub(crate) zone: Zone,
    /// True if a flag or the configuration sets the zone.
    pub(crate) zone_is_set: bool,
}

impl DoctorInput<'_> {
    /// Returns true if `restore latest` has an archive to restore.
    pub(super) fn has_archive(&self) -> bool {
        store::archives(self.manager_home).is_ok_and(|records| {
            !store::latest_first(&records, ArchiveRecord::is_usable).is_empty()
        })
    }
}
