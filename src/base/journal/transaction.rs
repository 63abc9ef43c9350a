//! A transaction that is prepared and committed: its staging folders, its journal, and the exchange of all steps.

use super::access;
use super::database_locks::DatabaseLocks;
use super::document::{JOURNAL_NAME, JournalFile, JournalState, LOCK_NAME};
use super::error::{Direction, JournalError};
use super::folder::{self, KeptAs};
use super::late_writes::{LateWrites, WriteSide};
use super::policy::{NoPolicy, RecoveryPolicy};
use super::step::Step;
use super::write_times::BeginTime;
use crate::codex::{Holder, ProcessRole};
use crate::io::disk_clock::read_filesystem_clock_ns;
use crate::io::{
    FileLock, IoContext, IoError, ListedPath, atomic, document, exchange, file_open, owner,
    sharing, tree, tree_sync,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// 10 minutes. If the time of a file is further ahead of the clock, a program or a wrong clock has set it, and the file
/// was not written now.
const MAX_FUTURE_NS: i64 = 600_000_000_000;

/// A transaction that is being prepared. Dropping it before [`Transaction::commit`] removes its
/// folders.
#[derive(Debug)]
pub struct Transaction {
    pub(super) journal: JournalFile,
    journal_path: PathBuf,
    pub(super) keeps_folders_on_drop: bool,
    /// A spare open descriptor. Closing it lets the folders be removed even if the process is at its limit of open
    /// files.
    reserve_descriptor: Option<File>,
    /// `None` for a transaction that is recovered.
    pub(super) begin_time: Option<BeginTime>,
    lock: Option<FileLock>,
    /// The live paths whose owner, group, access list or attributes the system refused to keep.
    pub not_kept: Vec<PathBuf>,
}

impl Transaction {
    /// Begins a transaction that changes `home`, with a new journal in `folder`. `lock` is the lock of the folder.
    pub(super) fn start(folder: &Path, home: &Path, lock: FileLock) -> Result<Self, JournalError> {
        let reserve_descriptor = file_open::open(folder.join(LOCK_NAME))
            .inspect_err(|_| discard_empty(folder))
            .at("open", folder.join(LOCK_NAME))?;

        let folders = vec![ListedPath(folder.to_path_buf())];
        let journal = JournalFile::without_steps(folders, ListedPath(home.to_path_buf()));
        let mut transaction = Self::from_journal(folder, journal, lock);
        transaction.reserve_descriptor = Some(reserve_descriptor);

        let begin_time = BeginTime::read_after_tick(folder)?;
        transaction.journal.begun_ns.push(begin_time.clock_ns);
        transaction.begin_time = Some(begin_time);

        transaction.write_journal()?;
        Ok(transaction)
    }

    /// Returns the transaction of a journal that was read from `folder`.
    pub(super) fn from_journal(folder: &Path, journal: JournalFile, lock: FileLock) -> Self {
        Self {
            journal,
            journal_path: folder.join(JOURNAL_NAME),
            keeps_folders_on_drop: false,
            reserve_descriptor: None,
            begin_time: None,
            lock: Some(lock),
            not_kept: Vec::new(),
        }
    }

    /// Treats writes to the old state as late from `planned` on, which is before the transaction began. Call this
    /// before folders are added.
    pub fn include_writes_since(&mut self, planned: Instant) {
        if let Some(begin_time) = &mut self.begin_time {
            begin_time.move_back(planned);
            self.journal.begun_ns = vec![begin_time.clock_ns];
        }
    }

    /// Adds a staging folder, such as one on another file system. Records the folder in the journal before creating it.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), JournalError> {
        if self.journal.folders.iter().any(|listed| listed.0 == folder) {
            // Two links in a home may lead to one folder.
            return Ok(());
        }

        // The journal on disk names the folder before it exists: a cleanup tolerates a missing folder, but cannot find
        // a folder that no journal names.
        self.journal.folders.push(ListedPath(folder.to_path_buf()));
        self.write_journal()?;

        folder::create_staging_folder(folder).inspect_err(|_| {
            // The folder is missing or belongs to another transaction, so this transaction must not remove it. The
            // journal on disk names it until the next write.
            self.journal.folders.pop();
        })?;

        // The clock of another file system can differ, so each folder records the begin by its own clock.
        if let Some(begin_time) = &self.begin_time {
            let begun_ns = begin_time.read_begin_ns_on(folder, self.folder())?;
            self.journal.begun_ns.push(begun_ns);
        }
        Ok(())
    }

    /// Returns the staging folder with the journal.
    pub fn folder(&self) -> &Path {
        &self.journal.folders[0].0
    }

    /// Performs `steps`, so that the new state is final. The returned transaction still has the old state.
    ///
    /// # Errors
    /// - Before the steps: two steps change the same path, processes use the home, or files were written since the
    ///   transaction began. No step was done.
    /// - From the first step on: a step failed, the folders could not be synced, or processes that use the home or
    ///   written files were found. The steps were undone.
    /// - The undo failed. The journal stays, and the next command undoes the rest.
    pub fn commit(
        mut self,
        mut steps: Vec<Step>,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Self, JournalError> {
        drop_duplicate_steps(&mut steps);
        check_disjoint(steps.iter().map(|step| step.live.as_path()))?;
        check_disjoint(steps.iter().map(|step| step.staged.as_path()))?;
        let supported_steps = self.replace_unsupported_exchanges(steps.clone())?;
        self.not_kept = access::hand_over(&steps)?;

        // The check for late writes compares both sides of an exchange, so it needs the steps before they are replaced
        // by moves.
        self.journal.steps = steps;

        // The staged files must be durable before the journal says `committing`: after a power failure, a recovery
        // exchanges whatever is staged.
        for folder in &self.journal.folders {
            tree_sync::sync_tree(&folder.0)?;
        }

        self.refuse_late_writes(WriteSide::Live, policy)?;
        self.journal.steps = supported_steps;

        // The sync above can take minutes, so the databases are locked after it: Codex 0.169 fails if a database is
        // locked for more than 15 seconds.
        let locks = self.lock_idle_home(self.journal.steps.iter(), policy);
        let locks = locks.map_err(JournalError::Busy)?;

        // As late as possible, because a recovery takes every later write for a write of another process.
        self.journal.exchange_begun_ns = self.read_clocks_ns()?;
        if let Err(e) = self.set_state(JournalState::Committing) {
            // No step is done, so the staged files may be removed.
            self.reset_journal()?;
            return Err(e);
        }

        let applied = self.journal.steps.iter().try_for_each(Step::apply);
        let applied = applied.and_then(|()| self.sync_parents());
        let applied = applied.map_err(JournalError::from);
        if let Err(cause) = applied.and_then(|()| self.check_old_state_unused(policy)) {
            return Err(self.undo_because_of(cause, locks)?);
        }

        // Until the journal says `committed`, the staged files are the only way back. If the journal cannot be written,
        // a later process finds every step done and removes the old state.
        self.keeps_folders_on_drop = self.record_committed().is_err();
        Ok(self)
    }

    /// Removes the old state after [`Transaction::commit`]. Returns the folders that stay: those that
    /// could not be removed, or the staging folder if the journal does not say `committed`.
    pub fn remove_old_state(mut self) -> Vec<PathBuf> {
        if self.keeps_folders_on_drop {
            return vec![self.folder().to_path_buf()];
        }
        self.remove_folders()
    }

    /// Locks the databases of `steps`, and checks that no process uses the home.
    ///
    /// # Errors
    /// The processes that use the home.
    pub(super) fn lock_idle_home<'a>(
        &self,
        steps: impl Iterator<Item = &'a Step>,
        policy: &dyn RecoveryPolicy,
    ) -> Result<DatabaseLocks, Vec<Holder>> {
        let lock_result = DatabaseLocks::acquire(steps);
        // Lists the processes after the locks: a process that starts later finds the databases locked.
        let holders = self.find_holders(policy);
        if !holders.is_empty() {
            return Err(holders);
        }

        // Another process has locked this database, although the list does not show it.
        lock_result.map_err(|open_file| {
            vec![Holder {
                pid: None,
                name: "a process".into(),
                role: ProcessRole::OtherProgram { open_file },
            }]
        })
    }

    /// Reads the clock of the file system of each staging folder, in nanoseconds since 1970.
    fn read_clocks_ns(&self) -> Result<Vec<i64>, IoError> {
        let folders = self.journal.folders.iter();
        let clocks = folders.map(|folder| read_filesystem_clock_ns(&folder.0));
        clocks.collect()
    }

    fn find_holders(&self, policy: &dyn RecoveryPolicy) -> Vec<Holder> {
        let folders = self.journal.folders.iter();
        let folders: Vec<PathBuf> = folders.map(|folder| folder.0.clone()).collect();
        policy.find_holders(&self.journal.home.0, &folders)
    }

    /// Fails if the old state, which is staged now, is in use or was written.
    fn check_old_state_unused(&self, policy: &dyn RecoveryPolicy) -> Result<(), JournalError> {
        // Lists the processes first. In the other order, a process could write after the check of the files and end
        // before the list. A process that starts now finds the new state.
        let holders = self.find_holders(policy);
        if !holders.is_empty() {
            return Err(JournalError::OpenedMeanwhile {
                holders,
                // The undo fills it.
                kept: Vec::new(),
            });
        }
        self.refuse_late_writes(WriteSide::Staged, policy)
    }

    /// Fails if files of the old state, which is at `side`, were written since the transaction began.
    fn refuse_late_writes(
        &self,
        side: WriteSide,
        policy: &dyn RecoveryPolicy,
    ) -> Result<(), JournalError> {
        if let Some(begin_time) = &self.begin_time {
            begin_time.refuse_clock_set_back(self.folder())?;
        }

        // The clock was not set back, so a file with a time in the future had it before the transaction. Without this
        // limit, the file would stop every command until that time.
        let mut latest_ns = self.read_clocks_ns()?;
        for clock_ns in &mut latest_ns {
            *clock_ns += MAX_FUTURE_NS;
        }

        let files = self.find_late_writes(Direction::Forward, policy, side, &latest_ns)?;
        if files.is_empty() {
            return Ok(());
        }
        Err(JournalError::WrittenMeanwhile {
            files,
            // The undo fills it.
            kept: Vec::new(),
        })
    }

    /// Returns the live paths of the files at `side` that were written late, for an exchange in this direction.
    /// `latest_ns` has the latest time that counts for each staging folder. If it is empty, there is no latest time.
    pub(super) fn find_late_writes(
        &self,
        direction: Direction,
        policy: &dyn RecoveryPolicy,
        side: WriteSide,
        latest_ns: &[i64],
    ) -> Result<Vec<PathBuf>, IoError> {
        let home = &self.journal.home.0;

        // A write to the old state is late after the transaction began, a write to the new state after the exchange
        // began.
        let start_ns = match direction {
            Direction::Forward => &self.journal.begun_ns,
            Direction::Back => &self.journal.exchange_begun_ns,
        };

        let mut files = Vec::new();
        let steps = self.journal.steps.iter();
        for step in steps.filter(|step| self.journal.is_staged_in_own_folder(step)) {
            let writes = LateWrites {
                // Without a recorded time, every write counts as late.
                since_ns: self.journal.time_for(step, start_ns).unwrap_or_default(),
                until_ns: self.journal.time_for(step, latest_ns).unwrap_or(i64::MAX),
                is_disposable: &|live| policy.is_disposable(home, live),
            };
            writes.collect_late_files(step, side, &mut files)?;
        }
        Ok(files)
    }

    /// Undoes the steps because of `cause` and returns `cause`. If a program may have written to the new state, moves
    /// its files to folders that stay, and adds these to `cause`.
    ///
    /// # Errors
    /// The steps cannot be undone.
    fn undo_because_of(
        &mut self,
        mut cause: JournalError,
        locks: DatabaseLocks,
    ) -> Result<JournalError, JournalError> {
        // A program that has opened a file of the new state may still write to it.
        self.journal.keeps_staged_files = matches!(cause, JournalError::OpenedMeanwhile { .. });
        // If this write fails and the process is killed, a recovery may complete the new state, which is complete too.
        let _ = self.set_state(JournalState::Undoing);

        // Without the policy, nothing refuses the undo, and writes to disposable files count as late, too.
        let done_steps = self.list_remaining_steps(Direction::Back)?;
        self.exchange_remaining(&done_steps, Direction::Back, &NoPolicy)?;
        locks.release();

        self.journal.keeps_staged_files |= self.has_late_writes(Direction::Back, &NoPolicy)?;
        self.reset_journal()?;

        if self.journal.keeps_staged_files {
            let folders = self.move_staged_to_kept_folders()?;
            if let JournalError::OpenedMeanwhile { kept, .. }
            | JournalError::WrittenMeanwhile { kept, .. } = &mut cause
            {
                *kept = folders;
            }
        }
        Ok(cause)
    }

    /// Replaces exchanges by two moves where the file system has no call for an exchange.
    pub(super) fn replace_unsupported_exchanges(
        &self,
        steps: Vec<Step>,
    ) -> Result<Vec<Step>, IoError> {
        let mut interim = self.new_interim_paths();
        let mut supported_steps = Vec::with_capacity(steps.len());
        for step in steps {
            match interim.plan_two_moves(&self.journal, &step, Direction::Forward)? {
                Some(moves) => supported_steps.extend(moves),
                None => supported_steps.push(step),
            }
        }
        Ok(supported_steps)
    }

    /// Returns a generator of paths for entries between two moves. It avoids the staged paths of the recorded steps.
    pub(super) fn new_interim_paths(&self) -> InterimPaths {
        let steps = self.journal.steps.iter();
        InterimPaths {
            supported: HashMap::new(),
            staged_paths: steps.map(|step| step.staged.clone()).collect(),
            next_number: 0,
        }
    }

    /// Records durably that all steps are done, so that the staged files may be removed.
    pub(super) fn record_committed(&mut self) -> Result<(), JournalError> {
        // On a full disk, the journal cannot be replaced, but it can be removed. Without a journal, a recovery removes
        // the staged files as well.
        self.set_state(JournalState::Committed)
            .or_else(|_| self.remove_journal_unless_needed())
    }

    /// Replaces the journal by one without steps, after all steps were undone. Until then the staged files have to
    /// stay, because another process may follow the old journal. `keeps_staged_files` stays as it is.
    pub(super) fn reset_journal(&mut self) -> Result<(), JournalError> {
        let (folders, home) = (self.journal.folders.clone(), self.journal.home.clone());
        let keeps_staged_files = self.journal.keeps_staged_files;
        self.journal = JournalFile::without_steps(folders, home);
        self.journal.keeps_staged_files = keeps_staged_files;
        self.write_journal()
            .or_else(|_| self.remove_journal_unless_needed())
    }

    /// Removes the journal, which needs no disk space. Removes the other folders first, because a recovery without a
    /// journal knows only the first one. Leaves the journal in place if staged files must be kept.
    fn remove_journal_unless_needed(&mut self) -> Result<(), JournalError> {
        if self.journal.keeps_staged_files {
            // A later process finds no step left to do or to undo.
            return Ok(());
        }
        for ListedPath(folder) in self.journal.folders.split_off(1) {
            tree::remove(&folder)?;
        }
        tree::remove(&self.journal_path)?;
        Ok(atomic::sync_folder(self.folder())?)
    }

    pub(super) fn set_state(&mut self, state: JournalState) -> Result<(), JournalError> {
        self.journal.state = state;
        self.write_journal()
    }

    pub(super) fn write_journal(&self) -> Result<(), JournalError> {
        Ok(document::write(&self.journal_path, &self.journal)?)
    }

    pub(super) fn sync_parents(&self) -> Result<(), IoError> {
        #[cfg(test)]
        super::tests::before_sync()?;
        let steps = self.journal.steps.iter();
        let paths = steps.flat_map(|step| [&step.live, &step.staged]);
        let parents: BTreeSet<&Path> = paths.map(|path| atomic::parent_of(path)).collect();
        parents.into_iter().try_for_each(atomic::sync_folder)
    }

    /// Removes the staging folders, the folder with the journal last, and its lock after everything else: once the lock
    /// is gone, another transaction can begin in the folder. Returns the paths of folders that could not be removed,
    /// some of them renamed.
    pub(super) fn remove_folders(&mut self) -> Vec<PathBuf> {
        self.keeps_folders_on_drop = true;
        // Frees a descriptor, which the removal needs.
        self.reserve_descriptor = None;
        let folders = self.journal.folders.iter().rev();
        let remaining_folders = folders.filter_map(|folder| remove_or_rename(&folder.0));
        let remaining_folders = remaining_folders.collect();
        self.close_lock_and_remove_folder();
        remaining_folders
    }

    /// Closes the removed lock file, then removes the staging folder if it is empty. FAT, network disks and Windows
    /// keep the name of an open file, and so the folder. If another transaction has begun in the folder, it is not
    /// empty.
    fn close_lock_and_remove_folder(&mut self) {
        self.lock = None;
        let _ = sharing::remove_dir(self.folder());
    }

    /// Moves all staged files into permanent folders, then removes the staging folders. Returns the permanent folders,
    /// and the paths of staging folders that could not be removed.
    ///
    /// # Errors
    /// A file or folder cannot be moved. The journal stays, and the next command tries again.
    pub(super) fn move_staged_to_kept_folders(&mut self) -> Result<Vec<PathBuf>, IoError> {
        self.keeps_folders_on_drop = true;
        let mut kept_folders = Vec::new();

        for ListedPath(folder) in &self.journal.folders {
            let kept_folder = folder::find_free_path(folder, KeptAs::Evidence);
            let own_names = [LOCK_NAME, JOURNAL_NAME].map(OsStr::new);
            // An earlier process may have moved its files and removed the folder.
            let entries = tree::list_if_exists(folder)?.into_iter();
            let staged_names: Vec<_> = entries
                .map(|(name, _)| name)
                .filter(|name| !own_names.contains(&name.as_os_str()))
                .collect();
            if staged_names.is_empty() {
                continue;
            }

            // Moves the entries, because Windows refuses to rename a folder with an open file, here the lock.
            atomic::create_private_folder(&kept_folder)?;
            owner::copy_owner(folder, &kept_folder);
            for name in staged_names {
                atomic::rename_to_free_unsynced(&folder.join(&name), &kept_folder.join(&name))?;
            }
            atomic::sync_folder(&kept_folder)?;
            atomic::sync_folder(atomic::parent_of(&kept_folder))?;
            kept_folders.push(kept_folder);
        }

        kept_folders.extend(self.remove_folders());
        Ok(kept_folders)
    }
}

