//! The new state of a home while it is staged: its roots, paths, links and folders.

use crate::archive::format::OWNER_ACCESS_MODE;
use crate::archive::manifest::is_database_path;
use crate::archive::{
    ArchiveManifest, EXTERNAL_DATABASES_FOLDER, EntryName, NameSet, set_attributes,
};
use crate::codex::{CONFIG_TOML, CodexConfig, HomeEntryKind, kind_of};
use crate::io::{IoError, SecretBytes, atomic, links};
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::rollout_index::RolloutIndex;
use std::path::{Path, PathBuf};

/// The name of the new state of a root in its staging folder.
pub(crate) const NEW_STATE: &str = "new";

/// A live folder or file with a staging folder of its own: the home, or the target of a top-level link or mount in it.
#[derive(Debug, Clone)]
pub(crate) struct StageRoot {
    /// The path in the home; empty for the home itself.
    pub(crate) prefix: PathBuf,
    /// The absolute path of the live folder or file.
    pub(crate) live: PathBuf,
    /// The path at which the new state is staged.
    pub(crate) staged: PathBuf,
    /// True if the root is exchanged in one system call, false if its entries are exchanged one by one, for example
    /// because the root is a mount point or its parent is not writable. Ignored if the workspace `exchanges_files`.
    pub(crate) is_whole: bool,
}

impl StageRoot {
    /// Returns the absolute path of the live file at `relative`, a path in the home.
    pub(crate) fn live_path(&self, relative: &Path) -> PathBuf {
        self.rebase(&self.live, relative)
    }

    fn rebase(&self, base: &Path, relative: &Path) -> PathBuf {
        match relative.strip_prefix(&self.prefix) {
            // A join with an empty path would append a slash.
            Ok(below_prefix) if below_prefix.as_os_str().is_empty() => base.to_path_buf(),
            Ok(below_prefix) => base.join(below_prefix),
            Err(_) => base.join(relative),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ArchivedLogin {
    pub(crate) bytes: SecretBytes,
    pub(crate) mtime_ns: i64,
}

/// The new state of the target.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The home first, then the targets of top-level links and mounts.
    pub(crate) roots: Vec<StageRoot>,
    /// The folder for databases that were outside of the archived home.
    pub(crate) outside_databases: PathBuf,
    /// The login of the archive, if the plan wants it.
    pub(crate) login: Option<ArchivedLogin>,
    /// The rollouts that are written. After a merge, also the live rollouts that stay in place of archived ones.
    pub(crate) rollouts: RolloutIndex,
    /// Staged rollouts that are hard links to live files with equal content.
    pub(crate) equal_rollouts: NameSet,
}

impl Stage {
    /// Returns the staged path of the file `relative`, a path in the home.
    pub(crate) fn staged_path(&self, relative: &Path) -> PathBuf {
        if let Ok(name) = relative.strip_prefix(EXTERNAL_DATABASES_FOLDER) {
            return self.outside_databases.join(name);
        }
        let root = self.root_of(relative);
        root.rebase(&root.staged, relative)
    }

    /// Returns the root that contains the file `relative`.
    pub(crate) fn root_of(&self, relative: &Path) -> &StageRoot {
        let mut linked = self.linked_roots().iter();
        linked
            .find(|root| relative.starts_with(&root.prefix))
            .unwrap_or(self.home())
    }

    /// Returns the roots of the targets of top-level links and mounts.
    pub(crate) fn linked_roots(&self) -> &[StageRoot] {
        &self.roots[1..]
    }

    /// Returns the root of the home, which is always the first.
    pub(crate) fn home(&self) -> &StageRoot {
        &self.roots[0]
    }

    /// Returns the settings that Codex will read after the restore: the staged ones, if there are any, else the live
    /// ones.
    pub(crate) fn read_settings(&self) -> CodexConfig {
        let staged = self.staged_path(Path::new(CONFIG_TOML));
        if staged.exists() {
            CodexConfig::read_file(&staged)
        } else {
            CodexConfig::read(&self.home().live)
        }
    }

    /// Returns the planned files at paths where Codex keeps databases, with their staged paths. Such a file may be no
    /// database.
    pub(crate) fn database_files(&self, plan: &RestorePlan) -> Vec<(EntryName, PathBuf)> {
        let mut databases = Vec::new();
        for name in plan.writes.iter() {
            if is_database_path(name.as_path()) {
                let path = self.staged_path(name.as_path());
                databases.push((name, path));
            }
        }
        databases
    }

    /// Creates the links that the plan takes from the archive. Unless the restore is partial, also creates all folders
    /// of the archive.
    pub(crate) fn create_links_and_folders(
        &self,
        contents: &ArchiveManifest,
        plan: &RestorePlan,
    ) -> Result<(), IoError> {
        for link in &contents.links {
            if !plan.writes.contains(link.path.as_path()) {
                continue;
            }
            let path = self.staged_path(link.path.as_path());
            atomic::create_unsynced_folder(atomic::parent_of(&path))?;
            links::make_link(&link.target, &path)?;
        }

        // A partial restore creates only the folders above the restored entries.
        for folder in &contents.folders {
            let name = folder.path.as_path();
            let path = self.staged_path(name);
            if !plan.partial && is_restorable(name) && path.symlink_metadata().is_err() {
                atomic::create_unsynced_folder(&path)?;
            }
        }

        Ok(())
    }

    /// Sets the modes and times of the staged folders to those in the archive. Folders that exist in `live_home`, if it
    /// is given, keep their live modes and times. Has to run after all entries were staged, because adding an entry
    /// changes the time of its folder.
    pub(crate) fn set_folder_attributes(
        &self,
        contents: &ArchiveManifest,
        live_home: Option<&Path>,
    ) -> Result<(), IoError> {
        // A folder comes after the folders in it.
        for folder in contents.folders.iter().rev() {
            let name = folder.path.as_path();
            if live_home.is_some_and(|home| home.join(name).exists()) {
                continue;
            }

            let path = self.staged_path(name);
            if is_restorable(name) && path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
                set_attributes(&path, folder.mode | OWNER_ACCESS_MODE, folder.mtime)?;
            }
        }

        Ok(())
    }
}

fn is_restorable(path: &Path) -> bool {
    kind_of(path) != HomeEntryKind::Transient
}
