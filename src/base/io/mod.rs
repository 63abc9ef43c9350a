//! Files, locks, secrets and clocks. Knows nothing of Codex.
//!
//! clippy forbids `fs::write`, `rename`, `copy` and `remove_dir_all` elsewhere: all other modules
//! use [`atomic`], [`document`], [`links`] and [`tree`], so that the sequence "temp file, fsync, rename, fsync
//! of the folder" is written once. Code that stages files and makes them durable as a whole has an
//! explicit exception.

pub mod access;
pub mod ansi;
pub mod atomic;
pub mod attached;
pub mod beneath;
pub(crate) mod buffers;
pub mod child;
mod child_streams;
pub mod clock;
pub mod disk_clock;
pub mod document;
pub mod environment;
pub mod events;
pub mod exchange;
pub mod file_id;
pub mod file_open;
pub mod flush;
pub mod foreground;
pub mod hash;
#[cfg(windows)]
pub(crate) mod job;
pub mod json_path;
pub mod limits;
pub mod links;
pub mod lock;
pub mod machine;
pub mod modes;
pub mod owner;
pub mod parallel;
pub(crate) mod piped_child;
pub mod position;
pub mod processes;
pub mod progress;
pub mod quantity;
pub mod random_id;
pub mod retention;
pub(crate) mod rfc3339;
pub mod secret;
pub mod settings;
pub mod sharing;
pub mod shell;
pub mod signals;
pub mod similar;
pub mod space;
pub mod staging;
pub mod temp_name;
pub mod time_format;
pub mod time_point;
pub mod tree;
pub mod tree_sync;

pub use atomic::{PublishError, TempFile, with_suffix};
pub use disk_clock::{changed_ns, modified_ns};
pub use json_path::serialize_displayed;
pub use progress::{Phases, Progress, ReportingReader, Silent, is_interrupted};
pub use quantity::pluralize;
pub use random_id::random_id;

pub use attached::{Attached, AttachedExit};
pub use beneath::FollowedLinks;
pub use child::{ChildGroup, ChildOutput};
pub use clock::{Clock, Timestamp, Zone};
pub(crate) use disk_clock::{ClockDoubt, Dated};
pub use document::{Document, DocumentError, DocumentState};
pub use environment::Environment;
pub use file_id::FileId;
pub use hash::{ContentDigest, ContentHasher, Hasher, Sha256Digest};
pub(crate) use json_path::ListedPath;
pub use lock::{FileLock, LockError};
pub use piped_child::{ChildEnd, PipedChild, Stop};
pub use processes::{EndTarget, Process, ProcessTable};
pub use retention::{RetentionItem, RetentionPolicy};
pub(crate) use rfc3339::Rfc3339Time;
pub use secret::SecretBytes;
pub use space::NoSpace;
pub use staging::Staging;
pub use time_point::TimeDirection;

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {}", path.display())]
pub struct IoError {
    /// The failed action as a verb phrase: `read`, `create folder`.
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

impl IoError {
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
    }

    /// Returns true if the user lacks the permission for the operation, or the file system is read-only.
    pub fn is_access_denied(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
        )
    }

    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}

/// Returns the messages of an error and its causes, separated by colons.
pub fn message_with_causes(error: &dyn std::error::Error) -> String {
    [vec![error.to_string()], list_causes(error)]
        .concat()
        .join(": ")
}

/// Returns `prefix` followed by `text`, or an empty text if `text` is empty.
pub fn prefix_unless_empty(prefix: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{prefix}{text}")
}

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

/// Returns the messages of the causes of an error, nearest first.
pub fn list_causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source())
        .map(ToString::to_string)
        .collect()
}
