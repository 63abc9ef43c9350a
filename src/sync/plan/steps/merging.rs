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

/// Plans a merge of these versions, of which the first `side_files` are the files of the two sides and the others are
/// clients' copies. Returns `None` if both sides have all lines. If an attested file changed between its check and the
/// merge, the sync waits for it.
pub(crate) fn plan_merge(
    inputs: &Inputs<'_>,
    key: &str,
    versions: &[&FileVersion],
    side_files: usize,
) -> Result<Option<FilePlan>, PlanError> {
    let paths: Vec<_> = versions
        .iter()
        .map(|v| v.seen.full_path(inputs.config))
        .collect();
    let merge = line_merge::merge(&paths)?;
    let at = |side| {
        let mut files = versions[..side_files].iter();
        files.position(|version| version.seen.side == side)
    };
    let local_first_line = match (prompt_limit(inputs, key), at(Side::Local)) {
        (Some(limit), Some(version)) => merge.first_within(limit, version),
        _ => 0,
    };
    let sides = [(Side::Local, local_first_line), (Side::Remote, 0)].into_iter();
    let changed = sides.filter(|(side, first)| {
        at(*side).is_none_or(|version| !merge.matches_version(*first, version))
    });
    let changed: Vec<_> = changed.collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let mut read = versions.iter().zip(&merge.digests);
    if read.any(|(version, read)| version.digest.is_some_and(|attested| attested != *read)) {
        let why = "changed while it was read";
        return Ok(Some(NoticeList::Waiting.notice(key, why).into()));
    }
    let step = merge_step(key, versions, &merge, &changed, local_first_line == 0);
    Ok(Some(FileOutcome::Step(step).into()))
}

/// Returns the size to which Codex truncates its history of prompts; `None` for other files.
fn prompt_limit(inputs: &Inputs<'_>, key: &str) -> Option<u64> {
    let config = (key == PROMPT_HISTORY).then(|| CodexConfig::read(&inputs.config.local))?;
    config.history_max_bytes.ok().flatten()
}

/// Returns the step that writes the merge to the sides of `changed`, each from the index of its first merged line on.
fn merge_step(
    key: &str,
    versions: &[&FileVersion],
    merge: &Merge,
    changed: &[(Side, usize)],
    is_one_text: bool,
) -> SyncStep {
    let over = |side| {
        let mut seen = versions.iter().map(|version| &version.seen);
        let found = seen.find(|seen| seen.side == side && seen.path == key);
        found.map(|seen| seen.stat)
    };
    let placement = |side| Placement {
        path: key.to_owned(),
        stat: over(side).filter(|_| !changed.iter().any(|(written, _)| *written == side)),
    };
    let targets = changed.iter().map(|(side, first)| MergeTarget {
        place: (*side, key.to_owned()),
        over: over(*side),
        first: *first,
    });
    let read = versions.iter().zip(&merge.digests);
    let op = Op::Merge {
        versions: read.map(|(v, read)| (v.seen.clone(), *read)).collect(),
        to: targets.collect(),
        is_one_text,
    };
    let sizes = changed.iter().map(|(_, first)| merge.bytes_from(*first));
    SyncStep {
        key: key.to_owned(),
        path: key.to_owned(),
        action: SyncAction::Merge,
        reason: "lines of all versions, in order of time".into(),
        bytes: sizes.sum(),
        ops: vec![op],
        state_update: StateUpdate::Synced {
            local: placement(Side::Local),
            remote: placement(Side::Remote),
        },
        change: ContentChange::Unchanged,
        conflict: None,
    }
}
