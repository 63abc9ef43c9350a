//! Finds the links and mounts at the top level of a home whose contents a restore replaces.

use super::disk_probes;
use super::staged_home::{NEW_STATE, StageRoot};
use crate::archive::ArchiveManifest;
use crate::codex::{CONFIG_TOML, kind_of};
use crate::io::{IoContext, OrdinaryPath, atomic, space, user};
use crate::journal::{self, JournalError, Transaction};
use crate::restore::error::RestoreError;
use crate::restore::plan::restore_plan::RestorePlan;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the targets of top-level links out of `home`, and top-level mounts, for which the plan stages content. The
/// link or mount itself stays. Excludes logins and databases, for which the link is replaced by a file: SQLite keeps
/// the log of a database beside the target.
pub(crate) fn find_linked_roots(
    home: &Path,
    plan: &RestorePlan,
    contents: &ArchiveManifest,
) -> Result<Vec<StageRoot>, RestoreError> {
    let mut roots = Vec::new();
    let mounts = disk_probes::list_mounts(home)?;

    // A new home has no folder yet.
    let Ok(entries) = fs::read_dir(home) else {
        return Ok(roots);
    };

    for entry in entries {
        let entry = entry.at("list", home)?;
        let prefix = PathBuf::from(entry.file_name());
        let is_link = entry.file_type().at("read", entry.path())?.is_symlink();
        let is_mount = mounts.contains(&entry.path()) && entry.path().is_dir();
        let stays_link_or_mount = (is_link || is_mount) && !kind_of(&prefix).is_link_replaced();

        // A restore of the whole archive creates the folders of the archive, also those without files.
        let mut archived_folders = contents.folders.iter();
        let is_created =
            !plan.partial && archived_folders.any(|folder| folder.path.as_path() == prefix);
        let has_staged_content = is_created || plan.changes_below(&prefix);
        // A file is removed from the home: the link is removed, and its target stays.
        let is_removed = plan.removed.contains(&prefix) && !entry.path().is_dir();
        if !stays_link_or_mount || !has_staged_content || is_removed {
            continue;
        }

        let path = entry.path();
        let target = match user::real_path(&path) {
            Ok(target) => target,
            // A dangling link has no content that could be replaced. It stays as it is.
            Err(_) if !user::is_root() || !path.exists() => continue,
            // A target inside the home is exchanged with the home.
            Err(_)
                if path
                    .canonical()
                    .is_ok_and(|target| target.starts_with(home)) =>
            {
                continue;
            }
            Err(_) => return Err(RestoreError::ForeignLink(path)),
        };
        let is_inside = !is_mount && target.starts_with(home);
        // A folder is not exchanged with the settings.
        let is_other_entry = prefix == Path::new(CONFIG_TOML) && !target.is_file();
        if is_inside || is_other_entry {
            continue;
        }

        // A mount point cannot be renamed, and a rename does not cross file systems.
        let is_whole = disk_probes::list_mounts(&target)?.is_empty()
            && space::is_same_file_system(&target, atomic::parent_of(&target));
        let staging = if is_whole {
            journal::staging_folder_beside(&target)
        } else {
            journal::staging_folder_within(&target)
        };
        roots.push(StageRoot {
            prefix,
            live: target,
            staged: staging.join(NEW_STATE),
            is_whole,
        });
    }

    Ok(roots)
}

/// Adds the staging folder of `root` to the transaction, and returns the root. If the staging folder cannot be created
/// beside the live folder, creates it within the live folder, and changes the root accordingly.
pub(crate) fn add_staging_folder(
    transaction: &mut Transaction,
    mut root: StageRoot,
) -> Result<StageRoot, RestoreError> {
    match transaction.add_folder(atomic::parent_of(&root.staged)) {
        // The user may write to the target of the link, but not to the folder above it, as on a shared disk.
        Err(JournalError::Io(e)) if e.is_access_denied() && root.is_whole && root.live.is_dir() => {
            root.is_whole = false;
            root.staged = journal::staging_folder_within(&root.live).join(NEW_STATE);
            transaction.add_folder(atomic::parent_of(&root.staged))?;
        }
        added => added?,
    }

    Ok(root)
}
