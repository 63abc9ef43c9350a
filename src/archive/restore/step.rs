//! One exchange of a live name with a staged one, which can be told done from not done at any moment.

use crate::io::atomic::with_suffix;
use crate::io::exchange::exchange;
use crate::io::file_id::FileId;
use crate::io::reach;
use crate::io::{IoContext, IoError};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

    /// Leads to the new state after a kill, once it is settled; gives where something was left that was in
    /// the way. Somebody may have removed what was staged: then there is no new state to lead to.
    pub(super) fn finish(&self, before: BeforeExchange<'_>) -> Result<Option<PathBuf>, IoError> {
        let is_gone = self.staged_id.is_some() && !is_there(&self.staged);
        if self.is_done() || is_gone {
            return Ok(None);
        }
        let is_kept = before(&self.live, &self.staged)?;
        let left = self.make_way(Towards::New, is_kept)?;
        self.apply()?;
        Ok(left)
    }

    /// The same for [`Step::undo`], which comes after.
    pub(super) fn prepare_undo(
        &self,
        before: BeforeExchange<'_>,
    ) -> Result<Option<PathBuf>, IoError> {
        if !self.is_done() {
            return Ok(None);
        }
        let is_kept = before(&self.live, &self.staged)?;
        self.make_way(Towards::Old, is_kept)
    }

    /// Frees the live name, should somebody have put something there since that the step would take away
    /// with the state that goes; gives where that is now. `is_kept` where it is saved already.
    fn make_way(&self, towards: Towards, is_kept: bool) -> Result<Option<PathBuf>, IoError> {
        let is_taken = match towards {
            Towards::New => self.live_id.is_none() && !self.is_done(),
            Towards::Old => self.staged_id.is_none() && is_there(&self.staged),
        };
        let live = FileId::of(&self.live);
        let is_foreign = live.is_some() && live != self.live_id && live != self.staged_id;
        if is_taken || (is_foreign && !is_kept) {
            free_live_name(&self.live)
        } else {
            Ok(None)
        }
    }
}

/// Is told of an exchange that a recovery is about to do: what is live, and what will be. Whether nothing
/// of what is live is lost with it.
pub type BeforeExchange<'a> = &'a dyn Fn(&Path, &Path) -> Result<bool, IoError>;

