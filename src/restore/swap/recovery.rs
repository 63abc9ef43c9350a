//! Recovers a restore that was killed: finds its journal, then finishes or undoes it.

use super::super::journal_path::JournalPath;
use super::super::staging_folder::{check_private_folder, has_staging_suffix, is_real_folder};
use super::super::step::{Direction, ExchangeStep, StepStatus};
use super::super::write_times::modified_ns;
use super::error::{RecoveryObstacle, SwapError};
use super::journal::{JOURNAL, JournalFile, JournalState};
use super::late_writes::LateWriteFinder;
use super::transaction::{LOCK, Swap, make_leftover};
use crate::codex::process::Holder;
use crate::io::document::{self, DocumentState};
use crate::io::lock::{FileLock, LockError};
use crate::io::{IoContext, IoError, atomic};
use std::path::{Path, PathBuf};

/// The result of looking for an interrupted restore and recovering it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// There is no interrupted restore.
    None,
    /// Another process is restoring the home.
    InProgress,
    /// The old state is live: no step was done, or the steps were undone. Files that other programs
    /// had created at paths of the old state were moved to these paths.
    Undone(Vec<PathBuf>),
    /// The new state is live. Later writes to replaced files were moved to these paths.
    Finished(Vec<PathBuf>),
    /// The restore cannot be recovered now. Nothing was changed.
    Deferred(RecoveryObstacle),
    /// A restore of another home cannot be recovered now. Holds the reason.
    Failed(String),
}

/// The knowledge about homes and logins that a recovery needs.
pub trait RecoveryGuard {
    /// Called before the login at `outgoing` is exchanged for the one at `incoming`. Keeps
    /// `outgoing` if it is newer or belongs to another account. Either may be missing.
    ///
    /// # Errors
    /// The login could not be saved.
    fn keep_newer_login(&self, outgoing: &Path, incoming: &Path) -> Result<(), IoError>;

    /// Called before the login at `outgoing` is removed while `remaining` stays live. Saves
    /// `outgoing` if it belongs to another account.
    ///
    /// # Errors
    /// The login could not be saved.
    fn save_dropped_login(&self, outgoing: &Path, remaining: &Path) -> Result<(), IoError>;

    /// Returns the processes that use a home.
    fn holders(&self, home: &Path) -> Vec<Holder>;
}

/// Returns true if another process is restoring in `folder`. Changes nothing.
pub fn is_in_progress(folder: &Path) -> bool {
    crate::io::lock::is_held(&folder.join(LOCK))
}

/// Finishes or undoes the restore whose journal is in `folder`, and removes its staging folders.
///
/// If no step is done, none is begun, because Codex may have been used since. While a process uses
/// the home, nothing is exchanged. Later writes to files that are moved away stay beside the live
/// paths.
///
/// # Errors
/// An I/O error, or an unreadable journal; then nothing is changed.
pub fn recover(folder: &Path, guard: &dyn RecoveryGuard) -> Result<Recovery, SwapError> {
    if !is_real_folder(folder) {
        return Ok(Recovery::None);
    }
    check_private_folder(folder)?;
    let lock = match FileLock::try_exclusive(&folder.join(LOCK)) {
        Ok(lock) if lock.is_current(&folder.join(LOCK)) => lock,
        // Another process removed the folder first.
        Ok(_) => return Ok(Recovery::None),
        Err(LockError::Held(_)) => return Ok(Recovery::InProgress),
        // Another process removed it between the check above and the lock.
        Err(LockError::Io(e)) if e.is_not_found() => return Ok(Recovery::None),
        Err(LockError::Io(e)) => return Err(e.into()),
    };
    recover_locked(folder, lock, guard)
}

