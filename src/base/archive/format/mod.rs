//! The bytes of an archive and of its sidecar, specified in `docs/archive-format.md`.
//!
//! The rest of [`crate::archive`] decides what an archive holds, and knows no byte layout.

pub(crate) mod archive_file;
pub mod entry;
pub mod entry_name;
pub mod file_list;
pub mod footer;
pub(crate) mod gzip_member;
pub(crate) mod index_check;
pub(crate) mod inode_stamp;
pub mod manifest;
pub mod manifest_members;
pub(crate) mod member_content;
pub mod metadata;
pub mod name_table;
pub mod names;
pub mod path_checks;
pub mod python;
pub mod sidecar;
pub(crate) mod sizes;
pub(crate) mod tar_header;
pub mod tar_stream;

pub use entry::{FileEntry, FolderEntry, LinkEntry};
pub use entry_name::EntryName;
pub use file_list::FileList;
pub use gzip_member::Compression;
pub use inode_stamp::InodeStamp;
pub use manifest::{
    AccountAuth, ArchiveManifest, EXTERNAL_DATABASES_FOLDER, MANIFEST_NAME, Member, MemberContents,
};
pub use metadata::{BackupMode, Metadata};
pub use name_table::{NameId, NameSet, NameTable};
pub use sizes::OWNER_ACCESS_MODE;
