//! Finds files that were written between a kill and its recovery, in the state that the recovery
//! removes.

use super::step::Step;
use super::write_times::{changed_ns, is_written_since};
use crate::io::file_id::{FileId, look};
use crate::io::{IoContext, IoError, tree};
use std::path::Path;

/// Returns true if the staged side of `step` has a file that was written, or moved there, after
/// `since_ns`. `is_disposable` takes the live path of a file.
pub(super) fn has_late_writes(
    step: &Step,
    since_ns: i64,
    is_disposable: &dyn Fn(&Path) -> bool,
) -> Result<bool, IoError> {
    let search = Search {
        since_ns,
        is_disposable,
    };
    let Some((id, meta)) = look(&step.staged)? else {
        return Ok(false);
    };
    if meta.is_dir() {
        return search.is_below(&step.staged, &step.live);
    }
    // The step itself has changed the ctime of this file.
    Ok(!is_disposable(&step.live) && is_written_since(&meta, since_ns) && !is_at(&step.live, id)?)
}

struct Search<'a> {
    since_ns: i64,
    is_disposable: &'a dyn Fn(&Path) -> bool,
}

impl Search<'_> {
    /// Returns true if there is such a file below the folder `staged`. `live` is its live path.
    fn is_below(&self, staged: &Path, live: &Path) -> Result<bool, IoError> {
        for (name, _) in tree::list(staged).at("list", staged)? {
            let (staged, live) = (staged.join(&name), live.join(&name));
            let Some((id, meta)) = look(&staged)? else {
                continue;
            };
            if (self.is_disposable)(&live) {
                continue;
            }
            let is_changed = changed_ns(&meta) > self.since_ns;
            let is_late = if meta.is_dir() {
                // Files in a folder that was moved here have no new ctime themselves.
                let is_moved_here = is_changed && look(&live)?.is_none();
                is_moved_here || self.is_below(&staged, &live)?
            } else {
                is_changed && !is_at(&live, id)?
            };
            if is_late {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns true if the file at `path` is `id`: an unchanged file has links in both states.
fn is_at(path: &Path, id: FileId) -> Result<bool, IoError> {
    Ok(look(path)?.is_some_and(|(found, _)| found.is(id)))
}
