//! Every state that a step is found in, and what a recovery makes of it: the old or the new, with nothing
//! lost that was written since.

use super::super::step::Step;
use super::super::step::tests::killed_after;
use super::journal::State;
use super::recovery::{Recovery, recover};
use super::test_fixture::{NOTHING, STAGING, World};
use crate::io::lock::once_free;
use At::{New, Nothing, Old, Since};
use Set::{Linked, Moved, Second};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What a name may mean when a recovery looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Nothing,
    Old,
    New,
    /// Something that somebody has put there since; or a login that was kept, where it is staged.
    Since,
}

/// What an exchange without a call of the system for it had set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// Nothing.
    Not,
    /// What was live then, and is no more.
    Linked(At),
    /// What is live.
    Second,
    /// What was live then, without another name.
    Moved(At),
}

/// One state that a step is found in.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// Of the journal.
    state: State,
    /// Whether another step is done.
    has_begun: bool,
    /// Whether something was live, and whether something was staged, when the step was written down.
    was: (bool, bool),
    is_folder: bool,
    live: At,
    staged: At,
    aside: Set,
}

impl Case {
    fn all() -> Vec<Self> {
        let states = [State::Committing, State::Undoing];
        let mut ways = Vec::new();
        for state in states {
            for has_begun in [false, true] {
                for was in [(true, true), (false, true), (true, false)] {
                    ways.extend([false, true].map(|is_folder| (state, has_begun, was, is_folder)));
                }
            }
        }
        let places = [Nothing, Old, New, Since];
        let asides = [
            Set::Not,
            Linked(Old),
            Linked(New),
            Second,
            Moved(Old),
            Moved(New),
        ];
        let mut cases = Vec::new();
        for (state, has_begun, was, is_folder) in ways {
            for (live, staged) in places.iter().flat_map(|l| places.map(|s| (*l, s))) {
                cases.extend(asides.map(|aside| Self {
                    state,
                    has_begun,
                    was,
                    is_folder,
                    live,
                    staged,
                    aside,
                }));
            }
        }
        cases
            .retain(|case| case.is_possible() && (case.state != State::Undoing || !case.has_begun));
        cases
    }

    /// Nothing is at two places at once, and nothing that never was is at any.
    fn is_possible(&self) -> bool {
        let set = match self.aside {
            Linked(at) | Moved(at) => at,
            _ => Nothing,
        };
        let held = [self.live, self.staged, set];
        let count = |at: At| held.iter().filter(|h| **h == at).count();
        let is_link = matches!(self.aside, Linked(_) | Second);
        count(Old) <= usize::from(self.was.0)
            && count(New) <= usize::from(self.was.1)
            && !(is_link && self.is_folder)
            && !(self.aside == Second && self.live == Nothing)
            // Only an exchange sets aside.
            && (self.aside == Set::Not || self.was == (true, true))
            // What is staged for it, and then set aside for it, goes live with nothing left in its place.
            && (self.staged != Since
                || (self.was.1
                    // Nothing comes to be where something new was moved away from.
                    && (self.was.0 || self.live != New)
                    && (matches!(self.aside, Set::Not | Second)
                        || matches!(self.live, Nothing | Since))))
    }

    /// What was set aside is given up where its name got, or lost, something else meanwhile.
    fn may_be_given_up(&self, text: &str) -> bool {
        match self.aside {
            Linked(Old) => text == "old item",
            Linked(New) => text == "new item",
            _ => false,
        }
    }

