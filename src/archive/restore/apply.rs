//! The work of a restore, from the first check to the last.

use super::RestoreError;
use super::databases;
use super::disk_space;
use super::exchange_steps::{add_root, linked_roots};
use super::leftovers;
use super::live_files::{self, LiveFiles};
use super::login::{self, StagedLogin};
use super::login_guard::Keeping;
use super::merge::{self, Merged};
use super::pending::Note;
use super::plan::{self, RestorePlan, Selection, Target};
use super::rollout_index::Rollouts;
use super::stage::{self, Carry, Extract, Root, Stage};
use super::swap::{self, Swap};
use crate::accounts::login_selection::{AuthOutcome, AuthPolicy};
use crate::archive::entry_name::EntryName;
use crate::archive::name_table::NameSet;
use crate::archive::path_checks::check_case_collisions;
use crate::archive::publish::PublishedArchive;
use crate::archive::reader::{ArchiveListing, ArchiveReader, Layout};
use crate::archive::sink::Extent;
use crate::codex::process::{self, Holder};
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::io::{IoContext, IoError, Progress, atomic, space};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// So many files are exchanged one by one when a part is put back.
const FEW_FILES: usize = 16;

/// What to put back, and where.
#[allow(clippy::struct_excessive_bools, reason = "independent wishes")]
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// The archive.
    pub archive: &'a ArchiveReader,
    /// The folder that it is put into, absolute.
    pub folder: PathBuf,
    /// Whether that is the Codex home.
    pub target: Target,
    /// Which part.
    pub selection: Selection,
    /// Whether conversations that exist only here are kept.
    pub merge: bool,
    /// Which login goes live.
    pub auth: AuthPolicy,
    /// Whether another account's archive may be put over the live one's.
    pub may_switch_account: bool,
    /// Whether what will change is archived first.
    pub safety_backup: bool,
    /// Whether databases may go where only the archive's settings say (`sqlite_home`).
    pub may_write_outside: bool,
    /// Whether the disk takes names for one that differ in letter case alone; where absent, it is asked.
    pub ignores_case: Option<bool>,
    /// The manager home.
    pub manager_home: &'a Path,
    /// The process's environment.
    pub env: &'a Environment,
    /// The current instant in the local zone.
    pub now: Timestamp,
}

/// What was done.
#[derive(Debug)]
pub struct RestoreReport {
    /// How many files were put back, the login among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was removed.
    pub removed: NameSet,
    /// The safety backup.
    pub safety: Option<PublishedArchive>,
    /// What became of the login.
    pub auth: AuthOutcome,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Why it is not noted who owns the login. The home is replaced all the same.
    pub unsettled: Option<RestoreError>,
}

/// Checks a request and decides what it would do. Writes nothing, not even beside a database.
///
/// # Errors
/// Whatever would stop [`apply`] before it changes anything, as far as it can be known by looking.
pub fn plan(request: &RestoreRequest<'_>) -> Result<RestorePlan, RestoreError> {
    look(request).map(|(plan, _)| plan)
}

fn look(request: &RestoreRequest<'_>) -> Result<(RestorePlan, LiveFiles), RestoreError> {
    let live = prepare(request)?;
    let mut plan = plan::plan_restore(
        request.archive,
        request.target,
        &request.selection,
        request.merge,
        &live,
    )?;
    plan.wants_login &= request.auth != AuthPolicy::Skip;
    login::check_account(request, &plan)?;
    Ok((plan, live))
}

/// Who uses the home that would be replaced.
pub fn holders(request: &RestoreRequest<'_>) -> Vec<Holder> {
    match request.target {
        Target::Home if request.folder.exists() => {
            let outside = process::outside_folders(&request.folder, request.env);
            process::find_holders(&request.folder, &outside)
        }
        _ => Vec::new(),
    }
}

