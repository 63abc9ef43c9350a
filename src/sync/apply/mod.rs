//! Does what a plan says.
//!
//! Every file is looked at again right before it is read and right before it is replaced: one that is
//! no longer as the plan saw it is left for the next run. A file is replaced by one rename of a whole,
//! durable copy, and what the ledger says of it is durable before that. The state learns of a step when
//! it is done; a run that is killed in between finds both sides equal next time.

mod batch;
mod copying;

use self::copying::{Copier, set_like, set_time};
use super::backup::{self, BackupError};
use super::config::SyncConfig;
use super::contents;
use super::forks;
use super::lines;
use super::manifest::{self, Ledger, Manifest, Manifests, Noted, Written};
use super::plan::{After, Copy, Op, Plan, Seen, Step};
use super::register::{Arrival, Change};
use super::rollouts;
use super::scan::{Side, Stat};
use super::state::{Journal, Last, Place, Replica, State};
use super::vouching;
use crate::codex::rollout;
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, Progress};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
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
    /// Conversations that changed here.
    pub arrivals: Vec<Arrival>,
    /// The name of the backup, where one was needed.
    pub snapshot: Option<String>,
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
        } else {
            Self::Left(format!("{e}: {}", e.source))
        }
    }
}

/// Applies a plan. `state` is the one that the plan was made from; the caller holds its lock.
///
/// # Errors
/// See [`ApplyError`].
pub fn apply(plan: &Plan, mut state: State, work: &Work<'_>) -> Result<Report, ApplyError> {
    let before = state.clone();
    let mut report = Report::default();
    atomic::create_private_folder(&work.config.cloud)?;
    let own = manifest::path_of(&work.config.cloud, &work.config.machine_id, &state.writer);
    // Known from the first sight on, whatever becomes of this run.
    let met_peers = !state.has_peers && Manifests::has_others(&work.config.cloud, &own);
    state.has_peers |= met_peers;
    if !state.exists || met_peers {
        work.replica.write(&state)?;
    }
    if work.config.backup.before_overwrite {
        report.snapshot = backup::make(plan, work)?;
    }
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
            copied: None,
        };
        let ended = run.steps(&plan.steps, &mut report);
        let synced = run.journal.sync();
        ended?;
        synced?;
    }
    finish(plan, &before, state, work)?;
    if work.config.backup.before_overwrite {
        backup::prune(work.config, work.now, report.snapshot.as_deref())?;
    }
    Ok(report)
}

/// What the run leaves for the next one and for other machines.
fn finish(
    plan: &Plan,
    before: &State,
    mut state: State,
    work: &Work<'_>,
) -> Result<(), ApplyError> {
    if !(work.go_on)() {
        return Err(ApplyError::Interrupted);
    }
    for (key, last) in &plan.adopted {
        state.files.insert(key.clone(), last.clone());
    }
    for key in &plan.forgotten {
        state.files.remove(key);
    }
    state.resolved.extend(plan.settled.iter().cloned());
    let Noted {
        mut files, earlier, ..
    } = Ledger::read(&work.replica.folder)?;
    files.extend(plan.vouched.iter().cloned());
    let earlier = vouching::for_what_is_there(&mut files, earlier, &work.config.cloud);
    vouching::for_known(&mut state, &mut files, work)?;
    let changed = !before.exists
        || state.files != before.files
        || state.resolved != before.resolved
        || state.deleted != before.deleted
        || state.has_peers != before.has_peers
        || !plan.steps.is_empty();
    if changed {
        work.replica.write(&state)?;
    }
    Ledger::compact(&work.replica.folder, &files, &earlier)?;
    publish(files, &state, work)?;
    for temp in &plan.temps {
        atomic::sweep(atomic::parent_of(temp));
    }
    Ok(())
}

/// Tells other machines what this one has written.
fn publish(
    files: BTreeMap<String, Written>,
    state: &State,
    work: &Work<'_>,
) -> Result<(), ApplyError> {
    let machine = &work.config.machine_id;
    let path = manifest::path_of(&work.config.cloud, machine, &state.writer);
    let manifest = Manifest {
        files,
        deleted: state.deleted.clone().into_iter().collect(),
        resolved: state.resolved.clone(),
    };
    if !(work.go_on)() {
        return Err(ApplyError::Interrupted);
    }
    manifest::write(&path, machine, &manifest)?;
    Ok(())
}

struct Run<'a> {
    work: &'a Work<'a>,
    copier: Copier<'a>,
    journal: Journal,
    ledger: Ledger,
    state: &'a mut State,
    /// The place of the last copy, with what was seen of its text on the way.
    copied: Option<(PathBuf, (u64, Sha256Digest))>,
}

