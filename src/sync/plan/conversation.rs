//! Plans for conversations: one file or several on each side, plain or packed, archived or not, and the
//! copies that clients made of them.

use super::conflict_reasons::{conflict_reason, winner};
use super::versions::{DownloadState, FileVersion};
use super::{
    Conflict, CopyOp, FileGroup, ObservedFile, Op, Placement, PlanError, Planner, StateUpdate,
    SyncAction, SyncStep, display_path,
};
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

/// Why a version is set aside that is in a second file of the conversation.
const DIVERGED_COPY: &str = "went on differently in a copy";
/// Why one is that both sides had.
const REWRITTEN: &str = "was rewritten since the last sync, not continued";

/// All versions of a conversation on one side.
#[derive(Debug, Default)]
struct SideVersions {
    /// The one that counts.
    main: Option<FileVersion>,
    /// Files whose contents are in the one that counts, or in a fork: they go.
    duplicates: Vec<ObservedFile>,
}

/// A plan for one conversation under way.
struct ConversationDraft<'a> {
    key: &'a str,
    path: String,
    last: Option<&'a SyncedFile>,
    ops: Vec<Op>,
    /// Names of forks that the ops keep.
    new_copies: Vec<String>,
}

impl Planner<'_> {
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
                // Nothing is decided while a part is missing.
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

    /// The quick way for what no sync has seen and looks the same on both sides.
    fn record_if_stats_equal(&mut self, draft: &ConversationDraft<'_>, group: &FileGroup) -> bool {
        let ([local], [remote], []) = (&*group.local, &*group.remote, &*group.client_copies) else {
            return false;
        };
        if draft.last.is_some() || local.path != remote.path || !self.trusts_mtime() {
            return false;
        }
        let (local, mut remote) = (FileVersion::local(local), FileVersion::local(remote));
        remote.seen.side = Side::Remote;
        // Two that grew by as much at one time are told apart by what they hold, unless even the
        // nanoseconds are the same.
        if local.seen.stat != remote.seen.stat {
            return false;
        }
        self.record_equal(draft.key, &local, &remote, None);
        true
    }

    /// Several files on one side are one conversation: what is in another one goes, and what is not is
    /// kept as a fork.
    fn fold_side(
        &mut self,
        draft: &mut ConversationDraft<'_>,
        mut versions: Vec<FileVersion>,
    ) -> Result<SideVersions, PlanError> {
        // As Codex: the plain file counts before the packed one; and one that was moved since the last
        // sync before the one that it was moved from.
        versions.sort_by_key(|version| {
            let path = &version.seen.path;
            let place = draft.last.map(|last| match version.seen.side {
                Side::Local => &last.local,
                Side::Remote => &last.remote,
            });
            let is_old = place.is_some_and(|p| rollouts::folder(&p.path) == rollouts::folder(path));
            (path.ends_with(ZST), is_old, path.clone())
        });
        let mut settled = SideVersions::default();
        for version in versions {
            let Some(main) = &settled.main else {
                settled.main = Some(version);
                continue;
            };
            match self.relation(&main.seen, &version.seen)? {
                Relation::Equal | Relation::FirstExtends => {
                    settled.duplicates.push(version.seen);
                }
                Relation::SecondExtends => {
                    settled.duplicates.push(main.seen.clone());
                    settled.main = Some(version);
                }
                Relation::Diverged => {
                    self.keep_conflict_copy(draft, &version.seen)?;
                    settled.duplicates.push(version.seen);
                }
            }
        }
        Ok(settled)
    }

    /// Copies that clients made are versions of the cloud folder: one that has more counts, one that
    /// went on differently is kept as a fork, and all others hold nothing new. They stay where they
    /// are: they are their client's.
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
            let mut extends_there = remote.main.is_none();
            let mut contained = false;
            for main in mains.into_iter().flatten() {
                match self.relation(&main.seen, &seen)? {
                    Relation::Equal | Relation::FirstExtends => contained = true,
                    Relation::SecondExtends if main.seen.side == Side::Remote => {
                        extends_there = true;
                    }
                    _ => {}
                }
            }
            if contained || self.is_kept_or_resolved(draft, &self.text_digest(&seen)?.1)? {
                continue;
            }
            match self.download_state(draft.key, found, true, None)? {
                // A client makes its copy of a version that nobody may ever vouch for: its lines are
                // kept as they are, and what still arrives is another version.
                DownloadState::Incomplete(_)
                    if !extends_there && self.has_complete_lines(&seen)? =>
                {
                    self.keep_conflict_copy(draft, &seen)?;
                }
                DownloadState::Incomplete(why) => self.wait_for_listing(&found.path, why),
                DownloadState::Complete(version) if extends_there => remote.main = Some(version),
                DownloadState::Complete(version) => {
                    self.keep_conflict_copy(draft, &version.seen)?
                }
            }
        }
        Ok(())
    }

    /// Whether a file of lines has some, and none is cut.
    pub(super) fn has_complete_lines(&self, seen: &ObservedFile) -> Result<bool, IoError> {
        let path = self.full(seen);
        let why = contents::torn_reason(&path, true).at("read", &path)?;
        Ok(seen.stat.size > 0 && why.is_none())
    }

    /// `base` is the file of the cloud folder that others read; a copy of a client may hold more.
    #[allow(
        clippy::too_many_lines,
        reason = "one arm for each decision, read together"
    )]
    fn plan_conversation_sync(
        &mut self,
        mut draft: ConversationDraft<'_>,
        local: SideVersions,
        remote: SideVersions,
        base: Option<&ObservedFile>,
    ) -> Result<(), PlanError> {
        let facts = self.conversation_facts(&draft, local.main.as_ref(), remote.main.as_ref())?;
        let decision = decide(facts, self.rules_for(&draft.path));
        let rebase = remote.main.as_ref().is_some_and(|v| Some(&v.seen) != base);
        let diverged = facts.relation == Some(Relation::Diverged);
        let moved = Self::target_folder(&draft, local.main.as_ref(), base);
        let mut action = None;
        let mut reason = "";
        let mut bytes = 0;
        let mut change = ContentChange::Unchanged;
        let (mut here_at, mut there_at) = (None, None);
        match (decision, &local.main, &remote.main) {
            (FileDecision::Conflict, Some(local), Some(remote)) => {
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
                if diverged && let Some(other) = other {
                    self.keep_conflict_copy(&mut draft, &other.seen)?;
                }
                action = Some(SyncAction::CopyToCloud);
                (reason, bytes) = (why.text(), version.seen.stat.size);
                let folder = moved
                    .as_deref()
                    .unwrap_or(rollouts::folder(&version.seen.path));
                there_at = Some(self.add_copy(&mut draft, version, Side::Remote, folder, base)?);
                here_at = Some(Self::add_move(&mut draft, &version.seen, folder));
            }
            (FileDecision::CopyToLocal(why), other, Some(version)) => {
                if diverged && let Some(other) = other {
                    self.keep_conflict_copy(&mut draft, &other.seen)?;
                }
                action = Some(SyncAction::CopyToLocal);
                change = match (other, diverged) {
                    (None, _) => ContentChange::New,
                    (_, true) => ContentChange::Replaced,
                    _ => ContentChange::Extended,
                };
                (reason, bytes) = (why.text(), version.seen.stat.size);
                let real = base.map_or(&version.seen.path, |base| &base.path);
                let folder = moved
                    .as_deref()
                    .unwrap_or(rollouts::folder(real))
                    .to_owned();
                let old = other.as_ref().map(|other| &other.seen);
                here_at = Some(self.add_copy(&mut draft, version, Side::Local, &folder, old)?);
                there_at = Some(if rebase {
                    self.add_copy(&mut draft, version, Side::Remote, &folder, base)?
                } else {
                    Self::add_move(&mut draft, &version.seen, &folder)
                });
            }
            (FileDecision::RecordEqual | FileDecision::Nothing, Some(version), Some(other)) => {
                let folder = moved
                    .as_deref()
                    .unwrap_or(rollouts::folder(&version.seen.path));
                here_at = Some(Self::add_move(&mut draft, &version.seen, folder));
                there_at = Some(if rebase {
                    action = Some(SyncAction::CopyToCloud);
                    reason = "its cloud client had put it under another name";
                    bytes = version.seen.stat.size;
                    self.add_copy(&mut draft, version, Side::Remote, folder, base)?
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
        draft.replace_duplicates_by_moves(&duplicates);
        for seen in duplicates {
            let needed = draft.ops.iter().any(|op| op.writes(&seen));
            if !needed {
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
        let state_update = match (here_at, there_at) {
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

    /// The folder that the conversation belongs into, where the sides or the last sync differ: the one
    /// it was moved to since; where that is no answer, the one in which it is not archived.
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
                _ if rollouts::is_archived(local) || local == "archived_sessions" => remote,
                _ => local,
            }
            .to_owned(),
        )
    }

    /// Adds a copy of `from` to `side`, into `folder`, in the form that it has; what stood for it there
    /// goes. Returns what will be there.
    fn add_copy(
        &self,
        draft: &mut ConversationDraft<'_>,
        from: &FileVersion,
        side: Side,
        folder: &str,
        old: Option<&ObservedFile>,
    ) -> Result<Placement, PlanError> {
        let packed = Self::is_packed_copy(&from.seen);
        let name = if packed {
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
        Ok(Placement::put(to))
    }

    /// A client may have put something behind `.zst`.
    fn is_packed_copy(seen: &ObservedFile) -> bool {
        seen.path.contains(&format!(".jsonl{ZST}")) || seen.path.ends_with(ZST)
    }

    /// Adds a move of a file into another folder of its side; returns what will be there.
    fn add_move(draft: &mut ConversationDraft<'_>, seen: &ObservedFile, folder: &str) -> Placement {
        let to = rollouts::in_folder(folder, &seen.path);
        if to != seen.path {
            draft.ops.push(Op::Rename {
                from: seen.clone(),
                to: to.clone(),
            });
        }
        Placement::seen(to, seen)
    }

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

    /// Keeps a version as a fork, unless it is kept or decided about. Where somebody decides about the
    /// conversation now, no earlier decision counts.
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
    /// A move to where a second file of the conversation stands takes the place of that one: what it
    /// holds is in the one that is moved, or kept.
    fn replace_duplicates_by_moves(&mut self, duplicates: &[ObservedFile]) {
        for op in std::mem::take(&mut self.ops) {
            let taken = match &op {
                Op::Rename { from, to } => duplicates
                    .iter()
                    .find(|other| other.side == from.side && other.path == *to),
                _ => None,
            };
            match (op, taken) {
                (Op::Rename { from, to }, Some(taken)) => {
                    self.ops.push(Op::Copy(CopyOp {
                        from: from.clone(),
                        to: (from.side, to),
                        over: Some(taken.stat),
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

    /// Why versions are set aside, and which one goes on; `None` where none is.
    fn conflict_note(&self, decision: FileDecision, facts: FileFacts) -> Option<String> {
        if self.new_copies.is_empty() {
            return None;
        }
        let diverged = facts.relation == Some(Relation::Diverged);
        let (why, goes_on) = match decision {
            FileDecision::CopyToCloud(CopyReason::Policy) => {
                (conflict_reason(facts), winner(Side::Local))
            }
            FileDecision::CopyToLocal(CopyReason::Policy) => {
                (conflict_reason(facts), winner(Side::Remote))
            }
            FileDecision::CopyToCloud(_) if diverged => (REWRITTEN.to_owned(), winner(Side::Local)),
            FileDecision::CopyToLocal(_) if diverged => {
                (REWRITTEN.to_owned(), winner(Side::Remote))
            }
            _ => (
                DIVERGED_COPY.to_owned(),
                "the version under its own name goes on",
            ),
        };
        let kept = match self.new_copies.len() {
            1 => "the other one is kept until you decide".to_owned(),
            n => format!("{n} others are kept until you decide"),
        };
        Some(format!("{why}: {goes_on}, {kept}"))
    }

    /// What a step without a copy is called, and why it is there.
    fn action_without_copy(&self) -> (SyncAction, &'static str) {
        let moves = self.ops.iter().find_map(|op| match op {
            Op::Rename { from, .. } => Some(from.side),
            _ => None,
        });
        match moves {
            Some(Side::Local) => (SyncAction::MoveLocal, "moved in the cloud folder"),
            Some(Side::Remote) => (SyncAction::MoveCloud, "moved here"),
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
    /// Whether the op puts something at the place of `seen`, or reads it only to move it.
    fn writes(&self, seen: &ObservedFile) -> bool {
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
