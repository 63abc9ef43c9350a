//! The plan for one file: its outcome, and what is reported and recorded besides.

use super::sync_step::{Conflict, CopyOp, Op, Placement, StateUpdate, SyncAction, SyncStep};
use crate::codex::rollout;
use crate::io::hash::Sha256Digest;
use crate::sync::decide::{CopyReason, FileFacts, conflict_reason};
use crate::sync::index_updates::ContentChange;
use crate::sync::manifest::ManifestEntry;
use crate::sync::plan::facts::file_version::{FilePair, FileVersion};
use crate::sync::scan::Side;
use crate::sync::state::{SideFile, SyncState, SyncedFile};

#[derive(Debug, Default)]
pub(crate) struct FilePlan {
    pub(crate) outcome: FileOutcome,
    /// Reports about the file and about the copies that cloud clients made of it.
    pub(crate) notices: Vec<Notice>,
    /// Remote file that this machine attests from now on: path and manifest entry.
    pub(crate) attested: Option<(String, ManifestEntry)>,
    /// Resolutions to publish before the step: ids of deletions that it cancels because it creates the file again, and
    /// names of versions that no machine has to wait for any more.
    pub(crate) published_records: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) enum FileOutcome {
    /// The file stays as it is on both sides.
    #[default]
    Left,
    /// Both sides have the same version; with the record of it unless the state has that already.
    Equal(Option<SyncedFile>),
    Step(SyncStep),
    /// The file waits for a decision of the user.
    Conflict(Conflict),
}

/// A reason that output prints after the path.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) list: NoticeList,
    pub(crate) path: String,
    pub(crate) why: String,
}

/// The list of `PlanNotices` that gets a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeList {
    /// The sync waits for the file.
    Waiting,
    /// The sync waits for the file because no machine attests its present content.
    WaitingUnlisted,
    /// The file stays as it is on both sides.
    Skipped,
    /// The file is not synced, for a reason that does not make the run partial.
    Warning,
    /// A fact that needs no action.
    Note,
    /// The entry of the Codex home is never synced, or the configuration excludes it.
    Excluded,
}

impl NoticeList {
    /// Creates a notice for this list.
    pub(crate) fn notice(self, path: impl Into<String>, why: impl Into<String>) -> Notice {
        Notice {
            list: self,
            path: path.into(),
            why: why.into(),
        }
    }
}

impl From<Notice> for FilePlan {
    fn from(notice: Notice) -> Self {
        Self {
            notices: vec![notice],
            ..Self::default()
        }
    }
}

impl From<FileOutcome> for FilePlan {
    fn from(outcome: FileOutcome) -> Self {
        Self {
            outcome,
            ..Self::default()
        }
    }
}

/// A version to copy to the other side.
pub(crate) struct PlannedCopy<'a> {
    pub(crate) key: &'a str,
    /// Relative path that output and JSON show.
    pub(crate) path: &'a str,
    pub(crate) from: &'a FileVersion,
    /// The side that gets the version.
    pub(crate) to: Side,
    /// The version of that side, whose path the copy gets.
    pub(crate) replaced: Option<&'a FileVersion>,
    pub(crate) reason: CopyReason,
    /// Explanation of the conflict that the copy resolves.
    pub(crate) conflict: Option<String>,
    /// Modification time of the copy.
    pub(crate) mtime_ns: i64,
    /// Digest of the plain file that the copy replaces.
    pub(crate) replaced_digest: Option<Sha256Digest>,
}

impl PlannedCopy<'_> {
    /// Returns the step that copies the version to the other side.
    pub(crate) fn step(self) -> SyncStep {
        let from = self.from;
        let path = self
            .replaced
            .map_or(&from.seen.path, |replaced| &replaced.seen.path);
        let source = Placement::existing(from.seen.path.clone(), &from.seen);
        let target = Placement::written(path.clone());
        let (action, local, remote) = match self.to {
            Side::Local => (SyncAction::CopyToLocal, target, source),
            Side::Remote => (SyncAction::CopyToCloud, source, target),
        };
        SyncStep {
            key: self.key.to_owned(),
            path: self.path.to_owned(),
            action,
            reason: self.reason.text(from.seen.side).into(),
            bytes: from.seen.stat.size,
            ops: vec![Op::Copy(CopyOp {
                from: from.seen.clone(),
                to: (self.to, path.clone()),
                over: self.replaced.map(|version| version.seen.stat),
                mtime_ns: self.mtime_ns,
                expect: from.digest,
                replaced: self.replaced_digest,
            })],
            state_update: StateUpdate::Synced { local, remote },
            change: ContentChange::Unchanged,
            conflict: self.conflict,
        }
    }
}

/// Returns the step that copies a deletion to the other side.
pub(crate) fn deletion_step(
    key: &str,
    path: &str,
    action: SyncAction,
    victim: &FileVersion,
    state_update: StateUpdate,
) -> SyncStep {
    let reason = match action {
        SyncAction::DeleteCloud => "deleted on this machine, and delete_policy is propagate",
        _ => "deleted on another machine, and delete_policy is propagate",
    };
    SyncStep {
        key: key.to_owned(),
        path: path.to_owned(),
        action,
        reason: reason.into(),
        bytes: 0,
        ops: vec![Op::Remove(victim.seen.clone())],
        state_update,
        change: ContentChange::Unchanged,
        conflict: None,
    }
}

/// Returns the outcome for a file of which both sides have the same version; `contents` is the length and digest of its
/// text, if known.
pub(crate) fn equal(
    state: &SyncState,
    key: &str,
    local: &FileVersion,
    remote: &FileVersion,
    contents: Option<(u64, Sha256Digest)>,
) -> FileOutcome {
    let place = |version: &FileVersion| SideFile {
        path: version.seen.path.clone(),
        stat: version.seen.stat,
    };
    let last = SyncedFile {
        local: place(local),
        remote: place(remote),
        contents,
    };
    let is_recorded = state.files.get(key) == Some(&last);
    FileOutcome::Equal((!is_recorded).then_some(last))
}

/// Returns path and manifest entry of a remote file that was found equal to the local one, unless a machine attests it.
/// Compressed files are never attested this way: `digest` is that of the text, and a manifest lists the bytes.
pub(crate) fn attested_equal(
    remote: &FileVersion,
    digest: Sha256Digest,
) -> Option<(String, ManifestEntry)> {
    if remote.digest.is_some() || remote.seen.path.ends_with(rollout::ZST) {
        return None;
    }
    let entry = ManifestEntry {
        size: remote.seen.stat.size,
        mtime_ns: remote.mtime_ns,
        digest,
    };
    Some((remote.seen.path.clone(), entry))
}

/// Returns the conflict of a file, for the user to decide.
pub(crate) fn conflict(pair: &FilePair<'_>, facts: FileFacts) -> Conflict {
    let seen = |version: &Option<FileVersion>| version.as_ref().map(|v| v.seen.clone());
    Conflict {
        path: pair.path.to_owned(),
        reason: conflict_reason(facts),
        versions: None,
        local: seen(&pair.local),
        remote: seen(&pair.remote),
    }
}
