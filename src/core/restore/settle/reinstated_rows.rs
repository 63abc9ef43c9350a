//! Restores the rows and names of conversations in a partial restore, which does not replace the databases. Copies them
//! from the archive's state database and session index. Rows and names that the home has stay unchanged.

use crate::archive::{ArchiveReader, FileEntry, file_extract};
use crate::codex::database;
use crate::codex::threads::staged::{self, UnmatchedRows};
use crate::history::{ConversationId, IndexEntry, ThreadNameIndex, session_index};
use crate::io::{IoContext, IoError, atomic, file_open, modes};
use crate::restore::error::RestoreError;
use crate::restore::plan::needed_paths::find_newest_state_database;
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::rollout_index::RolloutIndexes;
use crate::restore::stage::staged_home::Stage;
use crate::restore::stage::workspace::Workspace;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// The largest archived session index that names are read from, in bytes. Codex writes about a hundred bytes per name.
const MAX_INDEX_BYTES: u64 = 64 * 1024 * 1024;

/// The archived rows of the restored conversations.
pub(crate) struct ArchivedRows {
    /// The path of the unpacked state database.
    pub(crate) database: PathBuf,
    /// The ids of the restored conversations.
    pub(crate) ids: HashSet<String>,
}

/// Returns the ids of the restored conversations for a partial restore of the home. Returns an empty set for other
/// restores: a full restore replaces the state database and the session index.
fn list_conversations_to_reinstate(plan: &RestorePlan, stage: &Stage) -> HashSet<String> {
    if plan.partial && plan.target == RestoreTarget::Home {
        stage.rollouts.ids()
    } else {
        HashSet::new()
    }
}

/// Unpacks the archive's state database into the staging folder, and rewrites the paths of rollouts in it to this home.
/// Returns `None` if no row is needed, or if the archived database is missing or damaged.
pub(crate) fn unpack_state_database(
    work: &Workspace<'_>,
) -> Result<Option<ArchivedRows>, RestoreError> {
    let (archive, scratch) = (work.request.archive, work.transaction.folder());
    let ids = list_conversations_to_reinstate(&work.plan, &work.stage);
    if ids.is_empty() {
        return Ok(None);
    }
    let Some(archived_database) = find_newest_state_database(&archive.contents().files) else {
        return Ok(None);
    };

    let database = scratch.join("archived.sqlite");
    unpack_entry(archive, &archived_database, &database)?;

    // A copy made by the Python tool may be torn. Codex creates the rows again from the rollouts.
    if !database::may_be_sqlite(&database) || database::check_integrity(&database).is_err() {
        return Ok(None);
    }

    // The archive may be of another home.
    let home = &work.request.folder;
    let rollouts = RolloutIndexes(vec![&work.stage.rollouts]);
    staged::rewrite_rollout_paths(&database, home, &rollouts, UnmatchedRows::Rebase)?;
    Ok(Some(ArchivedRows { database, ids }))
}

/// Stages a copy of the home's session index, with the archived names of restored conversations that have no name in
/// the home. Does nothing if there is no such name, or if the plan restores the session index itself.
pub(crate) fn stage_archived_names(work: &mut Workspace<'_>) -> Result<(), RestoreError> {
    let (archive, scratch) = (work.request.archive, work.transaction.folder());
    let (plan, stage) = (&mut work.plan, &work.stage);

    let index_name = Path::new(session_index::FILE_NAME);
    let ids = list_conversations_to_reinstate(plan, stage);
    if ids.is_empty() || plan.writes.contains(index_name) {
        return Ok(());
    }

    // A larger index counts as missing, and its conversations stay without a name.
    let mut files = archive.contents().files.iter();
    let is_index = |f: &FileEntry| f.path.as_path() == index_name && f.size <= MAX_INDEX_BYTES;
    let Some(archived_file) = files.find(is_index) else {
        return Ok(());
    };

    let unpacked = scratch.join("archived.jsonl");
    unpack_entry(archive, &archived_file, &unpacked)?;
    let live_path = stage.home().live.join(index_name);
    let live_bytes = file_open::read_if_exists(&live_path)?;
    let new_entries = read_missing_names(ids, &unpacked, &live_path)?;
    if new_entries.is_empty() {
        return Ok(());
    }

    let staged = stage.staged_path(index_name);
    atomic::create_unsynced_folder(atomic::parent_of(&staged))?;
    let is_new = live_bytes.is_none();
    let index = session_index::append_entries(live_bytes.unwrap_or_default(), &new_entries);
    atomic::write(&staged, &index)?;

    if is_new {
        // An undo of the restore removes the added files.
        plan.added.insert(&archived_file.path);
    } else {
        // The staged index replaces the live one and keeps its mode.
        let staged_file = file_open::open(&staged).at("open", &staged)?;
        modes::copy_mode(&live_path, &staged_file).at("set the mode of", &staged)?;
    }

    plan.writes.insert(&archived_file.path);
    Ok(())
}

/// Returns the entries of `ids` in the session index at `archived`, except those of conversations that have a line in
/// the index at `live`.
fn read_missing_names(
    ids: HashSet<String>,
    archived: &Path,
    live: &Path,
) -> Result<Vec<IndexEntry>, IoError> {
    let archived_index = ThreadNameIndex::open(archived)?;
    let live_index = ThreadNameIndex::open(live)?;
    let mut entries = Vec::new();
    // Sorted, because a set has another order in each run.
    let ids: BTreeSet<_> = ids.into_iter().collect();
    for id in ids.iter().map(|id| ConversationId::of(id)) {
        if !live_index.has_line(&id) {
            entries.extend(archived_index.get(&id)?);
        }
    }
    Ok(entries)
}

/// Unpacks one file of the archive into the new file `to`, which is private.
fn unpack_entry(archive: &ArchiveReader, entry: &FileEntry, to: &Path) -> Result<(), RestoreError> {
    let file = atomic::create_private(to)?;
    Ok(file_extract::extract_entry(archive, entry, &file)?)
}
