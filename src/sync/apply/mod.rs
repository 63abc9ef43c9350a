//! Does what a plan says.
//!
//! Every file is looked at again right before it is read and right before it is replaced: one that is
//! no longer as the plan saw it is left for the next run. A file is replaced by one rename of a whole,
//! durable copy, and what the ledger says of it is durable before that. The state learns of a step when
//! it is done; a run that is killed in between finds both sides equal next time.

mod batch;
mod cloud;
pub(super) mod copying;
mod forks;
mod telling;

use self::copying::{Copier, Placed, Staged, set_like};
use super::arrivals::{self, Arrivals};
use super::backup::{self, BackupError, Kept};
use super::config::SyncConfig;
use super::contents;
use super::identity;
use super::ledger::Ledger;
use super::lines;
use super::manifest::Written;
use super::plan::{After, Copy, MergeTo, Op, Plan, PlanError, Seen, Standing, Step};
use super::register::{Arrival, Change};
use super::rollouts;
use super::scan::{Side, Stat};
use super::state::{Journal, Last, Place, Replica, State};
use super::travel;
use crate::history::session_index;
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, Progress, tree};
use chrono::{DateTime, Utc};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why applying ended early. What the report would have held is in place and known to the state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The user stopped it, between two files.
    #[error("interrupted")]
    Interrupted,
    /// The file system refused something without which nothing can go on.
    #[error(transparent)]
    Io(#[from] IoError),
    /// What would be overwritten could not be kept first; nothing was changed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The cloud folder is not there any more, or not the one that it was.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// It ended when what would be overwritten had been kept.
    #[error("{cause}")]
    Stopped {
        /// The name of the snapshot.
        snapshot: String,
        /// Why.
        cause: Box<ApplyError>,
    },
}

/// What applying is given.
pub struct Work<'a> {
    /// The configuration.
    pub config: &'a SyncConfig,
    /// The pair's state.
    pub replica: &'a Replica,
    /// Asked before every single change of a file; `false` ends the run there.
    pub go_on: &'a dyn Fn() -> bool,
    /// Told of bytes as they are written.
    pub progress: &'a dyn Progress,
    /// Names the backup.
    pub now: DateTime<Utc>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Report {
    /// Which steps of the plan, by index.
    pub done: Vec<usize>,
    /// Steps that were left for the next run, and why.
    pub skipped: Vec<(String, String)>,
    /// Conversations that changed here. They are noted in [`Arrivals`] until the caller has made them
    /// known.
    pub arrivals: Vec<Arrival>,
    /// The name of the backup, where one was needed.
    pub snapshot: Option<String>,
    /// Old snapshots that were removed, by name.
    pub pruned: Vec<String>,
    /// Why old snapshots were left; the sync itself is done.
    pub not_pruned: Option<BackupError>,
}

impl Report {
    /// Takes what became of a step.
    fn take(
        &mut self,
        index: usize,
        step: &Step,
        result: Result<(), Obstacle>,
    ) -> Result<(), ApplyError> {
        match result {
            Ok(()) => self.done.push(index),
            Err(Obstacle::Left(why)) => self.skipped.push((step.path.clone(), why)),
            Err(Obstacle::Fatal(error)) => return Err(error),
        }
        Ok(())
    }
}

/// Why an op was not done.
enum Obstacle {
    /// The file is no longer as it was planned with, or cannot be used.
    Left(String),
    /// Nothing can go on.
    Fatal(ApplyError),
}

impl From<ApplyError> for Obstacle {
    fn from(e: ApplyError) -> Self {
        Self::Fatal(e)
    }
}

impl From<IoError> for Obstacle {
    fn from(e: IoError) -> Self {
        if e.is_no_space() || e.source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Self::Fatal(e.into())
        } else if e.is_not_found() {
            // A cloud client removes files at any moment.
            Self::Left(format!("removed meanwhile: {}", e.path.display()))
        } else {
            Self::Left(format!("{e}: {}", e.source))
        }
    }
}

