//! Plans for conversations. One conversation can have several files on each side (plain or compressed, archived or
//! not), and cloud clients make copies of them.
//!
//! 1. The files of one side are folded into one main version; what diverged becomes a conflict copy.
//! 2. Clients' copies are folded into the remote side in the same way.
//! 3. The two main versions are compared and decided about.
//! 4. Duplicates are removed, and the file moves to the folder that both sides should have (archived or not).

use super::conflict_reasons::{conflict_reason, winner};
use super::error::PlanError;
use super::grouping::{FileGroup, display_path};
use super::planner::Planner;
use super::steps::{
    Conflict, CopyOp, ObservedFile, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
use super::versions::{DownloadState, FileVersion};
use crate::codex::rollout::{Relation, ZST};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::decide::{
    CopyReason, FileDecision, FileFacts, FileKind, NewerSide, Presence, decide,
};
use crate::sync::index_updates::ContentChange;
use crate::sync::read_failure;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side, Stat};
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::CausalOrder;

/// Reason for a conflict copy of a second file of the conversation.
const DIVERGED_COPY: &str = "was continued differently in a second file";
/// Reason for a conflict copy of the version that both sides had at the last sync.
const REWRITTEN: &str = "was rewritten since the last sync instead of continued";

/// All versions of a conversation on one side.
#[derive(Debug, Default)]
struct SideVersions {
    /// The version that represents this side.
    main: Option<FileVersion>,
    /// Files to remove: the main version or a conflict copy contains all their lines.
    duplicates: Vec<ObservedFile>,
}

/// The step for one conversation in the making.
struct ConversationDraft<'a> {
    key: &'a str,
    path: String,
    last: Option<&'a SyncedFile>,
    ops: Vec<Op>,
    /// Names of the conflict copies that `ops` creates.
    new_copies: Vec<String>,
}

