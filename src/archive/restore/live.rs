//! The files that stand in a home now.

use crate::archive::check::{misplaced_link, portable_target};
use crate::archive::entry_name::EntryName;
use crate::archive::name_table::{NameSet, NameTable};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::{IoContext, IoError, long_path, tree};
use std::fs::{self, FileType};
use std::path::Path;
use std::sync::Arc;

/// Every file and link of the live home.
#[derive(Debug, Clone)]
pub struct LiveFiles {
    /// Relative to the home. A name that no archive can hold is left out.
    pub names: NameSet,
    /// Those among them that no archive could hold: a link out of the home, a socket, a pipe. Their
    /// absence from an archive says nothing.
    pub uncapturable: NameSet,
}

impl LiveFiles {
    /// None, with names that would be kept in `names`.
    pub fn none(names: &Arc<NameTable>) -> Self {
        Self {
            names: NameSet::sharing(names),
            uncapturable: NameSet::sharing(names),
        }
    }
}

/// Every file and link below `home`; a top-level link out of it is followed, others are not. What
/// is transient is not looked into: no restore touches it. A home that does not exist has none. The
/// names are kept in `names`.
pub fn list(home: &Path, names: &Arc<NameTable>) -> Result<LiveFiles, IoError> {
    let mut files = LiveFiles::none(names);
    match tree::list(home) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(e).at("list", home),
        Ok(entries) => {
            for (name, kind) in entries {
                let path = home.join(&name);
                let followed = kind.is_symlink() && !is_kept_as_link(&path, home);
                let kind = match path.metadata() {
                    Ok(meta) if followed => meta.file_type(),
                    _ => kind,
                };
                visit(&path, Path::new(&name), kind, &mut files)?;
            }
        }
    }
    Ok(files)
}

/// Whether an archive holds the top-level link at `path` as one: what it leads to has its own name.
fn is_kept_as_link(path: &Path, home: &Path) -> bool {
    let targets = &(path.canonicalize(), home.canonicalize());
    let is_inside = matches!(targets, (Ok(target), Ok(real)) if target.starts_with(real));
    let name = path.file_name().map(Path::new);
    is_inside && name.is_some_and(|name| kind_of(name).can_be_link())
}

fn visit(
    path: &Path,
    relative: &Path,
    kind: FileType,
    files: &mut LiveFiles,
) -> Result<(), IoError> {
    if kind_of(relative) == HomeEntryKind::Transient {
        return Ok(());
    }
    if kind.is_dir() {
        let entries = match tree::list(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at("list", path)?,
        };
        for (name, kind) in entries {
            visit(&path.join(&name), &relative.join(&name), kind, files)?;
        }
    } else if let Ok(name) = EntryName::of_path(relative) {
        files.names.insert(&name);
        if !is_capturable(path, relative, kind) {
            files.uncapturable.insert(&name);
        }
    }
    Ok(())
}

fn is_capturable(path: &Path, relative: &Path, kind: FileType) -> bool {
    if !kind.is_symlink() {
        return kind.is_file();
    }
    long_path::with(path, |path| fs::read_link(path)).is_ok_and(|target| {
        let home = path.ancestors().nth(relative.components().count());
        let kept = home.map(|home| portable_target(home, relative, &target));
        misplaced_link(relative, &kept.unwrap_or(target)).is_none()
    })
}
