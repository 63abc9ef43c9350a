//! Plans for files that each side has at most once. Plain files (skills, prompts, settings) are copied completely or
//! not at all; line-based files come here once clients' copies are merged.

use super::file_plan::{FileOutcome, FilePlan, attested_equal, conflict, deletion_step, equal};
use super::merging::plan_merge;
use crate::sync::cloud_names;
use crate::sync::config::DeletePolicy;
use crate::sync::decide::{
    CopyReason, FileDecision, FileFacts, FileKind, conflict_reason, decide, winner,
};
use crate::sync::index_updates::ContentChange;
use crate::sync::notice::NoticeList;
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::deletions;
use crate::sync::plan::facts::delivery::{DownloadState, usable_version, zero_filled_notice};
use crate::sync::plan::facts::file_facts::collect_facts;
use crate::sync::plan::facts::file_version::{
    FilePair, FileVersion, newer, raw_digest, text_digest,
};
use crate::sync::plan::guards::decision_guard::reason_to_leave;
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::scan::file_group::{FileGroup, display_path};
use crate::sync::plan::sync_step::{CopyOp, Op, Placement, StateUpdate, SyncAction, SyncStep};
use crate::sync::scan::{ListedFile, Side};

/// Plans a plain file. Skips it if one side has two names for it; copies made by cloud clients are only reported.
pub(crate) fn plan_plain_file(
    inputs: &Inputs<'_>,
    key: &str,
    group: &FileGroup,
) -> Result<FilePlan, PlanError> {
    let path = display_path(key, group);
    if group.local.len() > 1 || group.remote.len() > 1 {
        let why = "has two names on one side that are one name on another system; rename one of the files";
        return Ok(NoticeList::Skipped.notice(path, why).into());
    }
    let mut plan = match usable_pair(inputs, key, &path, FileKind::Plain, group)? {
        PairState::Usable(pair) => plan_pair(inputs, &pair)?,
        PairState::Left(plan) => plan,
    };
    plan.notices.extend(group.client_copies.iter().map(|copy| {
        let why = "a copy that a cloud client made of a conflict; it is not synced";
        NoticeList::Note.notice(&copy.path, why)
    }));
    Ok(plan)
}

/// A file before the facts about it are collected.
pub(crate) enum PairState<'a> {
    /// The versions of both sides may be used.
    Usable(FilePair<'a>),
    /// The file is left alone, or is equal by size and time.
    Left(FilePlan),
}

/// Returns the versions of a file that each side has at most once.
pub(crate) fn usable_pair<'a>(
    inputs: &Inputs<'a>,
    key: &'a str,
    path: &'a str,
    kind: FileKind,
    group: &FileGroup,
) -> Result<PairState<'a>, PlanError> {
    let left = |plan| Ok(PairState::Left(plan));
    let mut pair = FilePair {
        key,
        path,
        kind,
        last: inputs.state.files.get(key),
        local: group
            .local
            .first()
            .map(|found| FileVersion::of(Side::Local, found)),
        remote: None,
    };
    let is_line_file = kind == FileKind::Lines;
    if let Some(found) = group.local.first()
        && let Some(notice) = zero_filled_notice(inputs, found, is_line_file, pair.last)?
    {
        return left(notice.into());
    }
    let Some(found) = group.remote.first() else {
        return Ok(PairState::Usable(pair));
    };
    if let Some(outcome) = equal_by_stat(inputs, &pair, found) {
        return left(outcome.into());
    }
    match usable_version(inputs, key, group, found, is_line_file, pair.last)? {
        DownloadState::Complete(version) => {
            pair.remote = Some(version);
            Ok(PairState::Usable(pair))
        }
        DownloadState::Incomplete(_)
            if pair.local.is_none() && pair.last.is_none() && is_beside_original(inputs, found) =>
        {
            let why = "looks like a copy that a cloud client made; it is not synced";
            left(NoticeList::Note.notice(path, why).into())
        }
        DownloadState::Incomplete(why) => {
            left(NoticeList::WaitingUnlisted.notice(path, why).into())
        }
    }
}

/// Returns the outcome for a plain file that no sync has seen, if size and time suffice. Called before the manifests
/// are read: files that are equal on both sides need no attestation.
fn equal_by_stat(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    found: &ListedFile,
) -> Option<FileOutcome> {
    let (None, Some(local), FileKind::Plain) = (pair.last, &pair.local, pair.kind) else {
        return None;
    };
    let remote = FileVersion::of(Side::Remote, found);
    let is_equal = local.seen.stat.size == remote.seen.stat.size
        && inputs.trusts_mtime()
        && newer(inputs.config, local, &remote).is_none();
    is_equal.then(|| equal(inputs.state, pair.key, local, &remote, None))
}

/// Plans a file from its versions: facts, decision, guard, outcome.
pub(crate) fn plan_pair(inputs: &Inputs<'_>, pair: &FilePair<'_>) -> Result<FilePlan, PlanError> {
    let facts = collect_facts(inputs, pair)?;
    let mut rules = inputs.rules_for(pair.path);
    if pair.kind == FileKind::Lines {
        rules.delete = DeletePolicy::Never;
    }
    let decision = decide(facts, rules);
    if let Some(notice) = reason_to_leave(inputs, pair, decision)? {
        return Ok(notice.into());
    }
    outcome(inputs, pair, facts, decision)
}

