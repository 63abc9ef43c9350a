//! What a plan says: files as they were seen, and what is done with them, in which order.

use super::UndeliveredVersion;
use crate::io::hash::{Hasher, Sha256Digest};
use crate::io::{IoContext, IoError};
use crate::sync::config::ConflictPolicy;
use crate::sync::index_updates::ContentChange;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::scan::{Side, Stat};
use crate::sync::state::SyncedFile;
use crate::sync::version_vector::Ancestry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file as it was seen on a side; looked at again before anything is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// Which side.
    pub side: Side,
    /// Relative to its root.
    pub path: String,
    /// What it looked like.
    pub stat: Stat,
}

/// A copy of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOp {
    /// The source.
    pub from: ObservedFile,
    /// The place.
    pub to: (Side, String),
    /// What is there now.
    pub over: Option<Stat>,
    /// The time that the copy gets.
    pub mtime_ns: i64,
    /// What its bytes must be, where that is known.
    pub expect: Option<Sha256Digest>,
    /// What came before the version, where that is to be told.
    pub history: Option<Box<Ancestry>>,
}

/// A place that lines of several versions go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeTarget {
    /// The place.
    pub place: (Side, String),
    /// What is there now.
    pub over: Option<Stat>,
    /// The first line that goes there, by its index.
    pub first: usize,
}

/// One thing that is done to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// A whole copy takes the place of what is there, if anything.
    Copy(CopyOp),
    /// The lines of all versions take the place of what is there.
    Merge {
        /// The versions, each with the digest of what was read.
        versions: Vec<(ObservedFile, Sha256Digest)>,
        /// Where they go.
        to: Vec<MergeTarget>,
        /// Whether both sides have all lines then.
        is_one_text: bool,
    },
    /// The file gets another name on its side.
    Rename {
        /// The file.
        from: ObservedFile,
        /// Its new path.
        to: String,
    },
    /// The version is kept as a fork on both sides.
    KeepConflictCopy {
        /// The version.
        from: ObservedFile,
        /// The name of the fork.
        name: String,
        /// The digest of its text.
        digest: Sha256Digest,
    },
    /// A fork is copied to the side that lacks it.
    ReplicateConflictCopy {
        /// The side that has it.
        from: Side,
        /// Its file name.
        name: String,
    },
    /// A fork that was decided about goes from a side.
    DropConflictCopy {
        /// The side.
        side: Side,
        /// Its file name.
        name: String,
    },
    /// The file goes: what it holds is elsewhere, or its deletion was asked for.
    Remove(ObservedFile),
}

impl Op {
    /// The files whose text goes elsewhere.
    pub fn sources(&self) -> Vec<&ObservedFile> {
        match self {
            Self::Copy(CopyOp { from, .. }) | Self::KeepConflictCopy { from, .. } => vec![from],
            Self::Merge { versions, .. } => versions.iter().map(|(seen, _)| seen).collect(),
            Self::Rename { .. }
            | Self::ReplicateConflictCopy { .. }
            | Self::DropConflictCopy { .. }
            | Self::Remove(_) => Vec::new(),
        }
    }

    /// The files that this op overwrites or removes.
    pub fn victims(&self) -> Vec<ObservedFile> {
        let at = |to: &(Side, String), over: &Option<Stat>| {
            over.map(|stat| ObservedFile {
                side: to.0,
                path: to.1.clone(),
                stat,
            })
        };
        match self {
            Self::Copy(CopyOp { to, over, .. }) => at(to, over).into_iter().collect(),
            Self::Merge { to, .. } => to.iter().filter_map(|to| at(&to.place, &to.over)).collect(),
            Self::Remove(seen) => vec![seen.clone()],
            Self::Rename { .. }
            | Self::KeepConflictCopy { .. }
            | Self::ReplicateConflictCopy { .. }
            | Self::DropConflictCopy { .. } => Vec::new(),
        }
    }
}

/// Where a side has a file when a step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Relative to the side's root.
    pub path: String,
    /// What the plan saw of it, where it is not put there by the step.
    pub stat: Option<Stat>,
}

impl Placement {
    /// One that the step puts there.
    pub fn put(path: String) -> Self {
        Self { path, stat: None }
    }

    /// One that the plan saw, under the name that it has then.
    pub fn seen(path: String, seen: &ObservedFile) -> Self {
        Self {
            path,
            stat: Some(seen.stat),
        }
    }
}

/// What the state learns when a step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateUpdate {
    /// Both sides have the file.
    Synced {
        /// Here.
        local: Placement,
        /// In the cloud folder.
        remote: Placement,
    },
    /// It was deleted here, and that is sent on with the digest of its text.
    PublishDeletion(Sha256Digest),
    /// It is gone on both sides.
    Forget,
    /// Nothing.
    None,
}

/// What a step is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncAction {
    /// The version here goes to the cloud folder.
    CopyToCloud,
    /// The version in the cloud folder comes here.
    CopyToLocal,
    /// Lines of both, on both sides.
    Merge,
    /// The file gets another name here: archived, or no longer.
    MoveLocal,
    /// The same in the cloud folder.
    MoveCloud,
    /// A version is kept as a fork.
    #[serde(rename = "keep-fork")]
    KeepConflictCopy,
    /// A fork goes to the side that lacks it, or goes when it was decided about.
    #[serde(rename = "settle-fork")]
    ResolveConflictCopy,
    /// A second file of the same conversation goes.
    RemoveDuplicate,
    /// A deletion elsewhere is done here.
    DeleteLocal,
    /// A deletion here is done in the cloud folder.
    DeleteCloud,
}

