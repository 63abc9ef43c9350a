//! One exchange of a live name with a staged one, which can be told done from not done at any moment.
//!
//! What is staged is in a folder that nobody but us works in, so what stands there tells most: the new
//! side, before the exchange; the old one, after it. That something live is gone tells nothing, since
//! anybody may have removed it.

use super::journal_path;
use super::swap::late_writes::{self, Late};
use crate::codex::home::AUTH_JSON;
use crate::io::atomic::with_suffix;
use crate::io::exchange::exchange;
use crate::io::file_id::{FileId, look};
use crate::io::{IoContext, IoError, long_path};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One exchange of a live name with a staged one. Either may be absent: then it is a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    #[serde(with = "journal_path")]
    pub(super) live: PathBuf,
    #[serde(with = "journal_path")]
    pub(super) staged: PathBuf,
    live_id: Option<FileId>,
    staged_id: Option<FileId>,
    /// What a recovery has to keep of what it exchanges away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) late: Option<Late>,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Not begun: what is staged is the new side.
    Waiting,
    /// Cut off between the renames of an exchange.
    CutOff,
    /// Something of ours is provably in its place.
    Done,
    /// There is nothing to do, forward or backward.
    Nothing,
    /// What was staged is gone, but not into its place.
    Lost,
    /// Neither side is known by either name.
    Unknown,
}

/// Which state the steps lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    Old,
    New,
}

/// What a name was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Absent,
    Old,
    New,
    Foreign,
}

/// Where the side that is live is while the other is moved into its place: in a folder of ours alone. The
/// name says whether the live name was there all the while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Aside {
    /// A second name of what is live.
    pub(super) linked: PathBuf,
    /// The only name of what was live.
    pub(super) moved: PathBuf,
}

impl Aside {
    /// Those of the step `number`, in this folder.
    pub(super) fn of(folder: &Path, number: usize) -> Self {
        let base = folder.join(number.to_string());
        Self {
            linked: with_suffix(&base, ".linked"),
            moved: with_suffix(&base, ".moved"),
        }
    }

    /// The one that is there.
    fn found(&self) -> Result<Option<&Path>, IoError> {
        for path in [&self.linked, &self.moved] {
            if look(path)?.is_some() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

impl Step {
    /// The step that exchanges what now stands at `live` and at `staged`.
    pub fn new(live: PathBuf, staged: PathBuf) -> Self {
        let note = |path: &Path| FileId::note(path).ok().flatten();
        let (live_id, staged_id) = (note(&live), note(&staged));
        Self {
            live,
            staged,
            live_id,
            staged_id,
            late: None,
        }
    }

    /// Whether it is about this live name.
    pub fn is_of(&self, live: &Path) -> bool {
        self.live == live
    }

    /// Whether both names are of one file: there is nothing to exchange.
    pub(super) fn is_of_one_file(&self) -> bool {
        let both = self.live_id.zip(self.staged_id);
        both.is_some_and(|(live, staged)| live.is(staged))
    }

    /// The logins of both sides, where this step exchanges the login `auth_json`.
    pub(super) fn logins(&self, auth_json: &Path) -> Option<(PathBuf, PathBuf)> {
        if self.live == auth_json {
            return Some((self.live.clone(), self.staged.clone()));
        }
        let is_home = Some(self.live.as_path()) == auth_json.parent();
        is_home.then(|| (self.live.join(AUTH_JSON), self.staged.join(AUTH_JSON)))
    }

    /// How far it is.
    pub(super) fn position(&self, aside: &Aside) -> Result<Position, IoError> {
        let side = |path: &Path| {
            Ok(match look(path)? {
                None => Side::Absent,
                Some((id, _)) if self.staged_id.is_some_and(|new| new.is(id)) => Side::New,
                Some((id, _)) if self.live_id.is_some_and(|old| old.is(id)) => Side::Old,
                Some(_) => Side::Foreign,
            })
        };
        if aside.found()?.is_some() {
            return Ok(Position::CutOff);
        }
        Ok(self.judge(side(&self.live)?, side(&self.staged)?))
    }

    /// The same of what was found, where nothing is aside.
    fn judge(&self, live: Side, staged: Side) -> Position {
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) => match (staged, live) {
                (Side::New, _) | (Side::Foreign, Side::Old) => Position::Waiting,
                (Side::Absent, Side::Old) => Position::Lost,
                // Codex may have replaced what is live since; what was replaced may have been removed.
                (Side::Old | Side::Absent, _) | (Side::Foreign, Side::New) => Position::Done,
                (Side::Foreign, Side::Absent | Side::Foreign) => Position::Unknown,
            },
            (None, Some(_)) if staged == Side::Absent => Position::Done,
            (None, Some(_)) => Position::Waiting,
            (Some(_), None) if staged != Side::Absent => Position::Done,
            (Some(_), None) if live != Side::Absent => Position::Waiting,
            (Some(_) | None, None) => Position::Nothing,
        }
    }

    /// Exchanges the two, unless that is done.
    pub(super) fn apply(&self, aside: &Aside) -> Result<(), IoError> {
        if self.position(aside)? != Position::Waiting {
            return Ok(());
        }
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if is_there(&self.live)? => {
                swap_names(&self.live, &self.staged, aside)
            }
            // Somebody may have removed what was live.
            (_, Some(_)) => move_new(&self.staged, &self.live),
            (_, None) => move_new(&self.live, &self.staged),
        }
    }