/// Free paths for entries between two moves, on file systems without a call for an exchange.
pub(super) struct InterimPaths {
    /// For each staging folder that was probed, true if its file system has a call for an exchange.
    supported: HashMap<PathBuf, bool>,
    /// The staged paths of all steps.
    staged_paths: HashSet<PathBuf>,
    next_number: u64,
}

impl InterimPaths {
    /// Returns the two moves that replace an exchange; `None` if the step needs none.
    pub(super) fn plan_two_moves(
        &mut self,
        journal: &JournalFile,
        step: &Step,
        direction: Direction,
    ) -> Result<Option<[Step; 2]>, IoError> {
        if !step.is_exchange() {
            return Ok(None);
        }

        let staging = journal.staging_folder_of(step);
        let is_supported = match self.supported.get(staging) {
            Some(is_supported) => *is_supported,
            None => exchange::is_supported(staging).at("probe", staging)?,
        };
        self.supported.insert(staging.to_path_buf(), is_supported);
        if is_supported {
            return Ok(None);
        }

        let folder = staging.join("replaced");
        atomic::create_private_folder(&folder)?;
        let is_taken =
            |path: &PathBuf| self.staged_paths.contains(path) || path.symlink_metadata().is_ok();
        while is_taken(&folder.join(self.next_number.to_string())) {
            self.next_number += 1;
        }
        let aside = folder.join(self.next_number.to_string());
        self.next_number += 1;
        Ok(step.to_two_moves(aside, direction))
    }
}

