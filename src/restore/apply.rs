//! Runs a restore from the first check to the exchange.

use super::RestoreError;
use super::databases;
use super::disk_space;
use super::exchange_steps::{add_root, linked_roots};
use super::leftovers;
use super::live_files::{self, LiveFiles};
use super::login::{self, StagedLogin};
use super::login_guard::LoginGuard;
use super::merge::{self, MergeResult};
use super::pending::JournalPointer;
use super::plan::{self, RestorePlan, RestoreTarget, Selection};
use super::rollout_index::RolloutIndex;
use super::stage::{self, ExtractSink, HardLinker, Stage, StageRoot};
use super::swap::{self, Swap};
use crate::accounts::login_selection::{AuthOutcome, AuthPolicy};
use crate::archive::contents::ArchiveListing;
use crate::archive::entry_name::EntryName;
use crate::archive::name_table::NameSet;
use crate::archive::path_checks::check_case_collisions;
use crate::archive::publish::PublishedArchive;
use crate::archive::reader::{ArchiveReader, Layout};
use crate::archive::sink::Extent;
use crate::codex::process::{self, Holder};
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::io::{IoContext, IoError, Progress, atomic, space};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest number of changed files that a partial restore exchanges one by one instead of
/// linking the rest of the home.
const MAX_SINGLE_FILE_EXCHANGES: usize = 16;

/// The archive, the target and the options of a restore.
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
#[derive(Debug)]
pub struct RestoreRequest<'a> {
    /// The archive to restore.
    pub archive: &'a ArchiveReader,
    /// The absolute path of the folder to restore into.
    pub folder: PathBuf,
    /// The kind of that folder.
    pub target: RestoreTarget,
    /// The part of the archive to restore.
    pub selection: Selection,
    /// Keeps conversations that only the home has (`--merge`).
    pub merge: bool,
    /// The rule that chooses the login that goes live.
    pub auth: AuthPolicy,
    /// Allows an archive of another account than the live one (`--yes`).
    pub may_switch_account: bool,
    /// Makes a safety backup of everything that will change.
    pub safety_backup: bool,
    /// Allows databases in a folder that only the archive's `sqlite_home` names (`--yes`).
    pub may_write_outside: bool,
    /// True if the disk ignores letter case; `None` probes the disk.
    pub ignores_case: Option<bool>,
    /// The manager home, for profiles, safety backups and pointers to journals.
    pub manager_home: &'a Path,
    /// The environment of the process.
    pub env: &'a Environment,
    /// The current time in the local zone.
    pub now: Timestamp,
}

/// The result of a completed restore.
#[derive(Debug)]
pub struct RestoreReport {
    /// The number of restored files, including the login.
    pub files: u64,
    /// The size of the restored files in bytes.
    pub bytes: u64,
    /// The live files that were removed.
    pub removed: NameSet,
    /// The safety backup; `None` if nothing live changed, or if it was not wanted.
    pub safety: Option<PublishedArchive>,
    /// The login that is live now.
    pub auth: AuthOutcome,
    /// Sentences for the user about exceptions, without a final period.
    pub notes: Vec<String>,
    /// The error that kept the new owner of the login from being recorded. The home is replaced all
    /// the same.
    pub owner_error: Option<RestoreError>,
}

/// Checks a request and computes its plan. Writes nothing, not even `-shm` files of databases.
///
/// # Errors
/// Errors of the plan itself: the archive, the target, the selection, the account. Processes,
/// mounts and disk space are checked by [`apply`] only.
pub fn plan(request: &RestoreRequest<'_>) -> Result<RestorePlan, RestoreError> {
    plan_with_live_files(request).map(|(plan, _)| plan)
}