impl Planner<'_> {
    /// Plans a conversation from all its files on both sides.
    pub(super) fn plan_conversation(
        &mut self,
        key: &str,
        group: &FileGroup,
    ) -> Result<(), PlanError> {
        let state = self.state;
        let mut draft = ConversationDraft {
            key,
            path: display_path(key, group),
            last: state.files.get(key),
            ops: Vec::new(),
            new_copies: Vec::new(),
        };
        for found in &group.local {
            if self.skips_zero_filled(found, true, draft.last)? {
                return Ok(());
            }
        }
        if self.record_if_stats_equal(&draft, group) {
            return Ok(());
        }
        let local: Vec<_> = group.local.iter().map(FileVersion::local).collect();
        let mut remote = Vec::new();
        for found in &group.remote {
            match self.download_state(key, found, true, draft.last)? {
                DownloadState::Complete(version) => remote.push(version),
                DownloadState::Incomplete(_) if self.adds_nothing(key, group, found, true)? => {
                    remote.push(FileVersion::remote(found));
                }
                // Any decision now could make a conflict of a version that is only half delivered.
                DownloadState::Incomplete(why) => {
                    self.wait_for_listing(&found.path, why);
                    return Ok(());
                }
            }
        }
        let local = self.fold_side(&mut draft, local)?;
        let mut remote = self.fold_side(&mut draft, remote)?;
        let base = remote.main.as_ref().map(|version| version.seen.clone());
        self.fold_client_copies(&mut draft, &local, &mut remote, &group.client_copies)?;
        self.plan_conversation_sync(draft, local, remote, base.as_ref())
    }

    /// Shortcut of a first sync with `compare = "mtime"`: records a conversation as equal without reading it, if both
    /// sides have one file with equal path, size and time. Returns true if it did.
    fn record_if_stats_equal(&mut self, draft: &ConversationDraft<'_>, group: &FileGroup) -> bool {
        let ([local], [remote], []) = (&*group.local, &*group.remote, &*group.client_copies) else {
            return false;
        };
        if draft.last.is_some() || local.path != remote.path || !self.trusts_mtime() {
            return false;
        }
        let (local, remote) = (FileVersion::local(local), FileVersion::remote(remote));
        // Without the tolerance for times: two diverged conversations can have equal size and almost equal times.
        // Only times equal to the nanosecond show that one file is a copy of the other.
        if local.seen.stat != remote.seen.stat {
            return false;
        }
        self.record_equal(draft.key, &local, &remote, None);
        true
    }

    /// Chooses the main version among the files of one side. The others become duplicates; of those that diverged, a
    /// conflict copy is kept.
    fn fold_side(
        &mut self,
        draft: &mut ConversationDraft<'_>,
        mut versions: Vec<FileVersion>,
    ) -> Result<SideVersions, PlanError> {
        // Codex reads the plain file if a compressed one exists beside it. A killed move leaves two files; then the one
        // in the new folder counts.
        versions.sort_by_key(|version| {
            let path = &version.seen.path;
            let place = draft.last.map(|last| match version.seen.side {
                Side::Local => &last.local,
                Side::Remote => &last.remote,
            });
            let is_old = place.is_some_and(|p| rollouts::folder(&p.path) == rollouts::folder(path));
            (path.ends_with(ZST), is_old, path.clone())
        });
        let mut side = SideVersions::default();
        for version in versions {
            let Some(main) = &side.main else {
                side.main = Some(version);
                continue;
            };
            match self.relation(&main.seen, &version.seen)? {
                Relation::Equal | Relation::FirstExtends => {
                    side.duplicates.push(version.seen);
                }
                Relation::SecondExtends => {
                    side.duplicates.push(main.seen.clone());
                    side.main = Some(version);
                }
                Relation::Diverged => {
                    self.keep_conflict_copy(draft, &version.seen)?;
                    side.duplicates.push(version.seen);
                }
            }
        }
        Ok(side)
    }

    /// Treats the copies that cloud clients made of conflicts as remote versions: a copy that extends the remote main
    /// version becomes the main version, a diverged one gets a conflict copy, and one without new lines is ignored. The
    /// clients' files themselves stay, because their client may still track them.
    fn fold_client_copies(
        &mut self,
        draft: &mut ConversationDraft<'_>,
        local: &SideVersions,
        remote: &mut SideVersions,
        copies: &[ListedFile],
    ) -> Result<(), PlanError> {
        for found in copies {
            let seen = ObservedFile {
                side: Side::Remote,
                path: found.path.clone(),
                stat: found.stat,
            };
            let path = self.full(&seen);
            if let Err(e) = contents::read(&path, None) {
                let why = read_failure::reason(&e);
                self.plan.waiting.push((found.path.clone(), why));
                continue;
            }
            let mains = [&local.main, &remote.main];
            let mut extends_remote = remote.main.is_none();
            let mut is_contained = false;
            for main in mains.into_iter().flatten() {
                match self.relation(&main.seen, &seen)? {
                    Relation::Equal | Relation::FirstExtends => is_contained = true,
                    Relation::SecondExtends if main.seen.side == Side::Remote => {
                        extends_remote = true;
                    }
                    _ => {}
                }
            }
            if is_contained || self.is_kept_or_resolved(draft, &self.text_digest(&seen)?.1)? {
                continue;
            }
            match self.download_state(draft.key, found, true, None)? {
                // A client can copy a version that no machine will ever attest. If its lines are complete, it is kept
                // now; a longer version that arrives later gets a conflict copy of its own.
                DownloadState::Incomplete(_)
                    if !extends_remote && self.has_complete_lines(&seen)? =>
                {
                    self.keep_conflict_copy(draft, &seen)?;
                }
                DownloadState::Incomplete(why) => self.wait_for_listing(&found.path, why),
                DownloadState::Complete(version) if extends_remote => remote.main = Some(version),
                DownloadState::Complete(version) => {
                    self.keep_conflict_copy(draft, &version.seen)?;
                }
            }
        }
        Ok(())
    }

    /// Decides about the two main versions and pushes the step. `canonical` is the remote file under the conversation's own
    /// name, which other machines read; the remote main version can also be a client's copy that has more lines.
    #[allow(
        clippy::too_many_lines,
        reason = "one arm for each decision, read together"
    )]
    fn plan_conversation_sync(
        &mut self,
        mut draft: ConversationDraft<'_>,
        local: SideVersions,
        remote: SideVersions,
        canonical: Option<&ObservedFile>,
    ) -> Result<(), PlanError> {
        let facts = self.conversation_facts(&draft, local.main.as_ref(), remote.main.as_ref())?;
        let decision = decide(facts, self.rules_for(&draft.path));
        let main_is_client_copy = remote
            .main
            .as_ref()
            .is_some_and(|v| Some(&v.seen) != canonical);
        let is_diverged = facts.relation == Some(Relation::Diverged);
        let common_folder = Self::target_folder(&draft, local.main.as_ref(), canonical);
        let mut action = None;
        let mut reason = "";
        let mut bytes = 0;
        let mut change = ContentChange::Unchanged;
        let (mut local_placement, mut remote_placement) = (None, None);
        match (decision, &local.main, &remote.main) {
            (FileDecision::Conflict, Some(local), Some(remote)) => {
                // The ops so far are dropped: nothing of this conversation changes before the user has decided.
                self.plan.conflicts.push(Conflict {
                    path: draft.path,
                    reason: conflict_reason(facts),
                    local: Some(local.seen.clone()),
                    remote: Some(remote.seen.clone()),
                });
                return Ok(());
            }
            (FileDecision::DeleteCloud, None, Some(version)) => {
                let state_update = StateUpdate::PublishDeletion(self.text_digest(&version.seen)?.1);
                self.push_delete(
                    draft.key,
                    &draft.path,
                    SyncAction::DeleteCloud,
                    version,
                    state_update,
                );
                return Ok(());
            }
            (FileDecision::DeleteLocal, Some(version), None) => {
                let action = SyncAction::DeleteLocal;
                self.push_delete(draft.key, &draft.path, action, version, StateUpdate::Forget);
                return Ok(());
            }
            (FileDecision::CopyToCloud(why), Some(version), other) => {
                if other.is_none() {
                    self.cancel_pending_deletions(draft.key)?;
                }
                if is_diverged && let Some(other) = other {
                    self.keep_conflict_copy(&mut draft, &other.seen)?;
                }
                action = Some(SyncAction::CopyToCloud);
                (reason, bytes) = (why.text(Side::Local), version.seen.stat.size);
                let folder = common_folder
                    .as_deref()
                    .unwrap_or(rollouts::folder(&version.seen.path));
                remote_placement =
                    Some(self.add_copy(&mut draft, version, Side::Remote, folder, canonical)?);
                local_placement = Some(Self::add_move(&mut draft, &version.seen, folder));
            }
            (FileDecision::CopyToLocal(why), other, Some(version)) => {
                if is_diverged && let Some(other) = other {
                    self.keep_conflict_copy(&mut draft, &other.seen)?;
                }
                action = Some(SyncAction::CopyToLocal);
                change = match (other, is_diverged) {
                    (None, _) => ContentChange::New,
                    (_, true) => ContentChange::Replaced,
                    _ => ContentChange::Extended,
                };
                (reason, bytes) = (why.text(Side::Remote), version.seen.stat.size);
                let remote_path = canonical.map_or(&version.seen.path, |file| &file.path);
                let folder = common_folder
                    .as_deref()
                    .unwrap_or(rollouts::folder(remote_path))
                    .to_owned();
                let old = other.as_ref().map(|other| &other.seen);
                local_placement =
                    Some(self.add_copy(&mut draft, version, Side::Local, &folder, old)?);
                remote_placement = Some(if main_is_client_copy {
                    self.add_copy(&mut draft, version, Side::Remote, &folder, canonical)?
                } else {
                    Self::add_move(&mut draft, &version.seen, &folder)
                });
            }
            (FileDecision::RecordEqual | FileDecision::Nothing, Some(version), Some(other)) => {
                let folder = common_folder
                    .as_deref()
                    .unwrap_or(rollouts::folder(&version.seen.path));
                local_placement = Some(Self::add_move(&mut draft, &version.seen, folder));
                remote_placement = Some(if main_is_client_copy {
                    action = Some(SyncAction::CopyToCloud);
                    reason = "the cloud client had renamed it";
                    bytes = version.seen.stat.size;
                    self.add_copy(&mut draft, version, Side::Remote, folder, canonical)?
                } else {
                    Self::add_move(&mut draft, &other.seen, folder)
                });
            }
            _ => {}
        }
        let duplicates: Vec<ObservedFile> = local
            .duplicates
            .into_iter()
            .chain(remote.duplicates)
            .collect();
        draft.replace_renames_over_duplicates(&duplicates);
        for seen in duplicates {
            let has_op = draft.ops.iter().any(|op| op.occupies(&seen));
            if !has_op {
                draft.ops.push(Op::Remove(seen));
            }
        }
        if draft.ops.is_empty() {
            return self.record_equal_conversation(&draft, facts, local.main, remote.main);
        }
        let (action, reason) = match action {
            Some(action) => (action, reason),
            None => draft.action_without_copy(),
        };
        let state_update = match (local_placement, remote_placement) {
            (Some(local), Some(remote)) => StateUpdate::Synced { local, remote },
            _ => StateUpdate::None,
        };
        let conflict = draft.conflict_note(decision, facts);
        self.plan.steps.push(SyncStep {
            key: draft.key.to_owned(),
            path: draft.path,
            action,
            reason: reason.to_owned(),
            bytes,
            ops: draft.ops,
            state_update,
            change,
            conflict,
        });
        Ok(())
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
        let is_compressed = Self::is_compressed_copy(&from.seen);
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

    /// Returns true for compressed conversations. Clients append their mark to the complete name, so `.zst` can be in
    /// the middle.
    fn is_compressed_copy(seen: &ObservedFile) -> bool {
        seen.path.contains(&format!(".jsonl{ZST}")) || seen.path.ends_with(ZST)
    }

    /// Adds an op that moves a file into `folder` of its side, unless it is there. Returns the resulting placement.
    fn add_move(draft: &mut ConversationDraft<'_>, seen: &ObservedFile, folder: &str) -> Placement {
        let to = rollouts::in_folder(folder, &seen.path);
        if to != seen.path {
            draft.ops.push(Op::Rename {
                from: seen.clone(),
                to: to.clone(),
            });
        }
        Placement::existing(to, seen)
    }

    /// Returns true if the version has a conflict copy, gets one in this step, or the user has decided to drop it.
    fn is_kept_or_resolved(
        &self,
        draft: &ConversationDraft<'_>,
        digest: &Sha256Digest,
    ) -> Result<bool, IoError> {
        let name = conflict_copies::file_name(draft.key, digest);
        let is_kept =
            self.conflict_copies.all.contains_key(&name) || draft.new_copies.contains(&name);
        Ok(is_kept || self.may_drop(&name)?)
    }

    /// Adds an op that stores a version as a conflict copy, unless [`Self::is_kept_or_resolved`]. While `sync resolve`
    /// decides about this conversation, earlier decisions do not count, so the losing version always gets a copy.
    fn keep_conflict_copy(
        &self,
        draft: &mut ConversationDraft<'_>,
        seen: &ObservedFile,
    ) -> Result<(), PlanError> {
        let (_, digest) = self.text_digest(seen)?;
        let name = conflict_copies::file_name(draft.key, &digest);
        let is_kept = if self.has_policy_override(&draft.path) {
            draft.new_copies.contains(&name)
        } else {
            self.is_kept_or_resolved(draft, &digest)?
        };
        if is_kept {
            return Ok(());
        }
        draft.new_copies.push(name.clone());
        draft.ops.push(Op::KeepConflictCopy {
            from: seen.clone(),
            name,
            digest,
        });
        Ok(())
    }
}

