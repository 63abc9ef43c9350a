//! Runs a restore, from the first check to the record of the new login.

use super::error::RestoreError;
use super::exchange;
use super::plan::live_files::LiveFiles;
use super::plan::request::RestoreRequest;
use super::plan::restore_plan::RestorePlan;
use super::plan::rollout_index::RolloutIndex;
use super::plan::target;
use super::recover::login_guard::LoginGuard;
use super::settle::{databases, login, replaced_links, safety, unchanged};
use super::stage::extract::ExtractSink;
use super::stage::workspace::Workspace;
use super::stage::{equal_rollouts, merge};
use crate::accounts::AuthOutcome;
use crate::archive::{ArchiveReader, Extent, NameSet, PublishedArchive};
use crate::codex::{HomeEntryKind, kind_of};
use crate::io::{Progress, pluralize, similar};
use crate::journal::{JournalError, Step, Transaction};
use std::path::{Path, PathBuf};

/// The result of a completed restore.
#[derive(Debug)]
pub struct RestoreReport {
    /// The number of restored files, including the login.
    pub files: u64,
    /// The size of the restored files in bytes, including the login.
    pub bytes: u64,
    /// The number of rollouts that were not written, because the home had them with the same content.
    pub unchanged: u64,
    /// The names of the live files that were removed; see [`RestorePlan::removed`].
    pub removed: NameSet,
    /// The safety backup; `None` if the request did not ask for one, or nothing needed it.
    pub safety: Option<PublishedArchive>,
    /// The login that is live now.
    pub auth: AuthOutcome,
    /// True if the restore made another login live than before.
    pub is_login_replaced: bool,
    /// Sentences for the user about exceptions, without a final period.
    pub notes: Vec<String>,
    /// The reason why the new owner of the login could not be recorded. The restore is complete all the same.
    pub owner_error: Option<RestoreError>,
}

/// Checks a request and computes its plan. Writes nothing, not even `-shm` files of databases.
///
/// # Errors
/// Errors of the plan itself: the archive, the target, the selection, the account. Processes,
/// mounts and disk space are checked by [`apply`] only.
pub fn plan(request: &RestoreRequest<'_>) -> Result<RestorePlan, RestoreError> {
    target::plan_with_live_files(request).map(|(plan, _)| plan)
}

/// Restores the archive. Stages the new state and saves the old one before any live file changes, then exchanges the
/// two states. After a kill, the old state or the new one is live, or the next command completes one of them.
///
/// # Errors
/// See [`RestoreError`]. If only the owner of the login cannot be recorded, returns the report with
/// [`RestoreReport::owner_error`].
pub fn apply(
    request: &RestoreRequest<'_>,
    progress: &dyn Progress,
) -> Result<RestoreReport, RestoreError> {
    check_idle(request)?;
    let mut work = Workspace::open(request, progress)?;
    let PreparedExchange {
        steps,
        restored_names,
        safety_backup,
        staged_login,
    } = prepare_exchange(&mut work, progress).map_err(|e| e.of_home(&work.stage.home().live))?;
    let committed = exchange_states(request, work.transaction, steps)?;
    work.notes.extend(describe_lost_access(&committed.not_kept));

    // The exchange is done, so later errors are reported but do not fail the restore. The owners are recorded before
    // the old state is removed: the removal takes long for a large home, and without the record another home could use
    // the login.
    let first_error = staged_login.record_owners(request).err();
    work.notes.extend(remove_old_state(committed));
    // The disk may have been full, and the removal has freed space.
    let owner_error = first_error.and_then(|_| staged_login.record_owners(request).err());
    let restored = count_restored(request.archive, &restored_names, staged_login.outcome);

    Ok(RestoreReport {
        files: restored.files,
        bytes: restored.bytes,
        unchanged: work.stage.equal_rollouts.len() as u64,
        removed: work.plan.removed_files(),
        safety: safety_backup,
        auth: staged_login.outcome,
        is_login_replaced: staged_login.is_replaced(),
        notes: work.notes,
        owner_error,
    })
}

/// The staged state, complete.
struct PreparedExchange {
    steps: Vec<Step>,
    restored_names: NameSet,
    safety_backup: Option<PublishedArchive>,
    staged_login: login::StagedLogin,
}

/// Stages the new state and saves the old one. Changes no live file.
fn prepare_exchange(
    work: &mut Workspace<'_>,
    progress: &dyn Progress,
) -> Result<PreparedExchange, RestoreError> {
    stage_planned_entries(work, progress)?;
    databases::prepare_python_databases(work)?;
    let kept_rollouts = merge::merge(&mut work.stage, &mut work.plan, &work.live.names)?;
    // Copied before live databases join `plan.writes`: their rows change, but they do not count as restored.
    let restored_names = work.plan.writes.clone();
    let outside = databases::adapt_databases(work, &kept_rollouts)?;

    // A refusal after the safety backup would leave one for each attempt.
    exchange::refuse_mounts(work)?;
    login::refuse_mounted_login(work)?;
    // Freed because the safety backup needs memory of its own.
    work.stage.rollouts = RolloutIndex::default();
    let safety_backup = safety::make_backup(work, &outside, progress)?;
    unchanged::stage_unchanged(work, &outside)?;

    // The login is staged last, because Codex cannot renew its login from here on.
    let staged_login = login::stage_login(work)?;
    replaced_links::stage(work)?;

    let steps = exchange::plan_steps(work, &outside)?;
    work.notes.extend(exchange::describe_replaced_links(work));
    let (plan, stage) = (&work.plan, &work.stage);
    equal_rollouts::check_linked_rollouts_unchanged(work.request.archive.contents(), plan, stage)?;
    Ok(PreparedExchange {
        steps,
        restored_names,
        safety_backup,
        staged_login,
    })
}

