//! Files, locks, secrets and clocks. Nothing here knows of Codex.
//!
//! clippy forbids `fs::write`, `rename`, `copy` and `remove_dir_all` elsewhere: everything above goes
//! through [`atomic`], [`document`] and [`tree`], so that the promise "temp file, fsync, rename, fsync of
//! the folder" stands in one place. What is staged, and made durable as a whole before it counts, says so
//! where it allows itself more.

pub mod ansi;
pub mod atomic;
pub mod attached;
pub mod buffers;
pub mod child;
pub mod clock;
pub mod deadline;
pub mod document;
pub mod environment;
pub mod events;
pub mod exchange;
pub mod file_id;
pub mod file_open;
pub mod foreground;
pub mod hash;
pub mod limits;
pub mod lock;
pub mod long_path;
pub mod machine;
pub mod parallel;
pub mod position;
pub mod processes;
pub mod progress;
pub mod quantity;
pub mod secret;
pub mod shell;
pub mod sorting;
pub mod space;
pub mod staging;
pub mod time_format;
pub mod tree;

pub use progress::Progress;
use std::path::{Path, PathBuf};

/// A file operation that failed, with the path it failed on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {}", path.display())]
pub struct IoError {
    /// What was tried, as a verb phrase: `read`, `create folder`.
    pub action: &'static str,
    /// The path it was tried on.
    pub path: PathBuf,
    /// What the system answered.
    #[source]
    pub source: std::io::Error,
}

impl IoError {
    /// Whether the system said that there is no such file.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
    }

    /// Whether the disk or a quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}

/// Attaches the action and the path to an I/O error.
pub trait IoContext<T> {
    /// `action` is a verb phrase that completes "cannot …".
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, IoError>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|source| IoError {
            action,
            path: path.as_ref().to_path_buf(),
            source,
        })
    }
}
