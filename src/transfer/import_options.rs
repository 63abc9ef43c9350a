//! The target and the settings of an import.

use crate::io::clock::{Timestamp, Zone};
use std::path::Path;
use std::time::Duration;

/// The target and the settings of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ImportOptions<'a> {
    /// The manager home to import into.
    pub manager_home: &'a Path,
    /// The live Codex home, whose login may be renewed.
    pub codex_home: &'a Path,
    /// The current time, in the zone of the user.
    pub now: Timestamp,
    /// The zone in which times are written.
    pub zone: Zone,
    /// The longest wait for locks that Codex or another process holds.
    pub lock_timeout: Duration,
}
