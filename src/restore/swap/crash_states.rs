//! Tests the recovery of one step from every state that a kill, and later writes, can leave: the
//! result is the old or the new state, and no later write is lost.

use super::super::step::ExchangeStep;
use super::super::step::tests::killed_after_renames;
use super::journal::JournalState;
use super::recovery::{Recovery, recover};
use super::test_fixture::{NO_GUARD, STAGING, SwapFixture};
use crate::io::lock::once_free;
use BackupContent::{Linked, Moved, SecondName};
use PathContent::{Later, Missing, New, Old};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The file at a path when a recovery starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathContent {
    Missing,
    Old,
    New,
    /// A file created after the kill; at the staged path, a login that was kept.
    Later,
}

/// The backup of an exchange by renames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackupContent {
    /// There is no backup.
    Absent,
    /// A hard link to a file that was live and is not any more.
    Linked(PathContent),
    /// A hard link to the live file.
    SecondName,
    /// The only name of a file that was live.
    Moved(PathContent),
}

/// A state of a step after a kill.
#[derive(Debug, Clone, Copy)]
struct CrashState {
    /// The state in the journal.
    state: JournalState,
    /// True if another step of the journal is done.
    other_step_done: bool,
    /// Existence of the live and of the staged file when the step was recorded.
    initial: (bool, bool),
    is_folder: bool,
    live: PathContent,
    staged: PathContent,
    backup: BackupContent,
}

impl CrashState {
    fn all() -> Vec<Self> {
        let states = [JournalState::Committing, JournalState::Undoing];
        let mut ways = Vec::new();
        for state in states {
            for other_step_done in [false, true] {
                for initial in [(true, true), (false, true), (true, false)] {
                    ways.extend(
                        [false, true].map(|is_folder| (state, other_step_done, initial, is_folder)),
                    );
                }
            }
        }
        let places = [Missing, Old, New, Later];
        let backups = [
            BackupContent::Absent,
            Linked(Old),
            Linked(New),
            SecondName,
            Moved(Old),
            Moved(New),
        ];
        let mut cases = Vec::new();
        for (state, other_step_done, initial, is_folder) in ways {
            for (live, staged) in places.iter().flat_map(|l| places.map(|s| (*l, s))) {
                cases.extend(backups.map(|backup| Self {
                    state,
                    other_step_done,
                    initial,
                    is_folder,
                    live,
                    staged,
                    backup,
                }));
            }
        }
        cases.retain(|case| {
            case.is_possible() && (case.state != JournalState::Undoing || !case.other_step_done)
        });
        cases
    }

    /// Returns true if no file is at two paths, and none at any path if it never existed.
    fn is_possible(&self) -> bool {
        let in_backup = match self.backup {
            Linked(at) | Moved(at) => at,
            _ => Missing,
        };
        let item_contents = [self.live, self.staged, in_backup];
        let count = |at: PathContent| item_contents.iter().filter(|h| **h == at).count();
        let is_link = matches!(self.backup, Linked(_) | SecondName);
        count(Old) <= usize::from(self.initial.0)
            && count(New) <= usize::from(self.initial.1)
            && !(is_link && self.is_folder)
            && !(self.backup == SecondName && self.live == Missing)
            // Only an exchange makes a backup.
            && (self.backup == BackupContent::Absent || self.initial == (true, true))
            // A login that was kept goes live by a rename that leaves its staged path empty.
            && (self.staged != Later
                || (self.initial.1
                    // No new file is created where the new state was moved away.
                    && (self.initial.0 || self.live != New)
                    && (matches!(self.backup, BackupContent::Absent | SecondName)
                        || matches!(self.live, Missing | Later))))
    }

    /// Returns true if the recovery may remove the backup with this text.
    fn may_drop_backup(&self, text: &str) -> bool {
        match self.backup {
            Linked(Old) => text == "old item",
            Linked(New) => text == "new item",
            _ => false,
        }
    }

    /// Creates the files of this state.
    fn create(&self, fixture: &SwapFixture) -> ExchangeStep {
        let mut swap = fixture.begin_in_state(JournalState::Prepared);
        let (live, staged) = (
            fixture.path("live/item"),
            fixture.path(STAGING).join("new").join("item"),
        );
        let make = |path: &Path, text: &str| {
            let file = if self.is_folder {
                fs::create_dir(path).unwrap();
                path.join("x")
            } else {
                path.to_path_buf()
            };
            fs::write(file, text).unwrap();
        };
        if self.initial.0 {
            make(&live, "old item");
        }
        if self.initial.1 {
            make(&staged, "new item");
        }
        let step = ExchangeStep::new(live.clone(), staged.clone());
        swap.journal.steps = vec![swap.journal.steps[2].clone(), step.clone()];
        swap.set_state(self.state).unwrap();
        let names = swap.journal.backup(1).unwrap();
        fixture.kill(swap, |swap| {
            if self.other_step_done {
                let other = swap.journal.backup(0).unwrap();
                swap.journal.steps[0].apply(&other).unwrap();
            }
        });
        fixture.wait_for_clock_tick();
        // Files that are at no path are kept, so that no new file gets their inode numbers.
        let kept = fixture.path("kept");
        fs::create_dir(&kept).unwrap();
        for (path, name) in [(&live, "old"), (&staged, "new")] {
            if path.exists() {
                fs::rename(path, kept.join(name)).unwrap();
            }
        }
        let mut places = vec![(&live, self.live), (&staged, self.staged)];
        match self.backup {
            Linked(at) => places.push((&names.linked, at)),
            Moved(at) => places.push((&names.moved, at)),
            _ => {}
        }
        for (path, at) in places {
            match at {
                Old => fs::rename(kept.join("old"), path).unwrap(),
                New => fs::rename(kept.join("new"), path).unwrap(),
                Later if *path == live => make(path, "since item"),
                Later => make(path, "kept item"),
                Missing => {}
            }
        }
        if self.backup == SecondName {
            fs::hard_link(&live, &names.linked).unwrap();
        }
        step
    }
}

