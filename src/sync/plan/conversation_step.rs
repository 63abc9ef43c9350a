//! Decides about the two main versions of a conversation, and pushes its step.

use super::conflict_reasons::conflict_reason;
use super::conversation_draft::ConversationDraft;
use super::delivery::FileVersion;
use super::error::PlanError;
use super::inputs::Planner;
use super::steps::{
    Conflict, CopyOp, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
use crate::codex::rollout::{Relation, ZST};
use crate::sync::decide::{
    CopyReason, FileDecision, FileFacts, FileKind, NewerSide, Presence, decide,
};
use crate::sync::index_updates::ContentChange;
use crate::sync::rollouts;
use crate::sync::scan::{Side, Stat};
use crate::sync::version_vector::CausalOrder;

/// All versions of a conversation on one side.
#[derive(Debug, Default)]
pub(super) struct SideVersions {
    /// The version that represents this side.
    pub(super) main: Option<FileVersion>,
    /// Files to remove: the main version or a conflict copy contains all their lines.
    pub(super) duplicates: Vec<ObservedFile>,
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

impl Planner<'_> {
    /// Decides about the two main versions and pushes the step. `canonical` is the remote file under the conversation's
    /// own name.
    pub(super) fn plan_conversation_sync(
        &mut self,
        mut draft: ConversationDraft<'_>,
        local: SideVersions,
        remote: SideVersions,
        canonical: Option<&ObservedFile>,
    ) -> Result<(), PlanError> {
        let facts = self.conversation_facts(&draft, local.main.as_ref(), remote.main.as_ref())?;
        let decision = decide(facts, self.rules_for(&draft.path));
        let mains = MainVersions {
            local: local.main.as_ref(),
            remote: remote.main.as_ref(),
            canonical,
            common_folder: target_folder(&draft, local.main.as_ref(), canonical),
            is_diverged: facts.relation == Some(Relation::Diverged),
        };
        if self.push_without_ops(&draft, decision, facts, &mains)? {
            return Ok(());
        }
        let transfer = match (decision, mains.local, mains.remote) {
            (FileDecision::CopyToCloud(why), Some(version), _) => {
                self.add_upload(&mut draft, &mains, version, why)?
            }
            (FileDecision::CopyToLocal(why), _, Some(version)) => {
                self.add_download(&mut draft, &mains, version, why)?
            }
            (FileDecision::RecordEqual | FileDecision::Nothing, Some(local), Some(remote)) => {
                self.add_moves(&mut draft, &mains, local, remote)?
            }
            _ => Transfer::NONE,
        };
        let duplicates = local.duplicates.into_iter().chain(remote.duplicates);
        draft.remove_duplicates(duplicates.collect());
        if draft.ops.is_empty() {
            return self.record_equal_conversation(&draft, facts, local.main, remote.main);
        }
        let conflict = draft.conflict_note(decision, facts);
        let (action, reason) = transfer
            .action
            .unwrap_or_else(|| draft.action_without_copy());
        self.plan.steps.push(SyncStep {
            key: draft.key.to_owned(),
            path: draft.path,
            action,
            reason: reason.to_owned(),
            bytes: transfer.bytes,
            ops: draft.ops,
            state_update: transfer.state_update,
            change: transfer.change,
            conflict,
        });
        Ok(())
    }

    /// Adds a conflict or a deletion to the plan. Drops the ops of the draft: nothing of a conversation changes before
    /// the user has decided, and a deletion has ops of its own. Returns false for all other decisions.
    fn push_without_ops(
        &mut self,
        draft: &ConversationDraft<'_>,
        decision: FileDecision,
        facts: FileFacts,
        mains: &MainVersions<'_>,
    ) -> Result<bool, PlanError> {
        match (decision, mains.local, mains.remote) {
            (FileDecision::Conflict, Some(local), Some(remote)) => {
                self.plan.conflicts.push(Conflict {
                    path: draft.path.clone(),
                    reason: conflict_reason(facts),
                    local: Some(local.seen.clone()),
                    remote: Some(remote.seen.clone()),
                });
            }
            (FileDecision::DeleteCloud, None, Some(version)) => {
                let update = StateUpdate::PublishDeletion(self.text_digest(&version.seen)?.1);
                let action = SyncAction::DeleteCloud;
                self.push_delete(draft.key, &draft.path, action, version, update);
            }
            (FileDecision::DeleteLocal, Some(version), None) => {
                let action = SyncAction::DeleteLocal;
                self.push_delete(draft.key, &draft.path, action, version, StateUpdate::Forget);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Adds the ops that copy the local version to the cloud folder.
    fn add_upload(
        &mut self,
        draft: &mut ConversationDraft<'_>,
        mains: &MainVersions<'_>,
        version: &FileVersion,
        why: CopyReason,
    ) -> Result<Transfer, PlanError> {
        match mains.remote {
            None => self.cancel_pending_deletions(draft.key)?,
            Some(remote) if mains.is_diverged => self.keep_conflict_copy(draft, &remote.seen)?,
            Some(_) => {}
        }
        let folder = mains.folder(&version.seen.path);
        let remote = self.add_copy(draft, version, Side::Remote, folder, mains.canonical)?;
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
        &self,
        draft: &mut ConversationDraft<'_>,
        mains: &MainVersions<'_>,
        version: &FileVersion,
        why: CopyReason,
    ) -> Result<Transfer, PlanError> {
        let old = mains.local.map(|local| &local.seen);
        if mains.is_diverged
            && let Some(old) = old
        {
            self.keep_conflict_copy(draft, old)?;
        }
        let change = match (old, mains.is_diverged) {
            (None, _) => ContentChange::New,
            (_, true) => ContentChange::Replaced,
            _ => ContentChange::Extended,
        };
        let folder = mains.folder(
            mains
                .canonical
                .map_or(&version.seen.path, |file| &file.path),
        );
        let local = self.add_copy(draft, version, Side::Local, folder, old)?;
        let remote = if mains.remote_is_client_copy() {
            self.add_copy(draft, version, Side::Remote, folder, mains.canonical)?
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
        &self,
        draft: &mut ConversationDraft<'_>,
        mains: &MainVersions<'_>,
        local: &FileVersion,
        remote: &FileVersion,
    ) -> Result<Transfer, PlanError> {
        let folder = mains.folder(&local.seen.path);
        let local_placement = draft.add_move(&local.seen, folder);
        let is_client_copy = mains.remote_is_client_copy();
        let remote_placement = if is_client_copy {
            self.add_copy(draft, local, Side::Remote, folder, mains.canonical)?
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

    /// Records a conversation without ops as equal, and attests the remote file if no machine does.
    fn record_equal_conversation(
        &mut self,
        draft: &ConversationDraft<'_>,
        facts: FileFacts,
        local: Option<FileVersion>,
        remote: Option<FileVersion>,
    ) -> Result<(), PlanError> {
        let (Some(local), Some(remote)) = (local, remote) else {
            return Ok(());
        };
        let contents = match draft.last.and_then(|last| last.contents) {
            Some(contents) if facts.relation.is_none() => contents,
            _ => self.text_digest(&local.seen)?,
        };
        if facts.remote != Presence::Unchanged {
            self.attest(&remote, contents.1, None, false);
        }
        self.record_equal(draft.key, &local, &remote, Some(contents));
        Ok(())
    }

    /// Collects the facts for [`decide`]. The contents are compared unless both sides are as the last sync left them.
    fn conversation_facts(
        &self,
        draft: &ConversationDraft<'_>,
        local: Option<&FileVersion>,
        remote: Option<&FileVersion>,
    ) -> Result<FileFacts, PlanError> {
        let mut facts = FileFacts {
            kind: FileKind::Rollout,
            local: self.presence(local, draft.last)?,
            remote: self.presence(remote, draft.last)?,
            relation: None,
            newer: NewerSide::Neither,
            causal_order: CausalOrder::Unknown,
            deletion_requested: false,
        };
        self.check_interrupted_download(draft.key, &mut facts, local)?;
        if let (Some(local), Some(remote)) = (local, remote) {
            facts.newer = self.newer(local, remote);
            if (facts.local, facts.remote) != (Presence::Unchanged, Presence::Unchanged) {
                facts.relation = Some(self.relation(&local.seen, &remote.seen)?);
            }
        }
        self.check_deletion(draft.key, &mut facts, (local, remote), draft.last)?;
        Ok(facts)
    }

    /// Adds ops that copy `from` into `folder` on `side`, with the same compression, and that remove `old`, the former
    /// file of that side. Returns the resulting placement.
    fn add_copy(
        &self,
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
        let over = Stat::at(&self.root(side).join(&to))?;
        draft.ops.push(Op::Copy(CopyOp {
            from: from.seen.clone(),
            to: (side, to.clone()),
            over,
            mtime_ns: from.mtime_ns,
            expect: from.digest,
            history: None,
        }));
        if let Some(old) = old
            && old.side == side
            && old.path != to
        {
            draft.ops.push(Op::Remove(old.clone()));
        }
        Ok(Placement::written(to))
    }
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
