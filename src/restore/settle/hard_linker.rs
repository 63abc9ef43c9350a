//! Hard-links unchanged live files into the stage.

use crate::archive::copy_attributes;
use crate::codex::{HomeEntryKind, home, kind_of};
use crate::io::{IoContext, IoError, atomic, links, tree};
use crate::journal::{self, KeptAs};
use crate::restore::{RestorePlan, Stage, StageRoot};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Links live files that a plan leaves as they are.
pub(crate) struct HardLinker<'a> {
    plan: &'a RestorePlan,
    /// Staging folders in the home, which are skipped.
    staging_folders: BTreeSet<PathBuf>,
    /// Leaves out folders of kinds that the archive covers if nothing remains in them.
    drop_empty_folders: bool,
}

impl<'a> HardLinker<'a> {
    pub(crate) fn new(plan: &'a RestorePlan, stage: &Stage) -> Self {
        Self {
            plan,
            staging_folders: stage.staging_folders(),
            drop_empty_folders: !plan.partial && !plan.merge,
        }
    }

    /// Links the unchanged files of `root`. Does nothing for a root that is a file.
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

    /// Returns true for a `-wal`, `-shm` or `-journal` of a database that is replaced or removed.
    /// It would not fit the new database; SQLite may have created it after the plan was made.
    fn is_stale_sidecar(&self, relative: &Path) -> bool {
        kind_of(relative) == HomeEntryKind::DatabaseSidecar
            && relative.to_str().is_some_and(|text| {
                home::SIDECAR_SUFFIXES
                    .iter()
                    .filter_map(|s| text.strip_suffix(s))
                    .any(|base| {
                        let base = Path::new(base);
                        self.plan.removed.contains(base) || self.plan.writes.contains(base)
                    })
            })
    }

    /// Links the unchanged files at `path`, relative to `root`, and below it.
    pub(crate) fn link_path_in_root(&self, root: &StageRoot, path: &Path) -> Result<(), IoError> {
        let relative = root.prefix.join(path);
        self.link_entry(&root.live.join(path), &relative, &root.staged.join(path))
    }

    /// Returns true if the live entry `relative` is not linked, whatever is staged: the plan removes it, it does not
    /// fit the new state, it is a folder of a restore, or it is the login, which `login` stages.
    fn is_dropped(&self, relative: &Path) -> bool {
        self.plan.removed.contains(relative)
            || self.is_stale_sidecar(relative)
            || self.staging_folders.contains(relative)
            || relative == Path::new(home::AUTH_JSON)
            || (kind_of(relative) == HomeEntryKind::Transient
                && journal::parse_kept_name(relative) == Some(KeptAs::Leftover))
    }

    /// Returns true if the plan replaces the live file `relative`, or it is not linked in any case.
    pub(crate) fn is_replaced_or_dropped(&self, relative: &Path) -> bool {
        self.is_dropped(relative) || self.plan.writes.contains(relative)
    }

    /// Checks that swapping `live` discards no file that the plan neither replaces nor removes: the safety backup does
    /// not have such files.
    ///
    /// # Errors
    /// The swap would discard a file, or `live` cannot be read.
    pub(crate) fn check_no_loss(&self, live: &Path, relative: &Path) -> Result<(), IoError> {
        let meta = match live.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("read", live)?,
        };
        if self.is_dropped(relative) || (!meta.is_dir() && self.is_replaced_or_dropped(relative)) {
            return Ok(());
        }
        if meta.is_dir() {
            return tree::list(live)
                .at("list", live)?
                .into_iter()
                .try_for_each(|(name, _)| {
                    self.check_no_loss(&live.join(&name), &relative.join(&name))
                });
        }
        let why =
            "the archive has something else at this path, and the safety backup does not have it";
        Err(io::Error::new(io::ErrorKind::AlreadyExists, why)).at("keep", live)
    }

    fn link_folder_contents(
        &self,
        live: &Path,
        relative: &Path,
        staged: &Path,
    ) -> Result<(), IoError> {
        // Lists the whole folder first: one open descriptor per level would be too many for a deep
        // path.
        for (name, _) in tree::list(live).at("list", live)? {
            self.link_entry(
                &live.join(&name),
                &relative.join(&name),
                &staged.join(&name),
            )?;
        }
        Ok(())
    }

    fn link_entry(&self, live: &Path, relative: &Path, staged: &Path) -> Result<(), IoError> {
        if self.is_dropped(relative) {
            return Ok(());
        }
        let meta = match live.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // An unreadable entry cannot be linked, and would be removed with the old home.
            other => other.at("read", live)?,
        };
        let staged_meta = staged.symlink_metadata();
        // The archive's file is staged already. Two folders are merged instead.
        if staged_meta.is_ok_and(|staged| !(staged.is_dir() && meta.is_dir())) {
            return self.check_no_loss(live, relative);
        }
        if !meta.is_dir() {
            atomic::create_unsynced_folder(atomic::parent_of(staged))?;
            // A link takes no space and keeps a file that another process has open the same file in both
            // states.
            return links::link_or_copy_entry(live, &meta, staged);
        }
        let is_captured = self.drop_empty_folders
            && !matches!(
                kind_of(relative),
                HomeEntryKind::Unknown
                    | HomeEntryKind::Transient
                    | HomeEntryKind::Tmp
                    | HomeEntryKind::Worktrees
            );
        if !is_captured {
            atomic::create_unsynced_folder(staged)?;
        }
        self.link_folder_contents(live, relative, staged)?;
        // A folder that the archive lacks is gone if nothing was linked into it.
        if staged.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            copy_attributes(live, staged)?;
        }
        Ok(())
    }
}