/// Fails if other processes use the home.
fn check_idle(request: &RestoreRequest<'_>) -> Result<(), RestoreError> {
    let busy = target::find_holders(request);
    if !busy.is_empty() {
        return Err(RestoreError::Busy(busy));
    }
    Ok(())
}

/// Unpacks the planned files into the stage, except for the rollouts that the home has with equal content, and creates
/// the links and folders. A restore of the whole archive checks all digests of the archive.
fn stage_planned_entries(
    work: &mut Workspace<'_>,
    progress: &dyn Progress,
) -> Result<(), RestoreError> {
    let (archive, plan) = (work.request.archive, &work.plan);

    // A partial restore checks only the digests of the restored files, so other parts of the archive may be damaged.
    let extent = if plan.partial {
        Extent::Wanted
    } else {
        Extent::All
    };

    let extract_sink = ExtractSink::new(&work.stage, plan);
    archive.read(extent, &extract_sink, progress)?;
    work.stage.login = extract_sink.into_login();

    work.stage.rollouts = RolloutIndex::from_files(&plan.writes);
    work.stage
        .create_links_and_folders(archive.contents(), plan)?;

    work.notes.extend(describe_kept(archive, &work.live, plan));
    if archive.is_python() {
        work.notes.push(
            "the archive was made by the Python codex-manager and has no digests; names, CRC and databases were checked"
                .into(),
        );
    }

    Ok(())
}

/// Returns sentences about the paths of which a restore of the whole archive changes nothing: those that the backup had
/// skipped, and folders that cannot be listed.
fn describe_kept(archive: &ArchiveReader, live: &LiveFiles, plan: &RestorePlan) -> Vec<String> {
    if plan.partial {
        return Vec::new();
    }
    let skipped = &archive.contents().skipped;
    let is_skipped = |path: &Path| {
        skipped
            .iter()
            .any(|above| path.starts_with(above.as_path()))
    };
    // No archive has these folders anyway, and the first sentence names what is skipped.
    let is_new = |path: &&PathBuf| kind_of(path).is_archived_by_default() && !is_skipped(path);
    let skipped: Vec<_> = skipped.iter().map(ToString::to_string).collect();
    let unreadable = live.unreadable.iter().filter(is_new);
    let unreadable: Vec<_> = unreadable.map(|path| path.display().to_string()).collect();
    let describe = |why: &str, paths: &[String]| {
        let names = similar::join_first_names(paths);
        (!paths.is_empty()).then(|| format!("{why}, so nothing was changed there: {names}"))
    };
    [
        describe("the backup had skipped a part of the home", &skipped),
        describe("a part of the home cannot be read", &unreadable),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Exchanges the live state and the staged state.
fn exchange_states(
    request: &RestoreRequest<'_>,
    transaction: Transaction,
    steps: Vec<Step>,
) -> Result<Transaction, RestoreError> {
    match transaction.commit(steps, &LoginGuard::from_request(request)) {
        // The hint of `RestoreError::Busy` names the options of `restore`.
        Err(JournalError::Busy(holders)) => Err(RestoreError::Busy(holders)),
        other => Ok(other?),
    }
}

/// Returns a sentence about the entries whose access could not be kept.
fn describe_lost_access(paths: &[PathBuf]) -> Option<String> {
    let first = paths.first()?.display();
    let count = pluralize(paths.len(), "replaced entry");
    Some(format!(
        "the owner, group, access list or attributes of {count} could not be kept, such as those of {first}"
    ))
}

/// Removes the old state. Returns a sentence for each part of it that could not be removed.
fn remove_old_state(committed: Transaction) -> Vec<String> {
    let format_note = |path: &PathBuf| {
        let path = path.display();
        format!("the replaced files are no longer needed, but could not be removed: {path}")
    };
    committed
        .remove_old_state()
        .iter()
        .map(format_note)
        .collect()
}

/// The number of restored files and their size.
pub struct RestoredCounts {
    pub files: u64,
    pub bytes: u64,
}

/// Counts the restored files, including the login, which is not in `restored_names`.
pub fn count_restored(
    archive: &ArchiveReader,
    restored_names: &NameSet,
    login: AuthOutcome,
) -> RestoredCounts {
    let restores_login = login == AuthOutcome::Restored;
    let is_restored = |path: &Path| {
        restored_names.contains(path) || (restores_login && kind_of(path) == HomeEntryKind::Auth)
    };

    let files = archive.contents().files.iter();
    let restored_files = files.filter(|file| is_restored(file.path.as_path()));

    RestoredCounts {
        files: restored_names.len() as u64 + u64::from(restores_login),
        bytes: restored_files.fold(0, |sum, file| sum.saturating_add(file.size)),
    }
}