impl SyncAction {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::CopyToCloud => "copy-to-cloud",
            Self::CopyToLocal => "copy-to-local",
            Self::Merge => "merge",
            Self::MoveLocal => "move-local",
            Self::MoveCloud => "move-cloud",
            Self::KeepConflictCopy => "keep-fork",
            Self::ResolveConflictCopy => "settle-fork",
            Self::RemoveDuplicate => "remove-duplicate",
            Self::DeleteLocal => "delete-local",
            Self::DeleteCloud => "delete-cloud",
        }
    }
}

/// What is done about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStep {
    /// The file's key in the state.
    pub key: String,
    /// The path that people know it by.
    pub path: String,
    /// What it is called.
    pub action: SyncAction,
    /// Why.
    pub reason: String,
    /// How many bytes are written.
    pub bytes: u64,
    /// In order; the first that fails ends the step.
    pub ops: Vec<Op>,
    /// What the state learns.
    pub state_update: StateUpdate,
    /// What becomes of the text of a conversation here.
    pub change: ContentChange,
    /// The conflict that the step ends as `conflict.policy` has it, and which version goes on.
    pub conflict: Option<String>,
}

impl SyncStep {
    /// Names of the versions that the step sets aside until the user decides.
    pub fn new_conflict_copies(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().filter_map(|op| match op {
            Op::KeepConflictCopy { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }
}

/// A file that somebody has to choose a version of.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Conflict {
    /// The path that people know it by.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The version here: bytes and time in nanoseconds.
    #[serde(skip)]
    pub local: Option<ObservedFile>,
    /// The version in the cloud folder.
    #[serde(skip)]
    pub remote: Option<ObservedFile>,
}

/// What is in a cloud folder, as far as that tells a bare mount point from one that is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloudContents {
    /// Nothing, or there is no such folder.
    #[default]
    Empty,
    /// Something, but nobody has said anything there.
    Files,
    /// What machines say they wrote.
    Manifests,
}

impl CloudContents {
    /// What is in it now.
    pub fn read(cloud: &Path) -> Result<Self, IoError> {
        if manifest::all_paths(cloud).next().is_some() {
            return Ok(Self::Manifests);
        }
        match fs::read_dir(cloud) {
            Ok(mut entries) => Ok(entries.next().map_or(Self::Empty, |_| Self::Files)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Empty),
            Err(e) => Err(e).at("list", cloud),
        }
    }
}

impl SyncPlan {
    /// The digest of the notes and of what is left out; `None` where there is nothing of either.
    pub fn notes_digest(&self) -> Option<Sha256Digest> {
        let mut hasher = Hasher::default();
        let mut all = self.notes.iter().chain(&self.excluded).peekable();
        all.peek()?;
        for (path, why) in all {
            for text in [path, why] {
                hasher.update(text.as_bytes());
                hasher.update(b"\0");
            }
        }
        Some(hasher.digest())
    }

    /// Whether something has not arrived or is left alone.
    pub fn is_partial(&self) -> bool {
        !(self.waiting.is_empty() && self.undelivered.is_empty() && self.skipped.is_empty())
    }

    /// Whether a conflict stops the whole run, as it does with codexSync.
    pub fn is_stopped(&self, policy: ConflictPolicy) -> bool {
        !self.conflicts.is_empty() && policy == ConflictPolicy::ManualAbort
    }
}

/// What a sync would do.
#[derive(Debug, Default)]
pub struct SyncPlan {
    /// Whether it is about all that is synced.
    pub is_complete: bool,
    /// What was in the cloud folder before it was looked through.
    pub cloud_contents: CloudContents,
    /// Only what would be done: deletions first, each ordered by path.
    pub steps: Vec<SyncStep>,
    /// What nobody has decided.
    pub conflicts: Vec<Conflict>,
    /// What has not arrived whole, and why it is thought so.
    pub waiting: Vec<(String, String)>,
    /// Whether `--accept-unlisted` takes something that is waited for, where no machine lists a newer version.
    pub may_accept_unlisted: bool,
    /// What other machines list and has not arrived.
    pub undelivered: Vec<UndeliveredVersion>,
    /// What is left alone, and why.
    pub skipped: Vec<(String, String)>,
    /// What is not done as the configuration says, and why.
    pub warnings: Vec<(String, String)>,
    /// What people should know: nothing to do about it here and now.
    pub notes: Vec<(String, String)>,
    /// What is in the home and does not travel, and why.
    pub excluded: Vec<(String, String)>,
    /// Kept versions that nobody has decided about: name and bytes.
    pub conflict_copies: Vec<(String, u64)>,
    /// How many files are the same on both sides.
    pub unchanged: usize,
    /// What the state learns without anything being done.
    pub recorded_equal: Vec<(String, SyncedFile)>,
    /// Keys that neither side has any more.
    pub forgotten: Vec<String>,
    /// Files that neither side has any more and whose deletion is to be sent on, by key, with the digest of
    /// the text.
    pub deletions: Vec<(String, String)>,
    /// How many files of the state are outside what is synced now.
    pub out_of_scope: usize,
    /// Ids of deletions that are overtaken once a file is in the cloud folder again, by its key.
    pub cancelled_deletions: BTreeMap<String, Vec<String>>,
    /// What came before versions that the state learns of without anything being done, by key.
    pub histories: Vec<(String, Ancestry)>,
    /// How many deletions are held back.
    pub held_deletions: usize,
    /// Versions in the cloud folder that this machine found to be its own.
    pub attested: Vec<(String, ManifestEntry)>,
    /// What others have decided about versions of conversations and the state is to say as well, as
    /// [`resolutions`](crate::sync::resolutions) has it.
    pub learned_resolutions: Vec<String>,
    /// Temp files of killed runs.
    pub leftover_temps: Vec<PathBuf>,
}
