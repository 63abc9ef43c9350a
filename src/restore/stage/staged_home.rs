//! The new state of a home while it is built: its roots, paths, links and folders.

use crate::archive::format::OWNER_ACCESS_MODE;
use crate::archive::{
    ArchiveManifest, EXTERNAL_DATABASES_FOLDER, EntryName, NameSet, set_attributes,
};
use crate::codex::{CONFIG_TOML, HomeEntryKind, kind_of};
use crate::io::{IoContext, IoError, SecretBytes, atomic, tree};
use crate::journal;
use crate::restore::{RestorePlan, RolloutIndex};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// A live folder or file that is replaced as a whole: the home, or the target of a top-level link
/// in it.
#[derive(Debug, Clone)]
pub(crate) struct StageRoot {
    /// The path in the home; empty for the home itself.
    pub(crate) prefix: PathBuf,
    /// The absolute path of the live folder or file.
    pub(crate) live: PathBuf,
    /// The path that its new state is built at.
    pub(crate) staged: PathBuf,
    /// True if it is exchanged in one call. False: entry by entry, because it is a mount point or
    /// nothing can be created beside it.
    pub(crate) whole: bool,
}

impl StageRoot {
    /// Returns the absolute path of the live file `relative`, a path in the home.
    pub(crate) fn live_path(&self, relative: &Path) -> PathBuf {
        self.path_in(&self.live, relative)
    }

    fn path_in(&self, base: &Path, relative: &Path) -> PathBuf {
        match relative.strip_prefix(&self.prefix) {
            // Joined with nothing, it would end in a slash.
            Ok(rest) if rest.as_os_str().is_empty() => base.to_path_buf(),
            Ok(rest) => base.join(rest),
            Err(_) => base.join(relative),
        }
    }
}

/// The entries of the home that one exchange step covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeMode {
    /// The whole home, in one call.
    WholeHome,
    /// Each changed top-level entry by itself.
    TopLevelEntries,
    /// Each changed file by itself, as for a few files of a large home.
    SingleFiles,
}

/// The bytes of an archived login, and the modification time of its file.
#[derive(Debug)]
pub(crate) struct ArchivedLogin {
    pub(crate) bytes: SecretBytes,
    pub(crate) mtime_ns: i64,
}

/// The new state while it is built.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The home first, then the targets of links.
    pub(crate) roots: Vec<StageRoot>,
    /// The folder for databases that were outside of the archived home.
    pub(crate) outside: PathBuf,
    /// The login of the archive, if the plan wants it.
    pub(crate) login: Option<ArchivedLogin>,
    /// The archive's rollouts that are written.
    pub(crate) rollouts: RolloutIndex,
    /// Staged rollouts that are hard links to live files with equal content.
    pub(crate) equal: NameSet,
    /// Live files and links that stay at or above the path of a folder of the archive, which is
    /// therefore not created.
    pub(crate) blocking_entries: BTreeSet<PathBuf>,
}

impl Stage {
    /// Returns the staged path of the file `relative`, a path in the home.
    pub(crate) fn staged_path(&self, relative: &Path) -> PathBuf {
        if let Ok(name) = relative.strip_prefix(EXTERNAL_DATABASES_FOLDER) {
            return self.outside.join(name);
        }
        let root = self.root_of(relative);
        root.path_in(&root.staged, relative)
    }

    /// Returns the root that contains the file `relative`.
    pub(crate) fn root_of(&self, relative: &Path) -> &StageRoot {
        let inner = self.roots[1..]
            .iter()
            .find(|root| relative.starts_with(&root.prefix));
        inner.unwrap_or(&self.roots[0])
    }

    /// Returns the root of the home, which is always the first.
    pub(crate) fn home(&self) -> &StageRoot {
        &self.roots[0]
    }

    /// Returns the folder with the `config.toml` that Codex will read: that of the archive, or the live one.
    pub(crate) fn settings_folder(&self) -> &Path {
        let home = self.home();
        if home.staged.join(CONFIG_TOML).exists() {
            &home.staged
        } else {
            &home.live
        }
    }