/// Returns the texts of all files of the item, at any path.
fn item_contents(fixture: &SwapFixture) -> BTreeSet<String> {
    let texts = fixture.file_contents().into_iter();
    texts.filter(|text| text.ends_with(" item")).collect()
}

fn text_of(path: &Path) -> String {
    let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(path.join("x")));
    text.unwrap_or_else(|_| "-".into())
}

fn recover_fixture(fixture: &SwapFixture) -> Recovery {
    let is_held = |recovery: &_| matches!(recovery, Ok(Recovery::InProgress));
    let attempt = || recover(&fixture.path(STAGING), NO_GUARD);
    once_free(attempt, is_held).unwrap()
}

#[test]
fn every_crash_state_recovers_to_old_or_new_without_losing_later_writes() {
    let cases = CrashState::all();
    assert!(cases.len() > 300, "{}", cases.len());
    let mut outcomes = [0; 3];
    // The threads wait for the disk most of the time.
    std::thread::scope(|scope| {
        let some = cases.chunks(cases.len().div_ceil(16));
        let threads: Vec<_> = some
            .map(|cases| {
                scope.spawn(|| {
                    let ways = cases
                        .iter()
                        .flat_map(|case| [true, false].map(|in_one_call| (case, in_one_call)));
                    let outcomes = ways.map(|(case, in_one_call)| check(*case, in_one_call));
                    outcomes.collect::<Vec<_>>()
                })
            })
            .collect();
        for thread in threads {
            for outcome in thread.join().unwrap() {
                outcomes[outcome] += 1;
            }
        }
    });
    assert!(outcomes.iter().all(|n| *n > 20), "{outcomes:?}");
}

fn check(case: CrashState, in_one_call: bool) -> usize {
    let context = format!("{case:?}, in one call: {in_one_call}");
    let fixture = SwapFixture::new();
    let step = case.create(&fixture);
    let had = item_contents(&fixture);
    let was_live = text_of(&step.live);
    let recovery = if in_one_call {
        recover_fixture(&fixture)
    } else {
        let mut recovery = None;
        let _ = killed_after_renames(usize::MAX, || recovery = Some(recover_fixture(&fixture)));
        recovery.unwrap()
    };
    let has = item_contents(&fixture);
    let now = text_of(&step.live);
    let context = format!("{context}: {recovery:?}: {had:?} {has:?} {now}");
    // The live file is the one of the resulting state, if that exists anywhere.
    let is_at = |text: &str| !has.contains(text) || now == text;
    let (outcome, goes) = match &recovery {
        Recovery::Finished(_) => {
            assert_eq!(case.state, JournalState::Committing, "{context}");
            assert!(is_at("new item") && now != "old item", "{context}");
            (0, "old item")
        }
        Recovery::Undone(_) => {
            let other_step_done = case.state == JournalState::Committing && case.other_step_done;
            assert!(!other_step_done, "{context}");
            // If another program took the old file out of the staging folder, nothing can be
            // restored.
            let is_new = now == "new item";
            assert!(
                is_at("old item") && (case.initial.0 || !is_new),
                "{context}"
            );
            (1, "new item")
        }
        Recovery::Deferred(_) => {
            assert!(now == was_live, "{context}");
            (2, "")
        }
        _ => panic!("{context}"),
    };
    for lost in had.difference(&has) {
        // No step was begun: a kept login is also at its old path.
        let is_kept = lost == "kept item" && outcome == 1;
        let may_go = lost == goes || is_kept || case.may_drop_backup(lost);
        assert!(may_go, "{context}: {lost} is lost");
    }
    // A second recovery has nothing to do.
    let again = recover_fixture(&fixture);
    if outcome == 2 {
        assert_eq!(again, recovery, "{context}");
    } else {
        assert_eq!(again, Recovery::None, "{context}");
        assert!(!fixture.path(STAGING).exists(), "{context}");
    }
    assert_eq!(item_contents(&fixture), has, "{context}");
    assert_eq!(text_of(&step.live), now, "{context}");
    outcome
}
