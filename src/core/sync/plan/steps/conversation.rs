//! The step of a conversation. Both sides get the same version, each in one file in the same folder, archived or not.
//! Versions that diverged become conflict copies, and duplicates are removed.

use crate::codex::home::ARCHIVED_SESSIONS;
use crate::codex::rollout::{Relation, ZST};
use crate::sync::decide::{
    CopyReason, FileDecision, choose_folder, describe_conflict, describe_winner,
};
use crate::sync::file_version::FileVersion;
use crate::sync::index_updates::ContentChange;
use crate::sync::plan::facts::compared_file::ComparedFile;
use crate::sync::plan::file_plan::{FileOutcome, FilePlan};
use crate::sync::plan::sync_step::{
    CopyOp, NewConflictCopy, Op, Placement, StateUpdate, SyncAction, SyncStep,
};
use crate::sync::rollouts;
use crate::sync::sides::{ObservedFile, Side, SidePath, Stat};

/// Reason for a rename. All rollouts of a thread are archived at once.
const MOVED: &str = "its conversation was archived, unarchived or moved";
/// Reason for a conflict copy of a second file of the conversation.
const DIVERGED_COPY: &str = "was continued differently in a second file";
/// Reason for the removal of a second file of the conversation.
const DUPLICATE: &str = "a second file of one conversation";
/// Reason for a conflict copy of the version that both sides had at the last sync.
const REWRITTEN: &str = "was rewritten since the last sync instead of continued";

/// The version that both sides get.
struct ChosenVersion<'a> {
    from: &'a FileVersion,
    /// The reason to copy the version to the other side; `None` if both sides have it.
    why: Option<CopyReason>,
    /// The folder of the file on both sides.
    folder: String,
}

/// Returns the plan that carries out a decision about a conversation, except for conflicts and deletions.
pub(super) fn plan_conversation(file: &ComparedFile<'_>, decision: FileDecision) -> FilePlan {
    let mut draft = ConversationDraft {
        file,
        is_diverged: file.facts.relation == Some(Relation::Diverged),
        ops: Vec::new(),
    };
    draft.add_conflict_copies(file.conversation.diverged_copies.iter());

    let chosen = ChosenVersion::choose(file, decision);
    let mut state_update = StateUpdate::None;
    let mut published_records = Vec::new();
    if let Some(chosen) = &chosen {
        draft.add_copy_of_losing_version(chosen);
        published_records = draft.list_published_records(chosen);
        state_update = draft.add_copies_and_moves(chosen);
    }

    draft.remove_duplicates();
    if draft.ops.is_empty() {
        // Both sides are equal.
        return match (&file.local, &file.remote) {
            (Some(local), Some(remote)) => {
                FileOutcome::record_equal(file.last, local, remote, file.synced_text).into()
            }
            _ => FilePlan::default(),
        };
    }

    let (action, reason) = draft.choose_action(chosen.as_ref());
    let is_rewritten = chosen.as_ref().and_then(|chosen| chosen.why) == Some(CopyReason::Rewritten);
    let step = SyncStep {
        bytes: draft.copied_bytes().unwrap_or(0),
        replaces_lines: draft.is_diverged || is_rewritten || draft.conflict_copy_count() > 0,
        conflict: draft.format_conflict_note(decision),
        change: chosen.map_or(ContentChange::Unchanged, |chosen| {
            draft.classify_local_change(&chosen)
        }),
        ops: draft.ops,
        state_update,
        ..SyncStep::new(file.key, &file.path, action, &reason)
    };
    FilePlan {
        outcome: FileOutcome::Step(step),
        published_records,
        ..FilePlan::default()
    }
}

impl<'a> ChosenVersion<'a> {
    /// Returns the version that `decision` gives to both sides; `None` for a decision without one.
    fn choose(file: &'a ComparedFile<'_>, decision: FileDecision) -> Option<Self> {
        let (from, why) = match (decision, &file.local, &file.remote) {
            (FileDecision::Copy(side, why), ..) => (file.version_on(side)?, Some(why)),
            (FileDecision::RecordEqual | FileDecision::Nothing, Some(local), Some(_)) => {
                (local, None)
            }
            _ => return None,
        };

        let folder = choose_common_folder(file, from);
        // Codex archives all rollouts of a thread at once.
        let folder = match file.conversation.is_thread_archived {
            Some(true) if !rollouts::is_archive_folder(folder) => ARCHIVED_SESSIONS.to_owned(),
            Some(false) if rollouts::is_archive_folder(folder) => {
                rollouts::dated_folder(rollouts::file_name(file.key))
            }
            _ => folder.to_owned(),
        };
        Some(Self { from, why, folder })
    }

    /// Returns the file of a side that has the version under the conversation's own name; `None` if the version has to
    /// be copied to that side.
    fn file_on(&self, side: Side, file: &'a ComparedFile<'_>) -> Option<&'a ObservedFile> {
        let observed = &file.version_on(side)?.observed;
        let has_version = self.why.is_none() || side == self.from.observed.side;
        let canonical_remote = file.conversation.canonical_remote.as_ref();
        let is_own_file = side == Side::Local || Some(observed) == canonical_remote;
        (has_version && is_own_file).then_some(observed)
    }
}

