//! What a killed restore left: whether there is something, and finishing or undoing it.

use super::super::journal_path::AnyPath;
use super::super::step::{Position, Towards};
use super::journal::{JournalFile, State};
use super::late_writes::{Finder, written_ns};
use super::{FOLDER_SUFFIX, JOURNAL, LOCK, Swap, SwapError, without_journal};
use crate::codex::process::Holder;
use crate::io::document::{self, DocumentState};
use crate::io::lock::{FileLock, LockError};
use crate::io::{IoContext, IoError, atomic};
use std::path::{Path, PathBuf};

/// What was found of an interrupted restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    None,
    /// A restore is at work in another process.
    InProgress,
    /// It had not begun to replace anything, or was being undone: the old state is there. What
    /// somebody had put in its way is at these places.
    Undone(Vec<PathBuf>),
    /// It had begun: the new state is there. So are these.
    Finished(Vec<PathBuf>),
    /// It is as it was found, since it cannot be finished now.
    PutOff(Obstacle),
    /// It is another home's, and could not be looked at, or not be finished now.
    Failed(String),
}

/// Why a restore that was interrupted cannot be finished now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Somebody uses the home, of which a part would be exchanged.
    #[error("an interrupted restore of {} cannot be finished while the home is in use by {}", .home.display(), super::super::join(.holders))]
    InUse {
        /// The home.
        home: PathBuf,
        /// Who.
        holders: Vec<Holder>,
    },
    /// What stands there is neither what was replaced nor what replaces it: all of it was copied, perhaps.
    #[error("an interrupted restore of {} does not fit what stands there and in {}", .home.display(), .folder.display())]
    Unrecognised {
        /// The home.
        home: PathBuf,
        /// The folder with the journal.
        folder: PathBuf,
    },
    /// A folder in which it works is not there.
    #[error("an interrupted restore cannot be finished without {}", .0.display())]
    Missing(PathBuf),
}

/// What a recovery asks of those who know homes and logins.
pub trait Guard {
    /// Before the login `going` is exchanged for `coming`: keeps it, where it is newer or another
    /// account's. There may be neither.
    ///
    /// # Errors
    /// It could not be kept.
    fn keep_login(&self, going: &Path, coming: &Path) -> Result<(), IoError>;

    /// Before the login `going` is dropped while `staying` stays live: keeps it, where it is another
    /// account's.
    ///
    /// # Errors
    /// It could not be kept.
    fn save_login(&self, going: &Path, staying: &Path) -> Result<(), IoError>;

    /// Who uses a home.
    fn holders(&self, home: &Path) -> Vec<Holder>;
}

/// Whether a restore of the files in `folder` was interrupted or is at work. Touches nothing.
pub fn is_pending(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|m| m.is_dir())
}

/// Whether another process restores in `folder` now. Touches nothing.
pub fn is_at_work(folder: &Path) -> bool {
    crate::io::lock::is_held(&folder.join(LOCK))
}

/// Finishes or undoes the restore whose journal is in `folder`, and removes what it staged.
///
/// Codex may have been used since: where no step is done, none is begun. While somebody uses the home
/// nothing is exchanged; and what was written since into what is exchanged away is left beside.
///
/// # Errors
/// The file system refuses, or the journal cannot be read: then nothing is touched.
pub fn recover(folder: &Path, guard: &dyn Guard) -> Result<Recovery, SwapError> {
    if !is_pending(folder) {
        return Ok(Recovery::None);
    }
    check_ours(folder)?;
    let lock = match FileLock::try_exclusive(&folder.join(LOCK)) {
        Ok(lock) if lock.is_current(&folder.join(LOCK)) => lock,
        // Another process was faster.
        Ok(_) => return Ok(Recovery::None),
        Err(LockError::Held(_)) => return Ok(Recovery::InProgress),
        // Another process removed it between our look and the lock.
        Err(LockError::Io(e)) if e.is_not_found() => return Ok(Recovery::None),
        Err(LockError::Io(e)) => return Err(e.into()),
    };
    recover_locked(folder, lock, guard)
}

