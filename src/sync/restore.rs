//! Puts a snapshot of a sync back: into the Codex home, or into the cloud folder.

use super::apply::copying::set_time;
use super::backup::{self, BackupError, Kept, Snapshot};
use super::config::SyncConfig;
use super::contents;
use super::decisions;
use super::forks;
use super::identity;
use super::ledger::{Ledger, Noted};
use super::lineage::History;
use super::lines;
use super::manifest::{self, Written};
use super::peers::Manifests;
use super::plan::{self, PlanError};
use super::rollouts;
use super::scan::{Side, Stat};
use super::secrets;
use super::state::{Journal, Replica, State};
use super::travel;
use crate::io::atomic::{self, TempFile};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::quantity::pluralize;
use crate::io::{IoContext, IoError};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a snapshot cannot be put back. Nothing was changed, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is none.
    #[error("no snapshot: {}", .0.display())]
    None(PathBuf),
    /// A name that is no name of an entry of the backup folder.
    #[error("a snapshot is named by its name in {}, not by {name:?}", folder.display())]
    Outside {
        /// The backup folder.
        folder: PathBuf,
        /// What was given.
        name: String,
    },
    /// A snapshot that names files outside itself, or of which one has no place.
    #[error("{path:?} may not be put back ({why}): {}", snapshot.display())]
    Unsafe {
        /// The snapshot.
        snapshot: PathBuf,
        /// The path in it.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A snapshot of which a file is missing or not what was kept.
    #[error("a file of the snapshot is damaged ({why}): {}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It ended in between.
    #[error("{done} of {} put back, then: {cause}; what was there before is in {}", pluralize(*all, "file"), safety.as_deref().unwrap_or("no snapshot, for nothing was"))]
    Stopped {
        /// How many files are in place.
        done: usize,
        /// How many there are.
        all: usize,
        /// The snapshot of what they replaced.
        safety: Option<String>,
        /// Why.
        cause: Box<RestoreError>,
    },
    /// Somebody has written to a file since what was there was kept.
    #[error("changed meanwhile, and left as it is: {}", .0.display())]
    Changed(PathBuf),
    /// The cloud folder is not to be written to.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// A snapshot that cannot be read.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// What would be put back.
#[derive(Debug)]
pub struct RestorePlan {
    /// From where.
    pub snapshot: Snapshot,
    /// Into which side.
    pub target: Side,
    /// Its files that go back.
    pub files: Vec<Kept>,
    /// Those that do not, and why: logins, and what looks like one.
    pub skipped: Vec<(String, String)>,
}

/// Finds the snapshot and what in it belongs to `target`: what was overwritten there. Without a target
/// it is this side where the snapshot has anything of it, else the cloud folder. A snapshot that has nothing
/// of the side that is named, or that codexSync made, goes there as a whole.
pub fn plan(
    config: &SyncConfig,
    replica: &Replica,
    from: Option<&str>,
    target: Option<Side>,
) -> Result<RestorePlan, RestoreError> {
    let folder = &config.backup_dir;
    let all = backup::list(folder)?;
    let snapshot = match from {
        None => all.into_iter().next(),
        Some(name) => {
            let mut parts = Path::new(name).components();
            let plain = matches!(parts.next(), Some(Component::Normal(_)));
            if !plain || parts.next().is_some() || name.contains(['/', '\\']) {
                return Err(RestoreError::Outside {
                    folder: folder.clone(),
                    name: name.to_owned(),
                });
            }
            all.into_iter().find(|snapshot| snapshot.name == name)
        }
    };
    let Some(snapshot) = snapshot else {
        return Err(RestoreError::None(folder.join(from.unwrap_or_default())));
    };
    let list = backup::read_list(&snapshot)?;
    let of_cloud_alone = |list: &backup::SnapshotList| {
        !list.files.is_empty() && list.files.iter().all(|kept| kept.cloud)
    };
    let target = target.unwrap_or(match &list {
        Some(list) if of_cloud_alone(list) => Side::There,
        _ => Side::Here,
    });
    if target == Side::There {
        plan::check_cloud_identity(config, replica)?;
    }
    let mut files = match list {
        Some(list) => {
            let of_side = |kept: &&Kept| kept.cloud == (target == Side::There);
            let own: Vec<_> = list.files.iter().filter(of_side).cloned().collect();
            if own.is_empty() { list.files } else { own }
        }
        None => foreign(&snapshot)?,
    };
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for kept in &files {
        check(&snapshot, &kept.path)?;
    }
    let reasons = check_contents(&snapshot, target, &files)?;
    let (mut going, mut skipped) = (Vec::new(), Vec::new());
    for (kept, why) in files.into_iter().zip(reasons) {
        match why {
            Some(why) => skipped.push((kept.path, why)),
            None => going.push(kept),
        }
    }
    let plan = RestorePlan {
        snapshot,
        target,
        files: going,
        skipped,
    };
    for kept in &plan.files {
        target_of(&plan, config, &kept.path)?;
    }
    Ok(plan)
}

/// Reads all that would be put back: half of a snapshot is worse than none, and a login does not travel
/// under another name. Why each file stays where it is, if it does.
fn check_contents(
    snapshot: &Snapshot,
    target: Side,
    files: &[Kept],
) -> Result<Vec<Option<String>>, RestoreError> {
    let mut source = Source::open(snapshot)?;
    let mut found = Vec::with_capacity(files.len());
    for kept in files {
        let damaged = |e: &dyn std::fmt::Display| RestoreError::Damaged {
            path: snapshot.path.join(kept.inside()),
            why: e.to_string(),
        };
        let size = source
            .with(kept, |from, _| io::copy(from, &mut io::sink()))
            .map_err(|e| damaged(&e))?;
        if size != kept.size && !snapshot.is_zip() {
            return Err(damaged(&"its size is another one"));
        }
        if let Some(why) = travel::stays(&kept.path) {
            found.push(Some(why.to_owned()));
            continue;
        }
        if rollouts::key(&kept.path).is_some() {
            // What was said in a conversation travels whatever it is; so it goes back.
            found.push(None);
            continue;
        }
        // A text with a token in its midst is its owner's, here; prompts are anywhere.
        let is_free = lines::is_lines(&kept.path);
        let secret = source
            .with(kept, |from, _| match target {
                Side::There if !is_free => secrets::anywhere_in(from, size),
                _ => secrets::of_contents(from, size),
            })
            .map_err(|e| damaged(&e))?;
        found.push(secret.map(|why| format!("what is in it looks like {why}")));
    }
    Ok(found)
}

/// A snapshot that is read from: no link in it is followed.
enum Source {
    Zip(zip::ZipArchive<fs::File>),
    Folder(PathBuf),
}

impl Source {
    fn open(snapshot: &Snapshot) -> Result<Self, RestoreError> {
        if !snapshot.is_zip() {
            return Ok(Self::Folder(snapshot.path.clone()));
        }
        match backup::open_zip(snapshot)? {
            Some(zip) => Ok(Self::Zip(zip)),
            None => Err(BackupError::Zip {
                action: "read",
                reason: "it is no .zip".into(),
                path: snapshot.path.clone(),
            }
            .into()),
        }
    }

    /// Gives `read` a file and its mode, where that is known.
    fn with<T>(
        &mut self,
        kept: &Kept,
        read: impl FnOnce(&mut dyn io::Read, Option<u32>) -> io::Result<T>,
    ) -> io::Result<T> {
        let root = match self {
            Self::Zip(zip) => {
                let mut file = zip.by_name(&kept.inside()).map_err(io::Error::other)?;
                let mode = file.unix_mode();
                return read(&mut file, mode);
            }
            Self::Folder(root) => root,
        };
        let mut path = root.clone();
        for part in Path::new(&kept.inside()).components() {
            path.push(part);
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(io::Error::other("a link in a snapshot is not followed"));
            }
        }
        let mut file = file_open::open_no_link(&path)?;
        let mode = mode_of(&file.metadata()?);
        read(&mut file, mode)
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "not all systems have one")]
fn mode_of(meta: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(meta.permissions().mode())
}