/// Same as [`recover`], for the caller that holds the lock of the folder.
pub(super) fn recover_locked(
    folder: &Path,
    lock: FileLock,
    guard: &dyn RecoveryGuard,
) -> Result<Recovery, SwapError> {
    let path = folder.join(JOURNAL);
    let journal = match document::read::<JournalFile>(&path)? {
        DocumentState::Good(journal) => journal,
        DocumentState::Damaged(detail) => return Err(SwapError::DamagedJournal { path, detail }),
        // Killed before the first journal was written: the folder is empty.
        DocumentState::Absent => {
            JournalFile::prepared(vec![JournalPath(folder.to_path_buf())], None)
        }
    };
    // These folders are removed at the end, so a damaged journal must not name any other.
    if journal.folders.first().map(|f| f.0.as_path()) != Some(folder)
        || !journal.folders.iter().all(|f| has_staging_suffix(&f.0))
    {
        let detail = "it names folders that are no staging folders".to_owned();
        return Err(SwapError::DamagedJournal { path, detail });
    }
    let mut swap = Swap {
        journal,
        path,
        finished: true,
        leftovers: Vec::new(),
        reserve_descriptor: None,
        _lock: lock,
    };
    let recovery = match swap.journal.state {
        JournalState::Prepared => Recovery::Undone(Vec::new()),
        JournalState::Committing => swap.complete(Direction::Forward, guard)?,
        JournalState::Undoing => swap.complete(Direction::Back, guard)?,
        JournalState::Committed => Recovery::Finished(Vec::new()),
    };
    if !matches!(recovery, Recovery::Deferred(_)) {
        swap.remove_folders(make_leftover);
    }
    Ok(recovery)
}

impl Swap {
    /// Finishes or undoes the exchange of a killed process. Removes nothing before that is durable.
    fn complete(
        &mut self,
        direction: Direction,
        guard: &dyn RecoveryGuard,
    ) -> Result<Recovery, SwapError> {
        // Without its disk, a step would look done.
        let missing = self.journal.folders.iter().find(|f| !is_real_folder(&f.0));
        if let Some(JournalPath(missing)) = missing {
            return Ok(Recovery::Deferred(RecoveryObstacle::MissingFolder(
                missing.clone(),
            )));
        }
        if self.journal.since_ns.is_empty() {
            self.adopt_legacy_journal()?;
        }
        let home = self.journal.home();
        let mut statuses = self.statuses()?;
        let unrecognized = RecoveryObstacle::Unrecognized {
            home: home.clone(),
            folder: self.folder().to_path_buf(),
        };
        if self.has_unrecoverable_step(&statuses, direction) {
            return Ok(Recovery::Deferred(unrecognized));
        }
        let has_status = |wanted: StepStatus| move |status: &StepStatus| *status == wanted;
        let has_interrupted = statuses.iter().any(has_status(StepStatus::Interrupted));
        // Exchanges by renames may have stopped in the first step.
        let has_begun = has_interrupted || statuses.iter().any(has_status(StepStatus::Done));
        let needs_exchange = has_interrupted
            || has_begun && statuses.iter().any(has_status(remaining_status(direction)))
            || !self.journal.undo_destinations.is_empty();
        if needs_exchange {
            let holders = guard.holders(&home);
            if !holders.is_empty() {
                return Ok(Recovery::Deferred(RecoveryObstacle::InUse {
                    home,
                    holders,
                }));
            }
        }
        let mut kept_beside = Vec::new();
        if has_interrupted {
            kept_beside.extend(self.resolve_interrupted(guard)?);
            statuses = self.statuses()?;
            if self.has_unrecoverable_step(&statuses, direction) {
                return Ok(Recovery::Deferred(unrecognized));
            }
        }
        if direction == Direction::Forward && !statuses.iter().any(has_status(StepStatus::Done)) {
            // The home is complete and may have been used since. Going forward could lose later
            // changes.
            return Ok(Recovery::Undone(kept_beside));
        }
        kept_beside.extend(self.exchange_remaining(&statuses, direction, guard)?);
        self.sync_parents()?;
        if direction == Direction::Back {
            kept_beside.extend(self.move_out_new_state()?);
        }
        let kept = self.keep_late_writes()?;
        if !kept.is_empty() {
            kept_beside.extend(kept);
            self.sync_parents()?;
        }
        Ok(match direction {
            Direction::Forward => {
                self.record_committed()?;
                Recovery::Finished(kept_beside)
            }
            Direction::Back => {
                self.reset_journal()?;
                Recovery::Undone(kept_beside)
            }
        })
    }

