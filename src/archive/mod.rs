//! Archives of a Codex home: capture, format and verification.
//!
//! `docs/archive-format.md` specifies the format. [`manifest`], [`pack`] and [`reader`] are its
//! only implementation.

mod archive_file;
pub mod capture;
pub mod contents;
mod database_snapshots;
mod duplicates;
pub mod entry;
pub mod entry_name;
mod error;
pub mod file_list;
pub mod footer;
pub mod format;
mod index_check;
pub mod inode_stamp;
pub(crate) mod link_target;
pub mod manifest;
mod member_writer;
pub mod metadata;
pub mod name_table;
pub mod names;
pub mod pack;
pub(crate) mod path_checks;
pub mod path_note;
pub mod publish;
pub mod python;
pub mod python_sidecar;
pub mod reader;
mod relocation;
pub mod reuse;
pub mod scan;
pub mod scope;
pub mod sidecar;
pub(crate) mod single_file;
pub mod sink;
pub mod source_paths;
mod stable_read;
mod tar_head;
mod tar_stream;
mod unpack_indexed;
mod unpack_stream;
pub mod verify;

pub use error::ArchiveError;