    /// Makes it.
    fn make(&self, world: &World) -> Step {
        let mut swap = world.begin_to(State::Prepared);
        let (live, staged) = (
            world.at("live/item"),
            world.at(STAGING).join("new").join("item"),
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
        if self.was.0 {
            make(&live, "old item");
        }
        if self.was.1 {
            make(&staged, "new item");
        }
        let step = Step::new(live.clone(), staged.clone());
        swap.journal.steps = vec![swap.journal.steps[2].clone(), step.clone()];
        swap.set(self.state).unwrap();
        let names = swap.journal.aside(1).unwrap();
        world.kill(swap, |swap| {
            if self.has_begun {
                let other = swap.journal.aside(0).unwrap();
                swap.journal.steps[0].apply(&other).unwrap();
            }
        });
        world.pass_time();
        // What is nowhere is kept, so that nothing new gets its number.
        let kept = world.at("kept");
        fs::create_dir(&kept).unwrap();
        for (path, name) in [(&live, "old"), (&staged, "new")] {
            if path.exists() {
                fs::rename(path, kept.join(name)).unwrap();
            }
        }
        let mut places = vec![(&live, self.live), (&staged, self.staged)];
        match self.aside {
            Linked(at) => places.push((&names.linked, at)),
            Moved(at) => places.push((&names.moved, at)),
            _ => {}
        }
        for (path, at) in places {
            match at {
                Old => fs::rename(kept.join("old"), path).unwrap(),
                New => fs::rename(kept.join("new"), path).unwrap(),
                Since if *path == live => make(path, "since item"),
                Since => make(path, "kept item"),
                Nothing => {}
            }
        }
        if self.aside == Second {
            fs::hard_link(&live, &names.linked).unwrap();
        }
        step
    }
}

/// What is held of the item, wherever.
fn held(world: &World) -> BTreeSet<String> {
    let texts = world.texts().into_iter();
    texts.filter(|text| text.ends_with(" item")).collect()
}

fn text_of(path: &Path) -> String {
    let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(path.join("x")));
    text.unwrap_or_else(|_| "-".into())
}

fn recovered(world: &World) -> Recovery {
    let is_held = |recovery: &_| matches!(recovery, Ok(Recovery::InProgress));
    let look = || recover(&world.at(STAGING), NOTHING);
    once_free(look, is_held).unwrap()
}

#[test]
fn from_every_state_a_step_leads_to_the_old_or_the_new_and_loses_nothing() {
    let cases = Case::all();
    assert!(cases.len() > 300, "{}", cases.len());
    let mut outcomes = [0; 3];
    // Each waits for the disk most of the time.
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

fn check(case: Case, in_one_call: bool) -> usize {
    let told = format!("{case:?}, in one call: {in_one_call}");
    let world = World::new();
    let step = case.make(&world);
    let had = held(&world);
    let was_live = text_of(&step.live);
    let recovery = if in_one_call {
        recovered(&world)
    } else {
        let mut recovery = None;
        let _ = killed_after(usize::MAX, || recovery = Some(recovered(&world)));
        recovery.unwrap()
    };
    let has = held(&world);
    let now = text_of(&step.live);
    let told = format!("{told}: {recovery:?}: {had:?} {has:?} {now}");
    // What is live now is the state that it leads to, if that is anywhere.
    let is_at = |text: &str| !has.contains(text) || now == text;
    let (outcome, goes) = match &recovery {
        Recovery::Finished(_) => {
            assert_eq!(case.state, State::Committing, "{told}");
            assert!(is_at("new item") && now != "old item", "{told}");
            (0, "old item")
        }
        Recovery::Undone(_) => {
            let has_begun = case.state == State::Committing && case.has_begun;
            assert!(!has_begun, "{told}");
            // Where somebody took the old one out of our folder, there is nothing to go back to.
            let is_new = now == "new item";
            assert!(is_at("old item") && (case.was.0 || !is_new), "{told}");
            (1, "new item")
        }
        Recovery::PutOff(_) => {
            assert!(now == was_live, "{told}");
            (2, "")
        }
        _ => panic!("{told}"),
    };
    for lost in had.difference(&has) {
        // Nothing was begun: a login that was kept is in its old place, too.
        let is_kept = lost == "kept item" && outcome == 1;
        let may_go = lost == goes || is_kept || case.may_be_given_up(lost);
        assert!(may_go, "{told}: {lost} is lost");
    }
    // The next one finds nothing to do.
    let again = recovered(&world);
    if outcome == 2 {
        assert_eq!(again, recovery, "{told}");
    } else {
        assert_eq!(again, Recovery::None, "{told}");
        assert!(!world.at(STAGING).exists(), "{told}");
    }
    assert_eq!(held(&world), has, "{told}");
    assert_eq!(text_of(&step.live), now, "{told}");
    outcome
}