/// What is said of a file that is no longer as it was planned with.
fn changed(path: &Path) -> Obstacle {
    Obstacle::Left(format!("changed meanwhile: {}", path.display()))
}

/// Gives a durable file its name in a place that was planned as empty: what a client puts there at the
/// last moment is in no backup.
fn name_new(file: TempFile, target: &Path) -> Result<(), Obstacle> {
    file.publish_unsynced(target)
        .map_err(|e| match e.source.kind() {
            io::ErrorKind::AlreadyExists => changed(target),
            _ => e.into(),
        })
}

/// Applies a plan. `state` is the one that the plan was made from; the caller holds its lock.
///
/// # Errors
/// See [`ApplyError`]; one that comes after something was kept is [`ApplyError::Stopped`].
pub fn apply(plan: &Plan, state: State, work: &Work<'_>) -> Result<Report, ApplyError> {
    let mut report = Report::default();
    match steps_of(plan, state, work, &mut report) {
        Ok(()) => Ok(report),
        Err(cause) => Err(match report.snapshot {
            Some(snapshot) => ApplyError::Stopped {
                snapshot,
                cause: Box::new(cause),
            },
            None => cause,
        }),
    }
}

fn steps_of(
    plan: &Plan,
    mut state: State,
    work: &Work<'_>,
    report: &mut Report,
) -> Result<(), ApplyError> {
    let before = state.clone();
    cloud::make(plan, &state, &work.config.cloud)?;
    cloud::still_there(plan, &work.config.cloud)?;
    // Known from the first sight on, whatever becomes of this run.
    let met_peers = !state.has_peers && identity::has_others(work.config, &state);
    state.has_peers |= met_peers;
    if state.must_be_written || met_peers {
        work.replica.write(&mut state)?;
    }
    let mut unkept = Vec::new();
    if work.config.backup.before_overwrite {
        let made = backup::make(plan, work)?;
        (report.snapshot, unkept) = (made.name, made.left);
    }
    telling::announce(plan, &mut state, work)?;
    let coming: Vec<_> = plan.steps.iter().filter_map(arrival_of).collect();
    Arrivals::of(work.replica).note(&coming)?;
    {
        let mut run = Run {
            work,
            copier: Copier {
                config: work.config,
                progress: work.progress,
            },
            journal: work.replica.journal()?,
            ledger: Ledger::open(&work.replica.folder)?,
            state: &mut state,
            unkept,
            plan,
            placed: Vec::new(),
        };
        let ended = run.steps(&plan.steps, report);
        let synced = run.journal.sync();
        ended?;
        synced?;
    }
    telling::finish(plan, report, &before, state, work)?;
    if work.config.backup.before_overwrite {
        match backup::prune(work.config, work.now, report.snapshot.as_deref()) {
            Ok(pruned) => report.pruned = pruned,
            Err(error) => report.not_pruned = Some(error),
        }
    }
    Ok(())
}

/// What a step changes of a conversation here.
fn arrival_of(step: &Step) -> Option<Arrival> {
    let After::Both { here, .. } = &step.after else {
        return None;
    };
    if !rollouts::is_key(&step.key) {
        return None;
    }
    let moved = step.ops.iter().any(|op| match op {
        Op::Rename { from, .. } | Op::Remove(from) => from.side == Side::Here,
        _ => false,
    });
    let is_one = moved || step.change != Change::Same;
    is_one
        .then(|| rollouts::id(&step.key))
        .flatten()
        .map(|id| Arrival {
            id,
            path: here.path.clone(),
            change: step.change,
            moved,
        })
}

struct Run<'a> {
    work: &'a Work<'a>,
    copier: Copier<'a>,
    journal: Journal,
    ledger: Ledger,
    state: &'a mut State,
    /// What is in no snapshot, and why: nothing takes its place.
    unkept: Vec<(Kept, String)>,
    plan: &'a Plan,
    /// What the step under way has put into its places.
    placed: Vec<Placed>,
}