    /// Returns true if the inodes of a step fit neither state, or the new state of one is lost.
    fn has_unrecoverable_step(&self, statuses: &[StepStatus], direction: Direction) -> bool {
        let auth_json = self.journal.auth_json();
        let mut steps = statuses.iter().zip(&self.journal.steps);
        steps.any(|(status, step)| match status {
            // If both logins were renewed, the live one stays.
            StepStatus::Unknown => !step.is_for(&auth_json),
            StepStatus::Lost => direction == Direction::Forward,
            _ => false,
        })
    }

    /// Converts a journal of an older version: adds the clock, and renames backups.
    fn adopt_legacy_journal(&mut self) -> Result<(), SwapError> {
        let meta = self.path.symlink_metadata().at("look at", &self.path)?;
        for JournalPath(folder) in &self.journal.folders {
            atomic::create_private_folder(&folder.join("aside"))?;
        }
        for (number, step) in self.journal.steps.iter().enumerate() {
            step.adopt_legacy_backup(&self.journal.backup(number)?)?;
        }
        self.journal.since_ns = vec![modified_ns(&meta); self.journal.folders.len()];
        Ok(())
    }

    fn statuses(&self) -> Result<Vec<StepStatus>, SwapError> {
        let steps = self.journal.steps.iter().enumerate();
        let status = |(number, step): (usize, &ExchangeStep)| {
            Ok(step.status(&self.journal.backup(number)?)?)
        };
        steps.map(status).collect()
    }

    /// Completes or reverts the steps that were killed between renames. Returns where files were
    /// moved that other programs had created meanwhile.
    fn resolve_interrupted(&self, guard: &dyn RecoveryGuard) -> Result<Vec<PathBuf>, SwapError> {
        let auth_json = self.journal.auth_json();
        let mut kept_beside = Vec::new();
        for (number, step) in self.journal.steps.iter().enumerate() {
            let backup = self.journal.backup(number)?;
            let save = |outgoing: &Path| guard.save_dropped_login(outgoing, &step.live);
            kept_beside.extend(step.resolve_interrupted(&backup, step.is_for(&auth_json), save)?);
        }
        self.sync_parents()?;
        Ok(kept_beside)
    }

    /// Performs the remaining exchanges in `direction`. Returns where files in their way were
    /// moved.
    fn exchange_remaining(
        &mut self,
        statuses: &[StepStatus],
        direction: Direction,
        guard: &dyn RecoveryGuard,
    ) -> Result<Vec<PathBuf>, SwapError> {
        let auth_json = self.journal.auth_json();
        let mut kept_beside = Vec::new();
        let mut numbers = Vec::new();
        for (number, status) in statuses.iter().enumerate() {
            let step = &self.journal.steps[number];
            if *status != remaining_status(direction)
                || direction == Direction::Back && !step.can_be_undone()?
            {
                continue;
            }
            let (_, since_ns) = self.journal.late_write_scratch(number)?;
            let step = &mut self.journal.steps[number];
            if let Some((outgoing, incoming)) = step.login_paths(&auth_json) {
                guard.keep_newer_login(&outgoing, &incoming)?;
            }
            kept_beside.extend(step.free_target_name(direction)?);
            step.record_again(direction, since_ns)?;
            numbers.push(number);
        }
        if numbers.is_empty() {
            return Ok(kept_beside);
        }
        match self.write_journal() {
            // If this process is killed too, the next recovery still has the journal as it was.
            Err(SwapError::Io(e)) if e.is_no_space() => {}
            written => written?,
        }
        if direction == Direction::Back {
            numbers.reverse();
        }
        for number in numbers {
            let (step, backup) = (&self.journal.steps[number], self.journal.backup(number)?);
            match direction {
                Direction::Forward => step.apply(&backup)?,
                Direction::Back => step.undo(&backup)?,
            }
        }
        Ok(kept_beside)
    }

    /// Moves later writes out of the state that is about to be removed, to paths beside the live
    /// ones. Returns these.
    fn keep_late_writes(&self) -> Result<Vec<PathBuf>, SwapError> {
        let (home, auth_json) = (self.journal.home(), self.journal.auth_json());
        let finder = LateWriteFinder {
            home: &home,
            auth_json: &auth_json,
        };
        let mut kept = Vec::new();
        for (number, step) in self.journal.steps.iter().enumerate() {
            let (scratch, since_ns) = self.journal.late_write_scratch(number)?;
            kept.extend(finder.keep_late_writes(step, since_ns, &scratch)?);
        }
        Ok(kept)
    }
}

