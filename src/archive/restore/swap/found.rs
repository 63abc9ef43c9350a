//! What somebody wrote after a restore was killed, in what its recovery is about to drop: it is left
//! beside the live name.

use super::super::step::{Step, move_beside, rename};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::file_id::look;
use crate::io::{IoContext, IoError, atomic, tree};
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// What is to be kept of one side of a step that a recovery exchanges itself: until then it was live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Late {
    /// What was changed within the folder.
    Within,
    /// All of it: it came after the restore was killed.
    Whole,
}

/// The clock of the file system that `folder` is on, in nanoseconds since 1970.
pub(super) fn clock_of(folder: &Path) -> Result<i64, IoError> {
    let probe = folder.join("clock");
    drop(atomic::create_private(&probe)?);
    let meta = probe.symlink_metadata().at("look at", &probe)?;
    tree::remove(&probe)?;
    Ok(written_ns(&meta))
}

/// When the content was written, as far as nobody has set that time.
pub(super) fn written_ns(meta: &Metadata) -> i64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        nanoseconds(meta.mtime(), meta.mtime_nsec())
    }
    #[cfg(not(unix))]
    {
        since_1970(meta.modified())
    }
}

/// When the file was changed in any way, or got its name.
fn changed_ns(meta: &Metadata) -> i64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        nanoseconds(meta.ctime(), meta.ctime_nsec())
    }
    #[cfg(not(unix))]
    {
        since_1970(meta.modified()).max(since_1970(meta.created()))
    }
}

#[cfg(unix)]
fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

#[cfg(not(unix))]
fn since_1970(at: std::io::Result<std::time::SystemTime>) -> i64 {
    let since = at
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0, |since| {
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// Whether it was written to after this instant. A time in the future alone does not say so.
pub(in super::super) fn is_written_since(meta: &Metadata, since: i64) -> bool {
    written_ns(meta) > since && changed_ns(meta) > since
}

/// Looks through what a recovery drops.
pub(super) struct Finder<'a> {
    /// The home that was restored.
    pub(super) home: &'a Path,
    /// Its login, which goes a way of its own.
    pub(super) auth_json: &'a Path,
}

impl Finder<'_> {
    /// Leaves what was written after `since` into the side of `step` that is staged now beside its live
    /// name; gives where. `scratch` is a name of ours for this step, on its file system.
    pub(super) fn keep(
        &self,
        step: &Step,
        since: i64,
        scratch: &Path,
    ) -> Result<Option<PathBuf>, IoError> {
        if let Some((_, meta)) = look(&step.staged)?
            && !self.is_worthless(&step.live)
        {
            let is_late = step.late == Some(Late::Whole);
            if is_late || !meta.is_dir() && is_written_since(&meta, since) {
                return move_beside(&step.staged, &step.live).map(Some);
            }
            if meta.is_dir() {
                let mut names = Vec::new();
                self.list(step, since, Path::new(""), false, &mut names)?;
                for name in names {
                    let (from, to) = (step.staged.join(&name), scratch.join(&name));
                    atomic::create_private_folder(atomic::parent_of(&to))?;
                    rename(&from, &to).at("move", &from)?;
                }
            }
        }
        // Also what a recovery put there that was killed then.
        if look(scratch)?.is_none() {
            return Ok(None);
        }
        tree::sync(scratch)?;
        move_beside(scratch, &step.live).map(Some)
    }

    /// The files below `folder` of the staged side that are to be kept.
    fn list(
        &self,
        step: &Step,
        since: i64,
        folder: &Path,
        is_new: bool,
        names: &mut Vec<PathBuf>,
    ) -> Result<(), IoError> {
        let path = step.staged.join(folder);
        for (name, _) in tree::list(&path).at("list", &path)? {
            let name = folder.join(name);
            let live = look(&step.live.join(&name))?;
            let Some((id, meta)) = look(&step.staged.join(&name))? else {
                continue;
            };
            let is_changed = changed_ns(&meta) > since && step.late.is_some();
            if meta.is_dir() {
                // What lies in a folder that was moved here is not changed itself.
                let is_new = is_new || (is_changed && live.is_none());
                self.list(step, since, &name, is_new, names)?;
                continue;
            }
            let is_both = live.is_some_and(|(live, _)| live.is(id));
            let is_late = is_new || is_changed || is_written_since(&meta, since);
            if is_late && !is_both && !self.is_worthless(&step.live.join(&name)) {
                names.push(name);
            }
        }
        Ok(())
    }

    /// Whether Codex makes it again; the login is kept elsewhere.
    fn is_worthless(&self, live: &Path) -> bool {
        let transient = |name: &Path| {
            let is_index = name.as_os_str().as_encoded_bytes().ends_with(b"-shm");
            match kind_of(name) {
                HomeEntryKind::Transient | HomeEntryKind::Tmp => true,
                HomeEntryKind::DatabaseSidecar => is_index,
                _ => false,
            }
        };
        let name = live.strip_prefix(self.home).ok();
        let name = name.filter(|name| !name.as_os_str().is_empty());
        live == self.auth_json || name.is_some_and(transient)
    }
}
