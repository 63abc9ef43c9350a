//! Selects the files to plan, and plans each by the rules of its kind.

use super::error::PlanError;
use super::inputs::Inputs;
use super::scan::file_group::{FileGroup, display_path};
use super::steps::conversation;
use super::steps::file_plan::{FileOutcome, FilePlan};
use super::steps::lines;
use super::steps::plain;
use crate::io::IoError;
use crate::sync::config::SessionMode;
use crate::sync::line_merge;
use crate::sync::manager_folder;
use crate::sync::notice::NoticeList;
use crate::sync::read_failure;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};
use std::collections::HashMap;
use std::path::Path;

/// Returns the groups to plan: those inside the roots, and the conversations that they continue.
pub(super) fn groups_to_plan(
    inputs: &Inputs<'_>,
    groups: HashMap<String, FileGroup>,
) -> Vec<(String, FileGroup)> {
    let all_days = inputs.config.scope.session_mode == SessionMode::All;
    // A companion is a conversation outside of the roots or of another day; see `ListedFile::companion`. If all days
    // are synced, one that was synced before stays synced.
    let (mut planned, outside): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(key, group)| {
        group.files().any(|found| !found.companion)
            || (all_days && inputs.state.files.contains_key(key))
    });
    if outside.is_empty() {
        return planned;
    }
    // A conversation cannot be resumed without those that it continues, so these are synced too, recursively, even if
    // they are companions.
    let with_id = outside.into_iter();
    let with_id =
        with_id.filter_map(|(key, group)| Some((rollouts::rollout_id(&key)?, (key, group))));
    let mut by_id: HashMap<String, _> = with_id.collect();
    let mut next = 0;
    while let Some((key, group)) = planned.get(next) {
        let parents = parents(inputs, key, group);
        planned.extend(parents.iter().filter_map(|id| by_id.remove(id)));
        next += 1;
    }
    planned
}

/// Returns the ids of the rollouts that a changed one continues.
fn parents(inputs: &Inputs<'_>, key: &str, group: &FileGroup) -> Vec<String> {
    let last = inputs.state.files.get(key);
    let is_unchanged = last.is_some_and(|last| group.matches_last_sync(last));
    if is_unchanged || group.is_blocked || group.has_placeholder || !rollouts::is_key(key) {
        return Vec::new();
    }
    let sides = [(Side::Local, &group.local), (Side::Remote, &group.remote)];
    let paths = sides.into_iter().flat_map(|(side, files)| {
        let root = inputs.config.root(side);
        files.iter().map(move |found| root.join(&found.path))
    });
    paths.filter_map(|path| rollouts::parent(&path)).collect()
}

/// Plans one file, and skips it if it cannot be read. Errors of files that all decisions depend on, such as manifests,
/// end the plan.
pub(super) fn plan_file(
    inputs: &Inputs<'_>,
    key: &str,
    group: &FileGroup,
) -> Result<FilePlan, PlanError> {
    match plan_group(inputs, key, group) {
        Err(PlanError::Io(error)) => match unreadable_file(inputs, group, &error) {
            Some(path) => {
                let why = read_failure::reason(&error.source);
                Ok(NoticeList::Skipped.notice(path, why).into())
            }
            // Without the manifests no decision is reliable.
            None => Err(error.into()),
        },
        planned => planned,
    }
}

/// Returns the path of the synced file that cannot be read, relative to its side; `None` for other files.
fn unreadable_file(inputs: &Inputs<'_>, group: &FileGroup, error: &IoError) -> Option<String> {
    let roots = [Side::Local, Side::Remote].map(|side| inputs.config.root(side));
    let of_side = roots
        .iter()
        .find_map(|root| error.path.strip_prefix(root).ok());
    // The user may have linked a top-level folder to a place outside of the home: then the error names the target.
    let is_link_target =
        |found: &&ListedFile| inputs.config.file_path(Side::Local, &found.path) == error.path;
    let linked = || group.local.iter().find(is_link_target);
    let of_side = of_side.or_else(|| linked().map(|found| Path::new(&found.path)))?;
    let manager_folder = inputs.config.cloud.join(manager_folder::MANAGER_FOLDER);
    let is_synced = !error.path.starts_with(manager_folder);
    is_synced.then(|| of_side.to_string_lossy().replace('\\', "/"))
}

fn plan_group(inputs: &Inputs<'_>, key: &str, group: &FileGroup) -> Result<FilePlan, PlanError> {
    let last = inputs.state.files.get(key);
    let is_line_file = line_merge::is_mergeable(key);
    // Merges on two machines can have equal size and time but different lines, so line-based files are always read.
    if last.is_some_and(|last| group.matches_last_sync(last)) && !is_line_file {
        return Ok(FileOutcome::Equal(None).into());
    }
    if group.is_blocked {
        return Ok(FilePlan::default());
    }
    if group.has_placeholder {
        let why = "is not downloaded to this machine";
        return Ok(NoticeList::Waiting
            .notice(display_path(key, group), why)
            .into());
    }
    if rollouts::is_key(key) {
        conversation::plan_conversation(inputs, key, group)
    } else if is_line_file {
        lines::plan_line_file(inputs, key, group)
    } else {
        plain::plan_plain_file(inputs, key, group)
    }
}
