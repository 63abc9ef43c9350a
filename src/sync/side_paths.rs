//! Paths of files on the two sides.

use super::config::SyncConfig;
use super::scan::{Side, Stat};
use super::scope;
use super::state::SyncedFile;
use crate::io::IoError;
use crate::io::OrdinaryPath;
use std::fs;
use std::path::{Path, PathBuf};

impl SyncConfig {
    /// Returns the root folder of a side.
    pub(crate) fn root(&self, side: Side) -> &Path {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.cloud,
        }
    }

    /// Returns the path of a file on a side, whether it exists or not. A followed link at the top of the home
    /// is resolved, so that replacing the file keeps the link.
    pub(crate) fn file_path(&self, side: Side, path: &str) -> PathBuf {
        let full = self.root(side).join(path);
        let may_lead = side == Side::Local && scope::follows_link(path, &self.scope.roots);
        if may_lead
            && fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_symlink())
            && scope::link_refusal(self.root(side), &full).is_none()
        {
            full.canonical().unwrap_or(full)
        } else {
            full
        }
    }
}

impl SyncedFile {
    /// Returns true if size and mtime on both sides equal those of the last sync.
    pub(crate) fn is_unchanged(&self, config: &SyncConfig) -> Result<bool, IoError> {
        let stat = |side, path: &str| Stat::at(&config.file_path(side, path));
        Ok(
            stat(Side::Local, &self.local.path)? == Some(self.local.stat)
                && stat(Side::Remote, &self.remote.path)? == Some(self.remote.stat),
        )
    }
}