/// A journal is only believed where nobody but us can have put it: in a private folder of ours.
pub(in super::super) fn check_ours(folder: &Path) -> Result<(), SwapError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = folder.symlink_metadata().at("read", folder)?;
        let user = rustix::process::geteuid().as_raw();
        if meta.mode() & 0o077 != 0 || (meta.uid() != user && user != 0) {
            return Err(SwapError::NotOurs(folder.to_path_buf()));
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn is_named_ours(folder: &Path) -> bool {
    folder.is_absolute()
        && folder
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes().ends_with(FOLDER_SUFFIX.as_bytes()))
}

/// As [`recover`], where `lock` is that of the folder.
pub(super) fn recover_locked(
    folder: &Path,
    lock: FileLock,
    guard: &dyn Guard,
) -> Result<Recovery, SwapError> {
    let path = folder.join(JOURNAL);
    let journal = match document::read::<JournalFile>(&path)? {
        DocumentState::Good(journal) => journal,
        DocumentState::Damaged(detail) => return Err(SwapError::DamagedJournal { path, detail }),
        // Killed before the first journal was written: nothing else is there.
        DocumentState::Absent => JournalFile::prepared(vec![AnyPath(folder.to_path_buf())], None),
    };
    // What it names is removed in the end.
    if journal.folders.first().map(|f| f.0.as_path()) != Some(folder)
        || !journal.folders.iter().all(|f| is_named_ours(&f.0))
    {
        let detail = "it names folders that are not ours".to_owned();
        return Err(SwapError::DamagedJournal { path, detail });
    }
    let mut swap = Swap {
        journal,
        path,
        finished: true,
        remains: Vec::new(),
        spare: None,
        _lock: lock,
    };
    let recovery = match swap.journal.state {
        State::Prepared => Recovery::Undone(Vec::new()),
        State::Committing => swap.bring_to_end(Towards::New, guard)?,
        State::Undoing => swap.bring_to_end(Towards::Old, guard)?,
        State::Committed => Recovery::Finished(Vec::new()),
    };
    if !matches!(recovery, Recovery::PutOff(_)) {
        swap.clean(without_journal);
    }
    Ok(recovery)
}

impl Swap {
    /// Finishes or undoes what a killed process began. Nothing is removed before that is durable.
    fn bring_to_end(&mut self, towards: Towards, guard: &dyn Guard) -> Result<Recovery, SwapError> {
        // Without the disk that it is on, a step looks as if it were done.
        let missing = self.journal.folders.iter().find(|f| !is_pending(&f.0));
        if let Some(AnyPath(missing)) = missing {
            return Ok(Recovery::PutOff(Obstacle::Missing(missing.clone())));
        }
        if self.journal.since.is_empty() {
            self.adopt_older()?;
        }
        let home = self.journal.home();
        let mut positions = self.positions()?;
        let unrecognised = Obstacle::Unrecognised {
            home: home.clone(),
            folder: self.folder().to_path_buf(),
        };
        if self.has_unknown(&positions, towards) {
            return Ok(Recovery::PutOff(unrecognised));
        }
        let is = |wanted: Position| move |position: &Position| *position == wanted;
        let is_cut_off = positions.iter().any(is(Position::CutOff));
        // Without a call of the system that exchanges, a step may have gone no further than that.
        let has_begun = is_cut_off || positions.iter().any(is(Position::Done));
        let is_due = is_cut_off
            || has_begun && positions.iter().any(is(due(towards)))
            || !self.journal.leave_at.is_empty();
        if is_due {
            let holders = guard.holders(&home);
            if !holders.is_empty() {
                return Ok(Recovery::PutOff(Obstacle::InUse { home, holders }));
            }
        }
        let mut left = Vec::new();
        if is_cut_off {
            left.extend(self.settle(guard)?);
            positions = self.positions()?;
            if self.has_unknown(&positions, towards) {
                return Ok(Recovery::PutOff(unrecognised));
            }
        }
        if towards == Towards::New && !positions.iter().any(is(Position::Done)) {
            // The home is whole, and may have been used since: nothing of that may be lost.
            return Ok(Recovery::Undone(left));
        }
        left.extend(self.exchange_rest(&positions, towards, guard)?);
        self.sync_parents()?;
        if towards == Towards::Old {
            left.extend(self.leave()?);
        }
        let kept = self.keep_what_was_written()?;
        if !kept.is_empty() {
            left.extend(kept);
            self.sync_parents()?;
        }
        Ok(match towards {
            Towards::New => {
                self.seal()?;
                Recovery::Finished(left)
            }
            Towards::Old => {
                self.disarm()?;
                Recovery::Undone(left)
            }
        })
    }