/// Removes a staging folder. If that fails, renames the folder, so that it blocks no later transaction,
/// and returns the path of the folder.
fn remove_or_rename(folder: &Path) -> Option<PathBuf> {
    if remove_with_lock(folder).is_ok() {
        return None;
    }

    let renamed_path = folder::find_free_path(folder, KeptAs::Leftover);
    // Needs no fsync, because a later command finds the folder under either name.
    let left_path = match sharing::rename(folder, &renamed_path) {
        Ok(()) => renamed_path,
        Err(_) => folder.to_path_buf(),
    };

    // Without its journal, a later recovery cannot take the folder for an interrupted transaction.
    let _ = tree::remove(&left_path.join(JOURNAL_NAME));
    tree::remove(&left_path).is_err().then_some(left_path)
}

/// Drops repeated steps: two links in a home may lead to one folder.
fn drop_duplicate_steps(steps: &mut Vec<Step>) {
    let mut path_pairs = HashSet::new();
    steps.retain(|step| path_pairs.insert((step.live.clone(), step.staged.clone())));
}

/// Removes a staging folder that is empty except for its lock.
pub(super) fn discard_empty(folder: &Path) {
    let _ = (
        sharing::remove_file(folder.join(LOCK_NAME)),
        sharing::remove_dir(folder),
    );
}