/// Which state a step leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Towards {
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
    FileId::of(a).is_some_and(|id| Some(id) == FileId::of(b))
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
    use super::*;
    use At::{Foreign, New, Nothing, Old, Second};
    use std::cell::Cell;
    use std::collections::BTreeSet;

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

    /// What a name may mean when a recovery looks.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum At {
        Old,
        New,
        /// Something that somebody has put there since.
        Foreign,
        /// A second name of what is live.
        Second,
        Nothing,
    }

    /// One state that a step is found in.
    #[derive(Debug, Clone, Copy)]
    struct Case {
        /// Whether something was live, and whether something was staged, when the step was written down.
        was: (bool, bool),
        is_folder: bool,
        live: At,
        staged: At,
        aside: At,
    }

    impl Case {
        /// All of them: nothing is at two places at once, and nothing that never was is at any.
        fn all() -> Vec<Self> {
            let mut cases = Vec::new();
            let places = [Old, New, Foreign, Nothing];
            for was in [(true, true), (false, true), (true, false)] {
                for (live, staged) in places.iter().flat_map(|l| places.map(|s| (*l, s))) {
                    for aside in [Nothing, Old, New, Second] {
                        for is_folder in [false, true] {
                            let held = [live, staged, aside];
                            let count = |at: At| held.iter().filter(|h| **h == at).count();
                            let is_possible = count(Old) <= usize::from(was.0)
                                && count(New) <= usize::from(was.1)
                                && (aside != Second || (live != Nothing && !is_folder))
                                // Only an exchange sets aside.
                                && (aside == Nothing || was == (true, true))
                                // A login that is kept is staged where another was, before an exchange.
                                && (staged != Foreign
                                    || (was.1 && live != New && aside == Nothing));
                            if is_possible {
                                cases.push(Self {
                                    was,
                                    is_folder,
                                    live,
                                    staged,
                                    aside,
                                });
                            }
                        }
                    }
                }
            }
            cases
        }

        /// Makes it in an empty folder.
        fn make(self, folder: &Path) -> Step {
            let (live, staged) = (folder.join("live"), folder.join("staged"));
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
                make(&live, "old");
            }
            if self.was.1 {
                make(&staged, "new");
            }
            let step = Step::new(live.clone(), staged.clone());
            let hold = folder.join("hold");
            fs::create_dir(&hold).unwrap();
            for (path, name) in [(&live, "old"), (&staged, "new")] {
                if path.exists() {
                    fs::rename(path, hold.join(name)).unwrap();
                }
            }
            let places = [
                (&live, self.live),
                (&staged, self.staged),
                (&aside_of(&staged), self.aside),
            ];
            for (path, at) in places {
                match at {
                    Old => fs::rename(hold.join("old"), path).unwrap(),
                    New => fs::rename(hold.join("new"), path).unwrap(),
                    Foreign => make(
                        path,
                        &format!("foreign {}", path.file_name().unwrap().display()),
                    ),
                    Second => fs::hard_link(&live, path).unwrap(),
                    Nothing => {}
                }
            }
            fs::remove_dir_all(hold).unwrap();
            step
        }
    }

    fn text_of(path: &Path) -> String {
        let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(path.join("x")));
        text.unwrap_or_else(|_| "-".into())
    }

    /// Everything that is held below a folder.
    fn texts(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|e| text_of(&e.unwrap().path())).collect()
    }

    /// As a recovery does it.
    fn recover(step: &Step, towards: Towards, is_kept: bool) -> Result<(), IoError> {
        let before = |_: &Path, _: &Path| Ok(is_kept);
        step.settle()?;
        match towards {
            Towards::New => step.finish(&before).map(drop),
            Towards::Old => {
                step.prepare_undo(&before)?;
                step.undo()
            }
        }
    }

    #[test]
    fn from_every_state_a_step_leads_to_the_old_or_the_new_and_loses_nothing() {
        let cases = Case::all();
        assert!(cases.len() > 70, "{}", cases.len());
        for case in cases {
            for towards in [Towards::Old, Towards::New] {
                for in_one_call in [true, false] {
                    check(case, towards, in_one_call);
                }
            }
        }
    }

    fn check(case: Case, towards: Towards, in_one_call: bool) {
        let told = format!("{case:?} {towards:?}, in one call: {in_one_call}");
        let folder = tempfile::tempdir().unwrap();
        let step = case.make(folder.path());
        let (live, staged) = (folder.path().join("live"), folder.path().join("staged"));
        let had = texts(folder.path());
        // Only a login that is kept is staged anew.
        let is_kept = case.staged == Foreign;
        let run = || recover(&step, towards, is_kept);
        let result = if in_one_call {
            run()
        } else {
            let mut result = Ok(());
            let _ = killed_after(usize::MAX, || result = run());
            result
        };
        result.unwrap_or_else(|e| panic!("{told}: {e}: {}", e.source));
        assert!(!step.is_cut_off(), "{told}");

        let has = texts(folder.path());
        assert_eq!(had, has, "{told}: something is lost");
        // What a recovery removes next is what is staged: of what is lost then, another state has more.
        let now = (text_of(&live), text_of(&staged));
        let goes = now.1.as_str();
        match towards {
            Towards::New => assert!(goes != "new" || now.0 == "old", "{told}: {now:?}"),
            Towards::Old => assert_ne!(goes, "old", "{told}: {now:?}"),
        }
        assert!(is_kept || !goes.starts_with("foreign"), "{told}: {now:?}");
        if !is_kept {
            let is_lost = |text: &str| !had.contains(text);
            match (towards, case.was) {
                (Towards::New, (_, true)) if now.0 != "new" => {
                    // Somebody has replaced or removed it since, or taken away what was staged.
                    let since = now.0.starts_with("foreign") || now.0 == "-";
                    assert!(
                        since || (is_lost("new") && now.0 == "old"),
                        "{told}: {now:?}"
                    );
                }
                (Towards::Old, (true, _)) if now.0 != "old" => {
                    assert!(is_lost("old"), "{told}: {now:?}");
                }
                (Towards::New, (_, false)) => assert_ne!(now.0, "old", "{told}: {now:?}"),
                (Towards::Old, (false, _)) => assert_ne!(now.0, "new", "{told}: {now:?}"),
                _ => {}
            }
        }
        // A recovery may be killed before it removes what is staged: the next one finds all done.
        let before = texts(folder.path());
        recover(&step, towards, is_kept).unwrap_or_else(|e| panic!("{told}: {e}"));
        assert_eq!(before, texts(folder.path()), "{told}");
        if !is_kept {
            assert_eq!(now, (text_of(&live), text_of(&staged)), "{told}");
        }
    }
}
