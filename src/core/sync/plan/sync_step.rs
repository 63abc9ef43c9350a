//! The steps of a plan, with their file operations and the files as the scan observed them.
//!
//! [`apply`](crate::sync::apply) compares each observed file with the disk again right before it reads or replaces
//! it, so a plan may be out of date without doing damage.

use crate::io::hash::Sha256Digest;
use crate::sync::conflicting_versions::ConflictingVersions;
use crate::sync::index_updates::ContentChange;
use crate::sync::sides::{ObservedFile, Side, SidePath, Stat};

/// The copy of one complete file within a side or to the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    pub from: ObservedFile,
    pub to: SidePath,
    /// Size and mtime of the file that the copy replaces; with `None`, the copy replaces no file.
    pub replaced_stat: Option<Stat>,
    /// Modification time of the copy, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Digest of the bytes, if a machine attests the source. Other bytes are not copied.
    pub expected_digest: Option<Sha256Digest>,
    /// Digest of the plain file that the copy replaces. `None` for other files, and if the copy replaces none.
    pub replaced_digest: Option<Sha256Digest>,
}

/// The union of the lines of several versions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeOp {
    /// The files to merge, each with the digest of the bytes that the plan read.
    pub versions: Vec<(ObservedFile, Sha256Digest)>,
    /// The files of the sides that lack lines.
    pub targets: Vec<MergeTarget>,
    /// True if both sides have the same lines after the merge; false if the local file lacks old prompts.
    pub makes_sides_equal: bool,
}

/// One file that receives the merged lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeTarget {
    pub to: SidePath,
    /// Size and time of the file that is replaced; `None` for a new file.
    pub replaced_stat: Option<Stat>,
    /// Index of the first merged line that this side gets. Codex drops the oldest prompts beyond `history.max_bytes`.
    pub first_line: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewConflictCopy {
    /// The file with the version.
    pub from: ObservedFile,
    pub name: String,
    /// Digest of the uncompressed text.
    pub digest: Sha256Digest,
}

/// One change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Copies a complete file, which replaces the target if there is one.
    Copy(CopyOp),
    /// Replaces the targets by the union of the lines of all versions.
    Merge(MergeOp),
    /// Renames the file. Both paths are on the same side.
    Rename { from: ObservedFile, to: SidePath },
    /// Stores a version as a conflict copy on both sides.
    KeepConflictCopy(NewConflictCopy),
    /// Copies a conflict copy to the side that lacks it or has a damaged one.
    ReplicateConflictCopy {
        /// The side with the intact file.
        from: Side,
        name: String,
    },
    /// Removes a conflict copy that was resolved, or whose lines its conversation contains, from one side.
    DropConflictCopy { side: Side, name: String },
    /// Removes the file: its content is in another file, another version replaces it under another name, or a user
    /// deleted it on the other side.
    Remove(ObservedFile),
}

impl Op {
    /// Returns the synced files whose content the op copies. Conflict copies are not among them.
    pub(crate) fn sources(&self) -> Vec<&ObservedFile> {
        match self {
            Self::Copy(CopyOp { from, .. })
            | Self::KeepConflictCopy(NewConflictCopy { from, .. }) => vec![from],
            Self::Merge(merge) => merge.versions.iter().map(|(file, _)| file).collect(),
            Self::Rename { .. }
            | Self::ReplicateConflictCopy { .. }
            | Self::DropConflictCopy { .. }
            | Self::Remove(_) => Vec::new(),
        }
    }

    /// Returns the synced files that this op overwrites or removes. With `backup.before_overwrite` they are backed up
    /// first.
    pub fn targets(&self) -> Vec<ObservedFile> {
        let replaced_file = |to: &SidePath, replaced_stat: Option<Stat>| {
            replaced_stat.map(|stat| ObservedFile {
                side: to.side,
                path: to.path.clone(),
                stat,
            })
        };

        match self {
            Self::Copy(copy) => Vec::from_iter(replaced_file(&copy.to, copy.replaced_stat)),
            Self::Merge(merge) => merge
                .targets
                .iter()
                .filter_map(|target| replaced_file(&target.to, target.replaced_stat))
                .collect(),
            Self::Remove(file) => vec![file.clone()],
            Self::Rename { .. }
            | Self::KeepConflictCopy(_)
            | Self::ReplicateConflictCopy { .. }
            | Self::DropConflictCopy { .. } => Vec::new(),
        }
    }
}

/// Path of a file on one side after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Path relative to the root of the side.
    pub path: String,
    /// Size and time that the plan observed; `None` if the step writes the file.
    pub stat: Option<Stat>,
}

impl Placement {
    /// Creates the placement of a file that the step writes.
    pub(crate) fn written(path: String) -> Self {
        Self { path, stat: None }
    }

    /// Creates the placement of a file that the step leaves in place or renames to `path`.
    pub(crate) fn existing(path: String, file: &ObservedFile) -> Self {
        let stat = Some(file.stat);
        Self { path, stat }
    }
}

