//! The folder that a restore replaces: its files, the processes that use it, and the plan for it.

use super::live_files::{self, LiveFiles};
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::{RestorePlan, plan_restore};
use super::{account, continued_lines, links_and_mounts, session_rollouts, writable_folders};
use crate::codex::{Holder, process};
use crate::io::tree;
use crate::restore::error::RestoreError;

/// Lists the files of the target and computes the plan.
///
/// # Errors
/// The target cannot be listed, a mounted file or an entry of a folder without write permission would be replaced, a
/// rollout would lose lines that another one
/// continues, or the request does not allow the account of the archive.
pub(crate) fn plan_with_live_files(
    request: &RestoreRequest<'_>,
) -> Result<(RestorePlan, LiveFiles), RestoreError> {
    let live = list_live_files(request)?;
    let mut plan = plan_restore(request, &live)?;
    refuse_unreadable(request, &plan, &live)?;
    session_rollouts::adapt_to_session(request, &mut plan, &live)?;
    links_and_mounts::keep_equal_links_and_mounts(request, &mut plan)?;
    continued_lines::check_continued_lines(request, &plan, &live)?;
    account::check_account(request, &plan)?;
    writable_folders::check_writable(request, &plan, &live)?;
    Ok((plan, live))
}

/// Fails if the plan changes anything in a folder that cannot be listed. The plan knows nothing of its content.
fn refuse_unreadable(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    let mut unreadable = live.unreadable.iter();
    match unreadable.find(|folder| plan.changes_below(folder)) {
        Some(folder) => Err(RestoreError::UnreadableFolder(request.folder.join(folder))),
        None => Ok(()),
    }
}

/// Returns the processes that use the target home; none for `--to`.
pub fn find_holders(request: &RestoreRequest<'_>) -> Vec<Holder> {
    match request.target {
        RestoreTarget::Home if request.folder.exists() => {
            let outside_folders = process::find_outside_folders(&request.folder, request.env);
            process::find_holders(&request.folder, &outside_folders)
        }
        _ => Vec::new(),
    }
}

fn list_live_files(request: &RestoreRequest<'_>) -> Result<LiveFiles, RestoreError> {
    let name_table = request.archive.contents().files.name_table();
    // Replacing the link itself would create a home on the wrong disk.
    if request.folder.is_symlink() && !request.folder.exists() {
        return Err(RestoreError::DanglingTarget(request.folder.clone()));
    }

    match request.target {
        RestoreTarget::Home => Ok(live_files::list_files(&request.folder, name_table)?),
        RestoreTarget::Elsewhere => {
            if !tree::list_if_exists(&request.folder)?.is_empty() {
                return Err(RestoreError::NotEmpty(request.folder.clone()));
            }
            Ok(LiveFiles::empty(name_table))
        }
    }
}
