//! Guards against mass changes: a cloud folder that lacks most of its files is probably not mounted, and many
//! deletions at once are probably a lost folder. Files that the configuration no longer includes are neither.

use crate::io::IoError;
use crate::io::quantity::pluralize;
use crate::sync::config::DeletePolicy;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::deletions::pending_deletions;
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::FileGroup;
use crate::sync::plan::sync_step::{SyncAction, SyncStep};
use crate::sync::scan::{Side, Stat};
use crate::sync::scope::{Scope, ScopeMatch};
use crate::sync::state::{Deletion, SyncedFile};
use std::collections::{BTreeMap, HashMap};

/// Lower bound of the number of deletions that need no consent, unless that is more than half of all files.
const MIN_DELETION_LIMIT: usize = 5;
/// Upper bound of the number of deletions that need no consent.
const MAX_DELETION_LIMIT: usize = 20;
/// Number of missing files that never count as an unmounted folder while this machine's manifest exists.
const ALLOWED_MISSING: usize = 20;

/// Files of the last sync that a side no longer has, or that the configuration no longer includes.
#[derive(Debug, Default)]
pub(crate) struct MissingFiles {
    /// Keys of the state whose files are forgotten.
    pub(crate) forgotten: Vec<String>,
    /// Deletions to publish of files that neither side has any more: digest of the deleted text in hex, by key.
    pub(crate) lost_deletions: BTreeMap<String, String>,
    /// Number of files that the configuration no longer includes and that both sides have.
    pub(crate) out_of_scope: usize,
}

impl MissingFiles {
    /// Returns the note about files that the configuration no longer includes.
    pub(crate) fn out_of_scope_note(&self) -> Option<Notice> {
        let files = match self.out_of_scope {
            0 => return None,
            1 => "1 file is".to_owned(),
            n => format!("{n} files are"),
        };
        let why = format!("{files} no longer synced; both sides stay as they are");
        Some(NoticeList::Note.notice("include_roots, exclude_globs", why))
    }
}

/// Fails if the cloud folder lacks more than a quarter of the known files and more than [`ALLOWED_MISSING`], or any
/// known file together with this machine's manifest: it is probably not mounted or not downloaded. Files that a
/// machine deleted or that the configuration no longer includes are not missing. Files that neither side has any
/// more are forgotten.
pub(crate) fn refuse_unmounted(
    inputs: &Inputs<'_>,
    groups: &HashMap<String, FileGroup>,
) -> Result<MissingFiles, PlanError> {
    let mut files = MissingFiles::default();
    let mut missing = 0;
    let mut lost = Vec::new();
    let state = inputs.state;
    for (key, last) in &state.files {
        match groups.get(key) {
            Some(group)
                if !group.remote.is_empty() || group.has_placeholder || group.is_blocked => {}
            // Deleted by a machine whose manifest is in the folder, so the folder is mounted.
            Some(_) if pending_deletions(inputs, key).next().is_some() => {}
            Some(_) if state.deleted.contains_key(key) => {}
            Some(_) => missing += 1,
            None if is_out_of_scope(last, inputs.scope) => {
                // Its state is kept, in case it is included again. If a side lost the file meanwhile, the state is
                // forgotten, so that the loss never counts as a deletion.
                if both_sides_have(inputs, last)? {
                    files.out_of_scope += 1;
                } else {
                    files.forgotten.push(key.clone());
                }
            }
            // Both sides lack the file, and its deletion is published: two users deleted it, or a killed run did.
            None if state.deleted.contains_key(key)
                || pending_deletions(inputs, key).next().is_some() =>
            {
                files.forgotten.push(key.clone());
            }
            None => {
                missing += 1;
                files.forgotten.push(key.clone());
                lost.push((key, last));
            }
        }
    }
    if inputs.request.refill {
        return Ok(files);
    }
    let known = known_count(inputs, files.out_of_scope);
    let many = missing > (known / 4).max(ALLOWED_MISSING);
    let lacks_own_manifest = || !inputs.is_renamed && !inputs.own_manifest().exists();
    if missing > 0 && (many || lacks_own_manifest()) {
        return Err(PlanError::MostFilesMissing {
            missing,
            known,
            cloud: inputs.config.cloud.clone(),
        });
    }
    files.lost_deletions = lost_deletions(inputs, files.out_of_scope, lost);
    Ok(files)
}

