//! The bytes of an archive and of its sidecar, specified in `docs/archive-format.md`.
//!
//! The rest of [`crate::archive`] decides what an archive holds, and knows no byte layout.

pub(crate) mod archive_file;
pub mod contents;
pub mod entry;
pub mod entry_name;
pub mod file_list;
pub mod footer;
pub(crate) mod gzip_member;
pub(crate) mod index_check;
pub mod inode_stamp;
pub(crate) mod layout;
pub mod manifest;
pub(crate) mod manifest_members;
pub(crate) mod member_content;
pub mod metadata;
pub mod name_table;
pub mod names;
pub(crate) mod path_checks;
pub mod python;
pub mod python_sidecar;
pub mod sidecar;
pub(crate) mod tar_head;
pub(crate) mod tar_stream;

pub use layout::Compression;
pub(crate) use layout::OWNER_ACCESS_MODE;