impl Run<'_> {
    fn root(&self, side: Side) -> &Path {
        self.copier.root(side)
    }

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
        for op in &step.ops {
            self.go_on()?;
            self.op(op)?;
        }
        self.go_on()?;
        self.learn(step, report)
    }

    /// The state and the report learn of a step that is done.
    fn learn(&mut self, step: &Step, report: &mut Report) -> Result<(), Obstacle> {
        match &step.after {
            After::Both { here, there } => self.note(step, here, there)?,
            After::Deleted(digest) => {
                self.state.files.remove(&step.key);
                if let Some(digest) = digest {
                    let digest = digest.to_string();
                    self.state.deleted.insert(step.key.clone(), digest);
                }
            }
            After::Gone => {
                self.state.files.remove(&step.key);
            }
            After::Nothing => {}
        }
        let moved = step.ops.iter().any(|op| match op {
            Op::Rename { from, .. } | Op::Remove(from) => from.side == Side::Here,
            _ => false,
        });
        if let After::Both { here, .. } = &step.after
            && let Some(id) = rollouts::is_key(&step.key)
                .then(|| rollouts::id(&step.key))
                .flatten()
            && (moved || step.change != Change::Same)
        {
            report.arrivals.push(Arrival {
                id,
                path: here.clone(),
                change: step.change,
                moved,
            });
        }
        Ok(())
    }

    /// The state learns what both sides hold now. What has changed since the plan is not what was
    /// synced: the source counts as it was planned with.
    fn note(&mut self, step: &Step, here: &str, there: &str) -> Result<(), Obstacle> {
        let place = |run: &Self, side, path: &str| -> Result<Option<Place>, IoError> {
            let planned = step.ops.iter().find_map(|op| match op {
                Op::Copy(Copy { from, .. }) | Op::Rename { from, .. } if from.side == side => {
                    Some(from.stat)
                }
                _ => None,
            });
            let stat = match planned {
                Some(stat) => Some(stat),
                None => Stat::at(&run.root(side).join(path))?,
            };
            Ok(stat.map(|stat| Place {
                path: path.to_owned(),
                stat,
            }))
        };
        let (Some(here), Some(there)) = (
            place(self, Side::Here, here)?,
            place(self, Side::There, there)?,
        ) else {
            return Ok(());
        };
        // The copy just made is the surest thing to read.
        let target = step.ops.iter().find_map(|op| match op {
            Op::Copy(Copy { to, .. }) | Op::Merge { to, .. } => Some(self.root(to.0).join(&to.1)),
            _ => None,
        });
        let contents = match (target, self.copied.take()) {
            (Some(path), Some((of, seen))) if of == path => Some(seen),
            (Some(path), _) => {
                let read = contents::read(&path, None).at("read", &path)?;
                Some((read.len, read.digest))
            }
            (None, _) => {
                let known = self.state.files.get(&step.key);
                known.and_then(|last| last.contents)
            }
        };
        let last = Last {
            here,
            there,
            contents,
        };
        self.journal.note(&step.key, &last)?;
        // Written again after a deletion: it is not deleted any more.
        self.state.deleted.remove(&step.key);
        self.state.files.insert(step.key.clone(), last);
        Ok(())
    }

    fn op(&mut self, op: &Op) -> Result<(), Obstacle> {
        match op {
            Op::Copy(copy) => self.copy(copy),
            Op::Merge { versions, to, over } => self.merge(versions, to, *over),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Fork { from, name, digest } => self.fork(from, name, digest),
            Op::CopyFork { from, name } => self.copy_fork(*from, name),
            Op::DropFork { side, name } => {
                let path = self.fork_file(*side, name);
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err(IoError {
                        action: "remove",
                        path,
                        source: e,
                    }
                    .into()),
                    _ => Ok(()),
                }
            }
            Op::Remove(seen) => self.remove(seen),
        }
    }

    /// Whether the place still holds what was planned with.
    fn still_over(path: &Path, over: Option<Stat>) -> Result<(), Obstacle> {
        let taken = fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file());
        if !taken && Stat::at(path)? == over {
            Ok(())
        } else {
            Err(Obstacle::Left(format!(
                "changed meanwhile: {}",
                path.display()
            )))
        }
    }

    fn copy(&mut self, copy: &Copy) -> Result<(), Obstacle> {
        let target = self.place(&copy.to)?;
        let staged = self.copier.stage(copy, target)?;
        self.vouch(copy, &staged.written)?;
        self.put(staged.temp, &staged.target, copy.over)?;
        let text = (staged.written.size, staged.written.digest);
        self.copied = staged.is_text.then_some((staged.target, text));
        Ok(())
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

    fn merge(
        &mut self,
        versions: &[Seen],
        to: &(Side, String),
        over: Option<Stat>,
    ) -> Result<(), Obstacle> {
        let target = self.place(to)?;
        let mut paths = Vec::new();
        for version in versions {
            // A version at the place of an earlier merge of this step has all the lines already.
            match self.copier.still(version) {
                Ok(path) => paths.push(path),
                Err(_) if version.side != to.0 => {
                    paths.push(self.root(version.side).join(&version.path));
                }
                Err(left) => return Err(left),
            }
        }
        let merge = lines::merge(&paths).at("merge", &target)?;
        let mut temp = TempFile::beside(&target)?;
        merge.write(temp.file()).at("write", &target)?;
        self.work.progress.add_bytes(merge.bytes);
        let mtime_ns = versions
            .iter()
            .map(|seen| seen.stat.mtime_ns)
            .max()
            .unwrap_or(0);
        let written = Written {
            size: merge.bytes,
            mtime_ns,
            digest: contents::raw_digest(temp.path()).at("read", &target)?,
        };
        set_like(temp.file(), &target, over.map(|_| target.as_path())).at("set mode", &target)?;
        set_time(temp.file(), mtime_ns).at("set time", &target)?;
        if to.0 == Side::There {
            self.ledger.note(&to.1, &written)?;
        }
        self.put(temp, &target, over)
    }

    /// Puts a whole file in its place, when what the ledger says of it is durable.
    fn put(&mut self, temp: TempFile, target: &Path, over: Option<Stat>) -> Result<(), Obstacle> {
        self.go_on()?;
        self.ledger.sync()?;
        self.go_on()?;
        Self::still_over(target, over)?;
        temp.replace(target)?;
        Ok(())
    }

    fn rename(&mut self, from: &Seen, to: &str) -> Result<(), Obstacle> {
        let source = self.copier.still(from)?;
        let target = self.place(&(from.side, to.to_owned()))?;
        Self::still_over(&target, None)?;
        if from.side == Side::There {
            // The version is listed under its key; a machine that looks for it there finds it.
            let digest = contents::raw_digest(&source).at("read", &source)?;
            let written = Written {
                size: from.stat.size,
                mtime_ns: from.stat.mtime_ns,
                digest,
            };
            self.ledger.note(to, &written)?;
            self.ledger.sync()?;
        }
        atomic::rename(&source, &target)?;
        atomic::sync_folder(atomic::parent_of(&source))?;
        Ok(())
    }

    fn remove(&mut self, seen: &Seen) -> Result<(), Obstacle> {
        let path = match self.copier.still(seen) {
            Ok(path) => path,
            // It is gone already: as wished.
            Err(_) if !self.root(seen.side).join(&seen.path).exists() => return Ok(()),
            Err(left) => return Err(left),
        };
        fs::remove_file(&path).at("remove", &path)?;
        atomic::sync_folder(atomic::parent_of(&path))?;
        Ok(())
    }

    fn fork_file(&self, side: Side, name: &str) -> PathBuf {
        forks::folder(side, &self.work.replica.folder, &self.work.config.cloud).join(name)
    }

    fn fork(&mut self, from: &Seen, name: &str, digest: &Sha256Digest) -> Result<(), Obstacle> {
        let source = self.copier.still(from)?;
        for side in [Side::Here, Side::There] {
            self.go_on()?;
            self.keep(
                &source,
                &self.fork_file(side, name),
                digest,
                from.stat.mtime_ns,
            )?;
        }
        Ok(())
    }

    fn copy_fork(&mut self, from: Side, name: &str) -> Result<(), Obstacle> {
        let source = self.fork_file(from, name);
        let to = match from {
            Side::Here => Side::There,
            Side::There => Side::Here,
        };
        let Some(stat) = Stat::at(&source)? else {
            return Err(Obstacle::Left(format!(
                "gone meanwhile: {}",
                source.display()
            )));
        };
        let digest = contents::raw_digest(&source).at("read", &source)?;
        if !name.contains(&forks::mark(&digest)) {
            let why = format!("it is not what its name says: {}", source.display());
            return Err(Obstacle::Left(why));
        }
        self.keep(&source, &self.fork_file(to, name), &digest, stat.mtime_ns)
    }

    /// Writes the text of a version under the name of a fork, unless it is there.
    fn keep(
        &self,
        source: &Path,
        target: &Path,
        digest: &Sha256Digest,
        mtime_ns: i64,
    ) -> Result<(), Obstacle> {
        if contents::raw_digest(target).is_ok_and(|there| there == *digest) {
            return Ok(());
        }
        atomic::create_private_folder(atomic::parent_of(target))?;
        let mut temp = TempFile::beside(target)?;
        let mut reader = rollout::open_plain(source).at("open", source)?;
        let (copied, _) = self
            .copier
            .pour(&mut *reader, temp.file())
            .at("copy", source)?;
        if copied != *digest {
            return Err(Obstacle::Left(format!(
                "changed meanwhile: {}",
                source.display()
            )));
        }
        set_time(temp.file(), mtime_ns).at("set time", target)?;
        temp.replace(target)?;
        Ok(())
    }

    /// A path that may be written to, with its folders made: no link on the way leads elsewhere, but
    /// those that the owner of the home has at its top.
    fn place(&self, to: &(Side, String)) -> Result<PathBuf, Obstacle> {
        let root = self.root(to.0);
        atomic::create_private_folder(root)?;
        let mut path = root.to_path_buf();
        let mut parts = to.1.split('/').peekable();
        let mut depth = 0;
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            let owners = to.0 == Side::Here && depth == 0;
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() || (owners && path.is_dir()) => {}
                Ok(_) => {
                    let why = format!("in the way of a folder: {}", path.display());
                    return Err(Obstacle::Left(why));
                }
                Err(_) => atomic::create_private_folder(&path)?,
            }
            depth += 1;
        }
        Ok(path)
    }
}
