//! The bytes of an archive and of its sidecar, specified in `docs/archive-format.md`.
//!
//! The rest of [`crate::archive`] decides what an archive holds, and knows no byte layout.

pub(crate) mod archive_file;
pub mod entry;
pub mod entry_name;
pub(crate) mod file_list;
pub mod footer;
pub(crate) mod gzip_member;
pub(crate) mod index_check;
pub(crate) mod inode_stamp;
pub mod manifest;
pub(crate) mod manifest_members;
pub(crate) mod member_content;
pub mod metadata;
pub(crate) mod name_table;
pub mod names;
pub(crate) mod path_checks;
pub(crate) mod python;
pub(crate) mod python_sidecar;
pub mod sidecar;
pub(crate) mod sizes;
pub(crate) mod tar_head;
pub(crate) mod tar_stream;

pub(crate) use entry::{FileEntry, FolderEntry, LinkEntry};
pub(crate) use entry_name::EntryName;
pub(crate) use file_list::FileList;
pub use gzip_member::Compression;
pub(crate) use inode_stamp::InodeStamp;
pub(crate) use manifest::{
    AccountAuth, ArchiveManifest, EXTERNAL_DATABASES_FOLDER, MANIFEST_NAME, Member, MemberContents,
};
pub(crate) use metadata::{BackupMode, Metadata};
pub(crate) use name_table::{NameId, NameSet, NameTable};
pub(crate) use sizes::OWNER_ACCESS_MODE;
