//! The paths on disk of scanned files.

use super::format::{EXTERNAL_DATABASES_FOLDER, EntryName};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Maps archive names to paths on disk. Storing both for every file would take too much memory.
#[derive(Debug, Default, Clone)]
pub struct SourcePaths {
    home: PathBuf,
    /// Top-level links to places outside the home, with their targets.
    link_targets: HashMap<OsString, PathBuf>,
    sqlite_home: Option<PathBuf>,
}

impl SourcePaths {
    /// Maps all names to paths in `home`, and the names of databases outside of the home to paths in `sqlite_home`.
    pub(super) fn new(home: &Path, sqlite_home: Option<&Path>) -> Self {
        Self {
            home: home.to_path_buf(),
            link_targets: HashMap::new(),
            sqlite_home: sqlite_home.map(Path::to_path_buf),
        }
    }

    /// Maps the top-level entry `top`, and all names below it, to `target`.
    pub(super) fn map_top_level_link(&mut self, top: &OsStr, target: PathBuf) {
        self.link_targets.insert(top.to_owned(), target);
    }

    /// Returns the path on disk of the file with this archive name.
    pub(crate) fn source_path(&self, name: &EntryName) -> PathBuf {
        let path = name.as_path();
        if let (Some(folder), Ok(rest)) = (
            &self.sqlite_home,
            path.strip_prefix(EXTERNAL_DATABASES_FOLDER),
        ) {
            return folder.join(rest);
        }

        match self.link_targets.get(name.top()) {
            // A join with an empty path would append a slash.
            Some(target) if path.components().count() == 1 => target.clone(),
            Some(target) => target.join(path.strip_prefix(name.top()).unwrap_or(path)),
            None => self.home.join(path),
        }
    }
}
