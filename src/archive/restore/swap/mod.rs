//! Putting a prepared state in the place of the live one, so that a kill at any moment leaves the
//! whole old state or the whole new one.
//!
//! Everything is staged and durable first. Then each step exchanges two names in one call where the
//! system can do that. A journal beside the home says which steps there are; whether one is done is
//! told by the inodes, so no write has to follow a step. Any later process finishes what was begun.

#[cfg(test)]
mod crash_states;
mod journal;
pub(super) mod late_writes;
mod recovery;
#[cfg(test)]
mod test_fixture;

pub(super) use recovery::check_ours;
pub use recovery::{Guard, Obstacle, Recovery, is_at_work, is_pending, recover};

use super::journal_path::AnyPath;
use super::leftovers;
use super::step::{Position, Step};
use crate::io::document::{self, DocumentError};
use crate::io::lock::{FileLock, LockError};
use crate::io::{IoContext, IoError, atomic, file_open, tree};
use journal::{JournalFile, State};
use recovery::recover_locked;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of our folders beside a home end.
pub(super) const FOLDER_SUFFIX: &str = ".codex-manager-restore";

const JOURNAL: &str = "journal.json";
const LOCK: &str = "lock";

/// How long a look at a folder of ours may hold its lock.
const LOOK: Duration = Duration::from_millis(200);

/// Why a swap could not be done or finished.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The file system refused. What was exchanged has been exchanged back.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The journal could not be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A restore of this home is at work in another process.
    #[error("another restore is at work: {}", .0.display())]
    InProgress(PathBuf),
    /// A folder with the name of ours that somebody else made; nothing was touched.
    #[error("not a folder of an interrupted restore, though it has the name of one: {}", .0.display())]
    NotOurs(PathBuf),
    /// The journal of an interrupted restore cannot be read; nothing was touched.
    #[error("the journal of an interrupted restore is damaged ({detail}): {}", path.display())]
    DamagedJournal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// One step would take away what another puts into place; nothing was touched.
    #[error("two steps of a restore are about one name: {}", .0.display())]
    Clash(PathBuf),
    /// An interrupted restore cannot be finished now; nothing was touched.
    #[error(transparent)]
    PutOff(#[from] Obstacle),
}

/// A swap that is being prepared. Dropped before [`Swap::commit`], it leaves nothing behind.
#[derive(Debug)]
pub struct Swap {
    journal: JournalFile,
    path: PathBuf,
    finished: bool,
    /// What could not be removed.
    remains: Vec<PathBuf>,
    /// Kept open for nothing, so that one can be opened to clean up where no more may be.
    spare: Option<File>,
    _lock: FileLock,
}

/// The folder for a restore of the file or folder `live`: beside it, so that a rename gets there.
pub fn folder_beside(live: &Path) -> PathBuf {
    let name = live.file_name().unwrap_or_default().to_string_lossy();
    live.with_file_name(format!(".{name}{FOLDER_SUFFIX}"))
}

/// The folder for a restore of `home` where nothing can stand beside it.
pub fn folder_within(home: &Path) -> PathBuf {
    home.join(FOLDER_SUFFIX)
}

impl Swap {
    /// Begins a swap of `home` whose journal is in `folder`, which is made (0700). What another process
    /// left there meanwhile, because it was killed, is finished or undone first, as by [`recover`].
    pub fn begin(folder: &Path, home: &Path, guard: &dyn Guard) -> Result<Self, SwapError> {
        let lock = loop {
            atomic::create_private_folder(folder)?;
            check_ours(folder)?;
            // Another command may just be looking whether something was interrupted here.
            match FileLock::exclusive_within(&folder.join(LOCK), LOOK) {
                Ok(lock) if !lock.is_current(&folder.join(LOCK)) => {}
                Ok(lock) if folder.join(JOURNAL).exists() => {
                    if let Recovery::PutOff(obstacle) = recover_locked(folder, lock, guard)? {
                        return Err(obstacle.into());
                    }
                }
                Ok(lock) => break lock,
                Err(LockError::Held(_)) => {
                    return Err(SwapError::InProgress(folder.to_path_buf()));
                }
                // Removed by the one who was here before, between our two steps.
                Err(LockError::Io(e)) if e.is_not_found() => {}
                Err(LockError::Io(e)) => {
                    // Only if nothing is in it: then it is the one that was made here.
                    let _ = fs::remove_dir(folder);
                    return Err(e.into());
                }
            }
        };
        let folders = vec![AnyPath(folder.to_path_buf())];
        let journal = JournalFile::prepared(folders, Some(AnyPath(home.to_path_buf())));
        let spare = file_open::open(folder.join(LOCK)).inspect_err(|_| {
            let _ = (fs::remove_file(folder.join(LOCK)), fs::remove_dir(folder));
        });
        let swap = Self {
            journal,
            path: folder.join(JOURNAL),
            finished: false,
            remains: Vec::new(),
            spare: Some(spare.at("open", folder.join(LOCK))?),
            _lock: lock,
        };
        swap.write()?;
        Ok(swap)
    }