#[cfg(not(unix))]
fn mode_of(_: &fs::Metadata) -> Option<u32> {
    None
}

fn check(snapshot: &Snapshot, path: &str) -> Result<(), RestoreError> {
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    // Elsewhere it is a letter like any other.
    let parts = path.split(['/', '\\']).any(|part| part == "..");
    let outside = parts || (cfg!(windows) && path.contains('\\'));
    if inside && !path.is_empty() && !outside {
        return Ok(());
    }
    Err(RestoreError::Unsafe {
        snapshot: snapshot.path.clone(),
        path: path.to_owned(),
        why: "it leads outside".to_owned(),
    })
}

/// The files of a snapshot without a list of ours. What codexSync once copied and never travels here
/// (a login) is left out.
fn foreign(snapshot: &Snapshot) -> Result<Vec<Kept>, RestoreError> {
    let mut files = Vec::new();
    let mut push = |path: String, size, mtime_ns| {
        if travel::stays(&path).is_none() {
            files.push(Kept {
                cloud: false,
                path,
                mtime_ns,
                size,
            });
        }
    };
    if snapshot.is_zip() {
        let Some(mut zip) = backup::open_zip(snapshot)? else {
            return Err(BackupError::Zip {
                action: "read",
                reason: "it is no .zip".into(),
                path: snapshot.path.clone(),
            }
            .into());
        };
        for index in 0..zip.len() {
            let file = zip.by_index(index).map_err(|e| BackupError::Zip {
                action: "read",
                reason: e.to_string(),
                path: snapshot.path.clone(),
            })?;
            let name = file.name().map(std::borrow::Cow::into_owned);
            if file.is_file()
                && let Ok(name) = name
            {
                push(name, file.size(), snapshot.modified_ns);
            }
        }
        return Ok(files);
    }
    for entry in walkdir::WalkDir::new(&snapshot.path) {
        let entry = entry
            .map_err(|e| {
                e.into_io_error()
                    .unwrap_or_else(|| io::ErrorKind::Other.into())
            })
            .at("walk", &snapshot.path)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let meta = fs::symlink_metadata(entry.path()).at("look at", entry.path())?;
        let relative = entry
            .path()
            .strip_prefix(&snapshot.path)
            .unwrap_or(entry.path());
        if let Some(path) = relative.to_str() {
            let stat = Stat::of(&meta);
            let path = if cfg!(windows) {
                path.replace('\\', "/")
            } else {
                path.to_owned()
            };
            push(path, stat.size, stat.mtime_ns);
        }
    }
    Ok(files)
}

