//! Archives of a Codex home: capture, format, checking and putting back.
//!
//! The format is described in `docs/archive-format.md`; [`manifest`], [`pack`] and [`reader`] are
//! its only implementation.

mod archive_file;
pub mod capture;
mod database_snapshots;
mod duplicates;
pub mod entry_name;
pub mod file_list;
pub mod footer;
pub mod format;
mod index_check;
pub mod manifest;
mod member_writer;
pub mod metadata;
pub mod name_table;
pub mod names;
pub mod pack;
mod path_checks;
pub mod publish;
pub mod python;
pub mod reader;
mod relocation;
pub mod restore;
pub mod reuse;
pub mod scan;
pub mod scope;
pub mod sidecar;
pub mod sink;
mod stable_read;
mod tar_head;
mod tar_stream;
mod unpack_indexed;
mod unpack_stream;
pub mod verify;

use crate::codex::database::DatabaseError;
use crate::io::IoError;
use entry_name::EntryName;
use std::path::{Path, PathBuf};

/// Why an archive could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A database inside could not be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It cannot be read to its end, or its content is not what its manifest says.
    #[error("the archive is damaged ({detail}): {}", archive.display())]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It holds something that must not be put back.
    #[error("refused an unsafe entry in the archive ({reason}: {entry}): {}", archive.display())]
    Unsafe {
        /// The archive.
        archive: PathBuf,
        /// The entry's name.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// Neither ours nor one of the Python codex-manager.
    #[error("not an archive of codex-manager: {}", .0.display())]
    Foreign(PathBuf),
    /// Written by a newer version of this program.
    #[error("written by a newer codex-manager (schema {found}): {}", archive.display())]
    Newer {
        /// The archive.
        archive: PathBuf,
        /// The schema number it carries.
        found: u64,
    },
    /// The home was replaced by a restore while it was archived.
    #[error("the Codex home was replaced while it was archived: {}", .0.display())]
    Replaced(PathBuf),
    /// There is not enough room for the work.
    #[error("not enough disk space ({needed_bytes} bytes are needed, {free_bytes} are free): {}", folder.display())]
    NoSpace {
        /// Where.
        folder: PathBuf,
        /// What the work takes.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// Whether the machine or the user ended the work, and nothing was learned of the archive.
    pub fn is_environmental(&self) -> bool {
        match self {
            Self::Io(_) | Self::Interrupted | Self::NoSpace { .. } => true,
            Self::Database(e) => e.is_of_machine(),
            _ => false,
        }
    }

    /// The archive at `path` is damaged.
    pub(crate) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged {
            archive: path.to_path_buf(),
            detail: detail.into(),
        }
    }

    /// The archive at `path` has an entry that must not be put back.
    pub(crate) fn unsafe_entry(path: &Path, name: &EntryName, reason: &'static str) -> Self {
        Self::Unsafe {
            archive: path.to_path_buf(),
            entry: name.to_string(),
            reason,
        }
    }
}
