//! Adapts the plan of a restore of one conversation (`--session`) to other rollouts of the home: those that the
//! conversation continues, and those that rewinds began after the archive was made.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use crate::archive::{ArchiveReader, EntryName, FileEntry, file_extract, parse_rollout_name};
use crate::codex::rollout::{self, OrderedRolloutId, Relation};
use crate::io::IoContext;
use crate::restore::error::RestoreError;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Keeps the live rollouts that the conversation continues, and removes those of its later rewinds. Does nothing for
/// `--merge`, which compares all rollouts, for `--to`, and without `--session`.
///
/// # Errors
/// A continued rollout of the archive cannot be compared with that of the home.
pub(crate) fn adapt_to_session(
    request: &RestoreRequest<'_>,
    plan: &mut RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    if plan.merge || request.target != RestoreTarget::Home {
        return Ok(());
    }
    if let Some(thread_id) = request.selection.thread_id() {
        keep_continued_rollouts(request, plan, live, &thread_id)?;
        plan_removal_of_later_rollouts(plan, live, &thread_id);
    }
    Ok(())
}

/// Takes the continued rollouts of other conversations out of the plan if the home has all of their archived content. A
/// fork continues a rollout up to a byte, so later turns in that rollout do not change the fork.
fn keep_continued_rollouts(
    request: &RestoreRequest<'_>,
    plan: &mut RestorePlan,
    live: &LiveFiles,
    thread_id: &str,
) -> Result<(), RestoreError> {
    let selected: HashSet<&String> = request.selection.rollout_names.iter().collect();
    // Collected once: a chain of forks may continue thousands of rollouts.
    let mut live_files: HashMap<String, Vec<EntryName>> = HashMap::new();
    for name in live.names.iter() {
        let rollout = parse_rollout_name(name.as_path());
        if let Some(rollout) = rollout.filter(|rollout| selected.contains(&rollout.name)) {
            live_files.entry(rollout.name).or_default().push(name);
        }
    }

    for file in request.archive.contents().files.iter() {
        let rollout = parse_rollout_name(file.path.as_path());
        let Some(rollout) = rollout.filter(|rollout| rollout.id() != Some(thread_id)) else {
            continue;
        };
        // A file that `--only` names is restored as it is in the archive.
        let mut only = request.selection.only.iter();
        let is_named_by_only = only.any(|path| file.path.as_path().starts_with(path));
        if is_named_by_only || !plan.writes.contains(file.path.as_path()) {
            continue;
        }

        let same_rollout = live_files.get(&rollout.name).into_iter().flatten();
        let mut home_has_content = false;
        for name in same_rollout.clone() {
            let path = request.folder.join(name.as_path());
            home_has_content |= begins_with(&path, &file, request.archive)?;
        }

        if home_has_content {
            plan.drop_write(&file.path);
            for name in same_rollout {
                plan.removed.remove(name.as_path());
            }
        }
    }
    Ok(())
}

/// Adds the rollouts of the conversation that are newer than the archived ones to the removals of the plan. Codex
/// continues the newest rollout of a conversation, so these would hide the restored older state.
fn plan_removal_of_later_rollouts(plan: &mut RestorePlan, live: &LiveFiles, thread_id: &str) {
    let is_of_thread = |name: &EntryName| {
        parse_rollout_name(name.as_path()).is_some_and(|file| file.id() == Some(thread_id))
    };

    let rollout_id = |name: &EntryName| OrderedRolloutId::parse_name(name.as_path());
    let archived = plan.writes.iter().filter(is_of_thread);
    let newest_archived_id = archived.filter_map(|name| rollout_id(&name)).max();

    let unrestored = live.names.without(&plan.writes);
    let is_later = |name: &EntryName| is_of_thread(name) && rollout_id(name) > newest_archived_id;
    plan.removed.extend(unrestored.iter().filter(is_later));
}

/// Returns true if the plain text of the rollout at `path` begins with that of the archived `file`. Returns false if
/// the rollout cannot be read.
pub(super) fn begins_with(
    path: &Path,
    file: &FileEntry,
    archive: &ArchiveReader,
) -> Result<bool, RestoreError> {
    if let Some(digest) = file.digest
        && rollout::is_plain(file.path.as_path())
    {
        let text = rollout::open_plain(path);
        let hashed = text.and_then(|text| digest.hasher().hash(&mut text.take(file.size)));
        return Ok(hashed.is_ok_and(|hashed| hashed == (digest, file.size)));
    }

    // The digest of a compressed rollout is not that of its text.
    let compared = compare_with_archived(path, file, archive)?;
    Ok(compared
        .is_some_and(|(relation, _)| matches!(relation, Relation::Equal | Relation::FirstExtends)))
}

/// Compares the plain text of the rollout at `path` with that of the archived `file`. Also returns the length of their
/// common beginning in bytes; see [`rollout::compare_texts`]. Returns `None` if the rollout cannot be read, or if there
/// is no archive yet, as in the plan of a snapshot in the vault.
pub(super) fn compare_with_archived(
    path: &Path,
    file: &FileEntry,
    archive: &ArchiveReader,
) -> Result<Option<(Relation, u64)>, RestoreError> {
    if !archive.path().is_file() {
        return Ok(None);
    }

    let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
    let archived = folder.path().join("rollout");
    let output = File::create_new(&archived).at("create", &archived)?;
    file_extract::extract_entry(archive, file, &output)?;
    Ok(rollout::compare_texts(path, &archived).ok())
}