/// Puts the files back, each by one rename, after what they replace was kept in a snapshot of its own.
/// Returns the name of that. What goes into the cloud folder is noted as written by this machine, for
/// others wait for what nobody vouches for; the caller holds the lock of `replica`.
///
/// # Errors
/// See [`RestoreError`].
pub fn apply(
    plan: &RestorePlan,
    config: &SyncConfig,
    replica: &Replica,
    now: DateTime<Utc>,
) -> Result<Option<String>, RestoreError> {
    let mut victims = Vec::new();
    let mut over = Vec::with_capacity(plan.files.len());
    for kept in &plan.files {
        let path = target_of(plan, config, &kept.path)?;
        let there = Stat::at(&path)?;
        over.push(there);
        if let Some(stat) = there {
            let replaced = Kept {
                cloud: plan.target == Side::There,
                path: kept.path.clone(),
                mtime_ns: stat.mtime_ns,
                size: stat.size,
            };
            victims.push((path, replaced));
        }
    }
    let safety = backup::make_of(config, victims, now)?;
    let put = || -> Result<usize, (usize, RestoreError)> {
        let mut source = Source::open(&plan.snapshot).map_err(|e| (0, e))?;
        let mut ledger = match plan.target {
            Side::Here => None,
            Side::There => Some(Word::of(config, replica).map_err(|e| (0, e))?),
        };
        let mut wishes = Wishes::of(config, replica).map_err(|e| (0, e))?;
        for (done, (kept, over)) in plan.files.iter().zip(over).enumerate() {
            let staged = stage(plan, config, &mut source, kept, ledger.as_mut());
            staged
                .and_then(|staged| {
                    wishes.note(kept, staged.temp.path())?;
                    staged.put(over)
                })
                .map_err(|e| (done, e))?;
        }
        Ok(plan.files.len())
    };
    let stopped = |(done, cause): (usize, RestoreError)| RestoreError::Stopped {
        done,
        all: plan.files.len(),
        safety: safety.clone(),
        cause: Box::new(cause),
    };
    let done = put().map_err(stopped)?;
    if plan.target == Side::There {
        publish(config, replica).map_err(|e| stopped((done, e)))?;
    }
    Ok(safety)
}

