//! Versions that are kept aside: written, copied from side to side, dropped.

use super::copying::set_time;
use super::{ApplyError, Obstacle, Run, changed, cloud_check};
use crate::codex::rollout;
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::plan::Seen;
use crate::sync::scan::{Side, Stat};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

impl Run<'_> {
    fn fork_file(&self, side: Side, name: &str) -> PathBuf {
        conflict_copies::folder(side, &self.work.replica.folder, &self.work.config.cloud).join(name)
    }

    /// Keeps a version on both sides, under the name of a fork.
    pub(super) fn fork(
        &mut self,
        from: &Seen,
        name: &str,
        digest: &Sha256Digest,
    ) -> Result<(), Obstacle> {
        let source = self.copier.still(from)?;
        for side in [Side::Local, Side::Remote] {
            self.go_on()?;
            self.keep(&source, (side, name), digest, from.stat.mtime_ns)?;
        }
        Ok(())
    }

    /// Copies a kept version to the side that has not got it, if it is what its name says.
    pub(super) fn copy_fork(&mut self, from: Side, name: &str) -> Result<(), Obstacle> {
        let source = self.fork_file(from, name);
        let to = match from {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        };
        let Some(stat) = Stat::at(&source)? else {
            return Err(Obstacle::Left(format!(
                "gone meanwhile: {}",
                source.display()
            )));
        };
        let digest = contents::raw_digest(&source).at("read", &source)?;
        if !name.contains(&conflict_copies::digest_prefix(&digest)) {
            let why = format!("it is not what its name says: {}", source.display());
            return Err(Obstacle::Left(why));
        }
        self.keep(&source, (to, name), &digest, stat.mtime_ns)
    }

    /// Writes the text of a version under the name of a fork, unless it is there.
    fn keep(
        &self,
        source: &Path,
        (side, name): (Side, &str),
        digest: &Sha256Digest,
        mtime_ns: i64,
    ) -> Result<(), Obstacle> {
        let target = &self.fork_file(side, name);
        if contents::raw_digest(target).is_ok_and(|remote| remote == *digest) {
            return Ok(());
        }
        let root = match side {
            Side::Local => &self.work.replica.folder,
            Side::Remote => {
                let cloud = &self.work.config.cloud;
                cloud_check::looks_there(self.plan, cloud).map_err(ApplyError::from)?;
                cloud
            }
        };
        atomic::create_durable_below(root, atomic::parent_of(target))?;
        let mut temp = TempFile::beside(target)?;
        let mut reader = rollout::open_plain(source).at("open", source)?;
        let (copied, _) = self
            .copier
            .pour(&mut *reader, temp.file())
            .at("copy", source)?;
        if copied != *digest {
            return Err(changed(source));
        }
        set_time(temp.file(), mtime_ns).at("set time", target)?;
        temp.replace(target)?;
        Ok(())
    }

    /// A kept version goes; one that is gone already is as wished.
    pub(super) fn drop_fork(&self, side: Side, name: &str) -> Result<(), Obstacle> {
        let path = self.fork_file(side, name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(IoError {
                action: "remove",
                path,
                source: e,
            }
            .into()),
            _ => Ok(()),
        }
    }
}