/// Returns the status of steps that still have to be exchanged.
fn remaining_status(direction: Direction) -> StepStatus {
    match direction {
        Direction::Forward => StepStatus::Pending,
        Direction::Back => StepStatus::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::step::tests::killed_after_renames;
    use super::super::test_fixture::*;
    use super::*;
    use crate::io::lock::once_free;
    use crate::io::tree;
    use std::fs;

    #[test]
    fn a_kill_between_any_two_steps_is_recovered() {
        for state in [JournalState::Committing, JournalState::Undoing] {
            for done in 0..=4 {
                let fixture = SwapFixture::new();
                let swap = fixture.begin_in_state(state);
                fixture.kill(swap, |swap| apply(swap, done).unwrap());
                let (recovery, expected) = match state {
                    JournalState::Committing if done == 0 => (Recovery::Undone(vec![]), OLD),
                    JournalState::Undoing => (Recovery::Undone(vec![]), OLD),
                    _ => (Recovery::Finished(vec![]), NEW),
                };
                assert_eq!(recover_fixture(&fixture), recovery);
                assert_eq!(
                    fixture.live_state(),
                    expected,
                    "{state:?} after {done} steps"
                );
                assert!(!fixture.path(STAGING).exists());
                assert_eq!(
                    recover(&fixture.path(STAGING), NO_GUARD).unwrap(),
                    Recovery::None
                );
            }
        }
    }

    /// Performs the first `steps` steps.
    fn apply(swap: &Swap, steps: usize) -> Result<(), SwapError> {
        for (number, step) in swap.journal.steps.iter().enumerate().take(steps) {
            step.apply(&swap.journal.backup(number)?)?;
        }
        Ok(())
    }

    fn undo(swap: &Swap) -> Result<(), SwapError> {
        for (number, step) in swap.journal.steps.iter().enumerate().rev() {
            step.undo(&swap.journal.backup(number)?)?;
        }
        Ok(())
    }

    /// Runs `work` and kills it after `renames` renames: no destructor runs, but the lock is
    /// released. Returns true if `work` had ended before.
    fn kill(fixture: &SwapFixture, swap: Swap, renames: usize, work: impl FnOnce(&Swap)) -> bool {
        let mut killed = false;
        fixture.kill(swap, |swap| {
            killed = killed_after_renames(renames, || work(swap));
        });
        !killed
    }

    #[test]
    fn a_kill_between_any_two_renames_is_recovered() {
        // The first step changes a file, or a folder.
        let ways =
            [JournalState::Committing, JournalState::Undoing].map(|state| [(state, 0), (state, 1)]);
        for (state, first) in ways.into_iter().flatten() {
            let mut ended = false;
            for renames in 0.. {
                // The recovery is killed too, after each number of renames.
                for again in 0.. {
                    let fixture = SwapFixture::new();
                    let mut swap = fixture.begin_in_state(JournalState::Prepared);
                    swap.journal.steps.rotate_left(first);
                    if state == JournalState::Undoing {
                        killed_after_renames(usize::MAX, || apply(&swap, 4).unwrap());
                    }
                    swap.set_state(state).unwrap();
                    ended = kill(&fixture, swap, renames, |swap| {
                        let _ = match state {
                            JournalState::Undoing => undo(swap),
                            _ => apply(swap, 4),
                        };
                    });
                    let mut recovery = None;
                    let killed = killed_after_renames(again, || {
                        recovery = recover_when_unlocked(&fixture, NO_GUARD).ok();
                    });
                    let recovery = recovery.unwrap_or_else(|| recover_fixture(&fixture));
                    let context = format!("{state:?} after {renames} renames, then {again}");
                    let is_new = matches!(recovery, Recovery::Finished(_));
                    assert_eq!(
                        fixture.live_state(),
                        if is_new { NEW } else { OLD },
                        "{context}"
                    );
                    assert!(!is_new || state == JournalState::Committing, "{context}");
                    assert!(
                        is_new || renames <= first || state == JournalState::Undoing,
                        "{context}"
                    );
                    assert_eq!(fixture.late_write_names(), [""; 0], "{context}");
                    assert!(!fixture.path(STAGING).exists(), "{context}");
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
    fn files_created_while_a_path_was_missing_are_kept() {
        for renames in 0..=11 {
            let fixture = SwapFixture::new();
            let swap = fixture.begin_in_state(JournalState::Committing);
            kill(&fixture, swap, renames, |swap| drop(apply(swap, 4)));
            // Codex is started before the next command and creates the missing files.
            let mut created = 0;
            for name in ["auth", "added", "folder/x"] {
                let path = fixture.path("live").join(name);
                if !path.exists() {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, "made since").unwrap();
                    created += 1;
                }
            }
            let recovery = recover_fixture(&fixture);
            let (Recovery::Finished(kept_beside) | Recovery::Undone(kept_beside)) = &recovery
            else {
                panic!("{recovery:?}");
            };
            let is_new = matches!(recovery, Recovery::Finished(_));
            let context = format!("after {renames} renames");
            if is_new {
                assert_eq!(fixture.live_state(), NEW, "{context}");
                assert_eq!(kept_beside.len(), created, "{context}: {kept_beside:?}");
            } else {
                assert_eq!(fixture.live_state(), "old made since old old", "{context}");
            }
            for path in kept_beside {
                let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(path.join("x")));
                assert_eq!(text.unwrap(), "made since", "{context}");
            }
        }
    }

    #[test]
    fn files_that_codex_replaced_after_the_exchange_stay() {
        let fixture = SwapFixture::new();
        let swap = fixture.begin_in_state(JournalState::Committing);
        fixture.kill(swap, |swap| apply(swap, 3).unwrap());
        for name in ["auth", "added"] {
            atomic::write(&fixture.path("live").join(name), b"since").unwrap();
        }
        assert_eq!(recover_fixture(&fixture), Recovery::Finished(vec![]));
        assert_eq!(fixture.live_state(), "since since - new");
    }

    #[test]
    fn a_removed_live_file_does_not_count_as_a_done_step() {
        let fixture = SwapFixture::new();
        let swap = fixture.begin_in_state(JournalState::Committing);
        fixture.kill(swap, |_| ());
        // SQLite does this with its log when Codex ends.
        fs::remove_file(fixture.path("live/gone")).unwrap();
        fs::write(fixture.path("live/auth"), "since").unwrap();
        assert_eq!(recover_fixture(&fixture), Recovery::Undone(vec![]));
        assert_eq!(fixture.live_state(), "since - - old");
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn later_writes_are_kept_beside_the_live_paths() {
        for (state, done) in [(JournalState::Committing, 1), (JournalState::Undoing, 4)] {
            let fixture = SwapFixture::new();
            let live = |name: &str| fixture.path("live").join(name);
            fs::create_dir(live("folder/deep")).unwrap();
            fs::write(live("folder/deep/untouched"), "old").unwrap();
            fs::create_dir(fixture.path("elsewhere")).unwrap();
            fs::write(fixture.path("elsewhere/moved"), "long before").unwrap();
            let swap = fixture.begin_in_state(state);
            fs::create_dir(fixture.path(STAGING).join("new/folder/deep")).unwrap();
            fixture.kill(swap, |swap| apply(swap, done).unwrap());
            fixture.wait_for_clock_tick();
            fs::write(live("folder/new"), "a new conversation").unwrap();
            fs::write(live("folder/deep/y"), "deeper").unwrap();
            fs::rename(fixture.path("elsewhere"), live("folder/elsewhere")).unwrap();
            let (since_ns, text) = if state == JournalState::Committing {
                fs::write(live("gone"), "written to").unwrap();
                ("gone.found-after-restore-1", "written to")
            } else {
                atomic::write(&live("added"), b"replaced").unwrap();
                ("added.found-after-restore-1", "replaced")
            };
            let recovery = recover_fixture(&fixture);
            let (Recovery::Finished(mut kept_beside) | Recovery::Undone(mut kept_beside)) =
                recovery
            else {
                panic!("{recovery:?}");
            };
            assert_eq!(
                fixture.live_state(),
                if done == 1 { NEW } else { OLD },
                "{state:?}"
            );
            let folder = live("folder.found-after-restore-1");
            kept_beside.sort();
            let mut expected = vec![folder.clone(), live(since_ns)];
            expected.sort();
            assert_eq!(kept_beside, expected, "{state:?}");
            let read = |path: PathBuf| fs::read_to_string(path).unwrap();
            assert_eq!(read(live(since_ns)), text);
            assert_eq!(read(folder.join("new")), "a new conversation");
            assert_eq!(read(folder.join("deep/y")), "deeper");
            assert_eq!(read(folder.join("elsewhere/moved")), "long before");
            assert!(!folder.join("deep/untouched").exists(), "{state:?}");
            assert!(!folder.join("x").exists(), "{state:?}");
        }
    }

    #[test]
    fn an_undone_new_state_is_moved_out_because_processes_may_write_to_it() {
        // (steps were undone, the new state was moved out)
        for (undone, was_left) in [(false, false), (true, false), (true, true)] {
            let fixture = SwapFixture::new();
            let mut swap = fixture.begin_in_state(JournalState::Committing);
            let (staged, place) = (fixture.path(STAGING).join("new"), fixture.path("left"));
            let pair = (JournalPath(staged.clone()), JournalPath(place.clone()));
            swap.journal.undo_destinations = vec![pair];
            apply(&swap, 4).unwrap();
            swap.set_state(JournalState::Undoing).unwrap();
            fixture.kill(swap, |swap| {
                if undone {
                    undo(swap).unwrap();
                }
            });
            fixture.wait_for_clock_tick();
            let new = if undone {
                staged.clone()
            } else {
                fixture.path("live")
            };
            fs::write(new.join("folder/x"), "goes on").unwrap();
            if was_left {
                fs::rename(&staged, &place).unwrap();
            }
            assert_eq!(
                recover_fixture(&fixture),
                Recovery::Undone(vec![place.clone()])
            );
            assert_eq!(fixture.live_state(), OLD);
            let text = fs::read_to_string(place.join("folder/x")).unwrap();
            assert_eq!(text, "goes on");
            assert!(!fixture.path(STAGING).exists());
        }
    }

    /// A guard that reports a process that uses the home.
    struct BusyGuard;

    impl RecoveryGuard for BusyGuard {
        fn keep_newer_login(&self, _outgoing: &Path, _incoming: &Path) -> Result<(), IoError> {
            Err(std::io::Error::other("nothing is to be exchanged")).at("keep", Path::new("x"))
        }

        fn save_dropped_login(&self, _outgoing: &Path, _remaining: &Path) -> Result<(), IoError> {
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
            (JournalState::Committing, 1),
            (JournalState::Committing, 4),
            (JournalState::Committing, 0),
            (JournalState::Undoing, 1),
            (JournalState::Undoing, 0),
        ] {
            let fixture = SwapFixture::new();
            let swap = fixture.begin_in_state(state);
            fixture.kill(swap, |swap| apply(swap, done).unwrap());
            let before = fixture.file_contents();
            let recovery = recover_when_unlocked(&fixture, &BusyGuard).unwrap();
            // A home without anything to exchange is recovered even while it is used.
            if done == 1 {
                let Recovery::Deferred(RecoveryObstacle::InUse { holders, .. }) = recovery else {
                    panic!("{recovery:?}");
                };
                assert_eq!(holders[0].pid, Some(7));
                assert_eq!(fixture.file_contents(), before);
                let begun = Swap::begin(&fixture.path(STAGING), &fixture.path("live"), &BusyGuard);
                assert!(matches!(begun, Err(SwapError::Deferred(_))));
                let _ = recover_fixture(&fixture);
            }
            let expected = if state == JournalState::Committing && done > 0 {
                NEW
            } else {
                OLD
            };
            assert_eq!(fixture.live_state(), expected, "{state:?} {done}");
        }
    }

    #[test]
    fn copied_or_unmounted_folders_are_not_changed() {
        let fixture = SwapFixture::new();
        let swap = fixture.begin_in_state(JournalState::Committing);
        fixture.kill(swap, |swap| apply(swap, 1).unwrap());
        // Same names and texts, different inodes.
        for name in [
            "live/auth",
            "live/folder",
            "x.codex-manager-restore/new/auth",
        ] {
            let (path, backup) = (fixture.path(name), fixture.path("original"));
            fs::rename(&path, &backup).unwrap();
            if backup.is_dir() {
                fs::create_dir(&path).unwrap();
                fs::copy(backup.join("x"), path.join("x")).unwrap();
            } else {
                fs::copy(&backup, &path).unwrap();
            }
            fs::rename(
                &backup,
                fixture.path(&format!("was {}", name.replace('/', " "))),
            )
            .unwrap();
        }
        let before = fixture.file_contents();
        let recovery = recover_fixture(&fixture);
        let unrecognized = matches!(
            &recovery,
            Recovery::Deferred(RecoveryObstacle::Unrecognized { .. })
        );
        assert!(unrecognized, "{recovery:?}");
        assert_eq!(fixture.file_contents(), before);

        let fixture = SwapFixture::new();
        let mut swap = fixture.begin_in_state(JournalState::Committing);
        let other = fixture.path("y.codex-manager-restore");
        swap.journal.folders.push(JournalPath(other.clone()));
        swap.set_state(JournalState::Committing).unwrap();
        fixture.kill(swap, |swap| apply(swap, 1).unwrap());
        let before = fixture.file_contents();
        let missing = Recovery::Deferred(RecoveryObstacle::MissingFolder(other));
        assert_eq!(recover_fixture(&fixture), missing);
        assert_eq!(fixture.file_contents(), before);
    }

    /// Journals before `home`, `since` and `leave_at`, and with the device number, which can
    /// change.
    #[cfg(unix)]
    #[test]
    fn journals_of_older_versions_are_read() {
        use std::os::unix::fs::MetadataExt;
        // Killed before the last rename of a step.
        for cut in [false, true] {
            let fixture = SwapFixture::new();
            let swap = fixture.begin_in_state(JournalState::Prepared);
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
                "folders": [fixture.path(STAGING)],
            });
            let path = fixture.path(STAGING).join(JOURNAL);
            fixture.kill(swap, |swap| {
                apply(swap, 1).unwrap();
                let text = serde_json::to_string_pretty(&journal).unwrap();
                fs::write(&path, text).unwrap();
                tree::remove(&fixture.path(STAGING).join("aside")).unwrap();
            });
            let staged = fixture.path(STAGING).join("new/auth");
            if cut {
                let backup = atomic::with_suffix(&staged, ".aside");
                fs::rename(&staged, backup).unwrap();
            }
            assert_eq!(
                recover_fixture(&fixture),
                Recovery::Finished(vec![]),
                "{cut}"
            );
            assert_eq!(fixture.live_state(), NEW);
            assert!(!fixture.path(STAGING).exists());
        }
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_unicode_survive_a_kill() {
        use std::os::unix::ffi::OsStrExt;
        let fixture = SwapFixture::new();
        let mut swap = fixture.begin_in_state(JournalState::Prepared);
        let name = std::ffi::OsStr::from_bytes(b"n\xff");
        let (live, staged) = (fixture.path("live"), fixture.path(STAGING).join("new"));
        for (folder, text) in [(&live, "old"), (&staged, "new")] {
            fs::write(folder.join(name), text).unwrap();
        }
        let step = ExchangeStep::new(live.join(name), staged.join(name));
        swap.journal.steps.push(step);
        swap.journal.since_ns = swap.prepare_folders().unwrap();
        swap.set_state(JournalState::Committing).unwrap();
        fixture.kill(swap, |swap| apply(swap, 1).unwrap());
        assert_eq!(recover_fixture(&fixture), Recovery::Finished(vec![]));
        assert_eq!(fs::read_to_string(live.join(name)).unwrap(), "new");
    }

    fn recover_fixture(fixture: &SwapFixture) -> Recovery {
        recover_when_unlocked(fixture, NO_GUARD).unwrap()
    }

    fn recover_when_unlocked(
        fixture: &SwapFixture,
        guard: &dyn RecoveryGuard,
    ) -> Result<Recovery, SwapError> {
        let is_held = |recovery: &_| matches!(recovery, Ok(Recovery::InProgress));
        once_free(|| recover(&fixture.path(STAGING), guard), is_held)
    }

    #[test]
    fn a_running_restore_is_not_recovered_by_another_process() {
        let fixture = SwapFixture::new();
        let (_swap, _) = fixture.begin();
        assert_eq!(
            recover(&fixture.path(STAGING), NO_GUARD).unwrap(),
            Recovery::InProgress
        );
    }
}
