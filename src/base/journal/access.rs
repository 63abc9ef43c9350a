//! Gives the staged state the owners, groups, access lists and attributes of what it replaces.

use super::step::Step;
use crate::io::{IoContext, IoError, atomic, owner, tree};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// Gives each new entry that `steps` put in place the access of the entry that it replaces. An entry with a new name gets
/// that of the folder in which it will be. Returns the live paths whose access the system refuses to keep.
pub(super) fn hand_over(steps: &[Step]) -> Result<Vec<PathBuf>, IoError> {
    let mut not_kept = Vec::new();
    for Step { live, staged, .. } in steps {
        hand_over_entry(live, staged, atomic::parent_of(live), &mut not_kept)?;
    }
    Ok(not_kept)
}

/// `folder` has the access of the folder in which the entry will be.
fn hand_over_entry(
    live: &Path,
    staged: &Path,
    folder: &Path,
    not_kept: &mut Vec<PathBuf>,
) -> Result<(), IoError> {
    let meta = match staged.symlink_metadata() {
        // The step removes the live entry.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        meta => meta.at("inspect", staged)?,
    };
    // A file with another link is the live one itself.
    if !meta.is_dir() && is_linked(&meta) {
        return Ok(());
    }

    if live.symlink_metadata().is_err() {
        owner::inherit_access(folder, staged);
    } else if !owner::copy_access(live, staged) {
        not_kept.push(live.to_path_buf());
    }

    if meta.is_dir() {
        for (name, _) in tree::list(staged).at("list", staged)? {
            hand_over_entry(&live.join(&name), &staged.join(&name), staged, not_kept)?;
        }
    }
    Ok(())
}

fn is_linked(meta: &Metadata) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::nlink(meta) > 1
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        true
    }
}
