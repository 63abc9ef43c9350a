//! What a plan says: files as they were seen, and what is done with them, in which order.

use super::NotArrived;
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
pub struct Seen {
    /// Which side.
    pub side: Side,
    /// Relative to its root.
    pub path: String,
    /// What it looked like.
    pub stat: Stat,
}

/// A copy of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The source.
    pub from: Seen,
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
pub struct MergeTo {
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
    Copy(Copy),
    /// The lines of all versions take the place of what is there.
    Merge {
        /// The versions, each with the digest of what was read.
        versions: Vec<(Seen, Sha256Digest)>,
        /// Where they go.
        to: Vec<MergeTo>,
        /// Whether both sides have all lines then.
        is_one_text: bool,
    },
    /// The file gets another name on its side.
    Rename {
        /// The file.
        from: Seen,
        /// Its new path.
        to: String,
    },
    /// The version is kept as a fork on both sides.
    Fork {
        /// The version.
        from: Seen,
        /// The name of the fork.
        name: String,
        /// The digest of its text.
        digest: Sha256Digest,
    },
    /// A fork is copied to the side that lacks it.
    CopyFork {
        /// The side that has it.
        from: Side,
        /// Its file name.
        name: String,
    },
    /// A fork that was decided about goes from a side.
    DropFork {
        /// The side.
        side: Side,
        /// Its file name.
        name: String,
    },
    /// The file goes: what it holds is elsewhere, or its deletion was asked for.
    Remove(Seen),
}

impl Op {
    /// The files whose text goes elsewhere.
    pub fn sources(&self) -> Vec<&Seen> {
        match self {
            Self::Copy(Copy { from, .. }) | Self::Fork { from, .. } => vec![from],
            Self::Merge { versions, .. } => versions.iter().map(|(seen, _)| seen).collect(),
            Self::Rename { .. }
            | Self::CopyFork { .. }
            | Self::DropFork { .. }
            | Self::Remove(_) => Vec::new(),
        }
    }

    /// The files that this op overwrites or removes.
    pub fn victims(&self) -> Vec<Seen> {
        let at = |to: &(Side, String), over: &Option<Stat>| {
            over.map(|stat| Seen {
                side: to.0,
                path: to.1.clone(),
                stat,
            })
        };
        match self {
            Self::Copy(Copy { to, over, .. }) => at(to, over).into_iter().collect(),
            Self::Merge { to, .. } => to.iter().filter_map(|to| at(&to.place, &to.over)).collect(),
            Self::Remove(seen) => vec![seen.clone()],
            Self::Rename { .. }
            | Self::Fork { .. }
            | Self::CopyFork { .. }
            | Self::DropFork { .. } => Vec::new(),
        }
    }
}

/// Where a side has a file when a step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Relative to the side's root.
    pub path: String,
    /// What the plan saw of it, where it is not put there by the step.
    pub stat: Option<Stat>,
}

impl Standing {
    /// One that the step puts there.
    pub fn put(path: String) -> Self {
        Self { path, stat: None }
    }

    /// One that the plan saw, under the name that it has then.
    pub fn seen(path: String, seen: &Seen) -> Self {
        Self {
            path,
            stat: Some(seen.stat),
        }
    }
}

/// What the state learns when a step is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// Both sides have the file.
    Both {
        /// Here.
        local: Standing,
        /// In the cloud folder.
        remote: Standing,
    },
    /// It was deleted here, and that is sent on with the digest of its text.
    Deleted(Sha256Digest),
    /// It is gone on both sides.
    Gone,
    /// Nothing.
    Nothing,
}

/// What a step is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
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
    KeepFork,
    /// A fork goes to the side that lacks it, or goes when it was decided about.
    SettleFork,
    /// A second file of the same conversation goes.
    RemoveDuplicate,
    /// A deletion elsewhere is done here.
    DeleteLocal,
    /// A deletion here is done in the cloud folder.
    DeleteCloud,
}

impl Action {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::CopyToCloud => "copy-to-cloud",
            Self::CopyToLocal => "copy-to-local",
            Self::Merge => "merge",
            Self::MoveLocal => "move-local",
            Self::MoveCloud => "move-cloud",
            Self::KeepFork => "keep-fork",
            Self::SettleFork => "settle-fork",
            Self::RemoveDuplicate => "remove-duplicate",
            Self::DeleteLocal => "delete-local",
            Self::DeleteCloud => "delete-cloud",
        }
    }
}

