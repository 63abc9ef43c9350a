//! Archives of a Codex home: capture, format and verification.
//!
//! `docs/archive-format.md` specifies the format; [`format`](mod@format) is its only implementation.
//!
//! I want to …
//!
//! - change which files are archived → `scope` (rules), `scan` (the walk)
//! - change how a file is read that Codex writes meanwhile → `stable_read`, `capture_target`
//! - change how members are made → `home_packer` feeds `pack`, which feeds `member_writer`; `reuse` copies old ones
//! - change what a reader checks → `reader`, then `unpack_indexed` or `unpack_stream`
//! - capture a home into a folder for another program → `tree_capture`

pub(crate) mod attributes;
pub mod capture;
mod capture_target;
mod database_snapshots;
mod duplicates;
mod error;
pub mod file_extract;
pub mod format;
mod home_packer;
mod login_read;
mod member_writer;
pub mod pack;
pub mod path_note;
pub mod publish;
pub mod reader;
mod relocation;
pub mod reuse;
pub mod scan;
pub mod scope;
pub mod sink;
pub(crate) mod source_paths;
mod stable_read;
pub mod tree_capture;
mod tree_digests;
mod tree_writer;
mod unpack_indexed;
mod unpack_stream;
pub mod verify;

pub use attributes::{copy_attributes, set_attributes};
pub use capture::{CaptureOptions, CapturedHome};
pub use duplicates::parse_rollout_name;
pub use format::names::encode_label;
pub use format::sidecar::SidecarProblem;
pub use format::tar_stream::{EntryContent, RawEntry, RawKind};
pub use format::{
    AccountAuth, ArchiveManifest, BackupMode, Compression, EXTERNAL_DATABASES_FOLDER, EntryName,
    FileEntry, FileList, FolderEntry, InodeStamp, LinkEntry, Metadata, NameId, NameSet, NameTable,
    entry, entry_name, footer, manifest, metadata, names, path_checks, python, sidecar,
};
pub use pack::{FinishedArchive, PackWriter};
pub use path_note::PathNote;
pub use publish::PublishedArchive;
pub use reader::ArchiveReader;
pub use reuse::{PreviousArchive, ReuseOptions, VerifyReused};
pub use scope::{CaptureScope, Excludes, HomeSubset, IN_DATABASE_SNAPSHOT};
pub use sink::{Extent, Sink};
pub use tree_capture::CapturedTree;

pub use error::ArchiveError;
