//! Merges of line-based files (`history.jsonl`, `session_index.jsonl`), line by line.

use super::file_plan::{FileOutcome, FilePlan};
use crate::codex::config::CodexConfig;
use crate::sync::index_updates::ContentChange;
use crate::sync::line_merge::{self, Merge};
use crate::sync::notice::NoticeList;
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::file_version::FileVersion;
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::sync_step::{MergeTarget, Op, Placement, StateUpdate, SyncAction, SyncStep};
use crate::sync::scan::Side;

/// The line-based file that Codex truncates to `history.max_bytes`.
const PROMPT_HISTORY: &str = "history.jsonl";

/// A merge with the sides whose files it changes.
pub(crate) struct PlannedMerge {
    merge: Merge,
    /// Each with the index of the first merged line that it gets.
    pub(crate) sides: Vec<(Side, usize)>,
    /// True if both sides have the same lines afterwards; see [`Op::Merge`].
    is_one_text: bool,
}

/// Merges these versions, of which the first `side_files` are the files of the two sides and the others are clients'
/// copies.
pub(crate) fn plan_merge(
    inputs: &Inputs<'_>,
    key: &str,
    versions: &[&FileVersion],
    side_files: usize,
) -> Result<PlannedMerge, PlanError> {
    let paths: Vec<_> = versions
        .iter()
        .map(|v| v.seen.full_path(inputs.config))
        .collect();
    let merge = line_merge::merge(&paths)?;
    let at = |side| {
        versions[..side_files]
            .iter()
            .position(|v| v.seen.side == side)
    };
    let limit = if key == PROMPT_HISTORY {
        CodexConfig::read(inputs.config.root(Side::Local))
            .history_max_bytes
            .ok()
            .flatten()
    } else {
        None
    };
    let local_first_line = match (limit, at(Side::Local)) {
        (Some(limit), Some(version)) => merge.first_within(limit, version),
        _ => 0,
    };
    let sides = [(Side::Local, local_first_line), (Side::Remote, 0)].into_iter();
    let needed = sides.filter(|(side, first)| {
        at(*side).is_none_or(|version| !merge.matches_version(*first, version))
    });
    Ok(PlannedMerge {
        sides: needed.collect(),
        is_one_text: local_first_line == 0,
        merge,
    })
}

/// Returns the plan for a merge. If an attested file changed between its check and the merge, the sync waits for it.
pub(crate) fn merge_plan(key: &str, versions: &[&FileVersion], planned: &PlannedMerge) -> FilePlan {
    let PlannedMerge {
        merge,
        sides,
        is_one_text,
    } = planned;
    let all = || versions.iter().zip(&merge.digests);
    // The attested file was replaced between the check of its digest and the merge.
    if all().any(|(version, read)| version.digest.is_some_and(|attested| attested != *read)) {
        let why = "changed while it was read";
        return NoticeList::Waiting.notice(key, why).into();
    }
    let over = |side| {
        let mut seen = versions.iter().map(|version| &version.seen);
        let found = seen.find(|seen| seen.side == side && seen.path == key);
        found.map(|seen| seen.stat)
    };
    let placement = |side| Placement {
        path: key.to_owned(),
        stat: over(side).filter(|_| !sides.iter().any(|(written, _)| *written == side)),
    };
    let op = Op::Merge {
        versions: all().map(|(v, read)| (v.seen.clone(), *read)).collect(),
        to: sides
            .iter()
            .map(|(side, first)| MergeTarget {
                place: (*side, key.to_owned()),
                over: over(*side),
                first: *first,
            })
            .collect(),
        is_one_text: *is_one_text,
    };
    let step = SyncStep {
        key: key.to_owned(),
        path: key.to_owned(),
        action: SyncAction::Merge,
        reason: "lines of all versions, in order of time".into(),
        bytes: sides
            .iter()
            .map(|(_, first)| merge.bytes_from(*first))
            .sum(),
        ops: vec![op],
        state_update: StateUpdate::Synced {
            local: placement(Side::Local),
            remote: placement(Side::Remote),
        },
        change: ContentChange::Unchanged,
        conflict: None,
    };
    FileOutcome::Step(step).into()
}
