//! One exchange of a live name with a staged one, which can be told done from not done at any moment.

use crate::io::atomic::with_suffix;
use crate::io::exchange::exchange;
use crate::io::reach;
use crate::io::{IoContext, IoError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which file a name means, however it is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FileId {
    dev: u64,
    ino: u64,
}

impl FileId {
    fn of(path: &Path) -> Option<Self> {
        let meta = reach::with(path, Path::symlink_metadata).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self {
                dev: meta.dev(),
                ino: meta.ino(),
            })
        }
        #[cfg(not(unix))]
        {
            // Creation times tell two files of our own making apart.
            let created = meta
                .created()
                .ok()?
                .duration_since(std::time::UNIX_EPOCH)
                .ok()?;
            Some(Self {
                dev: 0,
                ino: u64::try_from(created.as_nanos()).ok()?,
            })
        }
    }
}

/// One exchange of a live name with a staged one. Either may be absent: then it is a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub(super) live: PathBuf,
    pub(super) staged: PathBuf,
    live_id: Option<FileId>,
    staged_id: Option<FileId>,
}

impl Step {
    /// The step that exchanges what now stands at `live` and at `staged`.
    pub fn new(live: PathBuf, staged: PathBuf) -> Self {
        let (live_id, staged_id) = (FileId::of(&live), FileId::of(&staged));
        Self {
            live,
            staged,
            live_id,
            staged_id,
        }
    }

    /// Whether it is about this live name.
    pub fn is_of(&self, live: &Path) -> bool {
        self.live == live
    }

    /// Whether both names are of one file: there is nothing to exchange.
    pub(super) fn is_of_one_file(&self) -> bool {
        self.live_id.is_some() && self.live_id == self.staged_id
    }

    /// Whether the new state of this step is in place. Codex may have replaced the live file since, and
    /// [`super::pending::keep_login`] a staged login: whatever is known by either name tells it.
    pub(super) fn is_done(&self) -> bool {
        let (live, staged) = (FileId::of(&self.live), FileId::of(&self.staged));
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) => live == self.staged_id || staged == self.live_id,
            (None, Some(_)) => live == self.staged_id || staged.is_none(),
            (Some(_), None) => live.is_none() || staged.is_some(),
            (None, None) => true,
        }
    }

    pub(super) fn apply(&self) -> Result<(), IoError> {
        self.settle()?;
        if self.is_done() {
            return Ok(());
        }
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) => swap_names(&self.live, &self.staged),
            (None, _) => move_new(&self.staged, &self.live),
            (_, None) => move_new(&self.live, &self.staged),
        }
    }

    pub(super) fn undo(&self) -> Result<(), IoError> {
        self.settle()?;
        if !self.is_done() {
            return Ok(());
        }
        match (self.live_id, self.staged_id) {
            // What was live before has been removed since.
            (Some(_), Some(_)) if !is_there(&self.staged) => move_new(&self.live, &self.staged),
            (Some(_), Some(_)) => swap_names(&self.live, &self.staged),
            (None, Some(_)) if is_there(&self.live) => move_new(&self.live, &self.staged),
            (Some(_), None) if is_there(&self.staged) => move_new(&self.staged, &self.live),
            // Somebody has removed what would be moved.
            _ => Ok(()),
        }
    }

    /// Whether it was cut off between the renames of an exchange.
    pub(super) fn is_cut_off(&self) -> bool {
        is_there(&aside_of(&self.staged))
    }

    /// Ends an exchange that was cut off between its renames: what was set aside gets the one of its two
    /// names that is free. So a step is either done or not, and nothing of either side lies elsewhere.
    /// Gives where something was left that somebody put into the gap meanwhile.
    pub(super) fn settle(&self) -> Result<Option<PathBuf>, IoError> {
        if !self.is_cut_off() {
            return Ok(None);
        }
        let aside = aside_of(&self.staged);
        if is_second_name(&aside, &self.live) {
            reach::with(&aside, |aside| fs::remove_file(aside)).at("remove", &aside)?;
            return Ok(None);
        }
        if is_there(&self.live) && !is_there(&self.staged) {
            rename(&aside, &self.staged).at("rename", &aside)?;
            return Ok(None);
        }
        let left = free_live_name(&self.live)?;
        rename(&aside, &self.live).at("rename", &aside)?;
        Ok(left)
    }

    /// Frees the name that this step moves something to, should somebody have taken it since; gives
    /// where that is now.
    pub(super) fn make_way(&self, towards: Towards) -> Result<Option<PathBuf>, IoError> {
        let is_taken = match towards {
            Towards::New => self.live_id.is_none() && !self.is_done(),
            Towards::Old => self.staged_id.is_none() && is_there(&self.staged),
        };
        if is_taken {
            free_live_name(&self.live)
        } else {
            Ok(None)
        }
    }
}