/// What is done about one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The file's key in the state.
    pub key: String,
    /// The path that people know it by.
    pub path: String,
    /// What it is called.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// How many bytes are written.
    pub bytes: u64,
    /// In order; the first that fails ends the step.
    pub ops: Vec<Op>,
    /// What the state learns.
    pub after: After,
    /// What becomes of the text of a conversation here.
    pub change: ContentChange,
    /// The conflict that the step ends as `conflict.policy` has it, and which version goes on.
    pub conflict: Option<String>,
}

impl Step {
    /// Names of the versions that the step sets aside until the user decides.
    pub fn set_aside(&self) -> impl Iterator<Item = &str> {
        self.ops.iter().filter_map(|op| match op {
            Op::Fork { name, .. } => Some(name.as_str()),
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
    pub local: Option<Seen>,
    /// The version in the cloud folder.
    #[serde(skip)]
    pub remote: Option<Seen>,
}

/// What is in a cloud folder, as far as that tells a bare mount point from one that is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloudHolds {
    /// Nothing, or there is no such folder.
    #[default]
    Nothing,
    /// Something, but nobody has said anything there.
    Files,
    /// What machines say they wrote.
    Words,
}

impl CloudHolds {
    /// What is in it now.
    pub fn now(cloud: &Path) -> Result<Self, IoError> {
        if manifest::all_paths(cloud).next().is_some() {
            return Ok(Self::Words);
        }
        match fs::read_dir(cloud) {
            Ok(mut entries) => Ok(entries.next().map_or(Self::Nothing, |_| Self::Files)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Nothing),
            Err(e) => Err(e).at("list", cloud),
        }
    }
}

impl Plan {
    /// The digest of the notes and of what is left out; `None` where there is nothing of either.
    pub fn notes_digest(&self) -> Option<Sha256Digest> {
        let mut hasher = Hasher::default();
        let mut all = self.notes.iter().chain(&self.left_out).peekable();
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
        !(self.waiting.is_empty() && self.not_arrived.is_empty() && self.skipped.is_empty())
    }

    /// Whether a conflict stops the whole run, as it does with codexSync.
    pub fn is_stopped(&self, policy: ConflictPolicy) -> bool {
        !self.conflicts.is_empty() && policy == ConflictPolicy::ManualAbort
    }
}

/// What a sync would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether it is about all that is synced.
    pub is_whole: bool,
    /// What was in the cloud folder before it was looked through.
    pub cloud_holds: CloudHolds,
    /// Only what would be done: deletions first, each ordered by path.
    pub steps: Vec<Step>,
    /// What nobody has decided.
    pub conflicts: Vec<Conflict>,
    /// What has not arrived whole, and why it is thought so.
    pub waiting: Vec<(String, String)>,
    /// Whether `--accept-unlisted` takes something that is waited for, where no machine lists a newer version.
    pub may_accept: bool,
    /// What other machines list and has not arrived.
    pub not_arrived: Vec<NotArrived>,
    /// What is left alone, and why.
    pub skipped: Vec<(String, String)>,
    /// What is not done as the configuration says, and why.
    pub warnings: Vec<(String, String)>,
    /// What people should know: nothing to do about it here and now.
    pub notes: Vec<(String, String)>,
    /// What is in the home and does not travel, and why.
    pub left_out: Vec<(String, String)>,
    /// Kept versions that nobody has decided about: name and bytes.
    pub forks: Vec<(String, u64)>,
    /// How many files are the same on both sides.
    pub unchanged: usize,
    /// What the state learns without anything being done.
    pub adopted: Vec<(String, SyncedFile)>,
    /// Keys that neither side has any more.
    pub forgotten: Vec<String>,
    /// Files that neither side has any more and whose deletion is to be sent on, by key, with the digest of
    /// the text.
    pub deletions: Vec<(String, String)>,
    /// How many files of the state are outside what is synced now.
    pub outside: usize,
    /// Ids of deletions that are overtaken once a file is in the cloud folder again, by its key.
    pub overtaken: BTreeMap<String, Vec<String>>,
    /// What came before versions that the state learns of without anything being done, by key.
    pub histories: Vec<(String, Ancestry)>,
    /// How many deletions are held back.
    pub held_back: usize,
    /// Versions in the cloud folder that this machine found to be its own.
    pub vouched: Vec<(String, ManifestEntry)>,
    /// What others have decided about versions of conversations and the state is to say as well, as
    /// [`resolutions`](crate::sync::resolutions) has it.
    pub decided: Vec<String>,
    /// Temp files of killed runs.
    pub temps: Vec<PathBuf>,
}