fn prepare(request: &RestoreRequest<'_>) -> Result<LiveFiles, RestoreError> {
    let names = request.archive.contents().files.names();
    match request.target {
        // Replacing the link would put the home beside the disk that is not mounted.
        Target::Home if request.folder.is_symlink() && !request.folder.exists() => {
            Err(RestoreError::DanglingHome(request.folder.clone()))
        }
        Target::Home => Ok(live_files::list(&request.folder, names)?),
        Target::Elsewhere => {
            let is_empty = match fs::read_dir(&request.folder) {
                Ok(mut entries) => entries.next().is_none(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => true,
                Err(e) => return Err(e).at("list", &request.folder).map_err(Into::into),
            };
            if is_empty {
                Ok(LiveFiles::none(names))
            } else {
                Err(RestoreError::NotEmpty(request.folder.clone()))
            }
        }
    }
}

/// Puts the archive back. Nothing live is touched before everything is checked, saved and staged;
/// then it is exchanged, and a kill at any moment leaves the old state or the new one.
pub fn apply(
    request: &RestoreRequest<'_>,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    let busy = holders(request);
    if !busy.is_empty() {
        return Err(RestoreError::Busy(busy));
    }
    plan(request)?;
    // A link is a name for the home; the exchange is done where the home is.
    let folder = request
        .folder
        .canonicalize()
        .unwrap_or_else(|_| request.folder.clone());
    let mut work = Work::begin(request, folder)?;
    work.extract(progress)?;
    work.check_databases()?;
    work.unite()?;
    work.settle_databases()?;
    // Needed no more; the safety backup takes room of its own.
    work.stage.rollouts = Rollouts::default();
    let safety = work.safety_backup(progress)?;
    work.carry()?;
    let login = work.login()?;
    work.commit(&login, safety)
}

/// A restore that is being staged.
pub(super) struct Work<'a> {
    pub(super) request: &'a RestoreRequest<'a>,
    pub(super) plan: RestorePlan,
    /// The real folder that is replaced.
    pub(super) folder: PathBuf,
    pub(super) contents: ArchiveListing<'a>,
    pub(super) live: LiveFiles,
    pub(super) stage: Stage,
    pub(super) swap: Swap,
    /// Whether the whole folder is exchanged in one call.
    pub(super) whole: bool,
    /// Whether each file is exchanged by itself: for a few files of a large home.
    pub(super) by_file: bool,
    /// Folders that are exchanged as a whole all the same, by their paths in the home.
    pub(super) whole_folders: BTreeSet<PathBuf>,
    pub(super) merged: Merged,
    /// Where Codex looks for databases, if outside the home.
    pub(super) sqlite_home: Option<PathBuf>,
    /// Databases that lie outside the home and are replaced: live folder and staged folder.
    pub(super) outside: Option<(PathBuf, PathBuf)>,
    /// Databases of the archive that go there, and where each is staged.
    pub(super) outside_restored: Vec<(EntryName, PathBuf)>,
    /// Databases there that only go.
    pub(super) outside_removed: Vec<PathBuf>,
    pub(super) notes: Vec<String>,
    pub(super) _note: Note,
}

impl<'a> Work<'a> {
    fn begin(request: &'a RestoreRequest<'a>, folder: PathBuf) -> Result<Self, RestoreError> {
        atomic::create_private_folder(atomic::parent_of(&folder))?;
        let (swap, note) = begin_swap(request, &folder)?;
        // Again: another restore may have ended between the look before and the lock.
        let (plan, live) = look(request)?;
        check_mounts(&folder, &plan)?;
        for place in leftovers::places_apart(&folder) {
            leftovers::retry(&place);
        }
        let linked = linked_roots(&folder, &plan)?;
        let outside = databases::outside_folder(request, &folder);
        let (archive, staging) = (request.archive, swap.folder());
        let disks = &disk_space::System;
        let needs = disk_space::needs(archive, &plan, staging, &linked, outside.as_deref(), disks);
        disk_space::check(&needs, disks)?;
        let beside = swap.folder() == swap::folder_beside(&folder);
        let whole = beside && stage::can_exchange_whole(&folder, swap.folder())?;
        Self::with(request, (plan, live), folder, linked, (swap, note), whole)
    }

    fn with(
        request: &'a RestoreRequest<'a>,
        (plan, live): (RestorePlan, LiveFiles),
        folder: PathBuf,
        linked: Vec<Root>,
        (mut swap, note): (Swap, Note),
        whole: bool,
    ) -> Result<Self, RestoreError> {
        let mut roots = vec![Root {
            prefix: PathBuf::new(),
            live: folder.clone(),
            staged: swap.folder().join("new"),
            whole,
        }];
        for root in linked {
            roots.push(add_root(&mut swap, root)?);
        }
        let outside = swap.folder().join("outside");
        atomic::create_private_folder(&roots[0].staged)?;
        check_case(request, &plan, &live, &roots)?;
        let contents = request.archive.contents();
        let stage = Stage {
            roots,
            outside,
            login: None,
            rollouts: Rollouts::default(),
            left_out: BTreeSet::new(),
        };
        Ok(Self {
            request,
            plan,
            folder,
            contents,
            live,
            stage,
            swap,
            whole,
            by_file: false,
            whole_folders: BTreeSet::new(),
            merged: Merged::default(),
            sqlite_home: None,
            outside: None,
            outside_restored: Vec::new(),
            outside_removed: Vec::new(),
            notes: Vec::new(),
            _note: note,
        })
    }

