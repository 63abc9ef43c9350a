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
mod io_error;
#[cfg(windows)]
pub(crate) mod job;
pub mod json_lines;
pub mod json_path;
pub mod limits;
pub mod links;
pub mod lock;
mod lock_holder;
pub mod machine;
pub mod modes;
mod ordinary_path;
pub mod owner;
pub mod parallel;
pub(crate) mod piped_child;
pub mod position;
pub mod processes;
pub mod progress;
pub mod quantity;
pub mod random_id;
pub mod replacement;
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
pub mod user;
pub mod zip_file;

pub use atomic::{PublishError, TempFile, with_suffix};
pub use disk_clock::{changed_ns, modified_ns};
pub use io_error::{list_causes, message_with_causes, prefix_unless_empty};
pub use json_path::serialize_displayed;
pub use progress::{Progress, ReportingReader, Silent, is_interrupted};
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
pub use io_error::{IoContext, IoError};
pub(crate) use json_path::ListedPath;
pub use lock::FileLock;
pub use lock_holder::LockHolder;
pub use ordinary_path::OrdinaryPath;
pub use piped_child::{ChildEnd, PipedChild, StopReason};
pub use processes::{EndTarget, Process, ProcessTable};
pub use retention::{RetentionItem, RetentionPolicy};
pub(crate) use rfc3339::Rfc3339Time;
pub use secret::SecretBytes;
pub use space::NoSpace;
pub use staging::Staging;
pub use time_point::TimeDirection;