/// Returns the deletions to publish of files that neither side has any more and that no machine reports as deleted;
/// otherwise a machine that still has them would restore them. None if these are many, or if the state
/// may be out of date (it has gaps, or this machine was renamed as a clone): another machine may have re-created
/// them.
fn lost_deletions(
    inputs: &Inputs<'_>,
    out_of_scope: usize,
    lost: Vec<(&String, &SyncedFile)>,
) -> BTreeMap<String, String> {
    let propagates = inputs.rules.delete == DeletePolicy::Propagate;
    let is_state_current = !inputs.is_renamed && !inputs.state.has_gaps;
    let is_many = lost.len() > deletion_limit(inputs, out_of_scope) && !inputs.request.delete_many;
    if !propagates || !is_state_current || is_many {
        return BTreeMap::new();
    }
    let mut deletions = BTreeMap::new();
    for (key, last) in lost {
        let Some((_, digest)) = last.contents else {
            continue;
        };
        let digest = digest.to_string();
        let is_same = |deletion: &Deletion| deletion.digest == digest;
        let is_published = pending_deletions(inputs, key).any(is_same);
        if !is_published {
            deletions.insert(key.clone(), digest);
        }
    }
    deletions
}

/// Returns the number of deletions that are copied without `--delete-many`: a tenth of the known files, at least
/// [`MIN_DELETION_LIMIT`] or half of them, whichever is less, at least 1, and at most [`MAX_DELETION_LIMIT`].
fn deletion_limit(inputs: &Inputs<'_>, out_of_scope: usize) -> usize {
    let known = known_count(inputs, out_of_scope);
    let floor = MIN_DELETION_LIMIT.min(known / 2).max(1);
    (known / 10).clamp(floor, MAX_DELETION_LIMIT)
}

/// Returns the number of files of the last sync that the configuration still includes.
fn known_count(inputs: &Inputs<'_>, out_of_scope: usize) -> usize {
    inputs.state.files.len().saturating_sub(out_of_scope)
}

/// Returns true if both sides have the file.
fn both_sides_have(inputs: &Inputs<'_>, last: &SyncedFile) -> Result<bool, IoError> {
    let local = Stat::at(&inputs.config.file_path(Side::Local, &last.local.path))?;
    let remote = Stat::at(&inputs.config.file_path(Side::Remote, &last.remote.path))?;
    Ok(local.is_some() && remote.is_some())
}

/// Holds back all deletions if there are more than [`deletion_limit`], until the user confirms them with
/// `--delete-many`: the user more likely lost a folder. Returns the other steps, and a notice for each held deletion.
pub(crate) fn hold_mass_deletions(
    inputs: &Inputs<'_>,
    out_of_scope: usize,
    steps: Vec<SyncStep>,
) -> (Vec<SyncStep>, Vec<Notice>) {
    // A published deletion belongs to a killed run, and the user confirmed it then.
    let is_under_way = |step: &SyncStep| inputs.state.deleted.contains_key(&step.key);
    let is_deletion = |step: &SyncStep| match step.action {
        SyncAction::DeleteLocal => true,
        SyncAction::DeleteCloud => !is_under_way(step),
        _ => false,
    };
    let count = steps.iter().filter(|step| is_deletion(step)).count();
    let limit = deletion_limit(inputs, out_of_scope);
    if inputs.request.delete_many || count <= limit {
        return (steps, Vec::new());
    }
    let (held, steps): (Vec<SyncStep>, _) = steps.into_iter().partition(is_deletion);
    let held = held.into_iter().map(|step| {
        let side = match step.action {
            SyncAction::DeleteCloud => "on this machine",
            _ => "on another machine",
        };
        let why = format!(
            "deleted {side}, but not on the other side: {} at once (at most {limit})",
            pluralize(count, "deletion")
        );
        NoticeList::Skipped.notice(step.path, why)
    });
    let held = held.collect();
    (steps, held)
}

/// Returns true if the configuration no longer includes the file on either side.
fn is_out_of_scope(last: &SyncedFile, scope: &Scope) -> bool {
    [&last.local, &last.remote]
        .into_iter()
        .all(|place| scope.classify(&place.path) == ScopeMatch::Excluded)
}