    /// Unpacks what is wanted into the stage; all of the archive is checked on the way.
    fn extract(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        let extent = if self.plan.partial {
            Extent::Wanted
        } else {
            Extent::All
        };
        let extract = Extract::new(&self.stage, &self.plan);
        self.request.archive.read(extent, &extract, progress)?;
        self.stage.login = extract.into_login();
        self.stage.rollouts = Rollouts::among(&self.plan.writes);
        self.stage.structure(self.contents, &self.plan)?;
        self.notes.extend(self.stage.left_out.iter().map(|kept| {
            let kept = kept.display();
            format!("left as it is, though the archive has a folder in its place: {kept}")
        }));
        if matches!(self.request.archive.layout(), Layout::Python(_)) {
            self.notes.push(
                "made by the Python codex-manager: no digests; names, CRC and databases were checked"
                    .into(),
            );
        }
        Ok(())
    }

    fn unite(&mut self) -> Result<(), RestoreError> {
        if self.plan.merge && self.plan.target == Target::Home {
            self.merged = merge::merge(
                &mut self.stage,
                &mut self.plan,
                &self.folder,
                &self.live.names,
            )?;
        }
        Ok(())
    }

    fn carry(&mut self) -> Result<(), RestoreError> {
        let files = self.plan.writes.len() + self.plan.removed.len();
        let is_small = self.plan.partial && files <= FEW_FILES;
        if self.target_is_home_alone() && is_small {
            // Linking all that stays would cost more than the restore itself.
            return self.leave_what_stays();
        }
        if self.target_is_home_alone() && self.is_layered()? {
            return self.carry_pieces();
        }
        match self.carry_what_stays() {
            // A file of another user, which may be neither read nor linked, can stay where it is.
            Err(e) if is_denied(&e) && self.target_is_home_alone() => self.leave_what_stays(),
            carried => Ok(carried?),
        }
    }

    /// Has each file exchanged by itself: what stays need not be carried.
    fn leave_what_stays(&mut self) -> Result<(), RestoreError> {
        (self.by_file, self.whole) = (true, false);
        let kept = Some(self.folder.as_path());
        Ok(self.stage.finish_folders(self.contents, kept)?)
    }

    /// Folders of ours in the home, by their paths there.
    pub(super) fn own_folders(&self) -> BTreeSet<PathBuf> {
        let roots = self.stage.roots.iter();
        let own = roots.map(|root| {
            let within = swap::folder_within(&root.live);
            let name = within.file_name().unwrap_or_default();
            root.prefix.join(name)
        });
        own.collect()
    }

    /// What carries over what stays, but for the folders `own`.
    pub(super) fn carrier<'b>(&'b self, own: &'b BTreeSet<PathBuf>) -> Carry<'b> {
        Carry {
            plan: &self.plan,
            skip: own,
            exact: !self.plan.partial && !self.plan.merge,
        }
    }

    /// Carries what stays into the new state.
    fn carry_what_stays(&self) -> Result<(), IoError> {
        let own = self.own_folders();
        let carry = self.carrier(&own);
        // The linked folders first: where nothing of theirs is staged, nothing is exchanged.
        for root in &self.stage.roots[1..] {
            carry.root(root)?;
        }
        if self.whole {
            carry.root(self.stage.home())?;
        } else {
            for top in self.tops() {
                carry.within(self.stage.home(), Path::new(&top))?;
            }
        }
        let kept = self.plan.partial.then_some(self.folder.as_path());
        self.stage.finish_folders(self.contents, kept)
    }

    /// Whether files of the home are replaced, and none outside of it.
    fn target_is_home_alone(&self) -> bool {
        self.plan.target == Target::Home && self.outside.is_none()
    }