/// Returns the folder that the conversation should be in. Without a file in the cloud folder, this is the folder of
/// `from`.
fn choose_common_folder<'a>(file: &'a ComparedFile<'_>, from: &'a FileVersion) -> &'a str {
    let folder_of = |file: &'a ObservedFile| rollouts::parent_folder(&file.path);
    match (&file.local, &file.conversation.canonical_remote) {
        (Some(local), Some(remote)) => {
            let last_path = file.last.map(|last| &*last.local.path);
            let last_folder = last_path.map(rollouts::parent_folder);
            choose_folder(folder_of(&local.observed), folder_of(remote), last_folder)
        }
        (None, Some(remote)) => folder_of(remote),
        (_, None) => folder_of(&from.observed),
    }
}

struct ConversationDraft<'a> {
    file: &'a ComparedFile<'a>,
    is_diverged: bool,
    ops: Vec<Op>,
}

impl<'a> ConversationDraft<'a> {
    fn add_conflict_copies(&mut self, copies: impl Iterator<Item = &'a NewConflictCopy>) {
        self.ops.extend(copies.cloned().map(Op::KeepConflictCopy));
    }

    /// Adds an op that stores the replaced version as a conflict copy, if the versions diverged.
    fn add_copy_of_losing_version(&mut self, chosen: &ChosenVersion<'_>) {
        if chosen.why.is_some() && self.is_diverged {
            let losers = self.file.conversation.losing_copies.iter();
            let losing_side = chosen.from.observed.side.other();
            self.add_conflict_copies(losers.filter(|copy| copy.from.side == losing_side));
        }
    }

    /// Returns the records to publish before the step. They name versions for which no machine has to wait any more, or
    /// deletions that are cancelled by an upload.
    fn list_published_records(&self, chosen: &ChosenVersion<'_>) -> Vec<String> {
        let file = self.file;
        let given_up_names = &file.conversation.given_up_names;
        match chosen.why {
            Some(CopyReason::Rewritten) if !self.is_diverged => given_up_names.clone(),
            Some(_) if chosen.from.observed.side == Side::Local => file.cancelled_deletions.clone(),
            _ => Vec::new(),
        }
    }

    /// Adds the ops that give each side the chosen version under the conversation's own name in the common folder.
    /// Returns the state update that records the result.
    fn add_copies_and_moves(&mut self, chosen: &ChosenVersion<'_>) -> StateUpdate {
        // The source of the copy is renamed last, because the copy reads it under the name that the plan observed.
        let source_side = chosen.from.observed.side;
        let target = self.add_placement(chosen, source_side.other());
        let source = self.add_placement(chosen, source_side);
        let (local, remote) = source_side.to_local_and_remote(source, target);
        StateUpdate::Synced { local, remote }
    }

    /// Adds the ops after which `side` has the chosen version in the chosen folder. Returns the resulting placement.
    fn add_placement(&mut self, chosen: &ChosenVersion<'_>, side: Side) -> Placement {
        let file = self.file;
        if let Some(observed) = chosen.file_on(side, file) {
            let path = rollouts::join(&chosen.folder, rollouts::file_name(&observed.path));
            if path != observed.path {
                self.ops.push(Op::Rename {
                    from: observed.clone(),
                    to: SidePath::new(side, &path),
                });
            }
            return Placement::existing(path, observed);
        }

        let local_file = file.local.as_ref().map(|local| &local.observed);
        let former_file = side.select(local_file, file.conversation.canonical_remote.as_ref());
        self.add_copy(chosen, side, former_file)
    }

    /// Adds ops that copy the chosen version to `side`, compressed if the source is, and that remove `former_file`
    /// of that side. Returns the resulting placement.
    fn add_copy(
        &mut self,
        chosen: &ChosenVersion<'_>,
        side: Side,
        former_file: Option<&ObservedFile>,
    ) -> Placement {
        let from = chosen.from;
        let mut file_name = rollouts::file_name(self.file.key).to_owned();
        if is_compressed_copy(&from.observed) {
            file_name.push_str(ZST);
        }
        let path = rollouts::join(&chosen.folder, &file_name);
        self.ops.push(Op::Copy(CopyOp {
            from: from.observed.clone(),
            replaced_stat: self.stat_at(side, &path),
            to: SidePath::new(side, &path),
            mtime_ns: from.mtime_ns,
            expected_digest: from.attested_digest,
            replaced_digest: None,
        }));

        // A file at the same path is replaced by the copy.
        if let Some(former_file) = former_file
            && former_file.path != path
        {
            self.ops.push(Op::Remove(former_file.clone()));
        }
        Placement::written(path)
    }