    /// Returns the paths, relative to the home, of the staging folders in it.
    pub(crate) fn staging_folders(&self) -> BTreeSet<PathBuf> {
        let roots = self.roots.iter();
        let own = roots.map(|root| {
            let within = journal::staging_within(&root.live);
            let name = within.file_name().unwrap_or_default();
            root.prefix.join(name)
        });
        own.collect()
    }

    /// Returns the archive's files at paths where Codex keeps databases, whether they are databases
    /// or not, with their staged paths.
    pub(crate) fn database_files(&self, plan: &RestorePlan) -> Vec<(EntryName, PathBuf)> {
        let is_database = |name: &EntryName| {
            name.as_path().parent() == Some(Path::new(EXTERNAL_DATABASES_FOLDER))
                || kind_of(name.as_path()) == HomeEntryKind::Database
        };
        let names = plan.writes.iter().filter(is_database);
        names
            .map(|name| {
                let path = self.staged_path(name.as_path());
                (name, path)
            })
            .collect()
    }

    /// Creates the links and folders that the plan takes from the archive. A folder is left out if
    /// a live file or link that stays has its path.
    pub(crate) fn create_links_and_folders(
        &mut self,
        contents: &ArchiveManifest,
        plan: &RestorePlan,
    ) -> Result<(), IoError> {
        for link in contents
            .links
            .iter()
            .filter(|l| plan.writes.contains(l.path.as_path()))
        {
            let path = self.staged_path(link.path.as_path());
            atomic::create_unsynced_folder(atomic::parent_of(&path))?;
            tree::make_link(&link.target, &path)?;
        }
        let mut last_clear = PathBuf::new();
        for folder in &contents.folders {
            let name = folder.path.as_path();
            let path = self.staged_path(name);
            if plan.partial || !is_restorable(name) || path.symlink_metadata().is_ok() {
                continue;
            }
            if let Some(kept) = self.find_blocking_entry(name, plan, &mut last_clear)? {
                self.blocking_entries.insert(kept);
            } else {
                atomic::create_unsynced_folder(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the live file or link at `folder` or above it that the plan does not remove.
    /// `last_clear` is the previous folder without one; the folders are sorted, so its ancestors
    /// need no second check.
    fn find_blocking_entry(
        &self,
        folder: &Path,
        plan: &RestorePlan,
        last_clear: &mut PathBuf,
    ) -> Result<Option<PathBuf>, IoError> {
        let root = self.root_of(folder);
        let (mut live, mut relative) = (root.live.clone(), root.prefix.clone());
        // Compared once, because folders may be a thousand levels deep.
        let both = last_clear.iter().zip(folder);
        let shared = both.take_while(|(last, part)| last == part).count();
        let clear = shared.saturating_sub(root.prefix.iter().count());
        let below = folder.strip_prefix(&root.prefix).unwrap_or(folder);
        for (depth, part) in below.iter().enumerate() {
            live.push(part);
            relative.push(part);
            if depth < clear {
                continue;
            }
            match live.symlink_metadata() {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) if !plan.removed.contains(&relative) => return Ok(Some(relative)),
                Ok(_) => break,
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    break;
                }
                Err(e) => return Err(e).at("read", &live),
            }
        }
        folder.clone_into(last_clear);
        Ok(None)
    }

    /// Sets mode and time of the folders that came from the archive. Has to run last, because
    /// adding an entry changes a folder's time. With `live_home`, folders that exist there keep
    /// their own mode and time.
    pub(crate) fn set_folder_attributes(
        &self,
        contents: &ArchiveManifest,
        live_home: Option<&Path>,
    ) -> Result<(), IoError> {
        for folder in contents.folders.iter().rev() {
            let exists_in = |home: &Path| {
                let path = home.join(folder.path.as_path());
                path.metadata().is_ok()
            };
            let name = folder.path.as_path();
            // A link that was kept in its place may lead to a folder outside of the home.
            let is_left_out = || {
                name.ancestors()
                    .any(|above| self.blocking_entries.contains(above))
            };
            if live_home.is_some_and(exists_in)
                || (!self.blocking_entries.is_empty() && is_left_out())
            {
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
    !matches!(kind_of(path), HomeEntryKind::Transient)
}
