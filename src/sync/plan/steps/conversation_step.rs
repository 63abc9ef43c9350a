//! Decides about the two main versions of a conversation.

use super::conversation_draft::ConversationDraft;
use super::file_plan::{FileOutcome, FilePlan, attested_equal, conflict, deletion_step, equal};
use super::sync_step::{CopyOp, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep};
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

/// The main versions of both sides.
struct MainVersions<'a> {
    local: Option<&'a FileVersion>,
    remote: Option<&'a FileVersion>,
    /// The remote file under the conversation's own name, which other machines read; the remote main version can also
    /// be a client's copy that has more lines.
    canonical: Option<&'a ObservedFile>,
    /// The folder that both sides should have, if they differ.
    common_folder: Option<String>,
    is_diverged: bool,
}

impl MainVersions<'_> {
    fn remote_is_client_copy(&self) -> bool {
        self.remote
            .is_some_and(|version| Some(&version.seen) != self.canonical)
    }

    /// Returns the folder of both sides, which is that of `path` if they agree.
    fn folder<'a>(&'a self, path: &'a str) -> &'a str {
        self.common_folder
            .as_deref()
            .unwrap_or(rollouts::folder(path))
    }
}

/// The part of a step that brings both sides to the same version.
struct Transfer {
    /// The action with its reason; `None` if nothing is copied from side to side.
    action: Option<(SyncAction, &'static str)>,
    /// Number of copied bytes.
    bytes: u64,
    change: ContentChange,
    state_update: StateUpdate,
}

impl Transfer {
    /// Nothing is copied or recorded.
    const NONE: Self = Self {
        action: None,
        bytes: 0,
        change: ContentChange::Unchanged,
        state_update: StateUpdate::None,
    };
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
    let mut plan = if let Some(outcome) = outcome_without_ops(inputs, &pair, facts, decision)? {
        outcome.into()
    } else {
        let duplicates = local.duplicates.into_iter().chain(remote.duplicates);
        let duplicates = duplicates.collect();
        let decided = (facts, decision);
        plan_ops(inputs, &mut draft, &pair, canonical, decided, duplicates)?
    };
    plan.notices = draft.notices;
    plan.published_records = draft.published_records;
    Ok(plan)
}

/// Returns a conflict or a deletion; `None` for all other decisions. The ops of the draft do not count then: nothing
/// of a conversation changes before the user has decided, and a deletion has ops of its own.
fn outcome_without_ops(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    facts: FileFacts,
    decision: FileDecision,
) -> Result<Option<FileOutcome>, PlanError> {
    let (key, path) = (pair.key, pair.path);
    Ok(match (decision, &pair.local, &pair.remote) {
        (FileDecision::Conflict, Some(local), Some(remote)) => {
            let mut conflict = conflict(pair, facts);
            if let Some(id) = rollouts::id(key) {
                let local = local.seen.full_path(inputs.config);
                let remote = remote.seen.full_path(inputs.config);
                let versions = ConflictingVersions::read(&inputs.config.local, id, &local, &remote);
                conflict.versions = Some(versions.at("read", &local)?);
            }
            Some(FileOutcome::Conflict(conflict))
        }
        (FileDecision::DeleteCloud, None, Some(version)) => {
            let digest = text_digest(inputs.config, &version.seen)?.1;
            let update = StateUpdate::PublishDeletion(digest);
            let action = SyncAction::DeleteCloud;
            Some(FileOutcome::Step(deletion_step(
                key, path, action, version, update,
            )))
        }
        (FileDecision::DeleteLocal, Some(version), None) => {
            let (action, update) = (SyncAction::DeleteLocal, StateUpdate::Forget);
            Some(FileOutcome::Step(deletion_step(
                key, path, action, version, update,
            )))
        }
        _ => None,
    })
}

/// Plans the step that brings both sides to the same version in one file each.
fn plan_ops(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    pair: &FilePair<'_>,
    canonical: Option<&ObservedFile>,
    (facts, decision): (FileFacts, FileDecision),
    duplicates: Vec<ObservedFile>,
) -> Result<FilePlan, PlanError> {
    let mains = MainVersions {
        local: pair.local.as_ref(),
        remote: pair.remote.as_ref(),
        canonical,
        common_folder: target_folder(draft, pair.local.as_ref(), canonical),
        is_diverged: facts.relation == Some(Relation::Diverged),
    };
    let transfer = match (decision, mains.local, mains.remote) {
        (FileDecision::CopyToCloud(why), Some(version), _) => {
            add_upload(inputs, draft, &mains, version, why)?
        }
        (FileDecision::CopyToLocal(why), _, Some(version)) => {
            add_download(inputs, draft, &mains, version, why)?
        }
        (FileDecision::RecordEqual | FileDecision::Nothing, Some(local), Some(remote)) => {
            add_moves(inputs, draft, &mains, local, remote)?
        }
        _ => Transfer::NONE,
    };
    draft.remove_duplicates(duplicates);
    if draft.ops.is_empty() {
        return equal_conversation(inputs, pair, facts);
    }
    let conflict = draft.conflict_note(decision, facts);
    let (action, reason) = transfer
        .action
        .unwrap_or_else(|| draft.action_without_copy());
    let step = SyncStep {
        key: pair.key.to_owned(),
        path: pair.path.to_owned(),
        action,
        reason: reason.to_owned(),
        bytes: transfer.bytes,
        ops: std::mem::take(&mut draft.ops),
        state_update: transfer.state_update,
        change: transfer.change,
        conflict,
    };
    Ok(FileOutcome::Step(step).into())
}

/// Adds the ops that copy the local version to the cloud folder.
fn add_upload(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    mains: &MainVersions<'_>,
    version: &FileVersion,
    why: CopyReason,
) -> Result<Transfer, PlanError> {
    match mains.remote {
        None => draft.published_records = cancelled_deletions(inputs, draft.key)?,
        Some(remote) if mains.is_diverged => draft.keep_conflict_copy(inputs, &remote.seen)?,
        Some(remote) if why == CopyReason::Rewritten => {
            draft.give_up_rewritten(inputs, &remote.seen, version)?;
        }
        Some(_) => {}
    }
    let folder = mains.folder(&version.seen.path);
    let remote = add_copy(
        inputs,
        draft,
        version,
        Side::Remote,
        folder,
        mains.canonical,
    )?;
    let local = draft.add_move(&version.seen, folder);
    Ok(Transfer {
        action: Some((SyncAction::CopyToCloud, why.text(Side::Local))),
        bytes: version.seen.stat.size,
        change: ContentChange::Unchanged,
        state_update: StateUpdate::Synced { local, remote },
    })
}

/// Adds the ops that copy the remote version to this machine, and a client's copy to the conversation's own name.
fn add_download(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    mains: &MainVersions<'_>,
    version: &FileVersion,
    why: CopyReason,
) -> Result<Transfer, PlanError> {
    let old = mains.local.map(|local| &local.seen);
    if mains.is_diverged
        && let Some(old) = old
    {
        draft.keep_conflict_copy(inputs, old)?;
    }
    let change = match old {
        None => ContentChange::New,
        Some(_) if mains.is_diverged || why == CopyReason::Rewritten => ContentChange::Replaced,
        Some(_) => ContentChange::Extended,
    };
    if why == CopyReason::Rewritten
        && let Some(old) = old
    {
        draft.give_up_rewritten(inputs, old, version)?;
    }
    let folder = mains.folder(
        mains
            .canonical
            .map_or(&version.seen.path, |file| &file.path),
    );
    let local = add_copy(inputs, draft, version, Side::Local, folder, old)?;
    let remote = if mains.remote_is_client_copy() {
        add_copy(
            inputs,
            draft,
            version,
            Side::Remote,
            folder,
            mains.canonical,
        )?
    } else {
        draft.add_move(&version.seen, folder)
    };
    Ok(Transfer {
        action: Some((SyncAction::CopyToLocal, why.text(Side::Remote))),
        bytes: version.seen.stat.size,
        change,
        state_update: StateUpdate::Synced { local, remote },
    })
}

/// Adds the ops that move two equal versions to the common folder, and copy a client's copy to the conversation's
/// own name.
fn add_moves(
    inputs: &Inputs<'_>,
    draft: &mut ConversationDraft<'_>,
    mains: &MainVersions<'_>,
    local: &FileVersion,
    remote: &FileVersion,
) -> Result<Transfer, PlanError> {
    let folder = mains.folder(&local.seen.path);
    let local_placement = draft.add_move(&local.seen, folder);
    let is_client_copy = mains.remote_is_client_copy();
    let remote_placement = if is_client_copy {
        add_copy(inputs, draft, local, Side::Remote, folder, mains.canonical)?
    } else {
        draft.add_move(&remote.seen, folder)
    };
    let why = "the cloud client had renamed it";
    Ok(Transfer {
        action: is_client_copy.then_some((SyncAction::CopyToCloud, why)),
        bytes: if is_client_copy {
            local.seen.stat.size
        } else {
            0
        },
        change: ContentChange::Unchanged,
        state_update: StateUpdate::Synced {
            local: local_placement,
            remote: remote_placement,
        },
    })
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
    let to = if folder.is_empty() {
        name
    } else {
        format!("{folder}/{name}")
    };
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
fn target_folder(
    draft: &ConversationDraft<'_>,
    local: Option<&FileVersion>,
    remote: Option<&ObservedFile>,
) -> Option<String> {
    let (local, remote) = (local?, remote?);
    let local = rollouts::folder(&local.seen.path);
    let remote = rollouts::folder(&remote.path);
    if local == remote {
        return None;
    }
    let last = draft.last.map(|last| rollouts::folder(&last.local.path));
    Some(
        match last {
            Some(last) if last == remote => local,
            Some(last) if last == local => remote,
            // `is_archived` needs a path below the archive; `local` can be the archive folder itself.
            _ if rollouts::is_archived(local) || local == "archived_sessions" => remote,
            _ => local,
        }
        .to_owned(),
    )
}

/// Returns true for compressed conversations. Clients append their mark to the complete name, so `.zst` can be in
/// the middle.
fn is_compressed_copy(seen: &ObservedFile) -> bool {
    seen.path.contains(&format!(".jsonl{ZST}")) || seen.path.ends_with(ZST)
}
