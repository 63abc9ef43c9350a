//! Keeps the live rollouts that the conversation of `--session` continues and that belong to other conversations. A fork
//! continues a rollout up to a byte, so later turns in that rollout do not change it.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use crate::archive::{EntryName, FileEntry, parse_rollout_name};
use crate::codex::rollout;
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
        let is_in_home = live_files
            .iter()
            .any(|name| begins_with(&request.folder.join(name.as_path()), &file));
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

/// Returns true if the plain text of the rollout at `path` begins with the archived content of `file`. Returns false if
/// it cannot be read, and for a compressed `file`.
fn begins_with(path: &Path, file: &FileEntry) -> bool {
    file.digest.is_some_and(|digest| {
        let text = rollout::open_plain(path);
        let hashed = text.and_then(|text| digest.hasher().hash(&mut text.take(file.size)));
        hashed.is_ok_and(|hashed| hashed == (digest, file.size))
    })
}