    /// Returns size and time of the file of the conversation at this path, if the scan found one.
    fn stat_at(&self, side: Side, path: &str) -> Option<Stat> {
        let conversation = &self.file.conversation;
        let main_file = self.file.version_on(side).map(|version| &version.observed);
        let mut files = main_file
            .into_iter()
            .chain(&conversation.canonical_remote)
            .chain(&conversation.duplicates);
        let file_at_path = files.find(|file| file.side == side && file.path == path);
        file_at_path.map(|file| file.stat)
    }

    /// Adds ops that remove the duplicates of both sides. Their lines are in the main version or in a conflict copy.
    fn remove_duplicates(&mut self) {
        for duplicate in &self.file.conversation.duplicates {
            let removal = Op::Remove(duplicate.clone());
            match self.ops.iter().position(|op| op.occupies(duplicate)) {
                None => self.ops.push(removal),
                // A rename never replaces a file, so the duplicate has to go first.
                Some(index) if matches!(self.ops[index], Op::Rename { .. }) => {
                    self.ops.insert(index, removal);
                }
                Some(_) => {}
            }
        }
    }

    /// Returns the size of the copied file; `None` if the ops copy no file.
    fn copied_bytes(&self) -> Option<u64> {
        self.ops.iter().find_map(|op| match op {
            Op::Copy(copy) => Some(copy.from.stat.size),
            _ => None,
        })
    }

    fn conflict_copy_count(&self) -> usize {
        let is_conflict_copy = |op: &&Op| matches!(op, Op::KeepConflictCopy(_));
        self.ops.iter().filter(is_conflict_copy).count()
    }

    /// Returns the action and the reason of the step.
    fn choose_action(&self, chosen: Option<&ChosenVersion<'_>>) -> (SyncAction, String) {
        let remote = self.file.remote_kind;
        if let Some(chosen) = chosen {
            let side = chosen.from.observed.side;
            if let Some(why) = chosen.why {
                return (SyncAction::for_copy(side), why.describe(side, remote));
            }
            // Both sides have this version, so a copy only restores the remote file name.
            if self.copied_bytes().is_some() {
                let why = "the cloud client had renamed it";
                return (SyncAction::CopyToCloud, why.to_owned());
            }
        }

        // Without a copy, the first of these ops gives the reason: a rename, a conflict copy, a removed duplicate.
        let renamed_side = self.ops.iter().find_map(|op| match op {
            Op::Rename { from, .. } => Some(from.side),
            _ => None,
        });
        let (action, why) = match renamed_side {
            Some(Side::Local) => (SyncAction::MoveLocal, MOVED),
            Some(Side::Remote) => (SyncAction::MoveCloud, MOVED),
            None if self.conflict_copy_count() > 0 => (SyncAction::KeepConflictCopy, DIVERGED_COPY),
            None => (SyncAction::RemoveDuplicate, DUPLICATE),
        };
        (action, why.to_owned())
    }

    /// Explains why the step makes conflict copies and which version wins; `None` if it makes none.
    fn format_conflict_note(&self, decision: FileDecision) -> Option<String> {
        let remote = self.file.remote_kind;
        let (why, winner) = match decision {
            FileDecision::Copy(side, CopyReason::Policy) => (
                describe_conflict(self.file.facts),
                describe_winner(side, remote),
            ),
            FileDecision::Copy(side, _) if self.is_diverged => {
                (REWRITTEN.to_owned(), describe_winner(side, remote))
            }
            // The sides did not diverge, but a second file of one side did.
            _ => (
                DIVERGED_COPY.to_owned(),
                "the version in the file with the original name wins".to_owned(),
            ),
        };

        let others = match self.conflict_copy_count() {
            0 => return None,
            1 => "the other one is kept until you decide".to_owned(),
            count => format!("{count} others are kept until you decide"),
        };
        Some(format!("{why}: {winner}, {others}"))
    }

    /// Returns the effect of the step on the text of the local conversation.
    fn classify_local_change(&self, chosen: &ChosenVersion<'_>) -> ContentChange {
        let is_download = chosen.from.observed.side == Side::Remote;
        let Some(why) = chosen.why.filter(|_| is_download) else {
            return ContentChange::Unchanged;
        };
        if self.file.local.is_none() {
            ContentChange::New
        } else if self.is_diverged || why == CopyReason::Rewritten {
            ContentChange::Replaced
        } else {
            ContentChange::Extended
        }
    }
}

impl Op {
    /// Returns true if the op writes to or removes the path of `duplicate`, so that the duplicate must not be removed
    /// after it.
    fn occupies(&self, duplicate: &ObservedFile) -> bool {
        match self {
            Self::Copy(CopyOp { to, .. }) | Self::Rename { to, .. } => {
                to.side == duplicate.side && to.path == duplicate.path
            }
            Self::Remove(removed) => removed == duplicate,
            _ => false,
        }
    }
}

/// Returns true for compressed conversations. Clients append their mark to the complete name, so `.zst` can be in
/// the middle.
fn is_compressed_copy(file: &ObservedFile) -> bool {
    file.path.contains(&format!(".jsonl{ZST}")) || file.path.ends_with(ZST)
}
