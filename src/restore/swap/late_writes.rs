//! Keeps later writes: files that were written after a restore was killed, in a state that its
//! recovery is about to remove. They stay beside the live path.

use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::file_id::look;
use crate::io::{IoContext, IoError, atomic, tree};
use crate::restore::step::{ExchangeStep, LateWrites, move_beside, rename};
use crate::restore::write_times::{changed_ns, is_written_since};
use std::path::{Path, PathBuf};

/// Finds later writes in the state that a recovery removes.
pub(super) struct LateWriteFinder<'a> {
    /// The home that was restored.
    pub(super) home: &'a Path,
    /// The path of its login, which [`super::RecoveryGuard`] handles.
    pub(super) auth_json: &'a Path,
}

impl LateWriteFinder<'_> {
    /// Moves later writes in the staged side of `step` beside its live path, and returns where.
    /// `scratch` is a folder for this step on the same file system.
    pub(super) fn keep_late_writes(
        &self,
        step: &ExchangeStep,
        since_ns: i64,
        scratch: &Path,
    ) -> Result<Option<PathBuf>, IoError> {
        if let Some((_, meta)) = look(&step.staged)?
            && !self.is_disposable(&step.live)
        {
            let is_late = step.late_writes == Some(LateWrites::WholeEntry);
            if is_late || !meta.is_dir() && is_written_since(&meta, since_ns) {
                return move_beside(&step.staged, &step.live).map(Some);
            }
            if meta.is_dir() {
                let mut names = Vec::new();
                self.collect_late_files(step, since_ns, Path::new(""), false, &mut names)?;
                for name in names {
                    let (from, to) = (step.staged.join(&name), scratch.join(&name));
                    atomic::create_private_folder(atomic::parent_of(&to))?;
                    rename(&from, &to).at("move", &from)?;
                }
            }
        }
        // Includes files that an interrupted recovery put there.
        if look(scratch)?.is_none() {
            return Ok(None);
        }
        tree::sync(scratch)?;
        move_beside(scratch, &step.live).map(Some)
    }

    /// Collects the files below `folder` of the staged side that have to be kept.
    fn collect_late_files(
        &self,
        step: &ExchangeStep,
        since_ns: i64,
        folder: &Path,
        is_new: bool,
        names: &mut Vec<PathBuf>,
    ) -> Result<(), IoError> {
        let path = step.staged.join(folder);
        for (name, _) in tree::list(&path).at("list", &path)? {
            let name = folder.join(name);
            let live = look(&step.live.join(&name))?;
            let Some((id, meta)) = look(&step.staged.join(&name))? else {
                continue;
            };
            let is_changed = changed_ns(&meta) > since_ns && step.late_writes.is_some();
            if meta.is_dir() {
                // Files in a folder that was moved here have no new ctime themselves.
                let is_new = is_new || (is_changed && live.is_none());
                self.collect_late_files(step, since_ns, &name, is_new, names)?;
                continue;
            }
            let is_also_live = live.is_some_and(|(live, _)| live.is(id));
            let is_late = is_new || is_changed || is_written_since(&meta, since_ns);
            if is_late && !is_also_live && !self.is_disposable(&step.live.join(&name)) {
                names.push(name);
            }
        }
        Ok(())
    }

    /// Returns true for files that Codex creates again, and for the login, which is handled apart.
    fn is_disposable(&self, live: &Path) -> bool {
        let transient = |name: &Path| {
            let is_index = name.as_os_str().as_encoded_bytes().ends_with(b"-shm");
            match kind_of(name) {
                HomeEntryKind::Transient | HomeEntryKind::Tmp => true,
                HomeEntryKind::DatabaseSidecar => is_index,
                _ => false,
            }
        };
        let name = live.strip_prefix(self.home).ok();
        let name = name.filter(|name| !name.as_os_str().is_empty());
        live == self.auth_json || name.is_some_and(transient)
    }
}
