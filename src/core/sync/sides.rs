//! The two sides of a sync: paths, sizes and times of their files.

use super::config::SyncConfig;
use super::scope;
use crate::codex::rollout::Relation;
use crate::io::atomic::{self, TempFile};
use crate::io::{IoContext, IoError, modes, modified_ns, user};
use serde::Deserialize;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// The two copies that a sync compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Side {
    /// The Codex home of this machine
    Local,
    /// The cloud folder
    #[value(name = "cloud")]
    Remote,
}

impl Side {
    /// Returns the side whose version extends the other one. `relation` compares the local version, as the first one,
    /// with the remote version.
    pub(crate) fn of_extending(relation: Relation) -> Option<Self> {
        match relation {
            Relation::FirstExtends => Some(Self::Local),
            Relation::SecondExtends => Some(Self::Remote),
            Relation::Equal | Relation::Diverged => None,
        }
    }

    pub(crate) fn other(self) -> Self {
        self.select(Self::Remote, Self::Local)
    }

    /// Returns `own`, the value of this side, and `other`, the value of the other side, in the order local, remote.
    pub(crate) fn to_local_and_remote<T>(self, own: T, other: T) -> (T, T) {
        match self {
            Self::Local => (own, other),
            Self::Remote => (other, own),
        }
    }

    /// Returns the one of two values that belongs to this side.
    pub(crate) fn select<T>(self, local: T, remote: T) -> T {
        match self {
            Self::Local => local,
            Self::Remote => remote,
        }
    }
}

/// A path on one side, relative to the root of that side, with `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SidePath {
    pub side: Side,
    pub path: String,
}

impl SidePath {
    pub(crate) fn new(side: Side, path: &str) -> Self {
        Self {
            side,
            path: path.to_owned(),
        }
    }
}

/// Size and mtime of a regular file. The state files of codexSync have the same field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Stat {
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Stat {
    /// An mtime that no file has, for a file with an unknown mtime.
    pub(crate) const UNKNOWN_MTIME_NS: i64 = i64::MIN;

    pub(crate) fn from_metadata(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            mtime_ns: modified_ns(meta),
        }
    }

    /// Returns size and mtime of the regular file at `path`, without following a link. `None` if no regular file is
    /// there.
    pub fn read(path: &Path) -> Result<Option<Self>, IoError> {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => Ok(Some(Self::from_metadata(&meta))),
            Ok(_) => Ok(None),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e).at("inspect", path),
        }
    }
}

pub(super) fn is_absent(e: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(e.kind(), NotFound | NotADirectory)
}

/// Sets the modification time in nanoseconds since 1970.
pub(crate) fn set_mtime(file: &File, mtime_ns: i64) -> io::Result<()> {
    let distance = Duration::from_nanos(mtime_ns.unsigned_abs());
    file.set_modified(if mtime_ns >= 0 {
        UNIX_EPOCH + distance
    } else {
        UNIX_EPOCH - distance
    })
}

/// Sets the permissions `mode`, except that the owner can always read and write the file, and other users can never
/// write it. Does nothing on Windows.
pub(super) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let mode = (mode & 0o755) | 0o600;
    modes::apply_mode(mode, |permissions| file.set_permissions(permissions))
}

/// Renames a durable temp file to `target`; durable on return. `planned` is the file that may be replaced, `None` if
/// there was none. Returns false, and leaves `target` unchanged, if `target` is not `planned` any more.
pub(super) fn move_into_place(
    temp: TempFile,
    target: &Path,
    planned: Option<Stat>,
) -> Result<bool, IoError> {
    if planned.is_some() {
        let is_unchanged = Stat::read(target)? == planned;
        if is_unchanged {
            temp.replace_synced(target)?;
        }
        return Ok(is_unchanged);
    }

    // A file that was created since the plan is in no backup and must not be replaced.
    match temp.publish_unsynced(target) {
        Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        published => {
            published?;
            atomic::sync_folder(atomic::parent_of(target))?;
            Ok(true)
        }
    }
}

/// A file with the size and mtime that the plan observed. If either has changed since, the step is left for the next
/// run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    pub side: Side,
    /// Path relative to the root of the side, with `/`.
    pub path: String,
    pub stat: Stat,
}

impl ObservedFile {
    pub fn full_path(&self, config: &SyncConfig) -> PathBuf {
        config.file_path(self.side, &self.path)
    }
}

impl SyncConfig {
    pub(crate) fn root(&self, side: Side) -> &Path {
        side.select(&self.local, &self.cloud)
    }

    /// Returns true if sync follows a link at this path of a side.
    pub(crate) fn follows_link(&self, side: Side, path: &str) -> bool {
        side == Side::Local
            && scope::follows_link(path, &self.scope.roots)
            && user::check_link(&self.local.join(path)).is_ok()
    }

    /// Returns the path of a file on a side, whether it exists or not. A followed link at the top of the home
    /// is resolved, so that replacing the file keeps the link.
    pub fn file_path(&self, side: Side, path: &str) -> PathBuf {
        let full_path = self.root(side).join(path);
        if self.follows_link(side, path)
            && fs::symlink_metadata(&full_path).is_ok_and(|meta| meta.is_symlink())
            && scope::reason_not_to_follow(self.root(side), &full_path).is_none()
        {
            user::real_path(&full_path).unwrap_or(full_path)
        } else {
            full_path
        }
    }
}