    /// Exchanges the states. The login's locks are held all the while.
    fn commit(
        self,
        login: &StagedLogin,
        safety: Option<PublishedArchive>,
    ) -> Result<RestoreReport, RestoreError> {
        let steps = self.steps()?;
        let leave_at = self.leave_at();
        let Self {
            request,
            plan,
            contents,
            swap,
            outside_restored,
            mut notes,
            ..
        } = self;
        let busy = holders(request);
        if !busy.is_empty() {
            return Err(RestoreError::Busy(busy));
        }
        let mut started = Vec::new();
        let confirm = || {
            started = holders(request);
            started.is_empty()
        };
        let outcome = swap.commit(steps, confirm, &leave_at)?;
        match outcome {
            swap::Outcome::Done(remains) => notes.extend(remains.iter().map(|path| {
                format!(
                    "what was replaced could not be removed and only takes room: {}",
                    path.display()
                )
            })),
            swap::Outcome::Undone(left_at) => {
                return Err(RestoreError::StartedMeanwhile {
                    holders: started,
                    left_at,
                });
            }
        }
        // The exchange is done: nothing that fails from here on is a failed restore.
        let unsettled = login.settle_owners(request).err();
        let restored_login = u64::from(login.outcome == AuthOutcome::Restored);
        let is_restored = |path: &Path| {
            plan.writes.contains(path)
                || outside_restored
                    .iter()
                    .any(|(name, _)| name.as_path() == path)
        };
        let files = contents.files.iter();
        let sizes = files.filter(|f| is_restored(f.path.as_path()));
        Ok(RestoreReport {
            files: (plan.writes.len() + outside_restored.len()) as u64 + restored_login,
            bytes: sizes.fold(0, |sum, f| sum.saturating_add(f.size)),
            removed: plan.removed,
            safety,
            auth: login.outcome,
            notes,
            unsettled,
        })
    }
}

/// Refuses what a disk that ignores case would take for one: files, and folders that would become one
/// with the files of both. What stays here is not to be taken for the archive's either.
fn check_case(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
    roots: &[Root],
) -> Result<(), RestoreError> {
    let asked = || {
        let mut folders = roots.iter().map(|root| atomic::parent_of(&root.staged));
        folders.try_fold(false, |ignores, folder| {
            Ok::<_, IoError>(ignores || stage::ignores_case(folder)?)
        })
    };
    if !request.ignores_case.map_or_else(asked, Ok)? {
        return Ok(());
    }
    let kept = live.names.without(&plan.writes).without(&plan.removed);
    let folders = request.archive.contents().folders;
    check_case_collisions(request.archive.path(), || {
        let folders = folders
            .iter()
            .filter(|_| !plan.partial)
            .map(|f| f.path.clone());
        plan.writes.iter().chain(folders).chain(kept.iter())
    })?;
    Ok(())
}

/// Refuses to replace folders that other file systems are mounted in: one at the top is replaced
/// entry by entry, one further down cannot be.
fn check_mounts(folder: &Path, plan: &RestorePlan) -> Result<(), RestoreError> {
    for mount in stage::mounts_in(folder)? {
        let Ok(relative) = mount.strip_prefix(folder) else {
            continue;
        };
        let top = Path::new(relative.iter().next().unwrap_or_default());
        if relative.components().count() > 1 && plan.changes_below(top) {
            return Err(RestoreError::Mounted(mount));
        }
    }
    Ok(())
}

/// Begins the swap beside the home; within it where nothing can be made beside it, or where the
/// home is a file system of its own.
fn begin_swap(request: &RestoreRequest<'_>, folder: &Path) -> Result<(Swap, Note), RestoreError> {
    let beside = swap::folder_beside(folder);
    let is_mount = stage::mounts_in(folder)?.iter().any(|m| m == folder);
    let note = Note::leave(request.manager_home, &beside)?;
    let keeping = Keeping {
        manager_home: request.manager_home,
        env: request.env,
        now: request.now,
    };
    match Swap::begin(&beside, folder, &keeping) {
        Ok(swap) if !folder.exists() || (space::same_file_system(folder, &beside) && !is_mount) => {
            return Ok((swap, note));
        }
        Err(swap::SwapError::Io(e)) if folder.exists() && is_denied(&e) => {}
        Ok(_) => {}
        Err(e) => return Err(e.into()),
    }
    drop(note);
    let within = swap::folder_within(folder);
    let note = Note::leave(request.manager_home, &within)?;
    Ok((Swap::begin(&within, folder, &keeping)?, note))
}

pub(super) fn is_denied(error: &IoError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
