//! Folders of a configuration with the names that messages use for them.

use crate::io::{file_id, tree};
use std::fmt;
use std::path::{Path, PathBuf};

/// A folder with the name that messages use for it.
#[derive(Debug, Clone)]
pub struct NamedFolder {
    name: String,
    path: PathBuf,
    pub(super) real: PathBuf,
}

impl NamedFolder {
    pub(super) fn new(name: &str, path: &Path) -> Self {
        Self {
            name: name.to_owned(),
            path: path.to_path_buf(),
            real: tree::real(path),
        }
    }

    /// Returns true if the folder is `outer` or is inside it.
    pub(super) fn is_in(&self, outer: &Self) -> bool {
        let mut above = self.real.ancestors();
        above.any(|folder| folder == outer.real || is_same_folder(folder, &outer.real))
    }
}

impl fmt::Display for NamedFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.path.display())?;
        if self.real != self.path {
            write!(f, ", which is {}", self.real.display())?;
        }
        write!(f, ")")
    }
}

/// Returns true if two paths are the same folder, through a mount or on a case-insensitive disk.
fn is_same_folder(a: &Path, b: &Path) -> bool {
    let (a, b) = (file_id::numbers_of(a), file_id::numbers_of(b));
    a.is_some() && a == b
}
