//! The locked target of a restore, with its plan and its staging folders.

use super::linked_roots::{add_staging_folder, find_linked_roots};
use super::staged_home::{NEW_STATE, Stage, StageRoot};
use super::{disk_probes, equal_rollouts};
use crate::archive::path_checks::check_case_collisions;
use crate::archive::{ArchiveError, ArchiveReader, NameSet};
use crate::io::{IoError, NoSpace, Progress, atomic, links, space, user};
use crate::journal::{self, JournalError, Transaction};
use crate::restore::error::RestoreError;
use crate::restore::plan::live_files::LiveFiles;
use crate::restore::plan::request::RestoreRequest;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::rollout_index::RolloutIndex;
use crate::restore::plan::target;
use crate::restore::recover::journal_pointer::JournalPointer;
use crate::restore::recover::login_guard::LoginGuard;
use std::path::{Path, PathBuf};

/// The target of a restore while its new state is staged. Dropping it removes everything that was staged, and the
/// journal pointer last.
pub(crate) struct Workspace<'a> {
    pub(crate) request: &'a RestoreRequest<'a>,
    pub(crate) plan: RestorePlan,
    pub(crate) live: LiveFiles,
    pub(crate) stage: Stage,
    pub(crate) transaction: Transaction,
    /// True if each changed file of all roots is exchanged by itself, as for a few files of a large home.
    /// `stage_unchanged` sets it.
    pub(crate) exchanges_files: bool,
    /// Sentences for the user about exceptions, without a final period.
    pub(crate) notes: Vec<String>,
    _pointer: JournalPointer,
}

impl<'a> Workspace<'a> {
    /// Locks the target, plans the restore, checks the disks, creates the staging folders, and stages the rollouts that
    /// the home has with equal content.
    ///
    /// # Errors
    /// Another restore runs, the plan fails, a mount point is in the way, names collide on a disk that ignores case, or
    /// a disk has too little space.
    pub(crate) fn open(
        request: &'a RestoreRequest<'a>,
        progress: &dyn Progress,
    ) -> Result<Self, RestoreError> {
        // The home may be a symbolic link: the exchange has to happen at its target.
        let folder = &request.folder;
        let home = match user::real_path(folder) {
            Err(_) if user::is_root() && folder.exists() => {
                return Err(RestoreError::ForeignLink(folder.clone()));
            }
            // A restore creates a missing folder.
            home => home.unwrap_or_else(|_| folder.clone()),
        };
        atomic::create_private_folder(atomic::parent_of(&home))?;

        // The pointer is dropped last: it stays as long as the staging folder is there.
        let (pointer, mut transaction) = begin_transaction(request, &home)?;
        transaction.include_writes_since(request.planned_after);

        // Plans again, because another restore may have ended between the first plan and the lock.
        let (plan, live) = target::plan_with_live_files(request)?;
        check_no_mount_inside(&home, &plan)?;
        let linked_roots = find_linked_roots(&home, &plan, request.archive.contents())?;

        let is_beside = transaction.folder() == journal::staging_folder_beside(&home);
        // The manager writes to its own home during a restore, so the exchange must not include the manager home.
        let exchanges_whole = is_beside
            && !links::lies_in(request.manager_home, &home)
            && disk_probes::can_exchange_whole_home(&home, transaction.folder())?;

        let mut stage = create_stage(&mut transaction, home, exchanges_whole, linked_roots)?;
        refuse_case_collisions(request, &plan, &live, &stage.roots)?;

        let contents = request.archive.contents();
        stage.equal_rollouts =
            equal_rollouts::link_equal_rollouts(contents, &plan, &stage, progress)?;
        // The linked rollouts need no space.
        let unpacked = plan.writes.without(&stage.equal_rollouts);
        check_space(request.archive, &unpacked, &stage).map_err(ArchiveError::from)?;

        Ok(Self {
            request,
            plan,
            live,
            stage,
            transaction,
            exchanges_files: false,
            notes: Vec::new(),
            _pointer: pointer,
        })
    }
}

/// Creates the staging folders of the home and of the linked roots.
fn create_stage(
    transaction: &mut Transaction,
    home: PathBuf,
    is_whole: bool,
    linked_roots: Vec<StageRoot>,
) -> Result<Stage, RestoreError> {
    let mut roots = vec![StageRoot {
        prefix: PathBuf::new(),
        live: home,
        staged: transaction.folder().join(NEW_STATE),
        is_whole,
    }];

    for root in linked_roots {
        roots.push(add_staging_folder(transaction, root)?);
    }
    atomic::create_unsynced_folder(&roots[0].staged)?;

    Ok(Stage {
        roots,
        outside_databases: transaction.folder().join("outside"),
        login: None,
        rollouts: RolloutIndex::default(),
        equal_rollouts: NameSet::default(),
    })
}

