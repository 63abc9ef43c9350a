//! Where files of the two sides are.

use super::config::SyncConfig;
use super::scan::{Side, Stat};
use super::state::Last;
use super::travel;
use crate::io::IoError;
use std::fs;
use std::path::{Path, PathBuf};

impl SyncConfig {
    /// The folder of a side.
    pub fn root(&self, side: Side) -> &Path {
        match side {
            Side::Here => &self.local,
            Side::There => &self.cloud,
        }
    }

    /// Where a file of a side is, or would be: what a link at the top of the home leads to, so that the
    /// link stays when the file is replaced.
    pub fn place(&self, side: Side, path: &str) -> PathBuf {
        let full = self.root(side).join(path);
        let may_lead = side == Side::Here && travel::is_followed(path, &self.roots);
        if may_lead
            && fs::symlink_metadata(&full).is_ok_and(|meta| meta.is_symlink())
            && travel::why_not_followed(self.root(side), &full).is_none()
        {
            full.canonicalize().unwrap_or(full)
        } else {
            full
        }
    }
}

impl Last {
    /// Whether both sides still look so.
    pub fn is_still(&self, config: &SyncConfig) -> Result<bool, IoError> {
        let stat = |side, path: &str| Stat::at(&config.place(side, path));
        Ok(stat(Side::Here, &self.here.path)? == Some(self.here.stat)
            && stat(Side::There, &self.there.path)? == Some(self.there.stat))
    }
}