    /// Exchanges them back, if they are exchanged.
    pub(super) fn undo(&self, aside: &Aside) -> Result<(), IoError> {
        if self.position(aside)? != Position::Done {
            return Ok(());
        }
        let (live, staged) = (is_there(&self.live)?, is_there(&self.staged)?);
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if live && staged => swap_names(&self.live, &self.staged, aside),
            (Some(_), _) if staged => move_new(&self.staged, &self.live),
            (None, Some(_)) if live => move_new(&self.live, &self.staged),
            // What was replaced is there no more, or what is new is not.
            _ => Ok(()),
        }
    }

    /// Whether there is something to exchange back, once it is done.
    pub(super) fn can_be_undone(&self) -> Result<bool, IoError> {
        Ok(self.live_id.is_none() || is_there(&self.staged)?)
    }

    /// Ends an exchange that was cut off between its renames, so that the step is either done or not.
    /// What was live all the while, or is a login, stays live, whatever is aside: `save` is given a login
    /// that is then dropped. Gives where something was left that somebody put into a gap meanwhile.
    pub(super) fn settle(
        &self,
        aside: &Aside,
        is_login: bool,
        save: impl FnOnce(&Path) -> Result<(), IoError>,
    ) -> Result<Option<PathBuf>, IoError> {
        let Some(path) = aside.found()? else {
            return Ok(None);
        };
        let live = look(&self.live)?;
        let set = look(path)?;
        let is_second_name = set
            .zip(live.as_ref())
            .is_some_and(|((set, _), (live, _))| set.is(*live));
        if is_second_name {
            // Whatever has become of what was staged.
            remove_file(path)?;
            return Ok(None);
        }
        if !is_there(&self.staged)? {
            rename(path, &self.staged).at("rename", path)?;
            return Ok(None);
        }
        if path == aside.moved && (live.is_none() || !is_login) {
            let left = free_live_name(&self.live)?;
            rename(path, &self.live).at("rename", path)?;
            return Ok(left);
        }
        if is_login {
            save(path)?;
        }
        remove_file(path)?;
        Ok(None)
    }

    /// Gives what an older version set aside, beside what is staged, the name of now.
    pub(super) fn adopt_older(&self, aside: &Aside) -> Result<(), IoError> {
        let older = with_suffix(&self.staged, ".aside");
        let Some((id, meta)) = look(&older)? else {
            return Ok(());
        };
        let sides = [self.live_id, self.staged_id];
        // A file of the user may have such a name.
        if !sides.iter().flatten().any(|side| side.is(id)) {
            return Ok(());
        }
        let is_second_name = look(&self.live)?.is_some_and(|(live, _)| live.is(id));
        let is_linked = !meta.is_dir() && is_second_name;
        let name = if is_linked {
            &aside.linked
        } else {
            &aside.moved
        };
        rename(&older, name).at("rename", &older)
    }

    /// Frees the name that this step moves something to, should somebody have taken it since; gives
    /// where that is now.
    pub(super) fn make_way(&self, towards: Towards) -> Result<Option<PathBuf>, IoError> {
        let is_taken = match towards {
            Towards::New => self.live_id.is_none(),
            Towards::Old => self.staged_id.is_none(),
        };
        if is_taken {
            free_live_name(&self.live)
        } else {
            Ok(None)
        }
    }

    /// Notes what has to be kept of what stands live now and will be exchanged away: whether that is
    /// another than was noted, or was written to after the instant `since`. Then the two are noted as
    /// they are now.
    pub(super) fn note_again(&mut self, towards: Towards, since: i64) -> Result<(), IoError> {
        let expected = match towards {
            Towards::New => self.live_id,
            Towards::Old => self.staged_id,
        };
        let late = look(&self.live)?.and_then(|(id, meta)| {
            if !expected.is_some_and(|expected| expected.is(id)) {
                Some(Late::Whole)
            } else if meta.is_dir() {
                Some(Late::Within)
            } else {
                late_writes::is_written_since(&meta, since).then_some(Late::Whole)
            }
        });
        self.late = self.late.max(late);
        let (live, staged) = (FileId::note(&self.live)?, FileId::note(&self.staged)?);
        (self.live_id, self.staged_id) = match towards {
            Towards::New => (live, staged),
            Towards::Old => (staged, live),
        };
        Ok(())
    }
}

