//! Refuses a restore that would remove lines which a rewind or a fork continues. Codex could not open the rewind or fork
//! any more.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use super::session_rollouts::{begins_with, compare_with_archived};
use crate::archive::{EntryName, FileEntry, parse_rollout_name};
use crate::codex::rollout::{is_plain, parse_rollout_id};
use crate::history::rollout::{ends_line_at, read_head};
use crate::restore::error::RestoreError;
use crate::storage::trash;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Checks the rollouts that stay in the home, and for a partial restore also those in the trash: of the rollout that each
/// of them continues, the new version has to have the same text up to the cut. Does nothing for a merge, which keeps the
/// longer version.
///
/// # Errors
/// [`RestoreError::Continued`] if a new version lacks such text, or an archived version cannot be read.
pub(crate) fn check_continued_lines(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    if plan.merge || request.target != RestoreTarget::Home {
        return Ok(());
    }

    let rollout_id = |name: &EntryName| {
        parse_rollout_name(name.as_path()).and_then(|_| parse_rollout_id(name.as_path()))
    };
    let live_path = |name: EntryName| request.folder.join(name.as_path());
    let staying = live.names.without(&plan.writes).without(&plan.removed);
    let staying = staying.iter().filter(|name| rollout_id(name).is_some());
    let mut staying: Vec<PathBuf> = staying.map(live_path).collect();
    if plan.partial {
        // A trash that cannot be read does not hinder a restore.
        let trashed = trash::list_rollouts(request.manager_home, &request.folder);
        staying.extend(trashed.unwrap_or_default());
    }

    // Of a rollout that is there plain and compressed, the plain one comes last. Codex reads that one.
    let changed = plan.replaced_and_removed().to_sorted_names();
    let changed = changed.into_iter().rev();
    let changed = changed.filter_map(|name| Some((rollout_id(&name)?, live_path(name))));
    let changed: HashMap<_, _> = changed.collect();
    if staying.is_empty() || changed.is_empty() {
        return Ok(());
    }

    let written = request.archive.contents().files.iter();
    let written = written.filter(|file| plan.writes.contains(file.path.as_path()));
    let written = written.filter_map(|file| Some((rollout_id(&file.path)?, file)));
    let written: HashMap<_, _> = written.collect();

    for path in staying {
        // A rollout that cannot be read counts as one that continues none.
        let head = read_head(&path).ok().flatten();
        let base =
            head.and_then(|head| Some((head.base_id()?.to_lowercase(), head.base_end_offset()?)));
        let Some((id, cut)) = base else { continue };

        // Codex cannot open the rollout today if its base ends before the cut.
        let has_cut = |base: &&PathBuf| ends_line_at(base, cut).unwrap_or_default();
        let Some(base) = changed.get(&id).filter(has_cut) else {
            continue;
        };
        let keeps_lines = match written.get(&id) {
            Some(file) => has_same_beginning(request, base, file, cut)?,
            None => false,
        };
        if !keeps_lines {
            return Err(RestoreError::Continued(path));
        }
    }
    Ok(())
}

/// Returns true if the texts of the rollout at `live` and of the archived `file` are equal up to `len`, or if the archive
/// cannot be read yet.
fn has_same_beginning(
    request: &RestoreRequest<'_>,
    live: &Path,
    file: &FileEntry,
    len: u64,
) -> Result<bool, RestoreError> {
    let is_plain = is_plain(file.path.as_path());
    if is_plain && file.size < len {
        return Ok(false);
    }
    // Needs no extraction.
    if is_plain && begins_with(live, file, request.archive)? {
        return Ok(true);
    }
    let compared = compare_with_archived(live, file, request.archive)?;
    Ok(compared.is_none_or(|(_, common_len)| common_len >= len))
}
