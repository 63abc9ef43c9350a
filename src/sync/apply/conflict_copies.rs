//! File operations on conflict copies: write, replicate, remove.

use super::error::{ApplyError, StepFailure, changed_meanwhile};
use super::run::ApplyRun;
use super::targets::check_mounted_quickly;
use crate::codex::rollout;
use crate::io::IoContext;
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::mtime::set_mtime;
use crate::sync::plan::ObservedFile;
use crate::sync::scan::{Side, Stat};
use std::path::{Path, PathBuf};

impl ApplyRun<'_> {
    fn conflict_copy_path(&self, side: Side, name: &str) -> PathBuf {
        let state = &self.request.replica.folder;
        conflict_copies::full_path(side, name, state, &self.request.config.cloud)
    }

    /// Stores a version as a conflict copy on both sides.
    pub(super) fn keep_conflict_copy(
        &mut self,
        from: &ObservedFile,
        name: &str,
        digest: &Sha256Digest,
    ) -> Result<(), StepFailure> {
        let source = self.copier.check_unchanged(from)?;
        for side in [Side::Local, Side::Remote] {
            self.check_interrupt()?;
            self.write_conflict_copy(&source, (side, name), digest, from.stat.mtime_ns)?;
        }
        Ok(())
    }

    /// Copies a conflict copy to the other side, if it matches the digest in its name.
    pub(super) fn replicate_conflict_copy(
        &mut self,
        from: Side,
        name: &str,
    ) -> Result<(), StepFailure> {
        let source = self.conflict_copy_path(from, name);
        let to = match from {
            Side::Local => Side::Remote,
            Side::Remote => Side::Local,
        };
        let Some(stat) = Stat::at(&source)? else {
            return Err(StepFailure::Skip(format!(
                "removed meanwhile: {}",
                source.display()
            )));
        };
        let digest = contents::raw_digest(&source).at("read", &source)?;
        if !name.contains(&conflict_copies::digest_prefix(&digest)) {
            let why = format!(
                "does not match the digest in its name: {}",
                source.display()
            );
            return Err(StepFailure::Skip(why));
        }
        self.write_conflict_copy(&source, (to, name), &digest, stat.mtime_ns)
    }

    /// Writes the uncompressed text of a version as a conflict copy, unless the file has it already.
    fn write_conflict_copy(
        &self,
        source: &Path,
        (side, name): (Side, &str),
        digest: &Sha256Digest,
        mtime_ns: i64,
    ) -> Result<(), StepFailure> {
        let target = &self.conflict_copy_path(side, name);
        if contents::raw_digest(target).is_ok_and(|existing| existing == *digest) {
            return Ok(());
        }
        let root = match side {
            Side::Local => &self.request.replica.folder,
            Side::Remote => {
                let cloud = &self.request.config.cloud;
                check_mounted_quickly(self.plan, cloud).map_err(ApplyError::from)?;
                cloud
            }
        };
        atomic::create_durable_below(root, atomic::parent_of(target))?;
        let mut temp = TempFile::beside(target)?;
        let mut reader = rollout::open_plain(source).at("open", source)?;
        let (copied, _) = self
            .copier
            .copy_bytes(&mut *reader, temp.file())
            .at("copy", source)?;
        if copied != *digest {
            return Err(changed_meanwhile(source));
        }
        set_mtime(temp.file(), mtime_ns).at("set time", target)?;
        temp.replace(target)?;
        Ok(())
    }

    /// Removes a conflict copy; a missing file is no error.
    pub(super) fn drop_conflict_copy(&self, side: Side, name: &str) -> Result<(), StepFailure> {
        let state = &self.request.replica.folder;
        Ok(conflict_copies::remove(
            side,
            name,
            state,
            &self.request.config.cloud,
        )?)
    }
}
