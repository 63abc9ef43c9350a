//! Decides about the two main versions of a conversation.

use super::conversation_draft::ConversationDraft;
use super::file_plan::{FileOutcome, FilePlan, attested_equal, conflict, deletion_step, equal};
use crate::codex::rollout::{Relation, ZST};
use crate::io::IoContext;
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::decide::{CopyReason, FileDecision, FileFacts, FileKind, Presence, decide};
use crate::sync::index_updates::ContentChange;
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::deletions::cancelled_deletions;
use crate::sync::plan::facts::file_facts::collect_facts;
use crate::sync::plan::facts::file_version::{FilePair, FileVersion, text_digest};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::sync_step::{
    Conflict, CopyOp, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
use crate::sync::rollouts;
use crate::sync::scan::{Side, Stat};

/// All versions of a conversation on one side.
#[derive(Debug, Default)]
pub(crate) struct SideVersions {
    /// The version that represents this side.
    pub(crate) main: Option<FileVersion>,
    /// Files to remove: the main version or a conflict copy contains all their lines.
    pub(crate) duplicates: Vec<ObservedFile>,
}

/// The version that both sides get, in one file each.
struct ChosenVersion<'a> {
    from: &'a FileVersion,
    /// The reason to copy it to the other side; `None` if both sides have it.
    why: Option<CopyReason>,
    /// The remote file under the conversation's own name, which other machines read; the remote main version can also
    /// be a client's copy that has more lines.
    canonical: Option<&'a ObservedFile>,
    folder: String,
}

impl<'a> ChosenVersion<'a> {
    fn of(
        pair: &'a FilePair<'_>,
        decision: FileDecision,
        canonical: Option<&'a ObservedFile>,
    ) -> Option<Self> {
        let (from, why) = match (decision, &pair.local, &pair.remote) {
            (FileDecision::CopyToCloud(why), Some(local), _) => (local, Some(why)),
            (FileDecision::CopyToLocal(why), _, Some(remote)) => (remote, Some(why)),
            (FileDecision::RecordEqual | FileDecision::Nothing, Some(local), Some(_)) => {
                (local, None)
            }
            _ => return None,
        };
        let own = match from.seen.side {
            Side::Local => &from.seen,
            Side::Remote => canonical.unwrap_or(&from.seen),
        };
        let folder = target_folder(pair, canonical).unwrap_or(rollouts::folder(&own.path));
        Some(Self {
            from,
            why,
            canonical,
            folder: folder.to_owned(),
        })
    }

    /// Returns the file of a side that has the version; `None` if it has to be copied there.
    fn file_on(&self, side: Side, pair: &'a FilePair<'_>) -> Option<&'a ObservedFile> {
        let version = match side {
            Side::Local => pair.local.as_ref(),
            Side::Remote => pair.remote.as_ref(),
        };
        let seen = &version?.seen;
        let has_version = self.why.is_none() || side == self.from.seen.side;
        let is_own_file = side == Side::Local || Some(seen) == self.canonical;
        (has_version && is_own_file).then_some(seen)
    }
}

/// Decides about the two main versions. `canonical` is the remote file under the conversation's own name.
pub(crate) fn plan_conversation_sync(
    inputs: &Inputs<'_>,
    mut draft: ConversationDraft<'_>,
    local: SideVersions,
    remote: SideVersions,
    canonical: Option<&ObservedFile>,
) -> Result<FilePlan, PlanError> {
    let pair = FilePair {
        key: draft.key,
        path: draft.path,
        kind: FileKind::Rollout,
        last: draft.last,
        local: local.main,
        remote: remote.main,
    };
    let facts = collect_facts(inputs, &pair)?;
    let decision = decide(facts, inputs.rules_for(pair.path));
    // In a conflict and in a deletion the ops of the draft do not count: nothing of a conversation changes before the
    // user has decided, and a deletion has ops of its own.
    let mut plan: FilePlan = if decision == FileDecision::Conflict {
        FileOutcome::Conflict(conversation_conflict(inputs, &pair, facts)?).into()
    } else if let Some(step) = deletion_step(inputs, &pair, decision)? {
        FileOutcome::Step(step).into()
    } else {
        let chosen = ChosenVersion::of(&pair, decision, canonical);
        let duplicates = local.duplicates.into_iter().chain(remote.duplicates);
        let duplicates = duplicates.collect();
        let decided = (facts, decision);
        plan_ops(
            inputs,
            &mut draft,
            &pair,
            chosen.as_ref(),
            decided,
            duplicates,
        )?
    };
    plan.notices = draft.notices;
    plan.published_records = draft.published_records;
    Ok(plan)
}

