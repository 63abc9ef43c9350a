//! One exchange of a live path with a staged one. Inode numbers show at any time whether it is
//! done.
//!
//! No other program works in the staging folder, so the staged path is the best evidence: before
//! the exchange it has the new state, after it the old one. A missing live file proves nothing,
//! because any program may have removed it.

use super::journal_path;
use super::write_times::is_written_since;
use crate::codex::home::AUTH_JSON;
use crate::io::atomic::with_suffix;
use crate::io::exchange::exchange;
use crate::io::file_id::{FileId, look};
use crate::io::{IoContext, IoError, long_path};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One exchange of a live path with a staged one. If either is absent, it is a move. A step is an
/// element of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeStep {
    #[serde(with = "journal_path")]
    pub(super) live: PathBuf,
    #[serde(with = "journal_path")]
    pub(super) staged: PathBuf,
    live_id: Option<FileId>,
    staged_id: Option<FileId>,
    /// Set by a recovery: the files written after the kill in the side that it moves away, which it
    /// has to keep.
    #[serde(rename = "late", default, skip_serializing_if = "Option::is_none")]
    pub(super) late_writes: Option<LateWrites>,
}

/// The later writes of a side that was live until the recovery moved it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum LateWrites {
    /// Changed files inside the folder.
    #[serde(rename = "within")]
    FilesInside,
    #[serde(rename = "whole")]
    /// The whole file or folder, because it was created after the kill, or is a file that was
    /// written after it.
    WholeEntry,
}

/// The progress of a step, judged by the inodes at its paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepStatus {
    /// Still to do: the staged path has the new state.
    Pending,
    /// Killed between the renames of an exchange: a backup exists.
    Interrupted,
    /// The new state is in place, or was and has been replaced since.
    Done,
    /// Nothing to do in either direction.
    NotNeeded,
    /// The staged file is gone, but not in place.
    Lost,
    /// The inodes at both paths are neither the old nor the new ones.
    Unknown,
}

/// The state that a recovery leads to: back to the old one, or forward to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Back,
    Forward,
}

/// The inode found at a path, compared with those in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryIdentity {
    Absent,
    Old,
    New,
    Foreign,
}

/// The paths, in a staging folder, that keep the live file during an exchange by renames. The
/// file's name shows whether the live path existed throughout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backup {
    /// A hard link to the live file. The live path existed throughout.
    pub(super) linked: PathBuf,
    /// The moved live file. The live path was missing for a moment.
    pub(super) moved: PathBuf,
}

impl Backup {
    /// Returns the backup paths of step `number` in `folder`.
    pub(super) fn of(folder: &Path, number: usize) -> Self {
        let base = folder.join(number.to_string());
        Self {
            linked: with_suffix(&base, ".linked"),
            moved: with_suffix(&base, ".moved"),
        }
    }