/// Compares the size of the archived files `unpacked` with the free space on the disk of each staging folder. Roots on
/// one disk are compared one by one.
///
/// # Errors
/// A disk has too little space.
fn check_space(archive: &ArchiveReader, unpacked: &NameSet, stage: &Stage) -> Result<(), NoSpace> {
    let mut needed_bytes = vec![0_u64; stage.roots.len()];
    for file in archive.contents().files.iter() {
        let path = file.path.as_path();
        if unpacked.contains(path) {
            // The first root is the home, whose empty prefix every path starts with. Of the others, at most one fits.
            let has_path = |root: &StageRoot| path.starts_with(&root.prefix);
            let index = stage.roots.iter().rposition(has_path).unwrap_or(0);
            let bytes = &mut needed_bytes[index];
            *bytes = bytes.saturating_add(file.size);
        }
    }

    for (root, needed_bytes) in stage.roots.iter().zip(needed_bytes) {
        let staging = atomic::parent_of(&root.staged);
        space::require_free_space(staging, needed_bytes)?;
    }

    Ok(())
}

/// Fails if the new state, including the live files that stay, has two names that a disk that ignores letter case would
/// merge. Checks nothing on other disks.
fn refuse_case_collisions(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
    roots: &[StageRoot],
) -> Result<(), RestoreError> {
    let ignores_case = match request.ignores_case {
        Some(ignores_case) => ignores_case,
        None => is_any_disk_caseless(roots)?,
    };
    if !ignores_case {
        return Ok(());
    }

    let kept_names = live.names.without(&plan.writes).without(&plan.removed);

    // A partial restore creates no folders.
    let archived_folders = request.archive.contents().folders.iter();
    let created_folders = archived_folders.filter(|_| !plan.partial);
    let folder_names = created_folders.map(|folder| folder.path.clone());

    let new_names = plan.writes.iter().chain(folder_names);
    let checked = check_case_collisions(new_names.chain(kept_names.iter()));
    Ok(checked.map_err(|e| e.into_archive_error(request.archive.path()))?)
}

fn is_any_disk_caseless(roots: &[StageRoot]) -> Result<bool, IoError> {
    for root in roots {
        if disk_probes::probe_ignores_case(atomic::parent_of(&root.staged))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Fails if a folder that the plan changes contains a mount point. A mount point at the top level of the home is no
/// problem, because its entries are exchanged one by one.
fn check_no_mount_inside(home: &Path, plan: &RestorePlan) -> Result<(), RestoreError> {
    for mount in disk_probes::list_mounts(home)? {
        let Ok(relative) = mount.strip_prefix(home) else {
            continue;
        };
        let top = Path::new(relative.iter().next().unwrap_or_default());
        if relative.components().count() > 1 && plan.changes_below(top) {
            return Err(RestoreError::MountInside(mount));
        }
    }
    Ok(())
}

/// Begins the transaction, with the staging folder beside the home. If no folder can be created there, or the home is a
/// mount point, begins it with a staging folder within the home.
fn begin_transaction(
    request: &RestoreRequest<'_>,
    home: &Path,
) -> Result<(JournalPointer, Transaction), RestoreError> {
    let beside = journal::staging_folder_beside(home);
    let is_mount = disk_probes::list_mounts(home)?.iter().any(|m| m == home);

    // The pointer is written before the journal: a journal without a pointer would stay hidden from commands for other
    // homes, and a pointer without a journal is harmless.
    let pointer = JournalPointer::create(request.manager_home, &beside)?;

    let guard = LoginGuard::from_request(request);
    match Transaction::begin(&beside, home, &guard) {
        Ok(transaction) => {
            let can_rename_home = space::is_same_file_system(home, &beside) && !is_mount;
            if !home.exists() || can_rename_home {
                return Ok((pointer, transaction));
            }
            // Dropping the transaction removes the folder beside the home.
        }
        // The user cannot create a folder beside the home.
        Err(JournalError::Io(e)) if home.exists() && e.is_access_denied() => {}
        Err(e) => return Err(e.into()),
    }

    drop(pointer);
    let within = journal::staging_folder_within(home);
    let pointer = JournalPointer::create(request.manager_home, &within)?;
    let transaction = Transaction::begin(&within, home, &guard)?;
    Ok((pointer, transaction))
}
