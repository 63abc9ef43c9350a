//! Plans for line-based files, with the copies that cloud clients made of them.

use super::file_plan::FilePlan;
use super::merging::plan_merge;
use super::plain::{PairState, plan_pair, usable_pair};
use crate::io::IoContext;
use crate::sync::contents;
use crate::sync::decide::FileKind;
use crate::sync::notice::NoticeList;
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::delivery::{DownloadState, download_state};
use crate::sync::plan::facts::file_version::{FilePair, FileVersion, has_complete_lines};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::FileGroup;
use crate::sync::plan::sync_step::ObservedFile;
use crate::sync::scan::{ListedFile, Side};

/// Plans a line-based file, and merges the copies that cloud clients made of it.
pub(crate) fn plan_line_file(
    inputs: &Inputs<'_>,
    key: &str,
    group: &FileGroup,
) -> Result<FilePlan, PlanError> {
    let pair = match usable_pair(inputs, key, key, FileKind::Lines, group)? {
        PairState::Usable(pair) => pair,
        PairState::Left(plan) => return Ok(plan),
    };
    let mut copies = Vec::new();
    let mut notices = Vec::new();
    for copy in &group.client_copies {
        match download_state(inputs, key, copy, true, None)? {
            DownloadState::Complete(version) => copies.push(version),
            DownloadState::Incomplete(_) if has_complete_text(inputs, copy)? => {
                copies.push(FileVersion::of(Side::Remote, copy));
            }
            DownloadState::Incomplete(why) => {
                notices.push(NoticeList::WaitingUnlisted.notice(&copy.path, why));
            }
        }
    }
    let mut plan = match plan_copies(inputs, &pair, &copies)? {
        Some(plan) => plan,
        None => plan_pair(inputs, &pair)?,
    };
    plan.notices.extend(notices);
    Ok(plan)
}

/// Returns the plan that merges clients' copies into both sides; `None` if they add nothing.
fn plan_copies(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    copies: &[FileVersion],
) -> Result<Option<FilePlan>, PlanError> {
    if copies.is_empty() {
        return Ok(None);
    }
    let mut versions: Vec<&FileVersion> = pair.local.iter().chain(&pair.remote).collect();
    let side_files = versions.len();
    versions.extend(copies);
    plan_merge(inputs, pair.key, &versions, side_files)
}

/// Returns true if all lines of a client's copy are complete: merging them loses nothing. A client can copy a version
/// that no machine will ever attest.
fn has_complete_text(inputs: &Inputs<'_>, copy: &ListedFile) -> Result<bool, PlanError> {
    let seen = ObservedFile::of(Side::Remote, copy);
    let path = seen.full_path(inputs.config);
    Ok(has_complete_lines(inputs.config, &seen)?
        && !contents::is_zero_filled(&path, true, true).at("read", &path)?)
}
