//! Lists the files of a home.

use crate::archive::path_checks::{link_problem, relativize_target};
use crate::archive::{EntryName, NameSet, NameTable};
use crate::codex::{HomeEntryKind, kind_of};
use crate::io::{IoError, OrdinaryPath, tree, user};
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The files and symbolic links of a home.
#[derive(Debug, Clone)]
pub(crate) struct LiveFiles {
    /// Paths relative to the home. Names that are not valid in an archive are left out.
    pub names: NameSet,
    /// The entries among `names` that no archive can hold: links out of the home, sockets, pipes. The archived home may
    /// have had such an entry although the archive lacks it.
    pub not_archivable: NameSet,
    /// The folders, relative to the home, that this user may not list. The restore leaves them as they are.
    pub unreadable: Vec<PathBuf>,
}

impl LiveFiles {
    /// Returns an empty list whose name table is `name_table`.
    pub(crate) fn empty(name_table: &Arc<NameTable>) -> Self {
        Self {
            names: NameSet::with_name_table(name_table),
            not_archivable: NameSet::with_name_table(name_table),
            unreadable: Vec::new(),
        }
    }
}

/// Lists every file and symbolic link below `home`, and stores their names in `name_table`. Follows a top-level link if
/// an archive stores its target instead of the link; follows no other links. Skips transient files and folders, which a
/// restore never changes. Returns an empty list if there is no home.
///
/// # Errors
/// The home cannot be listed; or a folder in it, for another reason than its permissions.
pub(crate) fn list_files(home: &Path, name_table: &Arc<NameTable>) -> Result<LiveFiles, IoError> {
    let mut files = LiveFiles::empty(name_table);
    for (name, kind) in tree::list_if_exists(home)? {
        let path = home.join(&name);

        // Users keep `sessions` on another disk and link it at the top level. A backup archives the target of the link.
        let is_followed = kind.is_symlink() && !is_kept_as_link(&path, home);
        let kind = match path.metadata() {
            Ok(meta) if is_followed && user::check_link(&path).is_ok() => meta.file_type(),
            _ => kind,
        };

        add_entries(&path, Path::new(&name), kind, &mut files)?;
    }

    Ok(files)
}

/// Returns true if an archive stores the top-level link at `path` as a link, because the target is inside the home.
fn is_kept_as_link(path: &Path, home: &Path) -> bool {
    let (Ok(target), Ok(real_home)) = (path.canonical(), home.canonical()) else {
        return false;
    };
    let name = path.file_name().map(Path::new);
    target.starts_with(real_home) && name.is_some_and(|name| kind_of(name).can_be_link())
}

fn add_entries(
    path: &Path,
    relative: &Path,
    kind: FileType,
    files: &mut LiveFiles,
) -> Result<(), IoError> {
    if kind_of(relative) == HomeEntryKind::Transient {
        return Ok(());
    }

    if kind.is_dir() {
        let Some(entries) = tree::list_if_permitted(path)? else {
            files.unreadable.push(relative.to_path_buf());
            return Ok(());
        };
        for (name, kind) in entries {
            add_entries(&path.join(&name), &relative.join(&name), kind, files)?;
        }
    } else if let Ok(name) = EntryName::from_path(relative) {
        files.names.insert(&name);
        if !is_archivable(path, relative, kind) {
            files.not_archivable.insert(&name);
        }
    }
    Ok(())
}

fn is_archivable(path: &Path, relative: &Path, kind: FileType) -> bool {
    if !kind.is_symlink() {
        return kind.is_file();
    }
    // The home is as many levels above `path` as `relative` has components.
    let home = path.ancestors().nth(relative.components().count());
    home.and_then(|home| read_stored_target(home, relative))
        .is_some_and(|target| link_problem(relative, &target).is_none())
}

/// Returns the target of the link `relative` in `home` as an archive stores it; `None` if it is no readable link.
pub(super) fn read_stored_target(home: &Path, relative: &Path) -> Option<PathBuf> {
    let target = fs::read_link(home.join(relative)).ok()?;
    Some(relativize_target(home, relative, &target))
}
