//! The plan for one file: its outcome, and what is reported and recorded besides.

use crate::codex::rollout;
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use crate::sync::decide::{FileDecision, FileFacts, conflict_reason};
use crate::sync::index_updates::ContentChange;
use crate::sync::manifest::ManifestEntry;
use crate::sync::notice::Notice;
use crate::sync::plan::facts::file_version::{FilePair, FileVersion, text_digest};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::sync_step::{Conflict, Op, StateUpdate, SyncAction, SyncStep};
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

/// Returns the step that copies a deletion to the other side; `None` for other decisions.
pub(crate) fn deletion_step(
    inputs: &Inputs<'_>,
    pair: &FilePair<'_>,
    decision: FileDecision,
) -> Result<Option<SyncStep>, IoError> {
    let (action, victim, state_update) = match (decision, &pair.local, &pair.remote) {
        (FileDecision::DeleteCloud, _, Some(remote)) => {
            let (_, digest) = text_digest(inputs.config, &remote.seen)?;
            let update = StateUpdate::PublishDeletion(digest);
            (SyncAction::DeleteCloud, remote, update)
        }
        (FileDecision::DeleteLocal, Some(local), _) => {
            (SyncAction::DeleteLocal, local, StateUpdate::Forget)
        }
        _ => return Ok(None),
    };
    let reason = match action {
        SyncAction::DeleteCloud => "deleted on this machine, and delete_policy is propagate",
        _ => "deleted on another machine, and delete_policy is propagate",
    };
    Ok(Some(SyncStep {
        key: pair.key.to_owned(),
        path: pair.path.to_owned(),
        action,
        reason: reason.into(),
        bytes: 0,
        ops: vec![Op::Remove(victim.seen.clone())],
        state_update,
        change: ContentChange::Unchanged,
        conflict: None,
    }))
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
