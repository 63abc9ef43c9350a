//! The plan for one file: the decision, the guards over the decision, and the step that carries it out. Plain files
//! (skills, prompts, settings) are copied as a whole; line-based files are merged.

use super::conversation::plan_conversation;
use crate::sync::decide::{CopyReason, FileDecision, decide, describe_conflict, describe_winner};
use crate::sync::file_kind::FileKind;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::NoticeList;
use crate::sync::plan::facts::compared_file::{ComparedFile, LineMergeFacts};
use crate::sync::plan::file_plan::{FileOutcome, FilePlan};
use crate::sync::plan::guards::{drop_login_step, notice_if_refused};
use crate::sync::plan::sync_step::{
    Conflict, CopyOp, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
use crate::sync::sides::{Side, SidePath};

/// Returns the plan for one file, with the notices from reading the file.
pub(crate) fn plan_file(mut file: ComparedFile<'_>) -> FilePlan {
    let notices = std::mem::take(&mut file.notices);
    // Checked after the decision, because the login may be a version that no step reads.
    let mut plan = drop_login_step(&file, plan_by_decision(&file));
    plan.notices.extend(notices);
    plan
}

fn plan_by_decision(file: &ComparedFile<'_>) -> FilePlan {
    // Clients' copies are merged whatever the decision is, because they may have lines that neither side has.
    if let Some(merge) = file.merge.as_ref().filter(|merge| merge.has_client_copies)
        && let Some(plan) = plan_merge(file, merge)
    {
        return plan;
    }

    let decision = decide(file.facts, file.rules);
    if let Some(notice) = notice_if_refused(file, decision) {
        return notice.into();
    }

    match (decision, &file.local, &file.remote) {
        (FileDecision::DeleteCloud | FileDecision::DeleteLocal, ..) => {
            plan_deletion(file, decision).into()
        }
        (FileDecision::Conflict, ..) => FileOutcome::Conflict(to_conflict(file)).into(),
        _ if file.facts.kind == FileKind::Rollout => plan_conversation(file, decision),
        (FileDecision::Nothing | FileDecision::RecordEqual, Some(local), Some(remote)) => {
            FileOutcome::record_equal(file.last, local, remote, file.synced_text).into()
        }
        (FileDecision::Copy(Side::Local, why), Some(from), replaced_version)
        | (FileDecision::Copy(Side::Remote, why), replaced_version, Some(from)) => {
            plan_copy(file, from, replaced_version.as_ref(), why)
        }
        (FileDecision::Merge, Some(local), Some(remote)) => {
            let merge = file.merge.as_ref();
            let merge_plan = merge.and_then(|merge| plan_merge(file, merge));
            merge_plan.unwrap_or_else(|| {
                // No side lacks lines: the sides differ only by those that Codex dropped for `history.max_bytes`.
                let common_text = None;
                FileOutcome::record_equal(file.last, local, remote, common_text).into()
            })
        }
        (FileDecision::Skip, ..) => {
            let why = "differs, and equal_mtime_action is skip";
            NoticeList::Skipped.notice(&file.path, why).into()
        }
        _ => FilePlan::default(),
    }
}

fn to_conflict(file: &ComparedFile<'_>) -> Conflict {
    let to_observed = |version: &Option<FileVersion>| version.as_ref().map(|v| v.observed.clone());
    Conflict {
        path: file.path.clone(),
        reason: describe_conflict(file.facts),
        versions: file.conversation.conflicting.clone(),
        local: to_observed(&file.local),
        remote: to_observed(&file.remote),
        needed_side: None,
    }
}

/// Returns the step that copies a deletion to the other side.
fn plan_deletion(file: &ComparedFile<'_>, decision: FileDecision) -> FileOutcome {
    // A deletion applies to exactly the text of the last sync.
    let (action, deleted, state_update, reason) = match (decision, &file.local, &file.remote) {
        (FileDecision::DeleteCloud, _, Some(remote)) => {
            let Some(text) = file.synced_text else {
                return FileOutcome::LeftAsIs;
            };
            let update = StateUpdate::PublishDeletion(text.digest);
            let why = "deleted on this machine, and delete_policy is propagate";
            (SyncAction::DeleteCloud, remote, update, why)
        }
        (FileDecision::DeleteLocal, Some(local), _) => {
            let why = "deleted on another machine, and delete_policy is propagate";
            (SyncAction::DeleteLocal, local, StateUpdate::Forget, why)
        }
        _ => return FileOutcome::LeftAsIs,
    };

    FileOutcome::Step(SyncStep {
        ops: vec![Op::Remove(deleted.observed.clone())],
        state_update,
        ..SyncStep::new(file.key, &file.path, action, reason)
    })
}

/// Returns the plan that copies the version `from` to the other side, where it replaces `replaced_version`, if there is
/// one.
fn plan_copy(
    file: &ComparedFile<'_>,
    from: &FileVersion,
    replaced_version: Option<&FileVersion>,
    why: CopyReason,
) -> FilePlan {
    let replaced_plain_version = match file.facts.kind {
        FileKind::Plain => replaced_version,
        FileKind::Rollout | FileKind::Lines => None,
    };
    // A replaced file keeps its own spelling of the name.
    let path = &replaced_version.unwrap_or(from).observed.path;
    let source_side = from.observed.side;
    let source = Placement::existing(from.observed.path.clone(), &from.observed);
    let target = Placement::written(path.clone());
    let (local, remote) = source_side.to_local_and_remote(source, target);

    let mut mtime_ns = from.mtime_ns;
    let mut published_records = Vec::new();
    if source_side == Side::Local {
        published_records.clone_from(&file.cancelled_deletions);
        // The copy gets a later mtime than the version that it replaces, even if the clock of this machine is slow,
        // because other machines consider the version with the earlier mtime to be older. A local version that
        // replaces an older one again is no change, and keeps its mtime.
        if let Some(remote) = replaced_plain_version
            && why != CopyReason::OlderCloud
        {
            mtime_ns = mtime_ns.max(remote.mtime_ns.saturating_add(1));
        }
    }

    let action = SyncAction::for_copy(source_side);
    let reason = why.describe(source_side, file.remote_kind);
    let outcome = FileOutcome::Step(SyncStep {
        bytes: from.observed.stat.size,
        ops: vec![Op::Copy(CopyOp {
            from: from.observed.clone(),
            to: SidePath::new(source_side.other(), path),
            replaced_stat: replaced_version.map(|version| version.observed.stat),
            mtime_ns,
            expected_digest: from.attested_digest,
            replaced_digest: replaced_plain_version.and_then(|version| version.raw_digest),
        })],
        state_update: StateUpdate::Synced { local, remote },
        conflict: describe_policy_conflict(file, why, source_side),
        ..SyncStep::new(file.key, &file.path, action, &reason)
    });

    FilePlan {
        outcome,
        published_records,
        ..FilePlan::default()
    }
}

/// Describes a conflict that `conflict.policy` decides in favour of the version on `winning_side`; `None` if the copy
/// has another reason.
fn describe_policy_conflict(
    file: &ComparedFile<'_>,
    why: CopyReason,
    winning_side: Side,
) -> Option<String> {
    if why != CopyReason::Policy {
        return None;
    }

    let loser = if file.is_backed_up {
        "the other one is in the snapshot"
    } else {
        "the other one is overwritten"
    };
    let why = describe_conflict(file.facts);
    let winner = describe_winner(winning_side, file.remote_kind);
    Some(format!("{why}: {winner}, {loser}"))
}

/// Returns the plan that writes the merge to the sides that lack lines; `None` if both sides have all lines. If an
/// attested file changed between its check and the merge, the sync waits for it.
fn plan_merge(file: &ComparedFile<'_>, merge: &LineMergeFacts) -> Option<FilePlan> {
    if merge.op.targets.is_empty() {
        return None;
    }
    if merge.is_outdated {
        let why = "changed while it was read; the next run reads it again";
        return Some(NoticeList::Waiting.notice(file.key, why).into());
    }

    // A side that the step writes has no stat yet, and a file under another spelling of the name is not at `path`.
    let placement = |side| {
        let is_written = merge.op.targets.iter().any(|target| target.to.side == side);
        let observed = file.version_on(side).map(|version| &version.observed);
        let unwritten = observed.filter(|observed| !is_written && observed.path == file.key);
        Placement {
            path: file.key.to_owned(),
            stat: unwritten.map(|observed| observed.stat),
        }
    };

    let reason = "lines of all versions, in order of time";
    let step = SyncStep {
        bytes: merge.bytes,
        ops: vec![Op::Merge(merge.op.clone())],
        state_update: StateUpdate::Synced {
            local: placement(Side::Local),
            remote: placement(Side::Remote),
        },
        ..SyncStep::new(file.key, file.key, SyncAction::Merge, reason)
    };
    Some(FileOutcome::Step(step).into())
}