/// Fails if one path equals another or is below it.
fn check_disjoint<'a>(
    mut paths: impl Iterator<Item = &'a Path> + Clone,
) -> Result<(), JournalError> {
    let mut all_paths = HashSet::new();
    for path in paths.clone() {
        // `insert` returns false for a path that the set already has.
        if !all_paths.insert(path) {
            return Err(JournalError::ConflictingSteps(path.to_path_buf()));
        }
    }

    let is_below_another = |path: &&Path| {
        let mut ancestors = path.ancestors().skip(1);
        ancestors.any(|ancestor| all_paths.contains(ancestor))
    };
    match paths.find(is_below_another) {
        Some(path) => Err(JournalError::ConflictingSteps(path.to_path_buf())),
        None => Ok(()),
    }
}

/// Removes a staging folder, its journal and lock last: once the lock is gone, another transaction may begin there.
fn remove_with_lock(folder: &Path) -> Result<(), IoError> {
    let (lock, journal) = (folder.join(LOCK_NAME), folder.join(JOURNAL_NAME));
    for (name, _) in tree::list_if_exists(folder)? {
        let path = folder.join(name);
        if path != lock && path != journal {
            tree::remove(&path)?;
        }
    }

    tree::remove(&journal)?;
    tree::remove(&lock)?;
    // Once the lock is gone, another transaction may begin in the folder, or remove it.
    match sharing::remove_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => Ok(()),
        other => other.at("remove", folder),
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.keeps_folders_on_drop && self.journal.state == JournalState::Prepared {
            // Frees a descriptor, which the removal needs.
            self.reserve_descriptor = None;
            // The next command removes what cannot be removed now.
            for folder in self.journal.folders.iter().rev() {
                let _ = remove_with_lock(&folder.0);
            }
            self.close_lock_and_remove_folder();
        }
    }
}
