//! The reader of a replicated folder, with the records of all machines about the files in it.

use crate::sync::config::SyncConfig;
use crate::sync::records::Records;
use crate::sync::scope::Scope;

pub(crate) struct FolderReader<'a> {
    pub(crate) config: &'a SyncConfig,
    pub(crate) scope: &'a Scope,
    pub(crate) records: &'a Records,
    /// `--accept-unlisted`: remote files that no machine attests are used.
    pub(crate) accept_unlisted: bool,
    /// True while `sync resolve` decides about a file.
    pub(crate) is_resolving: bool,
}