    /// Whether neither side of a step is known by its names, or what it needs is lost.
    fn has_unknown(&self, positions: &[Position], towards: Towards) -> bool {
        let auth_json = self.journal.auth_json();
        let mut steps = positions.iter().zip(&self.journal.steps);
        steps.any(|(position, step)| match position {
            // Of a login that was renewed on both sides the live one stays.
            Position::Unknown => !step.is_of(&auth_json),
            Position::Lost => towards == Towards::New,
            _ => false,
        })
    }

    /// Takes over what an older version noted, and set aside.
    fn adopt_older(&mut self) -> Result<(), SwapError> {
        let meta = self.path.symlink_metadata().at("look at", &self.path)?;
        for AnyPath(folder) in &self.journal.folders {
            atomic::create_private_folder(&folder.join("aside"))?;
        }
        for (number, step) in self.journal.steps.iter().enumerate() {
            step.adopt_older(&self.journal.aside(number)?)?;
        }
        self.journal.since = vec![written_ns(&meta); self.journal.folders.len()];
        Ok(())
    }

    fn positions(&self) -> Result<Vec<Position>, SwapError> {
        let steps = self.journal.steps.iter().enumerate();
        let position = |(number, step): (usize, &super::Step)| {
            Ok(step.position(&self.journal.aside(number)?)?)
        };
        steps.map(position).collect()
    }

    /// Ends each exchange that was cut off; gives what was put into the gaps.
    fn settle(&self, guard: &dyn Guard) -> Result<Vec<PathBuf>, SwapError> {
        let auth_json = self.journal.auth_json();
        let mut left = Vec::new();
        for (number, step) in self.journal.steps.iter().enumerate() {
            let aside = self.journal.aside(number)?;
            let save = |going: &Path| guard.save_login(going, &step.live);
            left.extend(step.settle(&aside, step.is_of(&auth_json), save)?);
        }
        self.sync_parents()?;
        Ok(left)
    }

    /// Exchanges, forward or back, what the killed process did not; gives what was in the way.
    fn exchange_rest(
        &mut self,
        positions: &[Position],
        towards: Towards,
        guard: &dyn Guard,
    ) -> Result<Vec<PathBuf>, SwapError> {
        let auth_json = self.journal.auth_json();
        let mut left = Vec::new();
        let mut numbers = Vec::new();
        for (number, position) in positions.iter().enumerate() {
            let step = &self.journal.steps[number];
            if *position != due(towards) || towards == Towards::Old && !step.can_be_undone()? {
                continue;
            }
            let (_, since) = self.journal.finding(number)?;
            let step = &mut self.journal.steps[number];
            if let Some((going, coming)) = step.logins(&auth_json) {
                guard.keep_login(&going, &coming)?;
            }
            left.extend(step.make_way(towards)?);
            step.note_again(towards, since)?;
            numbers.push(number);
        }
        if numbers.is_empty() {
            return Ok(left);
        }
        match self.write() {
            // Killed once more, the next recovery knows as much as this one did.
            Err(SwapError::Io(e)) if e.is_no_space() => {}
            written => written?,
        }
        if towards == Towards::Old {
            numbers.reverse();
        }
        for number in numbers {
            let (step, aside) = (&self.journal.steps[number], self.journal.aside(number)?);
            match towards {
                Towards::New => step.apply(&aside)?,
                Towards::Old => step.undo(&aside)?,
            }
        }
        Ok(left)
    }

    /// Leaves what was written, since the restore was killed, into what is about to be dropped beside
    /// the live names; gives where.
    fn keep_what_was_written(&self) -> Result<Vec<PathBuf>, SwapError> {
        let (home, auth_json) = (self.journal.home(), self.journal.auth_json());
        let finder = Finder {
            home: &home,
            auth_json: &auth_json,
        };
        let mut kept = Vec::new();
        for (number, step) in self.journal.steps.iter().enumerate() {
            let (scratch, since) = self.journal.finding(number)?;
            kept.extend(finder.keep(step, since, &scratch)?);
        }
        Ok(kept)
    }
}

