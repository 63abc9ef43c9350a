//! The reader of a replicated folder, with what the machines have recorded about its files.

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
