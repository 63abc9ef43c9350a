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
) {
    let Some(thread_id) = request.selection.thread_id() else {
        return;
    };
    if plan.merge || request.target == RestoreTarget::Elsewhere {
        return;
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
        let has_content = |name: &EntryName| {
            let path = request.folder.join(name.as_path());
            begins_with(&path, &file, request.archive).unwrap_or(false)
        };
        let is_in_home = live_files.iter().any(has_content);
        if is_in_home {
            plan.writes.remove(file.path.as_path());
            plan.added.remove(file.path.as_path());
            plan.bytes = plan.bytes.saturating_sub(file.size);
            for name in live_files {
                plan.removed.remove(name.as_path());
            }
        }
    }
}

/// Returns true if the plain text of the rollout at `path` begins with that of the archived `file`.
fn begins_with(
    path: &Path,
    file: &FileEntry,
    archive: &ArchiveReader,
) -> Result<bool, RestoreError> {
    if let (Some(digest), true) = (file.digest, rollout::is_plain(file.path.as_path())) {
        let text = rollout::open_plain(path).at("read", path)?;
        let hashed = digest.hasher().hash(&mut text.take(file.size));
        return Ok(hashed.at("read", path)? == (digest, file.size));
    }

    // The digest of a compressed rollout is not that of its text.
    let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
    let archived = folder.path().join("rollout.jsonl.zst");
    let created = File::create_new(&archived).at("create", &archived)?;
    file_extract::extract_entry(archive, file, &created)?;
    let relation = rollout::compare(path, &archived).at("compare", path)?;
    Ok(matches!(relation, Relation::Equal | Relation::FirstExtends))
}