/// How far a step is that has to be exchanged yet.
fn due(towards: Towards) -> Position {
    match towards {
        Towards::New => Position::Waiting,
        Towards::Old => Position::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::step::Step;
    use super::super::super::step::tests::killed_after;
    use super::super::test_fixture::*;
    use super::*;
    use crate::io::lock::once_free;
    use crate::io::tree;
    use std::fs;

    #[test]
    fn killed_between_any_two_steps_the_next_process_finishes() {
        for state in [State::Committing, State::Undoing] {
            for done in 0..=4 {
                let world = World::new();
                let swap = world.begin_to(state);
                world.kill(swap, |swap| apply(swap, done).unwrap());
                let (recovery, expected) = match state {
                    State::Committing if done == 0 => (Recovery::Undone(vec![]), OLD),
                    State::Undoing => (Recovery::Undone(vec![]), OLD),
                    _ => (Recovery::Finished(vec![]), NEW),
                };
                assert_eq!(recovered(&world), recovery);
                assert_eq!(world.state(), expected, "{state:?} after {done} steps");
                assert!(!world.at(STAGING).exists());
                assert_eq!(
                    recover(&world.at(STAGING), NOTHING).unwrap(),
                    Recovery::None
                );
            }
        }
    }

    /// Does the first steps.
    fn apply(swap: &Swap, steps: usize) -> Result<(), SwapError> {
        for (number, step) in swap.journal.steps.iter().enumerate().take(steps) {
            step.apply(&swap.journal.aside(number)?)?;
        }
        Ok(())
    }

    fn undo(swap: &Swap) -> Result<(), SwapError> {
        for (number, step) in swap.journal.steps.iter().enumerate().rev() {
            step.undo(&swap.journal.aside(number)?)?;
        }
        Ok(())
    }

    /// What a kill leaves after so many renames of `work`: no destructor is run, but the lock goes. True
    /// when `work` was at its end before.
    fn kill(world: &World, swap: Swap, renames: usize, work: impl FnOnce(&Swap)) -> bool {
        let mut killed = false;
        world.kill(swap, |swap| killed = killed_after(renames, || work(swap)));
        !killed
    }

    /// Where the system has no call that exchanges.
    #[test]
    fn killed_between_any_two_renames_the_next_process_finishes() {
        // The first step is one of a file, or of a folder.
        let ways = [State::Committing, State::Undoing].map(|state| [(state, 0), (state, 1)]);
        for (state, first) in ways.into_iter().flatten() {
            let mut ended = false;
            for renames in 0.. {
                // A recovery may be killed as well, after each number of renames.
                for again in 0.. {
                    let world = World::new();
                    let mut swap = world.begin_to(State::Prepared);
                    swap.journal.steps.rotate_left(first);
                    if state == State::Undoing {
                        killed_after(usize::MAX, || apply(&swap, 4).unwrap());
                    }
                    swap.set(state).unwrap();
                    ended = kill(&world, swap, renames, |swap| {
                        let _ = match state {
                            State::Undoing => undo(swap),
                            _ => apply(swap, 4),
                        };
                    });
                    let mut recovery = None;
                    let killed = killed_after(again, || {
                        recovery = recover_unheld(&world, NOTHING).ok();
                    });
                    let recovery = recovery.unwrap_or_else(|| recovered(&world));
                    let told = format!("{state:?} after {renames} renames, then {again}");
                    let is_new = matches!(recovery, Recovery::Finished(_));
                    assert_eq!(world.state(), if is_new { NEW } else { OLD }, "{told}");
                    assert!(!is_new || state == State::Committing, "{told}");
                    assert!(
                        is_new || renames <= first || state == State::Undoing,
                        "{told}"
                    );
                    assert_eq!(world.found(), [""; 0], "{told}");
                    assert!(!world.at(STAGING).exists(), "{told}");
                    if !killed {
                        break;
                    }
                }
                if ended {
                    break;
                }
            }
            assert!(ended);
        }
    }

    #[test]
    fn what_appeared_in_the_gap_of_a_killed_restore_is_kept_beside() {
        for renames in 0..=11 {
            let world = World::new();
            let swap = world.begin_to(State::Committing);
            kill(&world, swap, renames, |swap| drop(apply(swap, 4)));
            // Codex was started before the next command, and makes what it misses.
            let mut made = 0;
            for name in ["auth", "added", "folder/x"] {
                let path = world.at("live").join(name);
                if !path.exists() {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "made since").unwrap();
                    made += 1;
                }
            }
            let recovery = recovered(&world);
            let (Recovery::Finished(left) | Recovery::Undone(left)) = &recovery else {
                panic!("{recovery:?}");
            };
            let is_new = matches!(recovery, Recovery::Finished(_));
            let told = format!("after {renames} renames");
            if is_new {
                assert_eq!(world.state(), NEW, "{told}");
                assert_eq!(left.len(), made, "{told}: {left:?}");
            } else {
                assert_eq!(world.state(), "old made since old old", "{told}");
            }
            for path in left {
                let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(path.join("x")));
                assert_eq!(text.unwrap(), "made since", "{told}");
            }
        }
    }

    #[test]
    fn what_codex_replaced_after_its_exchange_is_not_exchanged_back() {
        let world = World::new();
        let swap = world.begin_to(State::Committing);
        world.kill(swap, |swap| apply(swap, 3).unwrap());
        for name in ["auth", "added"] {
            atomic::write(&world.at("live").join(name), b"since").unwrap();
        }
        assert_eq!(recovered(&world), Recovery::Finished(vec![]));
        assert_eq!(world.state(), "since since - new");
    }

    #[test]
    fn what_somebody_else_removed_has_not_begun() {
        let world = World::new();
        let swap = world.begin_to(State::Committing);
        world.kill(swap, |_| ());
        // As SQLite does with its log when Codex ends.
        fs::remove_file(world.at("live/gone")).unwrap();
        fs::write(world.at("live/auth"), "since").unwrap();
        assert_eq!(recovered(&world), Recovery::Undone(vec![]));
        assert_eq!(world.state(), "since - - old");
        assert!(!world.at(STAGING).exists());
    }

    #[test]
    fn what_was_written_since_is_left_beside_what_takes_its_place() {
        for (state, done) in [(State::Committing, 1), (State::Undoing, 4)] {
            let world = World::new();
            let live = |name: &str| world.at("live").join(name);
            fs::create_dir(live("folder/deep")).unwrap();
            fs::write(live("folder/deep/untouched"), "old").unwrap();
            fs::create_dir(world.at("elsewhere")).unwrap();
            fs::write(world.at("elsewhere/moved"), "long before").unwrap();
            let swap = world.begin_to(state);
            fs::create_dir(world.at(STAGING).join("new/folder/deep")).unwrap();
            world.kill(swap, |swap| apply(swap, done).unwrap());
            world.pass_time();
            fs::write(live("folder/new"), "a new conversation").unwrap();
            fs::write(live("folder/deep/y"), "deeper").unwrap();
            fs::rename(world.at("elsewhere"), live("folder/elsewhere")).unwrap();
            let (since, text) = if state == State::Committing {
                fs::write(live("gone"), "written to").unwrap();
                ("gone.found-after-restore-1", "written to")
            } else {
                atomic::write(&live("added"), b"replaced").unwrap();
                ("added.found-after-restore-1", "replaced")
            };
            let recovery = recovered(&world);
            let (Recovery::Finished(mut left) | Recovery::Undone(mut left)) = recovery else {
                panic!("{recovery:?}");
            };
            assert_eq!(
                world.state(),
                if done == 1 { NEW } else { OLD },
                "{state:?}"
            );
            let folder = live("folder.found-after-restore-1");
            left.sort();
            let mut expected = vec![folder.clone(), live(since)];
            expected.sort();
            assert_eq!(left, expected, "{state:?}");
            let read = |path: PathBuf| fs::read_to_string(path).unwrap();
            assert_eq!(read(live(since)), text);
            assert_eq!(read(folder.join("new")), "a new conversation");
            assert_eq!(read(folder.join("deep/y")), "deeper");
            assert_eq!(read(folder.join("elsewhere/moved")), "long before");
            assert!(!folder.join("deep/untouched").exists(), "{state:?}");
            assert!(!folder.join("x").exists(), "{state:?}");
        }
    }

    #[test]
    fn the_new_state_is_left_where_somebody_may_write_into_it() {
        // All is undone, or nothing of it; the state was left, or not.
        for (undone, was_left) in [(false, false), (true, false), (true, true)] {
            let world = World::new();
            let mut swap = world.begin_to(State::Committing);
            let (staged, place) = (world.at(STAGING).join("new"), world.at("left"));
            let pair = (AnyPath(staged.clone()), AnyPath(place.clone()));
            swap.journal.leave_at = vec![pair];
            apply(&swap, 4).unwrap();
            swap.set(State::Undoing).unwrap();
            world.kill(swap, |swap| {
                if undone {
                    undo(swap).unwrap();
                }
            });
            world.pass_time();
            let new = if undone {
                staged.clone()
            } else {
                world.at("live")
            };
            fs::write(new.join("folder/x"), "goes on").unwrap();
            if was_left {
                fs::rename(&staged, &place).unwrap();
            }
            assert_eq!(recovered(&world), Recovery::Undone(vec![place.clone()]));
            assert_eq!(world.state(), OLD);
            let text = fs::read_to_string(place.join("folder/x")).unwrap();
            assert_eq!(text, "goes on");
            assert!(!world.at(STAGING).exists());
        }
    }

    /// Somebody uses the home.
    struct Busy;

    impl Guard for Busy {
        fn keep_login(&self, _going: &Path, _coming: &Path) -> Result<(), IoError> {
            Err(std::io::Error::other("nothing is to be exchanged")).at("keep", Path::new("x"))
        }

        fn save_login(&self, _going: &Path, _staying: &Path) -> Result<(), IoError> {
            Err(std::io::Error::other("nothing is to be exchanged")).at("keep", Path::new("x"))
        }

        fn holders(&self, home: &Path) -> Vec<Holder> {
            assert!(home.ends_with("live"), "{}", home.display());
            vec![Holder {
                pid: Some(7),
                name: "codex".into(),
                why: "codex process".into(),
            }]
        }
    }

    #[test]
    fn a_home_in_use_is_not_exchanged() {
        for (state, done) in [
            (State::Committing, 1),
            (State::Committing, 4),
            (State::Committing, 0),
            (State::Undoing, 1),
            (State::Undoing, 0),
        ] {
            let world = World::new();
            let swap = world.begin_to(state);
            world.kill(swap, |swap| apply(swap, done).unwrap());
            let before = world.texts();
            let recovery = recover_unheld(&world, &Busy).unwrap();
            // Where there is nothing to exchange it is in nobody's way.
            if done == 1 {
                let Recovery::PutOff(Obstacle::InUse { holders, .. }) = recovery else {
                    panic!("{recovery:?}");
                };
                assert_eq!(holders[0].pid, Some(7));
                assert_eq!(world.texts(), before);
                let begun = Swap::begin(&world.at(STAGING), &world.at("live"), &Busy);
                assert!(matches!(begun, Err(SwapError::PutOff(_))));
                let _ = recovered(&world);
            }
            let expected = if state == State::Committing && done > 0 {
                NEW
            } else {
                OLD
            };
            assert_eq!(world.state(), expected, "{state:?} {done}");
        }
    }

    #[test]
    fn what_was_copied_elsewhere_or_is_not_mounted_is_not_touched() {
        let world = World::new();
        let swap = world.begin_to(State::Committing);
        world.kill(swap, |swap| apply(swap, 1).unwrap());
        // The same names and texts, other files.
        for name in [
            "live/auth",
            "live/folder",
            "x.codex-manager-restore/new/auth",
        ] {
            let (path, aside) = (world.at(name), world.at("original"));
            fs::rename(&path, &aside).unwrap();
            if aside.is_dir() {
                fs::create_dir(&path).unwrap();
                fs::copy(aside.join("x"), path.join("x")).unwrap();
            } else {
                fs::copy(&aside, &path).unwrap();
            }
            fs::rename(&aside, world.at(&format!("was {}", name.replace('/', " ")))).unwrap();
        }
        let before = world.texts();
        let recovery = recovered(&world);
        let unrecognised = matches!(&recovery, Recovery::PutOff(Obstacle::Unrecognised { .. }));
        assert!(unrecognised, "{recovery:?}");
        assert_eq!(world.texts(), before);

        let world = World::new();
        let mut swap = world.begin_to(State::Committing);
        let other = world.at("y.codex-manager-restore");
        swap.journal.folders.push(AnyPath(other.clone()));
        swap.set(State::Committing).unwrap();
        world.kill(swap, |swap| apply(swap, 1).unwrap());
        let before = world.texts();
        let missing = Recovery::PutOff(Obstacle::Missing(other));
        assert_eq!(recovered(&world), missing);
        assert_eq!(world.texts(), before);
    }

    /// As they were written before there were `home`, `since` and `leave_at`, with the number of the file
    /// system, which may be another now.
    #[cfg(unix)]
    #[test]
    fn journals_of_older_versions_are_read() {
        use std::os::unix::fs::MetadataExt;
        // The rename of the last step was to come.
        for cut in [false, true] {
            let world = World::new();
            let swap = world.begin_to(State::Prepared);
            let id = |path: &Path| {
                let meta = path.symlink_metadata().ok();
                meta.map(|m| serde_json::json!({"dev": m.dev() + 1, "ino": m.ino()}))
            };
            let steps = swap.journal.steps.iter().map(|step| {
                serde_json::json!({
                    "live": step.live,
                    "staged": step.staged,
                    "live_id": id(&step.live),
                    "staged_id": id(&step.staged),
                })
            });
            let journal = serde_json::json!({
                "schema": 1,
                "state": "committing",
                "steps": steps.collect::<Vec<_>>(),
                "folders": [world.at(STAGING)],
            });
            let path = world.at(STAGING).join(JOURNAL);
            world.kill(swap, |swap| {
                apply(swap, 1).unwrap();
                let text = serde_json::to_string_pretty(&journal).unwrap();
                fs::write(&path, text).unwrap();
                tree::remove(&world.at(STAGING).join("aside")).unwrap();
            });
            let staged = world.at(STAGING).join("new/auth");
            if cut {
                let aside = atomic::with_suffix(&staged, ".aside");
                fs::rename(&staged, aside).unwrap();
            }
            assert_eq!(recovered(&world), Recovery::Finished(vec![]), "{cut}");
            assert_eq!(world.state(), NEW);
            assert!(!world.at(STAGING).exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_survive_a_kill() {
        use std::os::unix::ffi::OsStrExt;
        let world = World::new();
        let mut swap = world.begin_to(State::Prepared);
        let name = std::ffi::OsStr::from_bytes(b"n\xff");
        let (live, staged) = (world.at("live"), world.at(STAGING).join("new"));
        for (folder, text) in [(&live, "old"), (&staged, "new")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let step = Step::new(live.join(name), staged.join(name));
        swap.journal.steps.push(step);
        swap.journal.since = swap.prepare_asides().unwrap();
        swap.set(State::Committing).unwrap();
        world.kill(swap, |swap| apply(swap, 1).unwrap());
        assert_eq!(recovered(&world), Recovery::Finished(vec![]));
        assert_eq!(fs::read_to_string(live.join(name)).unwrap(), "new");
    }

    fn recovered(world: &World) -> Recovery {
        recover_unheld(world, NOTHING).unwrap()
    }

    fn recover_unheld(world: &World, guard: &dyn Guard) -> Result<Recovery, SwapError> {
        let is_held = |recovery: &_| matches!(recovery, Ok(Recovery::InProgress));
        once_free(|| recover(&world.at(STAGING), guard), is_held)
    }

    #[test]
    fn a_restore_at_work_is_not_recovered_by_another() {
        let world = World::new();
        let (_swap, _) = world.begin();
        assert_eq!(
            recover(&world.at(STAGING), NOTHING).unwrap(),
            Recovery::InProgress
        );
    }
}