/// A version of a conversation that is put back is one that somebody wants: that it was decided against
/// counts no longer, here or elsewhere. Where no sync has been yet, nothing can be noted.
struct Wishes {
    noted: Option<(Journal, State)>,
    others: BTreeSet<String>,
}

impl Wishes {
    fn of(config: &SyncConfig, replica: &Replica) -> Result<Self, RestoreError> {
        let mut state = replica.read().map_err(PlanError::from)?;
        if !state.exists {
            return Ok(Self {
                noted: None,
                others: BTreeSet::new(),
            });
        }
        let others = identity::others(config, &state)?.resolved;
        if state.must_be_written {
            replica.write(&mut state)?;
        }
        Ok(Self {
            noted: Some((replica.journal()?, state)),
            others,
        })
    }

    /// To be called before the version has its place.
    fn note(&mut self, kept: &Kept, file: &Path) -> Result<(), IoError> {
        let Some((journal, state)) = &mut self.noted else {
            return Ok(());
        };
        let Some(key) = rollouts::key(&kept.path) else {
            return Ok(());
        };
        let read = contents::read(file, None).at("read", file)?;
        let name = forks::name(&key, &read.digest);
        let news = decisions::bring_back(&name, &mut state.resolved, &self.others);
        for word in &news {
            journal.resolved(word)?;
        }
        if news.is_empty() {
            Ok(())
        } else {
            journal.sync()
        }
    }
}

/// What this machine says of what it puts into the cloud folder.
struct Word {
    ledger: Ledger,
    noted: Noted,
    others: Manifests,
    state: State,
}

impl Word {
    fn of(config: &SyncConfig, replica: &Replica) -> Result<Self, RestoreError> {
        let state = replica.read().map_err(PlanError::from)?;
        Ok(Self {
            ledger: Ledger::open(&replica.folder)?,
            noted: Ledger::read(&replica.folder)?,
            others: identity::others(config, &state)?,
            state,
        })
    }

    /// What comes before a text that somebody puts back: all versions of the file that there have been. It
    /// is named by its text, for nobody wrote it here.
    fn history_of(&self, path: &str, text: &Sha256Digest) -> Option<Box<History>> {
        if rollouts::key(path).is_some() || lines::is_lines(path) {
            return None;
        }
        let key = manifest::key_of(path);
        let own = self.noted.files.iter();
        let own = own.chain(
            self.noted
                .earlier
                .iter()
                .map(|(path, written)| (path, written)),
        );
        let own = own.filter(|(path, _)| manifest::key_of(path) == key);
        let all = self
            .others
            .of_others(&key)
            .iter()
            .chain(own.map(|(_, written)| written));
        let all = all.map(|written| (written.history(), Some(written.digest)));
        let last = |state_key: &String| self.state.files.get(state_key)?.contents;
        let known = self.state.histories.iter();
        let known = known.filter(|(state_key, _)| manifest::folded(state_key) == key);
        let known =
            known.map(|(key, history)| (history.clone(), last(key).map(|(_, digest)| digest)));
        let mut history = History::first(text);
        for (before, replaced) in all.chain(known) {
            history = history.with(&before, text).noting(replaced, text);
        }
        history.lineage = history.lineage.replaced_by(text);
        Some(Box::new(history))
    }
}