    /// Returns the backup that exists.
    fn existing(&self) -> Result<Option<&Path>, IoError> {
        for path in [&self.linked, &self.moved] {
            if look(path)?.is_some() {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

impl ExchangeStep {
    /// Records the step that exchanges the current files at `live` and `staged`.
    pub fn new(live: PathBuf, staged: PathBuf) -> Self {
        let id_of = |path: &Path| FileId::note(path).ok().flatten();
        let (live_id, staged_id) = (id_of(&live), id_of(&staged));
        Self {
            live,
            staged,
            live_id,
            staged_id,
            late_writes: None,
        }
    }

    /// Returns true if the step changes the live path `live`.
    pub fn is_for(&self, live: &Path) -> bool {
        self.live == live
    }

    /// Returns true if both paths are one file, so that there is nothing to exchange.
    pub(super) fn is_same_file(&self) -> bool {
        let both = self.live_id.zip(self.staged_id);
        both.is_some_and(|(live, staged)| live.is(staged))
    }

    /// Returns the live and the staged path of the login, if this step exchanges the login
    /// `auth_json`.
    pub(super) fn login_paths(&self, auth_json: &Path) -> Option<(PathBuf, PathBuf)> {
        if self.live == auth_json {
            return Some((self.live.clone(), self.staged.clone()));
        }
        let is_home = Some(self.live.as_path()) == auth_json.parent();
        is_home.then(|| (self.live.join(AUTH_JSON), self.staged.join(AUTH_JSON)))
    }

    /// Reads the inodes at the paths and returns the status.
    pub(super) fn status(&self, backup: &Backup) -> Result<StepStatus, IoError> {
        let identity = |path: &Path| {
            Ok(match look(path)? {
                None => EntryIdentity::Absent,
                Some((id, _)) if self.staged_id.is_some_and(|new| new.is(id)) => EntryIdentity::New,
                Some((id, _)) if self.live_id.is_some_and(|old| old.is(id)) => EntryIdentity::Old,
                Some(_) => EntryIdentity::Foreign,
            })
        };
        if backup.existing()?.is_some() {
            return Ok(StepStatus::Interrupted);
        }
        Ok(self.status_of(identity(&self.live)?, identity(&self.staged)?))
    }

    /// Returns the status for the inodes at the two paths, if there is no backup.
    fn status_of(&self, live: EntryIdentity, staged: EntryIdentity) -> StepStatus {
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) => match (staged, live) {
                (EntryIdentity::New, _) | (EntryIdentity::Foreign, EntryIdentity::Old) => {
                    StepStatus::Pending
                }
                (EntryIdentity::Absent, EntryIdentity::Old) => StepStatus::Lost,
                // Codex may have replaced the live file since, and the replaced file may have been
                // removed.
                (EntryIdentity::Old | EntryIdentity::Absent, _)
                | (EntryIdentity::Foreign, EntryIdentity::New) => StepStatus::Done,
                (EntryIdentity::Foreign, EntryIdentity::Absent | EntryIdentity::Foreign) => {
                    StepStatus::Unknown
                }
            },
            (None, Some(_)) if staged == EntryIdentity::Absent => StepStatus::Done,
            (None, Some(_)) => StepStatus::Pending,
            (Some(_), None) if staged != EntryIdentity::Absent => StepStatus::Done,
            (Some(_), None) if live != EntryIdentity::Absent => StepStatus::Pending,
            (Some(_) | None, None) => StepStatus::NotNeeded,
        }
    }

    /// Exchanges the two paths if the step is pending.
    pub(super) fn apply(&self, backup: &Backup) -> Result<(), IoError> {
        if self.status(backup)? != StepStatus::Pending {
            return Ok(());
        }
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if exists(&self.live)? => {
                exchange_names(&self.live, &self.staged, backup)
            }
            // Another program has removed the live file.
            (_, Some(_)) => move_to_free_name(&self.staged, &self.live),
            (_, None) => move_to_free_name(&self.live, &self.staged),
        }
    }

    /// Exchanges the two paths back if the step is done.
    pub(super) fn undo(&self, backup: &Backup) -> Result<(), IoError> {
        if self.status(backup)? != StepStatus::Done {
            return Ok(());
        }
        let (live, staged) = (exists(&self.live)?, exists(&self.staged)?);
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if live && staged => {
                exchange_names(&self.live, &self.staged, backup)
            }
            (Some(_), _) if staged => move_to_free_name(&self.staged, &self.live),
            (None, Some(_)) if live => move_to_free_name(&self.live, &self.staged),
            // The old or the new file is gone, so nothing can be moved back.
            _ => Ok(()),
        }
    }

    /// Returns true if the old state still exists, or if there was none.
    pub(super) fn can_be_undone(&self) -> Result<bool, IoError> {
        Ok(self.live_id.is_none() || exists(&self.staged)?)
    }