fn plan_with_live_files(
    request: &RestoreRequest<'_>,
) -> Result<(RestorePlan, LiveFiles), RestoreError> {
    let live = list_target(request)?;
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

/// Returns the processes that use the home that would be replaced.
pub fn holders(request: &RestoreRequest<'_>) -> Vec<Holder> {
    match request.target {
        RestoreTarget::Home if request.folder.exists() => {
            let outside = process::outside_folders(&request.folder, request.env);
            process::find_holders(&request.folder, &outside)
        }
        _ => Vec::new(),
    }
}

fn list_target(request: &RestoreRequest<'_>) -> Result<LiveFiles, RestoreError> {
    let names = request.archive.contents().files.names();
    match request.target {
        // Replacing the link itself would create a home on the wrong disk.
        RestoreTarget::Home if request.folder.is_symlink() && !request.folder.exists() => {
            Err(RestoreError::DanglingHome(request.folder.clone()))
        }
        RestoreTarget::Home => Ok(live_files::list(&request.folder, names)?),
        RestoreTarget::Elsewhere => {
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

/// Restores the archive. Checks, saves and stages everything before it touches a live file, then
/// exchanges the states. After a kill, the old state or the new one is live, or the next command
/// completes one of them.
pub fn apply(
    request: &RestoreRequest<'_>,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    let busy = holders(request);
    if !busy.is_empty() {
        return Err(RestoreError::Busy(busy));
    }
    // Fails before anything is written; `begin` plans again under the lock.
    plan(request)?;
    // The home may be a symbolic link: the exchange has to happen at its target.
    let folder = request
        .folder
        .canonicalize()
        .unwrap_or_else(|_| request.folder.clone());
    let mut work = RestoreRun::begin(request, folder)?;
    work.extract(progress)?;
    work.check_databases()?;
    work.merge()?;
    work.adapt_databases()?;
    // Freed because the safety backup needs memory of its own.
    work.stage.rollouts = RolloutIndex::default();
    let safety = work.safety_backup(progress)?;
    work.stage_unchanged()?;
    let login = work.stage_login()?;
    work.commit(&login, safety)
}

/// A restore while it is staged. Dropping it removes everything that was staged.
pub(super) struct RestoreRun<'a> {
    pub(super) request: &'a RestoreRequest<'a>,
    pub(super) plan: RestorePlan,
    /// The folder that is replaced, without symbolic links.
    pub(super) folder: PathBuf,
    pub(super) contents: ArchiveListing<'a>,
    pub(super) live: LiveFiles,
    pub(super) stage: Stage,
    pub(super) swap: Swap,
    /// True if the whole folder is exchanged in one call.
    pub(super) whole: bool,
    /// True if each file is exchanged by itself, as for a few files of a large home.
    pub(super) file_by_file: bool,
    /// Folders that are exchanged as a whole even if `file_by_file` is set, by their paths in the
    /// home.
    pub(super) whole_folders: BTreeSet<PathBuf>,
    pub(super) merged: MergeResult,
    /// The folder of Codex's databases, if outside of the home.
    pub(super) sqlite_home: Option<PathBuf>,
    /// The live folder and the staging folder of databases outside of the home.
    pub(super) outside: Option<(PathBuf, PathBuf)>,
    /// The archive's databases that go to `outside`, and their staged paths.
    pub(super) outside_restored: Vec<(EntryName, PathBuf)>,
    /// Live databases in `outside` that are removed.
    pub(super) outside_removed: Vec<PathBuf>,
    pub(super) notes: Vec<String>,
    pub(super) _pointer: JournalPointer,
}

impl<'a> RestoreRun<'a> {
    fn begin(request: &'a RestoreRequest<'a>, folder: PathBuf) -> Result<Self, RestoreError> {
        atomic::create_private_folder(atomic::parent_of(&folder))?;
        let (swap, pointer) = begin_swap(request, &folder)?;
        // Planned again: another restore may have ended between the first plan and the lock.
        let (plan, live) = plan_with_live_files(request)?;
        check_mounts(&folder, &plan)?;
        for place in leftovers::separate_restore_folders(&folder) {
            leftovers::retry_removal(&place);
        }
        let linked = linked_roots(&folder, &plan)?;
        let outside = databases::outside_database_folder(request, &folder);
        let (archive, staging) = (request.archive, swap.folder());
        let disks = &disk_space::SystemDisks;
        let needs = disk_space::needs(archive, &plan, staging, &linked, outside.as_deref(), disks);
        disk_space::check(&needs, disks)?;
        let beside = swap.folder() == swap::folder_beside(&folder);
        let whole = beside && stage::can_exchange_whole(&folder, swap.folder())?;
        Self::new(
            request,
            (plan, live),
            folder,
            linked,
            (swap, pointer),
            whole,
        )
    }

    fn new(
        request: &'a RestoreRequest<'a>,
        (plan, live): (RestorePlan, LiveFiles),
        folder: PathBuf,
        linked: Vec<StageRoot>,
        (mut swap, pointer): (Swap, JournalPointer),
        whole: bool,
    ) -> Result<Self, RestoreError> {
        let mut roots = vec![StageRoot {
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
            rollouts: RolloutIndex::default(),
            blocking_entries: BTreeSet::new(),
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
            file_by_file: false,
            whole_folders: BTreeSet::new(),
            merged: MergeResult::default(),
            sqlite_home: None,
            outside: None,
            outside_restored: Vec::new(),
            outside_removed: Vec::new(),
            notes: Vec::new(),
            _pointer: pointer,
        })
    }

    /// Unpacks the planned files into the stage. A restore of the whole archive checks all of its
    /// digests.
    fn extract(&mut self, progress: &dyn Progress) -> Result<(), RestoreError> {
        let extent = if self.plan.partial {
            Extent::Wanted
        } else {
            Extent::All
        };
        let extract = ExtractSink::new(&self.stage, &self.plan);
        self.request.archive.read(extent, &extract, progress)?;
        self.stage.login = extract.into_login();
        self.stage.rollouts = RolloutIndex::of_files(&self.plan.writes);
        self.stage
            .create_links_and_folders(self.contents, &self.plan)?;
        self.notes
            .extend(self.stage.blocking_entries.iter().map(|kept| {
                let kept = kept.display();
                format!("kept {kept}, although the archive has a folder at this path")
            }));
        if matches!(self.request.archive.layout(), Layout::Python(_)) {
            self.notes.push(
                "the archive was made by the Python codex-manager and has no digests; names, CRC and databases were checked"
                    .into(),
            );
        }
        Ok(())
    }

    fn merge(&mut self) -> Result<(), RestoreError> {
        if self.plan.merge && self.plan.target == RestoreTarget::Home {
            self.merged = merge::merge(
                &mut self.stage,
                &mut self.plan,
                &self.folder,
                &self.live.names,
            )?;
        }
        Ok(())
    }

    fn stage_unchanged(&mut self) -> Result<(), RestoreError> {
        let files = self.plan.writes.len() + self.plan.removed.len();
        let is_few_files = self.plan.partial && files <= MAX_SINGLE_FILE_EXCHANGES;
        if self.changes_home_only() && is_few_files {
            // Linking all unchanged files would cost more than the restore itself.
            return self.exchange_single_files();
        }
        if self.changes_home_only() && self.needs_partial_swap()? {
            return self.link_movable_folders();
        }
        match self.link_into_stage() {
            // A file of another user may allow neither reads nor links. It can stay in place.
            Err(e) if is_access_denied(&e) && self.changes_home_only() => {
                self.exchange_single_files()
            }
            linked => Ok(linked?),
        }
    }

    /// Exchanges each file by itself, so unchanged files need no link in the stage.
    fn exchange_single_files(&mut self) -> Result<(), RestoreError> {
        (self.file_by_file, self.whole) = (true, false);
        let kept = Some(self.folder.as_path());
        Ok(self.stage.set_folder_attributes(self.contents, kept)?)
    }

    /// Returns the paths, relative to the home, of the staging folders in it.
    pub(super) fn staging_folders(&self) -> BTreeSet<PathBuf> {
        let roots = self.stage.roots.iter();
        let own = roots.map(|root| {
            let within = swap::folder_within(&root.live);
            let name = within.file_name().unwrap_or_default();
            root.prefix.join(name)
        });
        own.collect()
    }

    /// Returns the linker for unchanged files, which skips the staging folders `own`.
    pub(super) fn hard_linker<'b>(&'b self, own: &'b BTreeSet<PathBuf>) -> HardLinker<'b> {
        HardLinker {
            plan: &self.plan,
            staging_folders: own,
            drop_empty_folders: !self.plan.partial && !self.plan.merge,
        }
    }

    /// Links unchanged live files into the stage.
    fn link_into_stage(&self) -> Result<(), IoError> {
        let own = self.staging_folders();
        let linker = self.hard_linker(&own);
        // Linked folders first: one with nothing staged is not exchanged at all.
        for root in &self.stage.roots[1..] {
            linker.link_root(root)?;
        }
        if self.whole {
            linker.link_root(self.stage.home())?;
        } else {
            for top in self.changed_top_names() {
                linker.link_entry_of(self.stage.home(), Path::new(&top))?;
            }
        }
        let kept = self.plan.partial.then_some(self.folder.as_path());
        self.stage.set_folder_attributes(self.contents, kept)
    }

    /// Returns true if only files of the home are replaced, none outside of it.
    fn changes_home_only(&self) -> bool {
        self.plan.target == RestoreTarget::Home && self.outside.is_none()
    }

    /// Exchanges the states. The locks on the login are held until this returns.
    fn commit(
        self,
        login: &StagedLogin,
        safety: Option<PublishedArchive>,
    ) -> Result<RestoreReport, RestoreError> {
        let steps = self.steps()?;
        let undo_destinations = self.undo_destinations();
        let Self {
            request,
            plan,
            contents,
            swap,
            outside_restored,
            mut notes,
            ..
        } = self;
        // Unpacking takes minutes, so Codex may have been started since the first check. `confirm`
        // finds one that is started between this check and the exchange.
        let busy = holders(request);
        if !busy.is_empty() {
            return Err(RestoreError::Busy(busy));
        }
        let mut started = Vec::new();
        let confirm = || {
            started = holders(request);
            started.is_empty()
        };
        let outcome = swap.commit(steps, confirm, &undo_destinations)?;
        match outcome {
            swap::SwapOutcome::Done(leftovers) => notes.extend(leftovers.iter().map(|path| {
                format!(
                    "the replaced files could not be removed and only take up space: {}",
                    path.display()
                )
            })),
            swap::SwapOutcome::Undone(left_at) => {
                return Err(RestoreError::CodexStarted {
                    holders: started,
                    left_at,
                });
            }
        }
        // The exchange is done, so later errors are reported but do not fail the restore.
        let owner_error = login.record_owners(request).err();
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
            owner_error,
        })
    }
}

/// Refuses names that a case-insensitive disk would merge: two files, or two folders with the files
/// of both. Includes the live files that stay.
fn check_case(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
    roots: &[StageRoot],
) -> Result<(), RestoreError> {
    let probe = || {
        let mut folders = roots.iter().map(|root| atomic::parent_of(&root.staged));
        folders.try_fold(false, |ignores, folder| {
            Ok::<_, IoError>(ignores || stage::ignores_case(folder)?)
        })
    };
    if !request.ignores_case.map_or_else(probe, Ok)? {
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

/// Refuses to replace folders that contain mount points. A mount at the top of the home is replaced
/// entry by entry; one below it cannot be.
fn check_mounts(folder: &Path, plan: &RestorePlan) -> Result<(), RestoreError> {
    for mount in stage::mounts_in(folder)? {
        let Ok(relative) = mount.strip_prefix(folder) else {
            continue;
        };
        let top = Path::new(relative.iter().next().unwrap_or_default());
        if relative.components().count() > 1 && plan.changes_below(top) {
            return Err(RestoreError::MountInside(mount));
        }
    }
    Ok(())
}

/// Begins the swap beside the home; within it, if nothing can be created beside it or the home is a
/// mount point.
fn begin_swap(
    request: &RestoreRequest<'_>,
    folder: &Path,
) -> Result<(Swap, JournalPointer), RestoreError> {
    // The pointer before the journal: a journal without a pointer would stay hidden from commands for
    // other homes. A pointer without a journal is harmless.
    let beside = swap::folder_beside(folder);
    let is_mount = stage::mounts_in(folder)?.iter().any(|m| m == folder);
    let pointer = JournalPointer::create(request.manager_home, &beside)?;
    let guard = LoginGuard {
        manager_home: request.manager_home,
        env: request.env,
        now: request.now,
    };
    match Swap::begin(&beside, folder, &guard) {
        Ok(swap) if !folder.exists() || (space::same_file_system(folder, &beside) && !is_mount) => {
            return Ok((swap, pointer));
        }
        Err(swap::SwapError::Io(e)) if folder.exists() && is_access_denied(&e) => {}
        // The folder beside is on another disk: dropping the swap removes it.
        Ok(_) => {}
        Err(e) => return Err(e.into()),
    }
    drop(pointer);
    let within = swap::folder_within(folder);
    let pointer = JournalPointer::create(request.manager_home, &within)?;
    Ok((Swap::begin(&within, folder, &guard)?, pointer))
}

pub(super) fn is_access_denied(error: &IoError) -> bool {
    matches!(
        error.source.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