/// Returns the conflict with the messages that only one version has.
fn conversation_conflict(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
) -> Result<Conflict, PlanError> {
    let mut conflict = conflict(pair, facts);
    if let (Some(local), Some(remote), Some(id)) =
        (&conflict.local, &conflict.remote, rollouts::id(pair.key))
    {
        let config = inputs.config;
        let (local, remote) = (local.full_path(config), remote.full_path(config));
        let versions = ConflictingVersions::read(&config.local, id, &local, &remote);
        conflict.versions = Some(versions.at("read", &local)?);
    }
    Ok(conflict)
}

/// Plans the step that brings both sides to the same version in one file each.
fn plan_ops(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    pair: &FilePair<'_>,
    chosen: Option<&ChosenVersion<'_>>,
    (facts, decision): (FileFacts, FileDecision),
    duplicates: Vec<ObservedFile>,
) -> Result<FilePlan, PlanError> {
    let is_diverged = facts.relation == Some(Relation::Diverged);
    let mut state_update = StateUpdate::None;
    if let Some(chosen) = chosen {
        keep_loser(inputs, draft, pair, chosen, is_diverged)?;
        state_update = add_copies_and_moves(inputs, draft, pair, chosen)?;
    }
    draft.remove_duplicates(duplicates);
    if draft.ops.is_empty() {
        return equal_conversation(inputs, pair, facts);
    }
    let copied = draft.ops.iter().find_map(|op| match op {
        Op::Copy(copy) => Some(copy.from.stat.size),
        _ => None,
    });
    let (action, reason) = match chosen {
        Some(ChosenVersion {
            from,
            why: Some(why),
            ..
        }) => {
            let action = match from.seen.side {
                Side::Local => SyncAction::CopyToCloud,
                Side::Remote => SyncAction::CopyToLocal,
            };
            (action, why.text(from.seen.side))
        }
        Some(_) if copied.is_some() => (SyncAction::CopyToCloud, "the cloud client had renamed it"),
        _ => draft.action_without_copy(),
    };
    let step = SyncStep {
        key: pair.key.to_owned(),
        path: pair.path.to_owned(),
        action,
        reason: reason.to_owned(),
        bytes: copied.unwrap_or(0),
        conflict: draft.conflict_note(decision, facts),
        ops: std::mem::take(&mut draft.ops),
        state_update,
        change: chosen.map_or(ContentChange::Unchanged, |chosen| {
            local_change(pair, chosen, is_diverged)
        }),
    };
    Ok(FileOutcome::Step(step).into())
}

/// Adds an op that keeps the version that the chosen one replaces, if it has lines of its own, and records what no
/// machine has to wait for any more.
fn keep_loser(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    pair: &FilePair<'_>,
    chosen: &ChosenVersion<'_>,
    is_diverged: bool,
) -> Result<(), PlanError> {
    let Some(why) = chosen.why else {
        return Ok(());
    };
    let loser = match chosen.from.seen.side {
        Side::Local => &pair.remote,
        Side::Remote => &pair.local,
    };
    match loser {
        None if chosen.from.seen.side == Side::Local => {
            draft.published_records = cancelled_deletions(inputs, draft.key);
        }
        Some(loser) if is_diverged => draft.keep_conflict_copy(inputs, &loser.seen)?,
        Some(loser) if why == CopyReason::Rewritten => {
            draft.give_up_rewritten(inputs, &loser.seen, chosen.from)?;
        }
        _ => {}
    }
    Ok(())
}