impl Run<'_> {
    fn go_on(&self) -> Result<(), ApplyError> {
        if (self.work.go_on)() {
            Ok(())
        } else {
            Err(ApplyError::Interrupted)
        }
    }

    fn steps(&mut self, steps: &[Step], report: &mut Report) -> Result<(), ApplyError> {
        let mut index = 0;
        while let Some(step) = steps.get(index) {
            let together = batch::beginning(&steps[index..]);
            if together.is_empty() {
                let result = self.step(step, report);
                if result.is_err() {
                    self.call_off(step);
                }
                report.take(index, step, result)?;
                index += 1;
            } else {
                self.batch(index, together, report)?;
                index += together.len();
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, report: &mut Report) -> Result<(), Obstacle> {
        self.placed.clear();
        for seen in step.ops.iter().flat_map(Op::victims) {
            let is_it =
                |kept: &Kept| kept.cloud == (seen.side == Side::There) && kept.path == seen.path;
            if let Some((_, why)) = self.unkept.iter().find(|(kept, _)| is_it(kept)) {
                let path = self.work.config.place(seen.side, &seen.path);
                return Err(Obstacle::Left(format!("{why}: {}", path.display())));
            }
        }
        self.note_overtaken(step)?;
        for op in &step.ops {
            self.go_on()?;
            self.op(op)?;
        }
        self.go_on()?;
        self.learn(step, report)
    }

    /// A file that could not be deleted is not called deleted. Should that not be written down, the file is
    /// compared anew, and what is found ends it.
    fn call_off(&mut self, step: &Step) {
        if matches!(step.after, After::Deleted(_)) {
            self.state.deleted.remove(&step.key);
        }
    }

    /// Notes that the deletions of a file are over before it is in the cloud folder again, durably when
    /// the journal is: once both sides have it, nobody would think of them any more.
    fn note_overtaken(&mut self, step: &Step) -> Result<(), IoError> {
        let ids = self.plan.overtaken.get(&step.key).into_iter().flatten();
        for id in ids.clone() {
            self.journal.resolved(id)?;
        }
        self.state.resolved.extend(ids.clone().cloned());
        if ids.count() > 0 {
            self.journal.sync()?;
        }
        Ok(())
    }

    /// The state and the report learn of a step that is done.
    fn learn(&mut self, step: &Step, report: &mut Report) -> Result<(), Obstacle> {
        match &step.after {
            After::Both { here, there } => self.note(step, here, there)?,
            After::Deleted(_) | After::Gone => {
                self.journal.gone(&step.key)?;
                self.state.files.remove(&step.key);
            }
            After::Nothing => {}
        }
        report.arrivals.extend(arrival_of(step));
        Ok(())
    }

    /// The state learns what both sides hold now. What has changed since the plan is not what was
    /// synced: what the step has not put into its place counts as it was planned with.
    fn note(&mut self, step: &Step, here: &Standing, there: &Standing) -> Result<(), Obstacle> {
        let place = |side, standing: &Standing| {
            let mut placed = self.placed.iter();
            let placed =
                placed.find(|placed| (placed.to.0, &placed.to.1) == (side, &standing.path));
            let stat = placed.map(|placed| placed.stat).or(standing.stat)?;
            Some(Place {
                path: standing.path.clone(),
                stat,
            })
        };
        let (Some(here), Some(there)) = (place(Side::Here, here), place(Side::There, there)) else {
            return Ok(());
        };
        let known = || {
            let last = self.state.files.get(&step.key)?;
            // Of what is another text on both sides than at the last sync nothing is known.
            let is_it = last.here.stat == here.stat || last.there.stat == there.stat;
            last.contents.filter(|_| is_it)
        };
        let contents = self.placed.first().map_or_else(known, |placed| placed.text);
        let last = Last {
            here,
            there,
            contents,
        };
        let history = step.ops.iter().find_map(|op| match op {
            Op::Copy(copy) => copy.history.as_deref(),
            _ => None,
        });
        self.journal.note(&step.key, &last, history)?;
        if let Some(history) = history {
            let key = step.key.clone();
            self.state.histories.insert(key, history.clone());
        }
        // Written again after a deletion: it is not deleted any more.
        self.state.deleted.remove(&step.key);
        self.state.files.insert(step.key.clone(), last);
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<(), Obstacle> {
        match op {
            Op::Copy(copy) => self.copy(copy),
            Op::Merge {
                versions,
                to,
                is_one_text,
            } => self.merge(versions, to, *is_one_text),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Fork { from, name, digest } => self.fork(from, name, digest),
            Op::CopyFork { from, name } => self.copy_fork(*from, name),
            Op::DropFork { side, name } => self.drop_fork(*side, name),
            Op::Remove(seen) => self.remove(seen),
        }
    }

    /// Whether the place still holds what was planned with.
    fn still_over(path: &Path, over: Option<Stat>) -> Result<(), Obstacle> {
        let taken = fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file());
        if !taken && Stat::at(path)? == over {
            Ok(())
        } else {
            Err(changed(path))
        }
    }

    fn copy(&mut self, copy: &Copy) -> Result<(), Obstacle> {
        let target = self.place(&copy.to)?;
        let staged = self.copier.stage(copy, target)?;
        self.vouch(copy, &staged.written)?;
        self.note_names(&staged)?;
        self.put(staged, copy.over)
    }

    /// Notes which conversations get other names by a file that is about to come here.
    fn note_names(&self, staged: &Staged) -> Result<(), IoError> {
        let (side, path) = &staged.placed.to;
        if *side == Side::There || path != session_index::FILE_NAME {
            return Ok(());
        }
        let ids = arrivals::renamed(&staged.target, staged.temp.path())?;
        Arrivals::of(self.work.replica).note_named(ids)
    }

    /// Notes in the ledger what is about to be copied.
    fn vouch(&mut self, copy: &Copy, written: &Written) -> Result<(), IoError> {
        if copy.from.side == Side::There {
            if copy.expect.is_none() {
                // Nobody vouched for it: from now on this machine does.
                self.ledger.note(&copy.from.path, written)?;
            }
            if copy.to.0 == Side::Here {
                self.ledger.note_taken(&copy.from.path, written)?;
            }
        }
        if copy.to.0 == Side::There {
            self.ledger.note(&copy.to.1, written)?;
        }
        Ok(())
    }

    /// The lines must be those that the plan was made with: a version that a client cut meanwhile is left
    /// for the next run, and so are the others.
    fn merge(
        &mut self,
        versions: &[(Seen, Sha256Digest)],
        to: &[MergeTo],
        is_one_text: bool,
    ) -> Result<(), Obstacle> {
        let still = |run: &Self| {
            let each = versions.iter().map(|(seen, _)| run.copier.still(seen));
            each.collect::<Result<Vec<_>, _>>()
        };
        let paths = still(self)?;
        let merge = lines::merge(&paths)?;
        for ((_, planned), (path, read)) in versions.iter().zip(paths.iter().zip(&merge.digests)) {
            if planned != read {
                return Err(changed(path));
            }
        }
        let times = versions.iter().map(|(seen, _)| seen.stat.mtime_ns);
        let mtime_ns = times.max().unwrap_or(0);
        let mut staged = Vec::new();
        for MergeTo { place, over, first } in to {
            let target = self.place(place)?;
            let mut temp = self.copier.temp(place.0, &target)?;
            merge.write(*first, temp.file()).at("merge", &target)?;
            let size = merge.bytes_from(*first);
            self.work.progress.add_bytes(size);
            let written = Written {
                size,
                mtime_ns,
                digest: contents::raw_digest(temp.path()).at("read", &target)?,
                history: None,
            };
            let like = over.map(|_| target.as_path());
            set_like(temp.file(), &target, like).at("set mode", &target)?;
            let text = is_one_text.then_some((written.size, written.digest));
            staged.push(Staged::new(temp, target, place.clone(), written, text)?);
        }
        still(self)?;
        for (staged, MergeTo { place, over, .. }) in staged.into_iter().zip(to) {
            if place.0 == Side::There {
                self.ledger.note(&place.1, &staged.written)?;
            }
            self.note_names(&staged)?;
            self.put(staged, *over)?;
        }
        Ok(())
    }

    /// Puts a whole file in its place, when what the ledger says of it is durable.
    fn put(&mut self, staged: Staged, over: Option<Stat>) -> Result<(), Obstacle> {
        self.go_on()?;
        self.ledger.sync()?;
        self.go_on()?;
        staged.temp.sync()?;
        if over.is_some() {
            // Making it durable may have taken long.
            Self::still_over(&staged.target, over)?;
            staged.temp.replace_synced(&staged.target)?;
        } else {
            name_new(staged.temp, &staged.target)?;
            atomic::sync_folder(atomic::parent_of(&staged.target))?;
        }
        self.placed.push(staged.placed);
        Ok(())
    }

    fn rename(&mut self, from: &Seen, to: &str) -> Result<(), Obstacle> {
        let source = self.copier.still(from)?;
        let to = (from.side, to.to_owned());
        let target = self.place(&to)?;
        Self::still_over(&target, None)?;
        if from.side == Side::There {
            // The version is listed under its key; a machine that looks for it there finds it.
            let digest = contents::raw_digest(&source).at("read", &source)?;
            let written = Written {
                size: from.stat.size,
                mtime_ns: from.stat.mtime_ns,
                digest,
                history: None,
            };
            self.copier.still(from)?;
            self.ledger.note(&to.1, &written)?;
            self.ledger.sync()?;
        }
        match atomic::rename_new(&source, &target) {
            Err(e) if e.source.kind() == io::ErrorKind::CrossesDevices => {
                self.carry(from, to, target)
            }
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => Err(changed(&target)),
            renamed => {
                renamed?;
                atomic::sync_folder(atomic::parent_of(&source))?;
                Ok(())
            }
        }
    }

    /// A rename to another disk: one of the two folders of conversations may be a link or a mount. A
    /// run that is killed in between leaves two files of one conversation.
    fn carry(&mut self, from: &Seen, to: (Side, String), target: PathBuf) -> Result<(), Obstacle> {
        let copy = Copy {
            from: from.clone(),
            to,
            over: None,
            mtime_ns: from.stat.mtime_ns,
            expect: None,
            history: None,
        };
        let staged = self.copier.stage(&copy, target)?;
        self.put(staged, None)?;
        self.remove(from)
    }

    fn remove(&mut self, seen: &Seen) -> Result<(), Obstacle> {
        let path = match self.copier.still(seen) {
            Ok(path) => path,
            // It is gone already: as wished.
            Err(_) if !self.work.config.place(seen.side, &seen.path).exists() => return Ok(()),
            Err(left) => return Err(left),
        };
        fs::remove_file(&path).at("remove", &path)?;
        atomic::sync_folder(atomic::parent_of(&path))?;
        Ok(())
    }

    /// A path that may be written to, with its folders made: no link on the way leads elsewhere, but
    /// those that the owner of the home has at its top.
    fn place(&self, to: &(Side, String)) -> Result<PathBuf, Obstacle> {
        let config = self.work.config;
        let root = config.root(to.0);
        if to.0 == Side::Here {
            atomic::create_durable_folder(root)?;
        } else {
            cloud::looks_there(self.plan, root).map_err(ApplyError::from)?;
        }
        for (end, _) in to.1.match_indices('/') {
            let relative = &to.1[..end];
            let folder = root.join(relative);
            let leads = || {
                let owners = to.0 == Side::Here && travel::is_followed(relative, &config.roots);
                owners && folder.is_dir()
            };
            match fs::symlink_metadata(&folder) {
                Ok(meta) if meta.is_dir() || leads() => {}
                Ok(_) => {
                    let why = format!("in the way of a folder: {}", folder.display());
                    return Err(Obstacle::Left(why));
                }
                Err(_) => atomic::create_durable_below(root, &folder)?,
            }
        }
        let place = config.place(to.0, &to.1);
        if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_dir()) {
            // One with files in it stays, and is in the way.
            tree::remove_hollow(&place);
        }
        Ok(place)
    }
}