fn is_there(path: &Path) -> Result<bool, IoError> {
    Ok(look(path)?.is_some())
}

/// Moves what has a live name to a free one beside it; gives that.
fn free_live_name(live: &Path) -> Result<Option<PathBuf>, IoError> {
    if is_there(live)? {
        move_beside(live, live).map(Some)
    } else {
        Ok(None)
    }
}

/// Moves what stands at `from` to a free name beside `live`; gives that.
pub(super) fn move_beside(from: &Path, live: &Path) -> Result<PathBuf, IoError> {
    let names = (1..).map(|n| with_suffix(live, &format!(".found-after-restore-{n}")));
    for name in names {
        if !is_there(&name)? {
            rename(from, &name).at("move", from)?;
            return Ok(name);
        }
    }
    unreachable!("the names have no end")
}

/// Exchanges two names; by three renames where the system cannot do it in one call. Killed in these,
/// [`Step::settle`] ends it.
fn swap_names(live: &Path, staged: &Path, aside: &Aside) -> Result<(), IoError> {
    match exchange_in_one_call(live, staged) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        other => return other.at("exchange", live),
    }
    let is_file = long_path::with(live, Path::symlink_metadata).is_ok_and(|m| !m.is_dir());
    let link = |live: &Path, linked: &Path| fs::hard_link(live, linked);
    if is_file && long_path::with_both(live, &aside.linked, link).is_ok() {
        // A file is replaced by one rename: no moment is without it.
        if let Err(e) = rename(staged, live) {
            #[cfg(test)]
            tests::while_alive()?;
            let _ = remove_file(&aside.linked);
            return Err(e).at("replace", live);
        }
        return rename(&aside.linked, staged).at("rename", &aside.linked);
    }
    rename(live, &aside.moved).at("rename", live)?;
    if let Err(e) = rename(staged, live) {
        let _ = rename(&aside.moved, live);
        return Err(e).at("rename", staged);
    }
    rename(&aside.moved, staged).at("rename", &aside.moved)
}

fn remove_file(path: &Path) -> Result<(), IoError> {
    long_path::with(path, |path| fs::remove_file(path)).at("remove", path)
}

/// Moves to a name that is free.
fn move_new(from: &Path, to: &Path) -> Result<(), IoError> {
    if is_there(to)? {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("move to", to);
    }
    rename(from, to).at("move", from)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the exchange and the move themselves; the caller makes them durable"
)]
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(test)]
    tests::before_rename()?;
    long_path::with_both(from, to, |from, to| fs::rename(from, to))
}