    /// Completes or reverts an exchange that was killed between its renames, so that the step is
    /// done or pending. A live file that existed throughout stays live, and so does a login. `save`
    /// saves a login whose backup is removed. If another program has created a file at the live
    /// path, it is moved aside, and its new path is returned.
    pub(super) fn resolve_interrupted(
        &self,
        backup: &Backup,
        is_login: bool,
        save: impl FnOnce(&Path) -> Result<(), IoError>,
    ) -> Result<Option<PathBuf>, IoError> {
        let Some(path) = backup.existing()? else {
            return Ok(None);
        };
        let live = look(&self.live)?;
        let backed_up = look(path)?;
        let is_link_to_live = backed_up
            .zip(live.as_ref())
            .is_some_and(|((kept, _), (live, _))| kept.is(*live));
        if is_link_to_live {
            // This is right for every content of the staged path.
            remove_file(path)?;
            return Ok(None);
        }
        if !exists(&self.staged)? {
            rename(path, &self.staged).at("rename", path)?;
            return Ok(None);
        }
        if path == backup.moved && (live.is_none() || !is_login) {
            let moved_to = free_live_name(&self.live)?;
            rename(path, &self.live).at("rename", path)?;
            return Ok(moved_to);
        }
        if is_login {
            save(path)?;
        }
        remove_file(path)?;
        Ok(None)
    }

    /// Renames a backup of an older version, beside the staged path, to its name in this version.
    pub(super) fn adopt_legacy_backup(&self, backup: &Backup) -> Result<(), IoError> {
        let legacy = with_suffix(&self.staged, ".aside");
        let Some((id, meta)) = look(&legacy)? else {
            return Ok(());
        };
        let known_ids = [self.live_id, self.staged_id];
        // The user may have a file with this name.
        if !known_ids.iter().flatten().any(|known| known.is(id)) {
            return Ok(());
        }
        let is_link_to_live = look(&self.live)?.is_some_and(|(live, _)| live.is(id));
        let is_linked = !meta.is_dir() && is_link_to_live;
        let name = if is_linked {
            &backup.linked
        } else {
            &backup.moved
        };
        rename(&legacy, name).at("rename", &legacy)
    }

    /// Frees the path that this step moves a file to, if another program has created a file there
    /// since. Returns the path that this file was moved to.
    pub(super) fn free_target_name(
        &self,
        direction: Direction,
    ) -> Result<Option<PathBuf>, IoError> {
        let must_be_free = match direction {
            Direction::Forward => self.live_id.is_none(),
            Direction::Back => self.staged_id.is_none(),
        };
        if must_be_free {
            free_live_name(&self.live)
        } else {
            Ok(None)
        }
    }

    /// Prepares the step for a second exchange: sets `late_writes` if the live file is another one
    /// than recorded or was written after `since_ns`, and records the current inodes of both paths.
    pub(super) fn record_again(
        &mut self,
        direction: Direction,
        since_ns: i64,
    ) -> Result<(), IoError> {
        let expected = match direction {
            Direction::Forward => self.live_id,
            Direction::Back => self.staged_id,
        };
        let late_writes = look(&self.live)?.and_then(|(id, meta)| {
            if !expected.is_some_and(|expected| expected.is(id)) {
                Some(LateWrites::WholeEntry)
            } else if meta.is_dir() {
                Some(LateWrites::FilesInside)
            } else {
                is_written_since(&meta, since_ns).then_some(LateWrites::WholeEntry)
            }
        });
        self.late_writes = self.late_writes.max(late_writes);
        let (live, staged) = (FileId::note(&self.live)?, FileId::note(&self.staged)?);
        (self.live_id, self.staged_id) = match direction {
            Direction::Forward => (live, staged),
            Direction::Back => (staged, live),
        };
        Ok(())
    }
}

fn exists(path: &Path) -> Result<bool, IoError> {
    Ok(look(path)?.is_some())
}

/// Moves the file at `live` to a free name beside it, and returns that.
fn free_live_name(live: &Path) -> Result<Option<PathBuf>, IoError> {
    if exists(live)? {
        move_beside(live, live).map(Some)
    } else {
        Ok(None)
    }
}