    /// Adds a folder on another file system; the journal knows of it before it is made.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), SwapError> {
        self.journal.folders.push(AnyPath(folder.to_path_buf()));
        self.write()?;
        let made = atomic::create_private_folder(folder);
        if made.is_err() && folder.symlink_metadata().is_err() {
            // Nothing is there to be made durable, or to be removed.
            self.journal.folders.pop();
        }
        Ok(made?)
    }

    /// The folder with the journal.
    pub fn folder(&self) -> &Path {
        &self.journal.folders[0].0
    }

    /// Does `steps`. `confirm` is asked when they are done; on `false` they are undone, and the new
    /// state goes to the places of `leave_at` (from, to) for whoever may hold files of it.
    ///
    /// # Errors
    /// A step failed; those before it were undone. Or two are about one name: then none was done.
    pub fn commit(
        mut self,
        mut steps: Vec<Step>,
        confirm: impl FnOnce() -> bool,
        leave_at: &[(PathBuf, PathBuf)],
    ) -> Result<Outcome, SwapError> {
        drop_repeated(&mut steps);
        check_apart(steps.iter().map(|step| step.live.as_path()))?;
        check_apart(steps.iter().map(|step| step.staged.as_path()))?;
        self.journal.since = self.prepare_asides()?;
        for folder in &self.journal.folders {
            tree::sync(&folder.0)?;
        }
        self.journal.steps = steps;
        if let Err(e) = self.set(State::Committing) {
            // No step is done: what was staged may go.
            self.disarm()?;
            return Err(e);
        }
        if let Err(e) = self.apply() {
            self.undo()?;
            self.disarm()?;
            return Err(e);
        }
        self.sync_parents()?;
        if !confirm() {
            // Somebody may have files of the new state open and go on writing into them.
            let pair =
                |(from, to): &(PathBuf, PathBuf)| (AnyPath(from.clone()), AnyPath(to.clone()));
            self.journal.leave_at = leave_at.iter().map(pair).collect();
            self.undo()?;
            let left = self.leave()?;
            self.disarm()?;
            return Ok(Outcome::Undone(left));
        }
        if self.seal().is_err() {
            // Another process finds every step done, and takes the old state away.
            self.finished = true;
            return Ok(Outcome::Done(vec![self.folder().to_path_buf()]));
        }
        self.clean(without_journal);
        Ok(Outcome::Done(std::mem::take(&mut self.remains)))
    }

    /// Makes the folders for what steps set aside; gives the clock of each file system.
    fn prepare_asides(&self) -> Result<Vec<i64>, IoError> {
        let folders = self.journal.folders.iter();
        let prepare = |folder: &AnyPath| {
            atomic::create_private_folder(&folder.0.join("aside"))?;
            late_writes::clock_of(&folder.0)
        };
        folders.map(prepare).collect()
    }

    /// Does every step that is not done.
    fn apply(&self) -> Result<(), SwapError> {
        for (number, step) in self.journal.steps.iter().enumerate() {
            step.apply(&self.journal.aside(number)?)?;
        }
        Ok(())
    }

    /// Undoes what this process has done.
    fn undo(&mut self) -> Result<(), SwapError> {
        // Where it cannot be written, a process that finds us killed goes on forward: one whole
        // state, too.
        let _ = self.set(State::Undoing);
        for (number, step) in self.journal.steps.iter().enumerate().rev() {
            let aside = self.journal.aside(number)?;
            if step.position(&aside)? == Position::CutOff {
                let is_login = step.is_of(&self.journal.auth_json());
                step.settle(&aside, is_login, |_| Ok(()))?;
            }
            step.undo(&aside)?;
        }
        Ok(self.sync_parents()?)
    }

    /// Leaves the new state, which is staged again, at its places; gives those. A process that was killed
    /// may have left some of it.
    fn leave(&self) -> Result<Vec<PathBuf>, SwapError> {
        let mut left = Vec::new();
        for (AnyPath(staged), AnyPath(place)) in &self.journal.leave_at {
            if staged.symlink_metadata().is_ok() {
                let names = (2..).map(|n| atomic::with_suffix(place, &format!("-{n}")));
                let mut names = std::iter::once(place.clone()).chain(names);
                let is_free = |name: &PathBuf| name.symlink_metadata().is_err();
                let free = names.find(is_free).unwrap_or_else(|| place.clone());
                atomic::rename(staged, &free)?;
                left.push(free);
            } else if place.symlink_metadata().is_ok() {
                left.push(place.clone());
            }
        }
        Ok(left)
    }

    /// Makes it known that what is staged now is the old state, all of which may go.
    fn seal(&mut self) -> Result<(), SwapError> {
        if self.set(State::Committed).is_err() {
            // To remove the journal takes no room.
            tree::remove(&self.path)?;
            atomic::sync_folder(self.folder())?;
        }
        Ok(())
    }

    /// Makes the journal ask for nothing: no step is done, none is to be done. Until then what is
    /// staged has to stay, since another process may take the journal at its word.
    fn disarm(&mut self) -> Result<(), SwapError> {
        let (folders, home) = (self.journal.folders.clone(), self.journal.home.clone());
        let disarmed = JournalFile::prepared(folders, home);
        if document::write(&self.path, &disarmed).is_err() {
            // To remove it takes no room. Other processes then know of the first folder alone; the
            // others are removed by this one.
            tree::remove(&self.path)?;
            atomic::sync_folder(self.folder())?;
        }
        self.journal = disarmed;
        Ok(())
    }

    fn set(&mut self, state: State) -> Result<(), SwapError> {
        self.journal.state = state;
        self.write()
    }

    fn write(&self) -> Result<(), SwapError> {
        Ok(document::write(&self.path, &self.journal)?)
    }

    fn sync_parents(&self) -> Result<(), IoError> {
        let parents: BTreeSet<&Path> = self
            .journal
            .steps
            .iter()
            .map(|s| atomic::parent_of(&s.live))
            .collect();
        parents.into_iter().try_for_each(atomic::sync_folder)
    }

    /// Removes every folder of the swap; the one with the journal last, and its lock at the very
    /// end: until then nobody else begins there. That something cannot be removed (a file of another
    /// user, an immutable one) is no failure of what was done; `left` sees to it.
    fn clean(&mut self, left: fn(&Path) -> Option<PathBuf>) {
        self.finished = true;
        self.spare = None;
        let folders = self.journal.folders.clone();
        let Some((own, others)) = folders.split_first() else {
            return;
        };
        for AnyPath(folder) in others.iter().rev() {
            if tree::remove(folder).is_err() {
                self.remains.extend(left(folder));
            }
        }
        if remove_with_lock(&own.0).is_err() {
            self.remains.extend(left(&own.0));
        }
    }
}

