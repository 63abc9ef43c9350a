//! Finds files that were written in a state that is about to be removed: while a command prepared its
//! exchange, or between a kill and the recovery.

use super::step::Step;
use super::write_times::is_written_since;
use crate::codex::home::database_of_sidecar;
use crate::io::file_id::stat;
use crate::io::{FileId, IoContext, IoError, changed_ns, modified_ns, tree};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// The side of a step that has the files of the state to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteSide {
    /// The live side, before the step is done.
    Live,
    /// The staged side, once it is done.
    Staged,
}

/// Finds the files on one side of a step that were written late and that the other side does not have.
pub(super) struct LateWrites<'a> {
    /// The time, by the clock of the file system, after which a write is late.
    pub(super) since_ns: i64,
    /// The latest time that counts. A program or a wrong clock has set later times.
    pub(super) until_ns: i64,
    /// Returns true for the live path of a file whose late writes may be lost.
    pub(super) is_disposable: &'a dyn Fn(&Path) -> bool,
}

impl LateWrites<'_> {
    /// Adds the live paths of files on this side of `step` to `late_files` that were written or moved there after
    /// `since_ns`.
    pub(super) fn collect_late_files(
        &self,
        step: &Step,
        side: WriteSide,
        late_files: &mut Vec<PathBuf>,
    ) -> Result<(), IoError> {
        let live = step.live.as_path();
        let (removed_path, kept_path) = match side {
            // A move to the live path removes no file. If it is one of two moves, the other move removes the old file.
            WriteSide::Live if !step.moves_live_away() => return Ok(()),
            WriteSide::Live => (live, step.staged.as_path()),
            WriteSide::Staged => (step.staged.as_path(), live),
        };

        let Some((id, meta)) = stat(removed_path)?.filter(|(_, meta)| can_be_written(meta)) else {
            return Ok(());
        };
        if meta.is_dir() {
            return self.collect_below(removed_path, kept_path, live, late_files);
        }

        if self.is_ignored(live, meta.len()) {
            return Ok(());
        }

        let time_ns = match side {
            WriteSide::Live => changed_ns(&meta),
            // The step itself changes the ctime of a file that it moves here, and so does a second link to it.
            WriteSide::Staged => modified_ns(&meta),
        };
        let is_written = is_written_since(&meta, self.since_ns) && time_ns <= self.until_ns;
        let was_moved_here = !step.has_recorded(id);
        if (is_written || was_moved_here) && !is_file_at(kept_path, id)? {
            late_files.push(live.to_path_buf());
        }
        Ok(())
    }

    /// Adds the late files below the folder `removed_path`. `kept_path` is the folder on the other side, `live` the
    /// live path.
    fn collect_below(
        &self,
        removed_path: &Path,
        kept_path: &Path,
        live: &Path,
        late_files: &mut Vec<PathBuf>,
    ) -> Result<(), IoError> {
        for (name, _) in tree::list(removed_path).at("list", removed_path)? {
            let removed_path = removed_path.join(&name);
            let kept_path = kept_path.join(&name);
            let live = live.join(&name);

            let Some((id, meta)) = stat(&removed_path)?.filter(|(_, meta)| can_be_written(meta))
            else {
                continue;
            };
            if self.is_ignored(&live, meta.len()) {
                continue;
            }

            // A log that is only read can get a new ctime: SQLite calls fchown for each log that root opens.
            let is_log = || {
                database_of_sidecar(&removed_path)
                    .is_some_and(|path| path.symlink_metadata().is_ok())
            };
            // Only the ctime counts: programs such as `cp -p` can set an mtime, but not a ctime.
            let has_late_ctime = (self.since_ns + 1..=self.until_ns).contains(&changed_ns(&meta));
            let is_changed =
                has_late_ctime && (is_written_since(&meta, self.since_ns) || !is_log());

            let is_late = if meta.is_dir() {
                // A move changes the ctime of the folder, but not of the files in it.
                is_changed && stat(&kept_path)?.is_none()
            } else {
                is_changed && !is_file_at(&kept_path, id)?
            };
            if is_late {
                late_files.push(live);
            } else if meta.is_dir() {
                self.collect_below(&removed_path, &kept_path, &live, late_files)?;
            }
        }
        Ok(())
    }

    /// Returns true for a file whose late writes may be lost: a `-shm` or an empty `-wal`, which readers of a database
    /// create, and any file that the policy gives up.
    fn is_ignored(&self, live: &Path, len: u64) -> bool {
        // SQLite keeps the index of a log in parts of 32 KiB.
        const INDEX_PART_BYTES: u64 = 32 * 1024;
        let name = live.file_name().unwrap_or_default().as_encoded_bytes();
        let is_empty_log = len == 0 && name.ends_with(b"-wal");
        let is_index = name.ends_with(b"-shm") && len.is_multiple_of(INDEX_PART_BYTES);
        is_empty_log || is_index || (self.is_disposable)(live)
    }
}

/// Returns false for pipes, sockets and devices: they have no content, and a hard link to one changes its ctime.
fn can_be_written(meta: &Metadata) -> bool {
    meta.is_dir() || meta.is_file() || meta.is_symlink()
}

/// Returns true if the file at `path` has the id `id`. An unchanged file has links in both states.
fn is_file_at(path: &Path, id: FileId) -> Result<bool, IoError> {
    Ok(stat(path)?.is_some_and(|(found_id, _)| found_id.is_same(id)))
}