/// Moves the file at `from` to the first free `NAME.found-after-restore-N` beside `live`, and
/// returns that.
pub(super) fn move_beside(from: &Path, live: &Path) -> Result<PathBuf, IoError> {
    let names = (1..).map(|n| with_suffix(live, &format!(".found-after-restore-{n}")));
    for name in names {
        if !exists(&name)? {
            rename(from, &name).at("move", from)?;
            return Ok(name);
        }
    }
    unreachable!("the names have no end")
}

/// Exchanges two paths; with three renames if the system has no call for it. After a kill between
/// these, [`ExchangeStep::resolve_interrupted`] continues.
fn exchange_names(live: &Path, staged: &Path, backup: &Backup) -> Result<(), IoError> {
    match exchange_in_one_call(live, staged) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
        other => return other.at("exchange", live),
    }
    let is_file = long_path::with(live, Path::symlink_metadata).is_ok_and(|m| !m.is_dir());
    let link = |live: &Path, linked: &Path| fs::hard_link(live, linked);
    if is_file && long_path::with_both(live, &backup.linked, link).is_ok() {
        // One rename replaces a file, so the live path is never missing.
        if let Err(e) = rename(staged, live) {
            #[cfg(test)]
            tests::fail_if_killed()?;
            let _ = remove_file(&backup.linked);
            return Err(e).at("replace", live);
        }
        return rename(&backup.linked, staged).at("rename", &backup.linked);
    }
    rename(live, &backup.moved).at("rename", live)?;
    if let Err(e) = rename(staged, live) {
        let _ = rename(&backup.moved, live);
        return Err(e).at("rename", staged);
    }
    rename(&backup.moved, staged).at("rename", &backup.moved)
}

fn remove_file(path: &Path) -> Result<(), IoError> {
    long_path::with(path, |path| fs::remove_file(path)).at("remove", path)
}

