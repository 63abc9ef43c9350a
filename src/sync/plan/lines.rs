//! Plans for line-based files (`history.jsonl`, `session_index.jsonl`) and the copies that cloud clients made of them.

use super::delivery::{DownloadState, FileVersion};
use super::error::PlanError;
use super::groups::FileGroup;
use super::inputs::Planner;
use super::steps::ObservedFile;
use crate::io::IoContext;
use crate::sync::contents;
use crate::sync::decide::FileKind;
use crate::sync::scan::{ListedFile, Side};

impl Planner<'_> {
    /// Plans a line-based file, and merges the copies that cloud clients made of it.
    pub(super) fn plan_line_file(&mut self, key: &str, group: &FileGroup) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        if let Some(found) = group.local.first()
            && self.skips_zero_filled(found, true, last)?
        {
            return Ok(());
        }
        let mut remote = None;
        if let Some(found) = group.remote.first() {
            match self.download_state(key, found, true, last)? {
                DownloadState::Complete(version) => remote = Some(version),
                DownloadState::Incomplete(_) if self.adds_nothing(key, group, found, true)? => {
                    remote = Some(FileVersion::remote(found));
                }
                DownloadState::Incomplete(why) => {
                    self.wait_for_listing(key, why);
                    return Ok(());
                }
            }
        }
        let mut copies = Vec::new();
        for copy in &group.client_copies {
            match self.download_state(key, copy, true, None)? {
                DownloadState::Complete(version) => copies.push(version),
                DownloadState::Incomplete(why) => match self.complete_unlisted_lines(copy)? {
                    Some(version) => copies.push(version),
                    None => self.wait_for_listing(&copy.path, why),
                },
            }
        }
        let local = group.local.first().map(FileVersion::local);
        // `plan_pair` checks the remote file again, because other decisions than a merge are possible.
        if copies.is_empty() {
            return self.plan_pair(key, key, FileKind::Lines, group);
        }
        let mut versions: Vec<&FileVersion> = local.iter().chain(&remote).collect();
        let side_files = versions.len();
        versions.extend(&copies);
        let merge = self.plan_merge(key, &versions, side_files)?;
        if merge.sides.is_empty() {
            return self.plan_pair(key, key, FileKind::Lines, group);
        }
        self.push_merge(key, &versions, &merge);
        Ok(())
    }

    /// Returns a version for a client's copy that no machine attests, if all its lines are complete: merging complete
    /// lines loses nothing. A client can copy a version that no machine will ever attest.
    fn complete_unlisted_lines(&self, copy: &ListedFile) -> Result<Option<FileVersion>, PlanError> {
        let seen = ObservedFile {
            side: Side::Remote,
            path: copy.path.clone(),
            stat: copy.stat,
        };
        let path = self.full(&seen);
        let is_whole = self.has_complete_lines(&seen)?
            && !contents::is_zero_filled(&path, true, true).at("read", &path)?;
        Ok(is_whole.then_some(FileVersion {
            mtime_ns: copy.stat.mtime_ns,
            seen,
            digest: None,
        }))
    }
}