fn exchange_in_one_call(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(test)]
    tests::before_exchange()?;
    long_path::with_both(a, b, exchange)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::cell::Cell;

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

    /// Whoever was killed clears nothing up.
    pub(super) fn while_alive() -> Result<(), IoError> {
        match LEFT.get() {
            Some(0) => Err(io::Error::other("killed")).at("clear up", Path::new("aside")),
            _ => Ok(()),
        }
    }

    pub(super) fn before_exchange() -> io::Result<()> {
        match LEFT.get() {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// What is put at each of the names of a step, and what that makes of it.
    #[test]
    fn how_far_a_step_is_told_by_what_stands_at_its_names() {
        use Position::{Done, Lost, Nothing, Unknown, Waiting};
        const SIDES: [Side; 4] = [Side::Absent, Side::Old, Side::New, Side::Foreign];
        // For each staged side the four live ones, in the order of SIDES.
        let replace = [
            [Done, Lost, Done, Done],
            [Done, Done, Done, Done],
            [Waiting, Waiting, Waiting, Waiting],
            [Unknown, Waiting, Done, Unknown],
        ];
        let add = [[Done; 4], [Waiting; 4], [Waiting; 4], [Waiting; 4]];
        let remove = [
            [Nothing, Waiting, Waiting, Waiting],
            [Done; 4],
            [Done; 4],
            [Done; 4],
        ];
        for (has_old, has_new, expected) in [
            (true, true, replace),
            (false, true, add),
            (true, false, remove),
            (false, false, [[Nothing; 4]; 4]),
        ] {
            for (row, staged) in SIDES.into_iter().enumerate() {
                for (column, live) in SIDES.into_iter().enumerate() {
                    let impossible = |side| match side {
                        Side::Old => !has_old,
                        Side::New => !has_new,
                        Side::Absent | Side::Foreign => false,
                    };
                    let is_twice = live == staged && matches!(live, Side::Old | Side::New);
                    if impossible(live) || impossible(staged) || is_twice {
                        continue;
                    }
                    let told = format!("{has_old} {has_new}: live {live:?}, staged {staged:?}");
                    let made = Made::new(has_old, has_new, live, staged);
                    let position = made.step.position(&made.aside).unwrap();
                    assert_eq!(position, expected[row][column], "{told}");
                    // Whatever is aside, it is cut off.
                    for aside in [&made.aside.linked, &made.aside.moved] {
                        fs::write(aside, "aside").unwrap();
                        let position = made.step.position(&made.aside).unwrap();
                        assert_eq!(position, Position::CutOff, "{told}");
                        fs::remove_file(aside).unwrap();
                    }
                }
            }
        }
    }

    /// What is aside, by which way, what stands live and staged; what stands there after it is settled,
    /// and what was left beside.
    #[test]
    fn what_was_cut_off_is_settled_by_what_stands_at_its_names() {
        for (is_moved, is_login, live, staged, expected) in [
            (false, false, "old", "new", "old new -"),
            (false, false, "since", "new", "since new -"),
            (false, true, "since", "new", "since new -"),
            (false, false, "-", "new", "- new -"),
            (false, false, "old", "-", "old - -"),
            (false, false, "new", "-", "new old -"),
            (false, true, "since", "-", "since old -"),
            (true, false, "-", "new", "old new -"),
            (true, true, "-", "new", "old new -"),
            (true, false, "since", "new", "old new since"),
            (true, true, "since", "new", "since new -"),
            (true, false, "new", "-", "new old -"),
            (true, false, "since", "-", "since old -"),
            (true, false, "-", "-", "- old -"),
        ] {
            let made = Made::new(true, true, Side::Old, Side::New);
            let (aside, step) = (&made.aside, &made.step);
            let place = if is_moved {
                &aside.moved
            } else {
                &aside.linked
            };
            fs::hard_link(&step.live, place).unwrap();
            fs::remove_file(&step.live).unwrap();
            match live {
                "old" => fs::hard_link(place, &step.live).unwrap(),
                "new" => fs::rename(&step.staged, &step.live).unwrap(),
                "since" => fs::write(&step.live, "since").unwrap(),
                _ => {}
            }
            if staged == "-" && live != "new" {
                fs::remove_file(&step.staged).unwrap();
            }
            let saved = Cell::new(false);
            let left = step.settle(aside, is_login, |_| {
                saved.set(true);
                Ok(())
            });
            let left = left.unwrap();
            let text = |path: &Path| fs::read_to_string(path).unwrap_or_else(|_| "-".into());
            let left = left.map_or_else(|| "-".into(), |path| text(&path));
            let found = format!("{} {} {left}", text(&step.live), text(&step.staged));
            let told = format!("moved {is_moved}, login {is_login}: {live} {staged}");
            assert_eq!(found, expected, "{told}");
            assert!(aside.found().unwrap().is_none(), "{told}");
            let is_dropped = is_login && live == "since" && staged == "new";
            assert_eq!(saved.get(), is_dropped, "{told}");
        }
    }

    /// A step, and what stands at its names since.
    struct Made {
        _root: tempfile::TempDir,
        step: Step,
        aside: Aside,
    }

    impl Made {
        fn new(has_old: bool, has_new: bool, live: Side, staged: Side) -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            for (exists, name, text) in [(has_old, "live", "old"), (has_new, "staged", "new")] {
                if exists {
                    fs::write(at(name), text).unwrap();
                }
            }
            let step = Step::new(at("live"), at("staged"));
            // Both are kept, so that nobody else gets their numbers.
            for (exists, name, kept) in [(has_old, "live", "old"), (has_new, "staged", "new")] {
                if exists {
                    fs::rename(at(name), at(kept)).unwrap();
                }
            }
            for (side, name) in [(live, "live"), (staged, "staged")] {
                match side {
                    Side::Absent => {}
                    Side::Old => fs::hard_link(at("old"), at(name)).unwrap(),
                    Side::New => fs::hard_link(at("new"), at(name)).unwrap(),
                    Side::Foreign => fs::write(at(name), "since").unwrap(),
                }
            }
            let aside = Aside::of(root.path(), 0);
            Self {
                _root: root,
                step,
                aside,
            }
        }
    }
}
