//! File operations on synced files: copy, merge, rename, remove.

use super::copying::{StagedCopy, copy_mode};
use super::error::{StepFailure, changed_meanwhile};
use super::run::ApplyRun;
use super::targets::{check_target_unchanged, prepare_target, rename_new};
use crate::io::IoContext;
use crate::io::atomic;
use crate::io::hash::Sha256Digest;
use crate::io::sharing;
use crate::sync::contents;
use crate::sync::line_merge;
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::{CopyOp, MergeTarget, ObservedFile};
use crate::sync::scan::{Side, Stat};
use std::io;
use std::path::PathBuf;

impl ApplyRun<'_> {
    pub(super) fn copy(&mut self, copy: &CopyOp) -> Result<(), StepFailure> {
        let target = prepare_target(self.request.config, self.plan, &copy.to)?;
        let staged = self.copier.stage(copy, target)?;
        self.record_in_ledger(copy, &staged.entry)?;
        self.record_name_changes(&staged)?;
        self.place(staged, copy.over)
    }

    /// Merges lines. Fails before writing anything if a version has other bytes than the plan read, for example because
    /// a cloud client truncated it meanwhile.
    pub(super) fn merge(
        &mut self,
        versions: &[(ObservedFile, Sha256Digest)],
        to: &[MergeTarget],
        is_one_text: bool,
    ) -> Result<(), StepFailure> {
        let recheck = |run: &Self| {
            let each = versions
                .iter()
                .map(|(seen, _)| run.copier.check_unchanged(seen));
            each.collect::<Result<Vec<_>, _>>()
        };
        let paths = recheck(self)?;
        let merge = line_merge::merge(&paths)?;
        for ((_, planned), (path, read)) in versions.iter().zip(paths.iter().zip(&merge.digests)) {
            if planned != read {
                return Err(changed_meanwhile(path));
            }
        }
        let times = versions.iter().map(|(seen, _)| seen.stat.mtime_ns);
        let mtime_ns = times.max().unwrap_or(0);
        let mut staged = Vec::new();
        for MergeTarget { place, over, first } in to {
            let target = prepare_target(self.request.config, self.plan, place)?;
            let mut temp = self.copier.create_temp(place.0, &target)?;
            merge.write(*first, temp.file()).at("merge", &target)?;
            let size = merge.bytes_from(*first);
            self.request.progress.add_bytes(size);
            let entry = ManifestEntry {
                size,
                mtime_ns,
                digest: contents::raw_digest(temp.path()).at("read", &target)?,
            };
            // A new merged file has no single source, so `copy_mode` finds no file and uses 0600.
            let like = over.map(|_| target.as_path());
            copy_mode(temp.file(), &target, like).at("set mode", &target)?;
            let text = is_one_text.then_some((entry.size, entry.digest));
            staged.push(StagedCopy::new(temp, target, place.clone(), entry, text)?);
        }
        recheck(self)?;
        for (staged, MergeTarget { place, over, .. }) in staged.into_iter().zip(to) {
            if place.0 == Side::Remote {
                self.ledger.record(&place.1, &staged.entry)?;
            }
            self.record_name_changes(&staged)?;
            self.place(staged, *over)?;
        }
        Ok(())
    }

    /// Gives a complete copy its name, after making the ledger and the copy durable.
    fn place(&mut self, staged: StagedCopy, over: Option<Stat>) -> Result<(), StepFailure> {
        self.check_interrupt()?;
        self.ledger.sync()?;
        self.check_interrupt()?;
        staged.temp.sync()?;
        if over.is_some() {
            // Checked again because fsync can take long.
            check_target_unchanged(&staged.target, over)?;
            staged.temp.replace_synced(&staged.target)?;
        } else {
            rename_new(staged.temp, &staged.target)?;
            atomic::sync_folder(atomic::parent_of(&staged.target))?;
        }
        self.placed.push(staged.placed);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &ObservedFile, to: &str) -> Result<(), StepFailure> {
        let source = self.copier.check_unchanged(from)?;
        let to = (from.side, to.to_owned());
        let target = prepare_target(self.request.config, self.plan, &to)?;
        check_target_unchanged(&target, None)?;
        if from.side == Side::Remote {
            // A rename keeps the key, so manifests list the file already. The entry attests its new path too.
            let digest = contents::raw_digest(&source).at("read", &source)?;
            let entry = ManifestEntry {
                size: from.stat.size,
                mtime_ns: from.stat.mtime_ns,
                digest,
            };
            self.copier.check_unchanged(from)?;
            self.ledger.record(&to.1, &entry)?;
            self.ledger.sync()?;
        }
        match atomic::rename_new(&source, &target) {
            Err(e) if e.source.kind() == io::ErrorKind::CrossesDevices => {
                self.move_across_disks(from, to, target)
            }
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(changed_meanwhile(&target))
            }
            renamed => {
                renamed?;
                atomic::sync_folder(atomic::parent_of(&source))?;
                Ok(())
            }
        }
    }

    /// Moves a file to another disk by a copy and a removal: `sessions` or `archived_sessions` can be a link or a mount.
    /// A run killed in between leaves two files of one conversation, which the next plan folds into one.
    fn move_across_disks(
        &mut self,
        from: &ObservedFile,
        to: (Side, String),
        target: PathBuf,
    ) -> Result<(), StepFailure> {
        let copy = CopyOp {
            from: from.clone(),
            to,
            over: None,
            mtime_ns: from.stat.mtime_ns,
            expect: None,
            replaced: None,
        };
        let staged = self.copier.stage(&copy, target)?;
        self.place(staged, None)?;
        self.remove(from)
    }

    pub(super) fn remove(&mut self, seen: &ObservedFile) -> Result<(), StepFailure> {
        let path = match self.copier.check_unchanged(seen) {
            Ok(path) => path,
            // Removed already, which is the intended result.
            Err(_)
                if !self
                    .request
                    .config
                    .file_path(seen.side, &seen.path)
                    .exists() =>
            {
                return Ok(());
            }
            Err(left) => return Err(left),
        };
        sharing::remove_file(&path).at("remove", &path)?;
        atomic::sync_folder(atomic::parent_of(&path))?;
        Ok(())
    }
}
