//! What a killed restore left: whether there is something, and finishing or undoing it.

use super::super::step::{BeforeExchange, Step};
use super::{FOLDER_SUFFIX, JOURNAL, JournalFile, LOCK, State, Swap, SwapError, without_journal};
use crate::io::IoContext;
use crate::io::document::{self, Found};
use crate::io::lock::{FileLock, LockError};
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
    /// It is another home's, and could not be looked at.
    Failed(String),
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
/// Codex may have been used since: where no step is done, none is begun. Before any other exchange
/// `before` can save what it needs of the live side.
///
/// # Errors
/// The file system refuses, or the journal cannot be read: then nothing is touched.
pub fn recover(folder: &Path, before: BeforeExchange<'_>) -> Result<Recovery, SwapError> {
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
    recover_locked(folder, lock, before)
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
    before: BeforeExchange<'_>,
) -> Result<Recovery, SwapError> {
    let path = folder.join(JOURNAL);
    let journal = match document::read::<JournalFile>(&path)? {
        Found::Good(journal) => journal,
        Found::Damaged(detail) => return Err(SwapError::DamagedJournal { path, detail }),
        // Killed before the first journal was written: nothing else is there.
        Found::Absent => JournalFile {
            folders: vec![folder.to_path_buf()],
            ..JournalFile::default()
        },
    };
    // What it names is removed in the end.
    if journal.folders.first().map(PathBuf::as_path) != Some(folder)
        || !journal.folders.iter().all(|f| is_named_ours(f))
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
    let mut left = Vec::new();
    if swap.journal.steps.iter().any(Step::is_cut_off) {
        for step in &swap.journal.steps {
            left.extend(step.settle()?);
        }
        swap.sync_parents()?;
    }
    let recovery = match swap.journal.state {
        State::Prepared => Recovery::Undone(left),
        // The home is whole, and may have been used since: nothing of that may be lost.
        State::Committing if !swap.journal.steps.iter().any(Step::is_done) => {
            Recovery::Undone(left)
        }
        State::Undoing => {
            for step in &swap.journal.steps {
                left.extend(step.prepare_undo(before)?);
            }
            swap.undo()?;
            Recovery::Undone(left)
        }
        State::Committing => {
            for step in &swap.journal.steps {
                left.extend(step.finish(before)?);
            }
            swap.sync_parents()?;
            swap.set(State::Committed)?;
            Recovery::Finished(left)
        }
        State::Committed => Recovery::Finished(left),
    };
    swap.clean(without_journal);
    Ok(recovery)
}

#[cfg(test)]
mod tests {
    use super::super::super::step::tests::killed_after;
    use super::super::world::*;
    use super::*;
    use crate::io::atomic;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn killed_between_any_two_steps_the_next_process_finishes() {
        for state in [State::Committing, State::Undoing] {
            for done in 0..=4 {
                let world = World::new();
                let (mut swap, steps) = world.begin();
                swap.journal.steps.clone_from(&steps);
                swap.set(state).unwrap();
                for step in &steps[..done] {
                    step.apply().unwrap();
                }
                // As a kill does: no destructor, but the lock goes.
                swap.finished = true;
                drop(swap);
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

    /// What a kill leaves after so many renames of `work`: no destructor is run, but the lock goes. True
    /// when `work` was at its end before.
    fn kill(mut swap: Swap, renames: usize, work: impl FnOnce(&mut Swap)) -> bool {
        let killed = killed_after(renames, || work(&mut swap));
        swap.finished = true;
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
                    let (mut swap, mut steps) = world.begin();
                    steps.rotate_left(first);
                    swap.journal.steps.clone_from(&steps);
                    if state == State::Undoing {
                        killed_after(usize::MAX, || {
                            steps.iter().try_for_each(Step::apply).unwrap();
                        });
                    }
                    swap.set(state).unwrap();
                    ended = kill(swap, renames, |swap| {
                        let steps = &swap.journal.steps;
                        let _ = match state {
                            State::Undoing => steps.iter().rev().try_for_each(Step::undo),
                            _ => steps.iter().try_for_each(Step::apply),
                        };
                    });
                    let mut recovery = None;
                    let killed = killed_after(again, || {
                        recovery = recover_unheld(&world).ok();
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
            let (mut swap, steps) = world.begin();
            swap.journal.steps = steps;
            swap.set(State::Committing).unwrap();
            kill(swap, renames, |swap| {
                let _ = swap.journal.steps.iter().try_for_each(Step::apply);
            });
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
        let (mut swap, steps) = world.begin();
        swap.journal.steps.clone_from(&steps);
        swap.set(State::Committing).unwrap();
        for step in &steps[..3] {
            step.apply().unwrap();
        }
        swap.finished = true;
        drop(swap);
        for name in ["auth", "added"] {
            atomic::write(&world.at("live").join(name), b"since").unwrap();
        }
        assert_eq!(recovered(&world), Recovery::Finished(vec![]));
        assert_eq!(world.state(), "since since - new");
    }

    fn recovered(world: &World) -> Recovery {
        recover_unheld(world).unwrap()
    }

    /// Other tests of this process start programs: between fork and exec a child holds our lock.
    fn recover_unheld(world: &World) -> Result<Recovery, SwapError> {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let recovery = recover(&world.at(STAGING), NOTHING);
            let is_held = matches!(recovery, Ok(Recovery::InProgress));
            if !is_held || std::time::Instant::now() > deadline {
                return recovery;
            }
            std::thread::yield_now();
        }
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
