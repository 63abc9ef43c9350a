//! File operations on synced files: copy, merge, rename, remove; on conflict copies: write, replicate, remove.

use super::copying::{StagedCopy, copy_mode};
use super::error::{ApplyError, StepFailure, changed_file_failure};
use super::run::ApplyRun;
use super::targets::{check_mounted, prepare_target, refuse_occupied};
use crate::codex::rollout;
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, owner, sharing};
use crate::sync::conflict_copies::{self, ConflictCopyFolders};
use crate::sync::contents::{self, TextDigest};
use crate::sync::line_merge::{self, Merge};
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::{CopyOp, MergeOp, MergeTarget, NewConflictCopy, ObservedFile};
use crate::sync::sides::{Side, SidePath, Stat, move_into_place, set_mtime};
use std::io;
use std::path::{Path, PathBuf};

/// The steps in which FAT stores mtimes.
const FAT_MTIME_STEP_NS: i64 = 2_000_000_000;

impl ApplyRun<'_> {
    pub(super) fn apply_copy(&mut self, copy: &CopyOp) -> Result<(), StepFailure> {
        let target = prepare_target(self.request.config, self.plan, &copy.to)?;
        // The copy is complete before the ledger lists it: the entry of a version that never exists would stay forever.
        let staged = self.copier.stage(copy, target)?;
        self.record_in_ledger(copy, &staged.entry)?;
        self.record_name_changes(&staged)?;
        self.publish_copy(staged, copy.replaced_stat)
    }

    /// Writes the merged lines of all versions to each target. Fails before it replaces a file if the bytes of a
    /// version differ from those that the plan read, for example because a cloud client truncated the file.
    pub(super) fn apply_merge(&mut self, op: &MergeOp) -> Result<(), StepFailure> {
        let require_all_unchanged = |run: &Self| {
            let planned = op.versions.iter().map(|(planned, _)| planned);
            let paths = planned.map(|planned| run.copier.require_unchanged(planned));
            paths.collect::<Result<Vec<_>, _>>()
        };

        let paths = require_all_unchanged(self)?;
        let merge = line_merge::merge_versions(&paths)?;
        let read_versions = paths.iter().zip(&merge.versions);
        for ((_, planned_digest), (path, read)) in op.versions.iter().zip(read_versions) {
            if *planned_digest != read.digest {
                return Err(changed_file_failure(path));
            }
        }

        let mtime_ns = choose_merge_mtime(op, &merge);
        let mut staged = Vec::new();
        for target in &op.targets {
            staged.push(self.stage_merge(target, &merge, mtime_ns, op.makes_sides_equal)?);
        }

        require_all_unchanged(self)?;
        // Both sides are staged before the first one is replaced, so a merge that fails changes neither.
        for (staged, target) in staged.into_iter().zip(&op.targets) {
            if target.to.side == Side::Remote {
                self.ledger.record_upload(&target.to.path, &staged.entry)?;
            }
            self.record_name_changes(&staged)?;
            self.publish_copy(staged, target.replaced_stat)?;
        }
        Ok(())
    }

    /// Writes the merged lines of one side to a temp file beside the target.
    fn stage_merge(
        &self,
        MergeTarget { to, first_line, .. }: &MergeTarget,
        merge: &Merge,
        mtime_ns: i64,
        makes_sides_equal: bool,
    ) -> Result<StagedCopy, StepFailure> {
        let target = prepare_target(self.request.config, self.plan, to)?;
        let mut temp = self.copier.create_temp(to.side, &target)?;
        let written = merge.write_from(*first_line, temp.file());
        written.at("merge", &target)?;
        let size = merge.bytes_from(*first_line);
        self.request.progress.add_bytes(size);
        let digest = contents::read_raw_digest(temp.path()).at("read", &target)?;

        // A replaced file keeps its mode. A new merged file has no single source, so it gets 0600.
        copy_mode(temp.file(), &target).at("set mode", &target)?;
        owner::copy_access_or_warn(&target, temp.path());
        let entry = ManifestEntry::new(Stat { size, mtime_ns }, digest);
        // The state has one digest for both sides, and none if the local file lacks old prompts.
        let text = makes_sides_equal.then_some(TextDigest { len: size, digest });
        StagedCopy::new(temp, target, to.clone(), entry, text)
    }

    /// Makes the ledger and a complete copy durable, and then renames the copy to its target. Fails if the target no
    /// longer has `planned_stat`; with `None`, the plan found no file, so any file is a failure.
    fn publish_copy(
        &mut self,
        staged: StagedCopy,
        planned_stat: Option<Stat>,
    ) -> Result<(), StepFailure> {
        self.request.check_interrupt()?;
        self.ledger.sync()?;
        self.request.check_interrupt()?;
        staged.temp.sync()?;

        // Checked again because fsync can take long.
        if !move_into_place(staged.temp, &staged.target, planned_stat)? {
            return Err(changed_file_failure(&staged.target));
        }
        self.placed_files.push(staged.placed);
        Ok(())
    }

    pub(super) fn apply_rename(
        &mut self,
        from: &ObservedFile,
        to: &SidePath,
    ) -> Result<(), StepFailure> {
        let source = self.copier.require_unchanged(from)?;
        let target = prepare_target(self.request.config, self.plan, to)?;
        refuse_occupied(&target)?;

        if from.side == Side::Remote {
            // Manifests list the file under its former path. The entry attests the new path.
            let digest = contents::read_raw_digest(&source).at("read", &source)?;
            let entry = ManifestEntry::new(from.stat, digest);
            self.copier.require_unchanged(from)?;
            self.ledger.record_upload(&to.path, &entry)?;
            self.ledger.sync()?;
        }

        match atomic::rename_to_free(&source, &target) {
            Ok(()) => Ok(atomic::sync_folder(atomic::parent_of(&source))?),
            Err(e) if e.source.kind() == io::ErrorKind::CrossesDevices => {
                self.move_across_disks(from, to.clone(), target)
            }
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(changed_file_failure(&target))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Moves a file to another disk by a copy and a removal: `sessions` or `archived_sessions` can be a link or a
    /// mount. A run that is killed in between leaves two files of one conversation; the next plan removes one of them.
    fn move_across_disks(
        &mut self,
        from: &ObservedFile,
        to: SidePath,
        target: PathBuf,
    ) -> Result<(), StepFailure> {
        // As with a rename, nothing is at the target, and the content may be any.
        let copy = CopyOp {
            from: from.clone(),
            to,
            replaced_stat: None,
            mtime_ns: from.stat.mtime_ns,
            expected_digest: None,
            replaced_digest: None,
        };

        let staged = self.copier.stage(&copy, target)?;
        let planned_stat = None;
        self.publish_copy(staged, planned_stat)?;
        self.apply_remove(from)
    }

    pub(super) fn apply_remove(&mut self, file: &ObservedFile) -> Result<(), StepFailure> {
        let path = self.copier.require_unchanged(file)?;
        // The plan has decided that the content is not needed at this path, so the file may be removed even if a
        // program has it open.
        sharing::remove_file(&path).at("remove", &path)?;
        atomic::sync_folder(atomic::parent_of(&path))?;
        Ok(())
    }
}

/// Returns the mtime of the merged files: the mtime of the newest version. If a merged file would then have the size
/// and mtime of the file that it replaces, returns a later mtime. The clock is not used, because two machines that
/// merge the same versions have to write the same file.
fn choose_merge_mtime(op: &MergeOp, merge: &Merge) -> i64 {
    let times = op.versions.iter().map(|(planned, _)| planned.stat.mtime_ns);
    let mtime_ns = times.max().unwrap_or(0);
    let looks_unchanged = |target: &MergeTarget| {
        let size = merge.bytes_from(target.first_line);
        target.replaced_stat == Some(Stat { size, mtime_ns })
    };
    if op.targets.iter().any(looks_unchanged) {
        // FAT would round a smaller step away.
        mtime_ns.saturating_add(FAT_MTIME_STEP_NS)
    } else {
        mtime_ns
    }
}

impl ApplyRun<'_> {
    pub(super) fn conflict_copy_folders(&self) -> ConflictCopyFolders {
        let request = self.request;
        ConflictCopyFolders::of(&request.replica.folder, &request.config.cloud)
    }

    /// Stores a version as a conflict copy on both sides.
    pub(super) fn keep_conflict_copy(&mut self, copy: &NewConflictCopy) -> Result<(), StepFailure> {
        let source = self.copier.require_unchanged(&copy.from)?;
        for side in [Side::Local, Side::Remote] {
            self.request.check_interrupt()?;
            let mtime_ns = copy.from.stat.mtime_ns;
            self.write_conflict_copy(&source, side, &copy.name, &copy.digest, mtime_ns)?;
        }
        Ok(())
    }

    /// Copies a conflict copy to the other side, if it matches the digest in its name.
    pub(super) fn replicate_conflict_copy(
        &mut self,
        from_side: Side,
        name: &str,
    ) -> Result<(), StepFailure> {
        let source = self.conflict_copy_folders().path(from_side, name);

        let Some(stat) = Stat::read(&source)? else {
            return Err(StepFailure::Skip(format!(
                "removed in the meantime: {}",
                source.display()
            )));
        };

        let digest = contents::read_raw_digest(&source).at("read", &source)?;
        if !name.contains(&conflict_copies::digest_prefix(&digest)) {
            let why = format!(
                "the content does not match the digest in the name: {}",
                source.display()
            );
            return Err(StepFailure::Skip(why));
        }
        self.write_conflict_copy(&source, from_side.other(), name, &digest, stat.mtime_ns)
    }

    /// Writes the uncompressed text of a version as a conflict copy, unless the conflict copy has this text already.
    fn write_conflict_copy(
        &self,
        source: &Path,
        side: Side,
        name: &str,
        digest: &Sha256Digest,
        mtime_ns: i64,
    ) -> Result<(), StepFailure> {
        let target = &self.conflict_copy_folders().path(side, name);
        // A killed run may have written it on one side only.
        if contents::read_raw_digest(target).is_ok_and(|existing| existing == *digest) {
            return Ok(());
        }

        let root = match side {
            Side::Local => &self.request.replica.folder,
            Side::Remote => {
                let cloud = &self.request.config.cloud;
                check_mounted(self.plan, cloud).map_err(ApplyError::from)?;
                cloud
            }
        };
        atomic::create_durable_below(root, atomic::parent_of(target))?;

        let mut temp = TempFile::create_beside(target)?;
        let mut reader = rollout::open_plain(source).at("open", source)?;
        let copied = self.copier.copy_bytes(&mut *reader, temp.file());
        let (copied_digest, _) = copied.at("copy", source)?;
        if copied_digest != *digest {
            return Err(changed_file_failure(source));
        }

        set_mtime(temp.file(), mtime_ns).at("set time", target)?;
        temp.replace(target)?;
        Ok(())
    }
}
