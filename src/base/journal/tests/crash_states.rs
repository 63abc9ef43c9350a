//! Recovers one step from every state that a kill, and later writes, can leave: the result is the
//! old or the new state, and no later write is lost.

use super::*;
use PathContent::{Later, Missing, New, Old};

/// The entry at a path when a recovery starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathContent {
    Missing,
    Old,
    New,
    /// A file created after the kill; at the staged path, a login that was kept.
    Later,
}

/// A state of a step after a kill.
#[derive(Debug, Clone, Copy)]
struct CrashState {
    state: JournalState,
    /// True if another step of the journal is done.
    other_step_done: bool,
    /// Existence of the live and of the staged entry when the step was recorded.
    initial: (bool, bool),
    is_folder: bool,
    live: PathContent,
    staged: PathContent,
}

impl CrashState {
    fn all() -> Vec<Self> {
        const CONTENTS: [PathContent; 4] = [Missing, Old, New, Later];
        let mut all = Vec::new();
        for number in 0..2 * 2 * 3 * 2 * 16_usize {
            let digit = |divisor: usize, base: usize| number / divisor % base;
            all.push(Self {
                state: [JournalState::Committing, JournalState::Undoing][digit(1, 2)],
                other_step_done: digit(2, 2) == 1,
                initial: [(true, true), (false, true), (true, false)][digit(4, 3)],
                is_folder: digit(12, 2) == 1,
                live: CONTENTS[digit(24, 4)],
                staged: CONTENTS[digit(96, 4)],
            });
        }
        all.retain(|state| state.is_possible());
        all
    }

    /// Returns true if no entry is at two paths, and none at any path if it never existed.
    fn is_possible(self) -> bool {
        let count = |of| {
            [self.live, self.staged]
                .iter()
                .filter(|at| **at == of)
                .count()
        };
        // Without a call for it, an exchange is two moves, which have states of their own.
        (!is_always_off() || self.initial != (true, true))
            && count(Old) <= usize::from(self.initial.0)
            && count(New) <= usize::from(self.initial.1)
            // A login that is kept replaces one that was staged, where no new file is created once
            // the new state was moved away.
            && (self.staged != Later
                || self.initial.1 && (self.initial.0 || self.live != New))
            && (self.state != JournalState::Undoing || !self.other_step_done)
    }

    /// Creates the files of this state.
    fn create(self, fixture: &Fixture) -> Step {
        let (transaction, steps) = fixture.begin();
        let live = fixture.live("item");
        let staged = fixture.staging().join("new/item");
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
        let step = Step::record(live.clone(), staged.clone()).unwrap();
        let done = usize::from(self.other_step_done);
        let steps = vec![steps[2].clone(), step.clone()];
        fixture.kill(transaction, steps, self.state, done);
        fixture.wait_for_clock_tick();
        // Entries that are at no path are kept, so that no new file gets their ids.
        let kept = fixture.path("kept");
        fs::create_dir(&kept).unwrap();
        for (path, name) in [(&live, "old"), (&staged, "new")] {
            if path.exists() {
                fs::rename(path, kept.join(name)).unwrap();
            }
        }
        for (path, at) in [(&live, self.live), (&staged, self.staged)] {
            match at {
                Old => fs::rename(kept.join("old"), path).unwrap(),
                New => fs::rename(kept.join("new"), path).unwrap(),
                Later if *path == live => make(path, "since item"),
                Later => make(path, "kept item"),
                Missing => {}
            }
        }
        step
    }
}

/// Returns the texts of all files of the item, at any path.
fn item_texts(fixture: &Fixture) -> BTreeSet<String> {
    let texts = fixture.texts().into_iter();
    texts.filter(|text| text.ends_with(" item")).collect()
}

fn text_of(path: &Path) -> String {
    let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(path.join("x")));
    text.unwrap_or_else(|_| "-".into())
}

#[test]
fn every_crash_state_recovers_to_old_or_new_without_losing_later_writes() {
    let states = CrashState::all();
    assert!(states.len() > 50, "{}", states.len());
    let mut outcomes = [0; 3];
    for state in states {
        outcomes[check(state)] += 1;
    }
    // Only exchanges can be deferred.
    let possible = if is_always_off() { 2 } else { 3 };
    let is_tried = outcomes[..possible].iter().all(|n| *n > 5);
    assert!(is_tried, "{outcomes:?}");
}

fn check(state: CrashState) -> usize {
    let fixture = Fixture::new();
    let step = state.create(&fixture);
    let had = item_texts(&fixture);
    let was_live = text_of(&step.live);
    let recovery = fixture.recover();
    let has = item_texts(&fixture);
    let now = text_of(&step.live);
    let context = format!("{state:?}: {recovery:?}: {had:?} {has:?} {now}");
    // The live entry is the one of the resulting state, if that exists anywhere.
    let is_live = |text: &str| !has.contains(text) || now == text;
    let (outcome, removed) = match &recovery {
        Recovery::Finished(_) => {
            assert_eq!(state.state, JournalState::Committing, "{context}");
            assert!(is_live("new item") && now != "old item", "{context}");
            (0, "old item")
        }
        Recovery::Undone(kept) => {
            let other_step_done = state.state == JournalState::Committing && state.other_step_done;
            assert!(!other_step_done, "{context}");
            // If another program took the old entry out of the staging folder, nothing can be
            // restored.
            let is_old = is_live("old item") && (state.initial.0 || now != "new item");
            assert!(is_old || !kept.is_empty(), "{context}");
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
        assert!(lost == removed || is_kept, "{context}: {lost} is lost");
    }
    // A second recovery has nothing to do.
    let again = fixture.recover();
    if outcome == 2 {
        assert_eq!(again, recovery, "{context}");
    } else {
        assert_eq!(again, Recovery::None, "{context}");
        assert!(!fixture.staging().exists(), "{context}");
    }
    assert_eq!(item_texts(&fixture), has, "{context}");
    assert_eq!(text_of(&step.live), now, "{context}");
    outcome
}