/// A file that is put back, whole and durable beside its place.
struct Staged {
    temp: TempFile,
    path: PathBuf,
}

impl Staged {
    /// Gives it its name, where `over` still is what is there.
    fn put(self, over: Option<Stat>) -> Result<(), RestoreError> {
        let Self { temp, path } = self;
        if Stat::at(&path)? != over {
            return Err(RestoreError::Changed(path));
        }
        if over.is_some() {
            return Ok(temp.replace_synced(&path)?);
        }
        match temp.publish_unsynced(&path) {
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(RestoreError::Changed(path))
            }
            named => {
                named?;
                Ok(atomic::sync_folder(atomic::parent_of(&path))?)
            }
        }
    }
}

/// Makes a file beside the place where it will stand, and says of it what has to be said before.
fn stage(
    plan: &RestorePlan,
    config: &SyncConfig,
    source: &mut Source,
    kept: &Kept,
    word: Option<&mut Word>,
) -> Result<Staged, RestoreError> {
    let path = target_of(plan, config, &kept.path)?;
    let folder = atomic::parent_of(&path);
    match plan.target {
        Side::Here => atomic::create_durable_folder(folder)?,
        Side::There => atomic::create_durable_below(&config.cloud, folder)?,
    }
    let mut temp = TempFile::beside(&path)?;
    let from = plan.snapshot.path.join(kept.inside());
    let file = temp.file();
    let size = source
        .with(kept, |from, mode| {
            let size = io::copy(from, file)?;
            set_mode(file, mode)?;
            Ok(size)
        })
        .at("read", &from)?;
    set_time(temp.file(), kept.mtime_ns).at("set time", &path)?;
    temp.sync()?;
    if let Some(word) = word {
        let digest = contents::raw_digest(temp.path()).at("read", &path)?;
        let written = Written {
            size,
            mtime_ns: kept.mtime_ns,
            digest,
            history: word.history_of(&kept.path, &digest),
        };
        word.ledger.note(&kept.path, &written)?;
        word.ledger.sync()?;
    }
    Ok(Staged { temp, path })
}

/// As far as it goes for its owner's files.
fn set_mode(file: &fs::File, mode: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = mode {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o755 | 0o600))?;
    }
    #[cfg(not(unix))]
    let _ = (file, mode);
    Ok(())
}

/// Tells other machines. Where no sync has been yet, the first one does.
fn publish(config: &SyncConfig, replica: &Replica) -> Result<(), RestoreError> {
    let mut state = match replica.read() {
        Ok(state) if state.exists => state,
        _ => return Ok(()),
    };
    let files = Ledger::read(&replica.folder)?.files;
    Ok(identity::publish(&files, &mut state, config, replica)?)
}

/// Where a file goes; a link on the way in the cloud folder leads nowhere, and a file holds no files.
fn target_of(plan: &RestorePlan, config: &SyncConfig, path: &str) -> Result<PathBuf, RestoreError> {
    let in_way = |why: &str| RestoreError::Unsafe {
        snapshot: plan.snapshot.path.clone(),
        path: path.to_owned(),
        why: format!("{why} is in its way"),
    };
    let mut full = config.root(plan.target).to_path_buf();
    let depths = path.matches('/').count();
    for (depth, part) in path.split('/').enumerate() {
        full.push(part);
        let Ok(meta) = fs::symlink_metadata(&full) else {
            continue;
        };
        if meta.is_symlink() && (plan.target == Side::There || depth > 0) {
            return Err(in_way("a link"));
        }
        if depth < depths && !full.is_dir() {
            return Err(in_way("a file"));
        }
    }
    let place = config.place(plan.target, path);
    if place.is_dir() {
        return Err(in_way("a folder"));
    }
    Ok(place)
}