/// Adds the ops that give each side the chosen version under the conversation's own name in the common folder.
fn add_copies_and_moves(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    pair: &FilePair<'_>,
    chosen: &ChosenVersion<'_>,
) -> Result<StateUpdate, PlanError> {
    let mut place = |side| {
        if let Some(seen) = chosen.file_on(side, pair) {
            return Ok(draft.add_move(seen, &chosen.folder));
        }
        let old = match side {
            Side::Local => pair.local.as_ref().map(|local| &local.seen),
            Side::Remote => chosen.canonical,
        };
        add_copy(inputs, draft, chosen.from, side, &chosen.folder, old)
    };
    // The copied file moves last: a copy reads it under the name that the plan observed.
    let (local, remote) = if chosen.from.seen.side == Side::Local {
        let remote = place(Side::Remote)?;
        (place(Side::Local)?, remote)
    } else {
        (place(Side::Local)?, place(Side::Remote)?)
    };
    Ok(StateUpdate::Synced { local, remote })
}

/// Returns the effect of the step on the text of the local conversation.
fn local_change(
    pair: &FilePair<'_>,
    chosen: &ChosenVersion<'_>,
    is_diverged: bool,
) -> ContentChange {
    match chosen.why {
        Some(why) if chosen.from.seen.side == Side::Remote => {
            if pair.local.is_none() {
                ContentChange::New
            } else if is_diverged || why == CopyReason::Rewritten {
                ContentChange::Replaced
            } else {
                ContentChange::Extended
            }
        }
        _ => ContentChange::Unchanged,
    }
}

/// Returns the plan for a conversation without ops: both sides are equal, and this machine attests the remote file if
/// no machine does.
fn equal_conversation(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
) -> Result<FilePlan, PlanError> {
    let (Some(local), Some(remote)) = (&pair.local, &pair.remote) else {
        return Ok(FilePlan::default());
    };
    let contents = match pair.last.and_then(|last| last.contents) {
        Some(contents) if facts.relation.is_none() => contents,
        _ => text_digest(inputs.config, &local.seen)?,
    };
    let is_new = facts.remote != Presence::Unchanged;
    Ok(FilePlan {
        outcome: equal(inputs.state, pair.key, local, remote, Some(contents)),
        attested: is_new.then(|| attested_equal(remote, contents.1)).flatten(),
        ..FilePlan::default()
    })
}

/// Adds ops that copy `from` into `folder` on `side`, with the same compression, and that remove `old`, the former
/// file of that side. Returns the resulting placement.
fn add_copy(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    from: &FileVersion,
    side: Side,
    folder: &str,
    old: Option<&ObservedFile>,
) -> Result<Placement, PlanError> {
    let is_compressed = is_compressed_copy(&from.seen);
    let name = if is_compressed {
        format!("{}{ZST}", rollouts::file_name(draft.key))
    } else {
        rollouts::file_name(draft.key).to_owned()
    };
    let to = rollouts::join(folder, &name);
    let over = Stat::at(&inputs.config.root(side).join(&to))?;
    draft.ops.push(Op::Copy(CopyOp {
        from: from.seen.clone(),
        to: (side, to.clone()),
        over,
        mtime_ns: from.mtime_ns,
        expect: from.digest,
        replaced: None,
    }));
    if let Some(old) = old
        && old.side == side
        && old.path != to
    {
        draft.ops.push(Op::Remove(old.clone()));
    }
    Ok(Placement::written(to))
}

/// Returns the folder for a conversation that the sides have in different folders: the one it was moved to since
/// the last sync, else the one that is not the archive. `None` if both sides agree.
fn target_folder<'a>(pair: &'a FilePair<'_>, remote: Option<&'a ObservedFile>) -> Option<&'a str> {
    let local = rollouts::folder(&pair.local.as_ref()?.seen.path);
    let remote = rollouts::folder(&remote?.path);
    let last = pair.last.map(|last| rollouts::folder(&last.local.path));
    match last {
        _ if local == remote => None,
        Some(last) if last == remote => Some(local),
        Some(last) if last == local => Some(remote),
        // `is_archived` needs a path below the archive; `local` can be the archive folder itself.
        _ if rollouts::is_archived(local) || local == "archived_sessions" => Some(remote),
        _ => Some(local),
    }
}

/// Returns true for compressed conversations. Clients append their mark to the complete name, so `.zst` can be in
/// the middle.
fn is_compressed_copy(seen: &ObservedFile) -> bool {
    seen.path.contains(&format!(".jsonl{ZST}")) || seen.path.ends_with(ZST)
}