/// Renames to a path that must be free.
fn move_to_free_name(from: &Path, to: &Path) -> Result<(), IoError> {
    if exists(to)? {
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
        /// The renames left before this thread counts as killed; `None` allows calls that exchange.
        static RENAMES_LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `work` without calls that exchange, and fails every rename after the first `renames`.
    /// Returns true if it was stopped.
    pub(in super::super) fn killed_after_renames(renames: usize, work: impl FnOnce()) -> bool {
        RENAMES_LEFT.set(Some(renames));
        work();
        RENAMES_LEFT.replace(None) == Some(0)
    }

    pub(super) fn before_rename() -> io::Result<()> {
        match RENAMES_LEFT.get() {
            None => Ok(()),
            Some(0) => Err(io::Error::other("killed")),
            Some(left) => {
                RENAMES_LEFT.set(Some(left - 1));
                Ok(())
            }
        }
    }

    /// Fails after a simulated kill, so that no cleanup runs.
    pub(super) fn fail_if_killed() -> Result<(), IoError> {
        match RENAMES_LEFT.get() {
            Some(0) => Err(io::Error::other("killed")).at("clean up", Path::new("aside")),
            _ => Ok(()),
        }
    }

    pub(super) fn before_exchange() -> io::Result<()> {
        match RENAMES_LEFT.get() {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    #[test]
    fn the_inodes_at_both_paths_determine_the_status() {
        use StepStatus::{Done, Lost, NotNeeded, Pending, Unknown};
        const IDENTITIES: [EntryIdentity; 4] = [
            EntryIdentity::Absent,
            EntryIdentity::Old,
            EntryIdentity::New,
            EntryIdentity::Foreign,
        ];
        // For each staged identity, the results for the four live ones in the order of
        // `IDENTITIES`.
        let replace = [
            [Done, Lost, Done, Done],
            [Done, Done, Done, Done],
            [Pending, Pending, Pending, Pending],
            [Unknown, Pending, Done, Unknown],
        ];
        let add = [[Done; 4], [Pending; 4], [Pending; 4], [Pending; 4]];
        let remove = [
            [NotNeeded, Pending, Pending, Pending],
            [Done; 4],
            [Done; 4],
            [Done; 4],
        ];
        for (has_old, has_new, expected) in [
            (true, true, replace),
            (false, true, add),
            (true, false, remove),
            (false, false, [[NotNeeded; 4]; 4]),
        ] {
            for (row, staged) in IDENTITIES.into_iter().enumerate() {
                for (column, live) in IDENTITIES.into_iter().enumerate() {
                    let impossible = |side| match side {
                        EntryIdentity::Old => !has_old,
                        EntryIdentity::New => !has_new,
                        EntryIdentity::Absent | EntryIdentity::Foreign => false,
                    };
                    let is_twice =
                        live == staged && matches!(live, EntryIdentity::Old | EntryIdentity::New);
                    if impossible(live) || impossible(staged) || is_twice {
                        continue;
                    }
                    let context = format!("{has_old} {has_new}: live {live:?}, staged {staged:?}");
                    let fixture = StepFixture::new(has_old, has_new, live, staged);
                    let status = fixture.step.status(&fixture.backup).unwrap();
                    assert_eq!(status, expected[row][column], "{context}");
                    // Any backup means that the step was interrupted.
                    for backup in [&fixture.backup.linked, &fixture.backup.moved] {
                        fs::write(backup, "aside").unwrap();
                        let status = fixture.step.status(&fixture.backup).unwrap();
                        assert_eq!(status, StepStatus::Interrupted, "{context}");
                        fs::remove_file(backup).unwrap();
                    }
                }
            }
        }
    }

    /// Columns: the backup was moved, the path is a login, live before, staged before; and the
    /// expected live file, staged file and file beside the live path.
    #[test]
    fn an_interrupted_exchange_is_resolved_by_the_files_at_its_paths() {
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
            let fixture = StepFixture::new(true, true, EntryIdentity::Old, EntryIdentity::New);
            let (backup, step) = (&fixture.backup, &fixture.step);
            let place = if is_moved {
                &backup.moved
            } else {
                &backup.linked
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
            let left = step.resolve_interrupted(backup, is_login, |_| {
                saved.set(true);
                Ok(())
            });
            let left = left.unwrap();
            let text = |path: &Path| fs::read_to_string(path).unwrap_or_else(|_| "-".into());
            let left = left.map_or_else(|| "-".into(), |path| text(&path));
            let existing = format!("{} {} {left}", text(&step.live), text(&step.staged));
            let context = format!("moved {is_moved}, login {is_login}: {live} {staged}");
            assert_eq!(existing, expected, "{context}");
            assert!(backup.existing().unwrap().is_none(), "{context}");
            let is_dropped = is_login && live == "since" && staged == "new";
            assert_eq!(saved.get(), is_dropped, "{context}");
        }
    }

    /// A step, and the files that are at its paths later.
    struct StepFixture {
        _root: tempfile::TempDir,
        step: ExchangeStep,
        backup: Backup,
    }

    impl StepFixture {
        fn new(has_old: bool, has_new: bool, live: EntryIdentity, staged: EntryIdentity) -> Self {
            let root = tempfile::tempdir().unwrap();
            let at = |name: &str| root.path().join(name);
            for (exists, name, text) in [(has_old, "live", "old"), (has_new, "staged", "new")] {
                if exists {
                    fs::write(at(name), text).unwrap();
                }
            }
            let step = ExchangeStep::new(at("live"), at("staged"));
            // Both stay open under another name, so that no new file gets their inode numbers.
            for (exists, name, kept) in [(has_old, "live", "old"), (has_new, "staged", "new")] {
                if exists {
                    fs::rename(at(name), at(kept)).unwrap();
                }
            }
            for (side, name) in [(live, "live"), (staged, "staged")] {
                match side {
                    EntryIdentity::Absent => {}
                    EntryIdentity::Old => fs::hard_link(at("old"), at(name)).unwrap(),
                    EntryIdentity::New => fs::hard_link(at("new"), at(name)).unwrap(),
                    EntryIdentity::Foreign => fs::write(at(name), "since").unwrap(),
                }
            }
            let backup = Backup::of(root.path(), 0);
            Self {
                _root: root,
                step,
                backup,
            }
        }
    }
}
