//! Refuses a restore that would remove lines which a rewind or a fork continues. Codex could not open the rewind or
//! fork any more.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use super::session_rollouts::{begins_with, compare_with_archived};
use crate::archive::{EntryName, FileEntry, parse_rollout_name};
use crate::codex::rollout::{is_plain, parse_rollout_id, uuid_time_ms};
use crate::history::rollout::{ends_line_at, read_head};
use crate::history::thread_rollouts::may_continue;
use crate::restore::error::RestoreError;
use crate::storage::trash;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Checks that each rollout that stays in the home can still continue its base: the new version of the base has the
/// same text up to the cut. For a partial restore, also checks the rollouts in the trash; a full one may remove forks.
/// Does nothing for `--to`, and for a merge, which keeps the longer version.
///
/// # Errors
/// [`RestoreError::Continued`] if a base is removed or its new version lacks that text. An archived version cannot be
/// read.
pub(crate) fn check_continued_lines(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    if plan.merge || request.target != RestoreTarget::Home {
        return Ok(());
    }

    let live_path = |name: &EntryName| request.folder.join(name.as_path());
    let kept_names = live.names.without(&plan.writes).without(&plan.removed);
    let rollout_names = kept_names.iter().filter(|name| rollout_id(name).is_some());
    let mut kept_rollouts: Vec<PathBuf> = rollout_names.map(|name| live_path(&name)).collect();
    if plan.partial {
        // A trash that cannot be read does not hinder a restore.
        let trashed = trash::list_rollouts(request.manager_home, &request.folder);
        kept_rollouts.extend(trashed.unwrap_or_default());
    }
    if kept_rollouts.is_empty() {
        return Ok(());
    }

    // Codex prefers the plain file of a rollout to the compressed one. In reverse order the plain name comes last, and
    // the map keeps the last path of an id.
    let changed_names = plan.replaced_and_removed().to_sorted_names();
    let plain_last = changed_names.iter().rev();
    let live_bases = plain_last.filter_map(|name| Some((rollout_id(name)?, live_path(name))));
    let cuts = find_last_cuts(kept_rollouts, &live_bases.collect());

    let archived_bases = find_archived_bases(request, plan, &cuts);
    for (id, cut) in cuts {
        let keeps_lines = match archived_bases.get(&id) {
            Some(file) => has_same_beginning(request, &cut.base, file, cut.offset)?,
            None => false,
        };
        if !keeps_lines {
            return Err(RestoreError::Continued(cut.continued_by));
        }
    }
    Ok(())
}

/// Returns the id of a rollout; `None` for a file outside of the folders of rollouts.
fn rollout_id(name: &EntryName) -> Option<String> {
    parse_rollout_name(name.as_path())?;
    parse_rollout_id(name.as_path())
}

/// The last position in a rollout from which another one continues.
struct LastCut {
    base: PathBuf,
    offset: u64,
    continued_by: PathBuf,
}

/// Returns the last cut in each of `bases` that at least one of `rollouts` continues. The keys of both maps are the ids
/// of the bases.
fn find_last_cuts(
    rollouts: Vec<PathBuf>,
    bases: &HashMap<String, PathBuf>,
) -> BTreeMap<String, LastCut> {
    let mut cuts: BTreeMap<String, LastCut> = BTreeMap::new();
    // Unknown if the id of a base has no time.
    let oldest_base_ms = bases.keys().map(|id| uuid_time_ms(id)).min().flatten();
    for path in rollouts {
        if !may_continue(&path, oldest_base_ms) {
            continue;
        }

        // A rollout that cannot be read counts as a rollout without a base.
        let head = read_head(&path).ok().flatten();
        let base_and_cut =
            head.and_then(|head| Some((head.base_id()?.to_lowercase(), head.base_end_offset()?)));
        let Some((base_id, offset)) = base_and_cut else {
            continue;
        };

        let is_last = cuts.get(&base_id).is_none_or(|cut| cut.offset < offset);
        if let Some(base) = bases.get(&base_id)
            && is_last
            // If the base has no line end at the cut, Codex cannot open the rollout before the restore either.
            && ends_line_at(base, offset).unwrap_or(false)
        {
            let cut = LastCut {
                base: base.clone(),
                offset,
                continued_by: path,
            };
            cuts.insert(base_id, cut);
        }
    }
    cuts
}

/// Returns the archived files that replace the rollouts in `cuts`, by id. Prefers a plain file to a compressed one.
fn find_archived_bases(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    cuts: &BTreeMap<String, LastCut>,
) -> HashMap<String, FileEntry> {
    let mut bases: HashMap<String, FileEntry> = HashMap::new();
    for file in request.archive.contents().files.iter() {
        let path = file.path.as_path();
        if plan.writes.contains(path)
            && let Some(id) = rollout_id(&file.path).filter(|id| cuts.contains_key(id))
            && (is_plain(path) || !bases.contains_key(&id))
        {
            bases.insert(id, file);
        }
    }
    bases
}

/// Returns true if the texts of the rollout at `live` and of the archived `file` are equal up to `len`, or if the
/// archive cannot be read yet.
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
    // With a digest in the archive, this needs no extraction.
    if is_plain && begins_with(live, file, request.archive)? {
        return Ok(true);
    }
    let compared = compare_with_archived(live, file, request.archive)?;
    Ok(compared.is_none_or(|(_, common_len)| common_len >= len))
}
