use std::path::{Path, PathBuf};

/// Resolves the links of a path.
pub trait OrdinaryPath {
    /// Returns the absolute path without links, in the form that users write. Windows itself returns the form
    /// `\\?\C:\…`, which most programs do not accept, and which differs from the paths in Codex's tables.
    ///
    /// # Errors
    /// The path does not exist, or its links cannot be read.
    fn canonical(&self) -> std::io::Result<PathBuf>;

    /// Returns [`OrdinaryPath::canonical`], or the path unchanged if that fails.
    fn canonical_or_self(&self) -> PathBuf;
}

impl OrdinaryPath for Path {
    fn canonical(&self) -> std::io::Result<PathBuf> {
        dunce::canonicalize(self)
    }

    fn canonical_or_self(&self) -> PathBuf {
        self.canonical().unwrap_or_else(|_| self.to_path_buf())
    }
}