impl ConversationDraft<'_> {
    /// Replaces renames whose target is a duplicate by a copy over the duplicate and a removal: a rename never replaces
    /// a file. The duplicate's lines are in the moved file or in a conflict copy.
    fn replace_renames_over_duplicates(&mut self, duplicates: &[ObservedFile]) {
        for op in std::mem::take(&mut self.ops) {
            let duplicate = match &op {
                Op::Rename { from, to } => duplicates
                    .iter()
                    .find(|other| other.side == from.side && other.path == *to),
                _ => None,
            };
            match (op, duplicate) {
                (Op::Rename { from, to }, Some(duplicate)) => {
                    self.ops.push(Op::Copy(CopyOp {
                        from: from.clone(),
                        to: (from.side, to),
                        over: Some(duplicate.stat),
                        mtime_ns: from.stat.mtime_ns,
                        expect: None,
                        history: None,
                    }));
                    self.ops.push(Op::Remove(from));
                }
                (op, _) => self.ops.push(op),
            }
        }
    }

    /// Explains why the step makes conflict copies and which version wins; `None` if it makes none.
    fn conflict_note(&self, decision: FileDecision, facts: FileFacts) -> Option<String> {
        if self.new_copies.is_empty() {
            return None;
        }
        let is_diverged = facts.relation == Some(Relation::Diverged);
        let (why, winner) = match decision {
            FileDecision::CopyToCloud(CopyReason::Policy) => {
                (conflict_reason(facts), winner(Side::Local))
            }
            FileDecision::CopyToLocal(CopyReason::Policy) => {
                (conflict_reason(facts), winner(Side::Remote))
            }
            FileDecision::CopyToCloud(_) if is_diverged => {
                (REWRITTEN.to_owned(), winner(Side::Local))
            }
            FileDecision::CopyToLocal(_) if is_diverged => {
                (REWRITTEN.to_owned(), winner(Side::Remote))
            }
            _ => (
                DIVERGED_COPY.to_owned(),
                "the version under the conversation's own name wins",
            ),
        };
        let kept = match self.new_copies.len() {
            1 => "the other one is kept until you decide".to_owned(),
            n => format!("{n} others are kept until you decide"),
        };
        Some(format!("{why}: {winner}, {kept}"))
    }

    /// Returns the action and the reason of a step that copies nothing from side to side.
    fn action_without_copy(&self) -> (SyncAction, &'static str) {
        let moves = self.ops.iter().find_map(|op| match op {
            Op::Rename { from, .. } => Some(from.side),
            _ => None,
        });
        match moves {
            Some(Side::Local) => (SyncAction::MoveLocal, "moved in the cloud folder"),
            Some(Side::Remote) => (SyncAction::MoveCloud, "moved on this machine"),
            None if self
                .ops
                .iter()
                .any(|op| matches!(op, Op::KeepConflictCopy { .. })) =>
            {
                (SyncAction::KeepConflictCopy, DIVERGED_COPY)
            }
            None => (
                SyncAction::RemoveDuplicate,
                "a second file of one conversation",
            ),
        }
    }
}

impl Op {
    /// Returns true if the op writes to or removes the path of `seen`, so that the duplicate needs no op of its own.
    fn occupies(&self, seen: &ObservedFile) -> bool {
        match self {
            Self::Copy(CopyOp { to, .. }) => to.0 == seen.side && to.1 == seen.path,
            Self::Rename { from, to } => from.side == seen.side && *to == seen.path,
            Self::Remove(other) => other == seen,
            Self::Merge { .. }
            | Self::KeepConflictCopy { .. }
            | Self::ReplicateConflictCopy { .. }
            | Self::DropConflictCopy { .. } => false,
        }
    }
}