/// Returns the plan that carries out a decision.
fn outcome(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
    decision: FileDecision,
) -> Result<FilePlan, PlanError> {
    let (key, path) = (pair.key, pair.path);
    let last_contents = pair.last.and_then(|last| last.contents);
    match (decision, &pair.local, &pair.remote) {
        (FileDecision::Nothing, Some(local), Some(remote)) => {
            Ok(equal(inputs.state, key, local, remote, last_contents).into())
        }
        (FileDecision::RecordEqual, Some(local), Some(remote)) => {
            found_equal(inputs, key, (local, remote))
        }
        (FileDecision::CopyToCloud(why), Some(from), over)
        | (FileDecision::CopyToLocal(why), over, Some(from)) => {
            copy(inputs, pair, (from, over.as_ref()), facts, why)
        }
        (FileDecision::Merge, Some(local), Some(remote)) => {
            // Without a merge, Codex dropped the lines that only the remote file has, because of `history.max_bytes`.
            let merge = plan_merge(inputs, key, &[local, remote], 2)?;
            Ok(merge.unwrap_or_else(|| equal(inputs.state, key, local, remote, None).into()))
        }
        (FileDecision::Skip, ..) => {
            let why = "differs, and equal_mtime_action is skip";
            Ok(NoticeList::Skipped.notice(path, why).into())
        }
        (FileDecision::Conflict, ..) => Ok(FileOutcome::Conflict(conflict(pair, facts)).into()),
        _ => {
            let deletion = deletion_step(inputs, pair, decision)?;
            let outcome = deletion.map_or(FileOutcome::Left, FileOutcome::Step);
            Ok(outcome.into())
        }
    }
}

/// Returns the plan for two versions whose contents were found equal: they are recorded, and this machine attests the
/// remote one.
fn found_equal(
    inputs: &Inputs<'_>,
    key: &str,
    (local, remote): (&FileVersion, &FileVersion),
) -> Result<FilePlan, PlanError> {
    let contents = text_digest(inputs.config, &local.seen)?;
    Ok(FilePlan {
        outcome: equal(inputs.state, key, local, remote, Some(contents)),
        attested: attested_equal(remote, contents.1),
        ..FilePlan::default()
    })
}

/// Returns the plan that copies a version to the other side, `over` the version that this side has.
fn copy(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    (from, over): (&FileVersion, Option<&FileVersion>),
    facts: FileFacts,
    reason: CopyReason,
) -> Result<FilePlan, PlanError> {
    let over_plain = over.filter(|_| pair.kind == FileKind::Plain);
    let replaced = over_plain.map(|version| raw_digest(inputs.config, &version.seen));
    let path = &over.unwrap_or(from).seen.path;
    let source = Placement::existing(from.seen.path.clone(), &from.seen);
    let target = Placement::written(path.clone());
    let mut plan = FilePlan::default();
    let mut mtime_ns = from.mtime_ns;
    let (action, to, local, remote) = match from.seen.side {
        Side::Remote => (SyncAction::CopyToLocal, Side::Local, target, source),
        Side::Local => {
            if over.is_none() {
                plan.published_records = deletions::cancelled_deletions(inputs, pair.key);
            }
            // A change is later than what it replaces, whatever the clock of this machine says: see `former_version`.
            if let Some(remote) = over_plain.filter(|_| reason != CopyReason::OlderCloud) {
                mtime_ns = mtime_ns.max(remote.mtime_ns.saturating_add(1));
            }
            (SyncAction::CopyToCloud, Side::Remote, source, target)
        }
    };
    plan.outcome = FileOutcome::Step(SyncStep {
        key: pair.key.to_owned(),
        path: pair.path.to_owned(),
        action,
        reason: reason.text(from.seen.side).into(),
        bytes: from.seen.stat.size,
        ops: vec![Op::Copy(CopyOp {
            from: from.seen.clone(),
            to: (to, path.clone()),
            over: over.map(|version| version.seen.stat),
            mtime_ns,
            expect: from.digest,
            replaced: replaced.transpose()?,
        })],
        state_update: StateUpdate::Synced { local, remote },
        change: ContentChange::Unchanged,
        conflict: policy_note(inputs, facts, reason, from.seen.side),
    });
    Ok(plan)
}

/// Describes the conflict that `conflict.policy` decides in favour of the version on `from`, if it does.
fn policy_note(
    inputs: &Inputs<'_>,
    facts: FileFacts,
    reason: CopyReason,
    from: Side,
) -> Option<String> {
    if reason != CopyReason::Policy {
        return None;
    }
    let loser = if inputs.config.backup.before_overwrite {
        "the other one is in the snapshot"
    } else {
        "the other one is overwritten"
    };
    let (why, winner) = (conflict_reason(facts), winner(from));
    Some(format!("{why}: {winner}, {loser}"))
}

/// Returns true if a file's name looks like a client's copy and the original is beside it.
fn is_beside_original(inputs: &Inputs<'_>, found: &ListedFile) -> bool {
    cloud_names::maybe_copy_of(&found.path)
        .is_some_and(|real| inputs.config.root(Side::Remote).join(real).exists())
}