/// Change of the recorded state after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateUpdate {
    /// Records that both sides have the same version.
    Synced { local: Placement, remote: Placement },
    /// Forgets the file, after its deletion on this machine was published with this digest of the deleted text.
    PublishDeletion(Sha256Digest),
    /// Removes the record of a file that neither side has any more.
    Forget,
    /// Leaves the state as it is.
    None,
}

/// The kind of a step, as tables and JSON show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum SyncAction {
    /// Copies the local version to the cloud folder.
    CopyToCloud,
    /// Copies the remote version to this machine.
    CopyToLocal,
    /// Writes the lines of all versions to the sides that lack some of them.
    Merge,
    /// Renames the local file: the conversation was archived or unarchived on another machine.
    MoveLocal,
    /// Renames the remote file: the conversation was archived or unarchived on this machine.
    MoveCloud,
    /// Stores a version as a conflict copy.
    #[strum(serialize = "keep-fork")]
    KeepConflictCopy,
    /// Copies a conflict copy to the side that lacks it, or removes a resolved one.
    #[strum(serialize = "settle-fork")]
    UpdateConflictCopy,
    /// Removes a second file of the same conversation.
    RemoveDuplicate,
    /// Deletes the local file, which a user deleted on another machine.
    DeleteLocal,
    /// Deletes the remote file, which the user deleted on this machine.
    DeleteCloud,
}

impl SyncAction {
    pub(crate) fn for_copy(source: Side) -> Self {
        source.select(Self::CopyToCloud, Self::CopyToLocal)
    }

    /// Returns the name that tables and JSON show; part of the JSON contract.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// All changes for one file. The state records them once all are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStep {
    /// Key of the file in the state; see `file_group::state_key`.
    pub key: String,
    /// Relative path for output.
    pub path: String,
    pub action: SyncAction,
    /// Explanation of the action for output.
    pub reason: String,
    /// Number of bytes that the step copies, for progress.
    pub bytes: u64,
    /// The changes, in order. The first change that fails ends the step.
    pub ops: Vec<Op>,
    /// Change of the state once all ops are done.
    pub state_update: StateUpdate,
    /// Effect on the text of a local conversation, for Codex's index.
    pub change: ContentChange,
    /// True if a side of a conversation may lose lines that the other side lacks.
    pub replaces_lines: bool,
    /// Explanation of a conflict that this step resolves by policy or by conflict copies, with the version that wins.
    pub conflict: Option<String>,
}

impl SyncStep {
    /// Creates a step without operations, of 0 bytes. The caller sets the other fields.
    pub fn new(key: &str, path: &str, action: SyncAction, reason: &str) -> Self {
        Self {
            key: key.to_owned(),
            path: path.to_owned(),
            action,
            reason: reason.to_owned(),
            bytes: 0,
            ops: Vec::new(),
            state_update: StateUpdate::None,
            change: ContentChange::Unchanged,
            replaces_lines: false,
            conflict: None,
        }
    }

    /// Returns the paths at which the step creates synced files.
    pub(crate) fn new_targets(&self) -> impl Iterator<Item = &SidePath> {
        self.ops.iter().flat_map(|op| match op {
            Op::Copy(copy) if copy.replaced_stat.is_none() => vec![&copy.to],
            Op::Rename { to, .. } => vec![to],
            Op::Merge(merge) => {
                let is_new = |target: &&MergeTarget| target.replaced_stat.is_none();
                let new_files = merge.targets.iter().filter(is_new);
                new_files.map(|target| &target.to).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Returns true if the step copies a deletion to the other side.
    pub(crate) fn is_deletion(&self) -> bool {
        let action = self.action;
        matches!(action, SyncAction::DeleteLocal | SyncAction::DeleteCloud)
    }

    pub fn removed_bytes(&self) -> u64 {
        let sizes = self.ops.iter().map(|op| match op {
            Op::Remove(file) => file.stat.size,
            _ => 0,
        });
        sizes.sum()
    }

    pub fn new_conflict_copies(&self) -> impl Iterator<Item = &NewConflictCopy> {
        self.ops.iter().filter_map(|op| match op {
            Op::KeepConflictCopy(copy) => Some(copy),
            _ => None,
        })
    }
}

/// A file whose version the user has to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Relative path for output.
    pub path: String,
    /// Explanation of the conflict for output.
    pub reason: String,
    /// The messages that only one version of a conversation has.
    pub versions: Option<ConflictingVersions>,
    pub local: Option<ObservedFile>,
    pub remote: Option<ObservedFile>,
    /// The side with the only version that can be kept, because other rollouts continue it.
    pub needed_side: Option<Side>,
}

impl Conflict {
    /// Returns the reason not to replace a version that other rollouts continue; without `needed_side`, they continue
    /// both versions.
    pub fn describe_continued(needed_side: Option<Side>) -> String {
        let version = match needed_side {
            Some(Side::Local) => "the local version",
            Some(Side::Remote) => "the cloud version",
            None => "each version",
        };
        format!(
            "a rewind or a fork continues {version}, and Codex could not open it with the other one"
        )
    }
}
