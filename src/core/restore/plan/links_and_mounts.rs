//! Files at the top level of a home that are links or mount points.

use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use super::unchanged_files::has_archived_content;
use crate::archive::EntryName;
use crate::codex::home::database_sidecars;
use crate::io::replacement::is_mount_point;
use crate::io::{OrdinaryPath, Silent, tree};
use crate::restore::error::RestoreError;
use std::path::Path;

/// Takes the top-level files that are links or mount points out of `plan` if they have the archived content, so that
/// they stay as they are.
///
/// # Errors
/// The plan changes a mounted file, which no rename can replace, or the home cannot be listed.
pub(super) fn keep_equal_links_and_mounts(
    request: &RestoreRequest<'_>,
    plan: &mut RestorePlan,
) -> Result<(), RestoreError> {
    if request.target != RestoreTarget::Home {
        return Ok(());
    }
    let home = request.folder.canonical_or_self();
    for (name, kind) in tree::list_if_exists(&home)? {
        let (path, relative) = (home.join(&name), Path::new(&name));
        let is_changed = plan.writes.contains(relative) || plan.removed.contains(relative);
        let Some(target) = path.canonical().ok().filter(|target| target.is_file()) else {
            continue;
        };
        let is_mounted = is_mount_point(&target);
        if !is_changed || !(kind.is_symlink() || is_mounted) {
            continue;
        }

        match EntryName::from_path(relative) {
            Ok(name) if plan.writes.contains(relative) && is_equal(request, relative, &target) => {
                plan.drop_write(&name);
            }
            _ if is_mounted => return Err(RestoreError::MountedFile(path)),
            _ => {}
        }
    }
    Ok(())
}

/// Returns true if the live file `target` has the content that the archive has of `relative`.
fn is_equal(request: &RestoreRequest<'_>, relative: &Path, target: &Path) -> bool {
    let len = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
    // A log beside a database has changes that the database does not have yet.
    let has_log = database_sidecars(target).iter().any(|log| len(log) > 0);
    let mut files = request.archive.contents().files.iter();
    let archived = files.find(|file| file.path.as_path() == relative);
    archived.is_some_and(|file| {
        !has_log && file.size == len(target) && has_archived_content(target, &file, &Silent)
    })
}
