//! Stages unchanged live files as hard links.

use crate::archive::copy_attributes;
use crate::codex::{HomeEntryKind, home, kind_of};
use crate::io::{IoContext, IoError, atomic, file_id, links, tree};
use crate::journal::{self, KeptAs};
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::stage::staged_home::StageRoot;
use std::io;
use std::path::Path;

/// Stages hard links to the live files that the plan does not change.
pub(crate) struct HardLinker<'a> {
    pub(crate) plan: &'a RestorePlan,
}

impl HardLinker<'_> {
    /// Links the unchanged files of `root`. Does nothing if the root is a file or does not exist.
    pub(crate) fn link_root(&self, root: &StageRoot) -> Result<(), IoError> {
        match root.live.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(meta) if !meta.is_dir() => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(e).at("read", &root.live),
        }

        atomic::create_unsynced_folder(&root.staged)?;
        self.link_folder_contents(&root.live, &root.prefix, &root.staged)?;
        if root.staged.is_dir() {
            copy_attributes(&root.live, &root.staged)?;
        }
        Ok(())
    }

    /// Links the unchanged files at `path` and below it. `path` is relative to `root`.
    pub(crate) fn link_path_in_root(&self, root: &StageRoot, path: &Path) -> Result<(), IoError> {
        let relative = root.prefix.join(path);
        self.link_entry(&root.live.join(path), &relative, &root.staged.join(path))
    }

    /// Returns true for a live entry that is never linked: the plan removes it, it is a staging folder or a leftover of
    /// a restore, or it is auth.json, which `login` stages.
    fn is_never_linked(&self, relative: &Path) -> bool {
        // A staging folder is in the home, or in the target of a top-level link.
        let is_staging_folder =
            journal::is_staging_folder_within(relative) && relative.components().count() <= 2;
        self.plan.removed.contains(relative)
            || is_staging_folder
            || relative == Path::new(home::AUTH_JSON)
            || (kind_of(relative) == HomeEntryKind::Transient
                && journal::parse_kept_name(relative) == Some(KeptAs::Leftover))
    }

    /// Returns true if the plan replaces the live file `relative`, or if the file is never linked.
    pub(crate) fn stays_unlinked(&self, relative: &Path) -> bool {
        self.is_never_linked(relative) || self.plan.writes.contains(relative)
    }

    /// Checks that an exchange of `live` discards only files that the plan replaces or removes, because the safety
    /// backup does not have other files.
    ///
    /// # Errors
    /// The exchange would discard another file, or `live` cannot be read.
    pub(crate) fn check_no_loss(&self, live: &Path, relative: &Path) -> Result<(), IoError> {
        let Some((_, meta)) = file_id::stat(live)? else {
            return Ok(());
        };

        if meta.is_dir() && !self.is_never_linked(relative) {
            for (name, _) in tree::list(live).at("list", live)? {
                self.check_no_loss(&live.join(&name), &relative.join(&name))?;
            }
            return Ok(());
        }

        if self.stays_unlinked(relative) {
            return Ok(());
        }

        let why = "the archive has another entry at this path, and the safety backup does not have the live one";
        Err(io::Error::new(io::ErrorKind::AlreadyExists, why)).at("keep", live)
    }

    fn link_folder_contents(
        &self,
        live: &Path,
        relative: &Path,
        staged: &Path,
    ) -> Result<(), IoError> {
        // Lists the whole folder first: one open descriptor per level would be too many for a deep path.
        for (name, _) in tree::list(live).at("list", live)? {
            let (live, staged) = (live.join(&name), staged.join(&name));
            self.link_entry(&live, &relative.join(&name), &staged)?;
        }
        Ok(())
    }

    fn link_entry(&self, live: &Path, relative: &Path, staged: &Path) -> Result<(), IoError> {
        if self.is_never_linked(relative) {
            return Ok(());
        }

        // An error ends the restore: an entry that is not linked would be removed with the old home.
        let Some((_, live_meta)) = file_id::stat(live)? else {
            return Ok(());
        };

        // If the archive has an entry at this path, it is staged already. Of two folders, the contents are merged.
        if let Ok(staged_meta) = staged.symlink_metadata()
            && !(staged_meta.is_dir() && live_meta.is_dir())
        {
            return self.check_no_loss(live, relative);
        }

        if !live_meta.is_dir() {
            atomic::create_unsynced_folder(atomic::parent_of(staged))?;
            // A link takes no space. A process that has the file open goes on with the same file after the exchange.
            return links::link_or_copy_entry(live, &live_meta, staged);
        }

        let may_drop_if_empty = match kind_of(relative) {
            HomeEntryKind::Unknown
            | HomeEntryKind::Transient
            | HomeEntryKind::Tmp
            | HomeEntryKind::Worktrees => false,
            // A restore of the whole archive creates its empty folders, and drops others of the kinds that it covers.
            _ => !self.plan.partial && !self.plan.merge,
        };
        if !may_drop_if_empty {
            atomic::create_unsynced_folder(staged)?;
        }

        self.link_folder_contents(live, relative, staged)?;
        // The staged folder is missing if it was left out because it is empty.
        if staged.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            copy_attributes(live, staged)?;
        }

        Ok(())
    }
}