/// Which state the steps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    Old,
    New,
}

fn is_there(path: &Path) -> bool {
    reach::with(path, Path::symlink_metadata).is_ok()
}

/// Where one side of an exchange is while the other is moved.
fn aside_of(staged: &Path) -> PathBuf {
    with_suffix(staged, ".aside")
}

/// Whether two names are one file.
fn is_second_name(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        FileId::of(a).is_some_and(|id| Some(id) == FileId::of(b))
    }
    #[cfg(not(unix))]
    {
        same_file::is_same_file(a, b).unwrap_or(false)
    }
}

/// Moves what has a live name to a free one beside it; gives that.
fn free_live_name(live: &Path) -> Result<Option<PathBuf>, IoError> {
    if !is_there(live) {
        return Ok(None);
    }
    let names = (1..).map(|n| with_suffix(live, &format!(".found-after-restore-{n}")));
    for name in names {
        if !is_there(&name) {
            rename(live, &name).at("move", live)?;
            return Ok(Some(name));
        }
    }
    unreachable!("the names have no end")
}

/// Exchanges two names; by three renames where the system cannot do it in one call.
fn swap_names(live: &Path, staged: &Path) -> Result<(), IoError> {
    if !is_there(live) && is_there(staged) {
        // Somebody has removed it since.
        return move_new(staged, live);
    }
    match exchange_in_one_call(live, staged) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        other => return other.at("exchange", live),
    }
    // Killed in what follows, [`Step::settle`] ends it.
    let aside = aside_of(staged);
    let is_file = reach::with(live, Path::symlink_metadata).is_ok_and(|m| !m.is_dir());
    if is_file && reach::with_both(live, &aside, |live, aside| fs::hard_link(live, aside)).is_ok() {
        // A file is replaced by one rename: no moment is without it.
        rename(staged, live).at("replace", live)?;
    } else {
        rename(live, &aside).at("rename", live)?;
        if let Err(e) = rename(staged, live) {
            let _ = rename(&aside, live);
            return Err(e).at("rename", staged);
        }
    }
    rename(&aside, staged).at("rename", &aside)
}

/// Moves to a name that is free.
fn move_new(from: &Path, to: &Path) -> Result<(), IoError> {
    if is_there(to) {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("move to", to);
    }
    rename(from, to).at("move", from)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the exchange and the move themselves; the caller makes them durable"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    tests::before_rename()?;
    reach::with_both(from, to, |from, to| fs::rename(from, to))
}

fn exchange_in_one_call(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(test)]
    tests::before_exchange()?;
    reach::with_both(a, b, exchange)
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        /// How many renames are left before this thread counts as killed; `None` where the system
        /// exchanges in one call.
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Does `work` without calls that exchange, and as if it were killed after so many renames. Says
    /// whether it was.
    pub(in super::super) fn killed_after(renames: usize, work: impl FnOnce()) -> bool {
        LEFT.set(Some(renames));
        work();
        LEFT.replace(None) == Some(0)
    }

    pub(super) fn before_rename() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("killed")),
            Some(left) => {
                LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    pub(super) fn before_exchange() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
