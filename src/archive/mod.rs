//! Archives of a Codex home: capture, format and verification.
//!
//! `docs/archive-format.md` specifies the format; [`format`](mod@format) is its only implementation.

pub mod capture;
mod database_snapshots;
mod duplicates;
mod error;
pub mod format;
mod home_packer;
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
pub mod source_paths;
mod stable_read;
mod unpack_indexed;
mod unpack_stream;
pub mod verify;

pub use error::ArchiveError;
pub use format::{
    contents, entry, entry_name, footer, manifest, metadata, name_table, names, python,
    python_sidecar, sidecar,
};
pub(crate) use format::{inode_stamp, path_checks};
