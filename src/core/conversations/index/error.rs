//! The errors of the search index.

use crate::codex::database::{self, DatabaseError};
use crate::io::IoError;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Io(#[from] IoError),
    /// Codex's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot use the search index: {}", path.display())]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("interrupted")]
    Interrupted,
}

impl IndexError {
    /// Returns a function that adds the path of the index to an error of SQLite.
    pub(super) fn in_index_at(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Returns true if creating the index again may solve the problem. Returns false if the disk is full or read-only,
    /// the file cannot be read, or another process locks it, because then a new index would fail, too.
    pub fn is_cured_by_rebuild(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if !database::is_caused_by_machine(source))
    }
}