/// Drops steps that are there already: two links in a home may lead to one folder.
fn drop_repeated(steps: &mut Vec<Step>) {
    let mut seen = HashMap::new();
    let names = steps.iter().map(|step| (&step.live, &step.staged));
    let is_new = names.map(|(live, staged)| seen.insert(live, staged) != Some(staged));
    let is_new: Vec<bool> = is_new.collect();
    let mut is_new = is_new.into_iter();
    steps.retain(|_| is_new.next().unwrap_or(true));
}

/// Refuses names of which one is another, or below it.
fn check_apart<'a>(mut names: impl Iterator<Item = &'a Path> + Clone) -> Result<(), SwapError> {
    let mut all = HashSet::new();
    for name in names.clone() {
        if !all.insert(name) {
            return Err(SwapError::Clash(name.to_path_buf()));
        }
    }
    let is_below = |name: &&Path| name.ancestors().skip(1).any(|above| all.contains(above));
    let clash = names.find(is_below);
    clash.map_or(Ok(()), |name| Err(SwapError::Clash(name.to_path_buf())))
}

/// Sets a folder aside in which nothing is to be done any more.
fn without_journal(folder: &Path) -> Option<PathBuf> {
    let _ = tree::remove(&folder.join(JOURNAL));
    leftovers::set_aside(folder)
}

/// Removes the journal's folder. Another restore may begin there as soon as the lock is gone.
fn remove_with_lock(folder: &Path) -> Result<(), IoError> {
    let entries = match tree::list(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at("list", folder)?,
    };
    let (lock, journal) = (folder.join(LOCK), folder.join(JOURNAL));
    for (name, _) in entries {
        let path = folder.join(name);
        if path != lock && path != journal {
            tree::remove(&path)?;
        }
    }
    tree::remove(&journal)?;
    tree::remove(&lock)?;
    match fs::remove_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", folder),
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if !self.finished && self.journal.state == State::Prepared {
            // What stays behind is removed by the next command.
            self.clean(|_| None);
        }
    }
}

/// How a swap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new state is there; of the old one, this could not be removed.
    Done(Vec<PathBuf>),
    /// The old state is there again; the new one was left at these places.
    Undone(Vec<PathBuf>),
}

