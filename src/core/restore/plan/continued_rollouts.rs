//! Keeps the live rollouts that the conversation of `--session` continues and that belong to other conversations. A fork
//! continues a rollout up to a byte, so later turns in that rollout do not change it.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use crate::archive::{ArchiveReader, EntryName, FileEntry, file_extract, parse_rollout_name};
use crate::codex::rollout::{self, Relation};
use crate::io::IoContext;
use crate::restore::RestoreError;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Takes the continued rollouts of other conversations out of the plan if the home has all of their archived content.
/// Does nothing for `--merge`, which compares all rollouts, and for `--to`.
pub(crate) fn keep_continued_rollouts(
    request: &RestoreRequest<'_>,
    plan: &mut RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    let Some(thread_id) = request.selection.thread_id() else {
        return Ok(());
    };
    if plan.merge || request.target == RestoreTarget::Elsewhere {
        return Ok(());
    }

    for file in request.archive.contents().files.iter() {
        let rollout = parse_rollout_name(file.path.as_path());
        let Some(rollout) = rollout.filter(|rollout| rollout.id() != Some(&thread_id)) else {
            continue;
        };
        let mut only = request.selection.only.iter();
        let is_named_by_only = only.any(|path| file.path.as_path().starts_with(path));
        if is_named_by_only || !plan.writes.contains(file.path.as_path()) {
            continue;
        }

        let is_same_rollout = |name: &EntryName| {
            parse_rollout_name(name.as_path()).is_some_and(|other| other.name == rollout.name)
        };
        let live_files: Vec<_> = live.names.iter().filter(is_same_rollout).collect();
        let mut is_in_home = false;
        for name in &live_files {
            let path = request.folder.join(name.as_path());
            is_in_home |= begins_with(&path, &file, request.archive)?;
        }
        if is_in_home {
            plan.writes.remove(file.path.as_path());
            plan.added.remove(file.path.as_path());
            plan.bytes = plan.bytes.saturating_sub(file.size);
            for name in live_files {
                plan.removed.remove(name.as_path());
            }
        }
    }
    Ok(())
}

/// Returns true if the plain text of the rollout at `path` begins with that of the archived `file`. Returns false if the
/// rollout cannot be read.
fn begins_with(
    path: &Path,
    file: &FileEntry,
    archive: &ArchiveReader,
) -> Result<bool, RestoreError> {
    if let (Some(digest), true) = (file.digest, rollout::is_plain(file.path.as_path())) {
        let text = rollout::open_plain(path);
        let hashed = text.and_then(|text| digest.hasher().hash(&mut text.take(file.size)));
        return Ok(hashed.is_ok_and(|hashed| hashed == (digest, file.size)));
    }

    // The plan of a snapshot in the vault has no archive yet.
    if !archive.path().is_file() {
        return Ok(false);
    }

    // The digest of a compressed rollout is not that of its text.
    let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
    let archived = folder.path().join("rollout.jsonl.zst");
    let created = File::create_new(&archived).at("create", &archived)?;
    file_extract::extract_entry(archive, file, &created)?;
    let relation = rollout::compare(path, &archived);
    Ok(relation.is_ok_and(|it| matches!(it, Relation::Equal | Relation::FirstExtends)))
}