#[cfg(test)]
mod tests {
    use super::test_fixture::*;
    use super::*;

    #[test]
    fn commit_replaces_all_and_leaves_nothing_behind() {
        let world = World::new();
        let (swap, steps) = world.begin();
        let outcome = swap.commit(steps, || true, &[]).unwrap();
        assert_eq!(outcome, Outcome::Done(vec![]));
        assert_eq!(world.state(), NEW);
        assert!(!world.at(STAGING).exists());
    }

    #[test]
    fn steps_that_would_take_away_what_others_put_there_are_refused() {
        let at = |world: &World, live: &str, staged: &str| {
            Step::new(world.at("live").join(live), world.at(STAGING).join(staged))
        };
        for (live, staged) in [
            ("auth", "old/0"),
            ("folder/x", "old/0"),
            ("folder/x", "new/folder/x"),
            ("other", "new/added"),
            ("other", "new/folder/x"),
        ] {
            let world = World::new();
            let (swap, mut steps) = world.begin();
            steps.insert(0, at(&world, live, staged));
            let refused = swap.commit(steps, || true, &[]).unwrap_err();
            assert!(matches!(refused, SwapError::Clash(_)), "{live}: {refused}");
            assert_eq!(world.state(), OLD);
            assert!(!world.at(STAGING).exists());
        }
        // The same one twice is one.
        let world = World::new();
        let (swap, mut steps) = world.begin();
        steps.extend_from_within(..);
        let outcome = swap.commit(steps, || true, &[]).unwrap();
        assert_eq!(outcome, Outcome::Done(vec![]));
        assert_eq!(world.state(), NEW);
    }

    #[test]
    fn a_refused_commit_is_undone() {
        let world = World::new();
        let (swap, steps) = world.begin();
        let (staged, left) = (world.at(STAGING).join("new"), world.at("left"));
        let outcome = swap.commit(steps, || false, &[(staged, left.clone())]);
        assert_eq!(outcome.unwrap(), Outcome::Undone(vec![left.clone()]));
        assert_eq!(world.state(), OLD);
        assert_eq!(fs::read_to_string(left.join("auth")).unwrap(), "new");
        assert!(!world.at(STAGING).exists());
    }

    #[test]
    fn a_swap_that_is_dropped_leaves_nothing_behind() {
        let world = World::new();
        drop(world.begin());
        assert_eq!(world.state(), OLD);
        assert!(!world.at(STAGING).exists());
    }

    #[test]
    fn files_of_the_user_are_never_taken_for_ours() {
        let world = World::new();
        let (swap, mut steps) = world.begin();
        let staged = world.at(STAGING).join("new");
        for (folder, text) in [(&world.at("live"), "old"), (&staged, "new")] {
            for name in ["auth.aside", "added.aside", "0.linked", "0.moved"] {
                fs::write(folder.join(name), format!("{text} {name}")).unwrap();
            }
        }
        for name in ["auth.aside", "added.aside", "0.linked", "0.moved"] {
            steps.push(Step::new(world.at("live").join(name), staged.join(name)));
        }
        let outcome = swap.commit(steps, || true, &[]).unwrap();
        assert_eq!(outcome, Outcome::Done(vec![]));
        assert_eq!(world.state(), NEW);
        for name in ["auth.aside", "added.aside", "0.linked", "0.moved"] {
            let text = fs::read_to_string(world.at("live").join(name)).unwrap();
            assert_eq!(text, format!("new {name}"));
        }
        assert_eq!(world.found(), [""; 0]);
    }

    #[test]
    fn where_the_end_cannot_be_written_the_journal_goes_before_the_old_state() {
        let world = World::new();
        let (swap, steps) = world.begin();
        let journal = world.at(STAGING).join(JOURNAL);
        let block = || {
            // Nothing can be renamed over it.
            fs::remove_file(&journal).unwrap();
            fs::create_dir(&journal).unwrap();
            fs::write(journal.join("in"), "the way").unwrap();
            true
        };
        let outcome = swap.commit(steps, block, &[]).unwrap();
        assert_eq!(outcome, Outcome::Done(vec![]));
        assert_eq!(world.state(), NEW);
        assert!(!world.at(STAGING).exists());
    }

    #[test]
    fn a_step_that_fails_undoes_those_before_it() {
        let world = World::new();
        let (swap, mut steps) = world.begin();
        fs::write(world.at(STAGING).join("new/taken"), "new").unwrap();
        let blocked = Step::new(world.at("live/taken"), world.at(STAGING).join("new/taken"));
        fs::write(world.at("live/taken"), "appeared").unwrap();
        steps.push(blocked);
        swap.commit(steps, || true, &[]).unwrap_err();
        assert_eq!(world.state(), OLD);
    }
}
