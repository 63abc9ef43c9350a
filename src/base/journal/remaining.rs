//! Exchanges the steps of a transaction that remain in one direction, also after other programs have
//! changed files.

use super::error::{Direction, JournalError};
use super::policy::RecoveryPolicy;
use super::step::{Step, StepStatus};
use super::transaction::Transaction;
use crate::codex::{database, database_sidecars};
use crate::io::{IoError, atomic};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The numbers of the steps that change each live path.
type StepNumbersByPath = BTreeMap<PathBuf, Vec<usize>>;

impl Transaction {
    /// Returns the numbers of the steps to exchange, in the order of the journal.
    pub(super) fn list_remaining_steps(&self, direction: Direction) -> Result<Vec<usize>, IoError> {
        let mut numbers = Vec::new();
        for (number, step) in self.journal.steps.iter().enumerate() {
            let is_remaining = match (direction, step.read_status()?) {
                (Direction::Forward, status) => status == StepStatus::Pending,
                (Direction::Back, StepStatus::Done) => step.can_be_undone()?,
                (Direction::Back, _) => false,
            };
            if is_remaining {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// Performs or undoes the steps with the numbers `remaining`. Moves the entries that other programs
    /// have put at live paths, and new logs of databases, to the staging folders, which then stay.
    pub(super) fn exchange_remaining(
        &mut self,
        remaining: &[usize],
        direction: Direction,
        policy: &dyn RecoveryPolicy,
    ) -> Result<(), JournalError> {
        let logs = self.find_unrecorded_logs(remaining);
        // `prepare_steps` records this before the first log is moved, because this process may be killed as well.
        self.journal.keeps_staged_files |= !logs.is_empty();
        // A step can become two moves, so the steps may get new numbers.
        let numbers = self.prepare_steps(remaining, direction, policy)?;
        for (log, target) in logs {
            atomic::rename_to_free_unsynced(&log, &target)?;
        }

        let mut steps = numbers.into_iter().map(|n| &self.journal.steps[n]);
        match direction {
            Direction::Forward => steps.try_for_each(Step::apply)?,
            // In reverse order: the removal of a database's log came before the exchange of the database, so the log
            // has to return after the database.
            Direction::Back => steps.rev().try_for_each(Step::undo)?,
        }
        Ok(self.sync_parents()?)
    }

    /// Returns the logs that Codex has written since the kill beside the databases of the remaining steps, each with a
    /// path in the staging folder. If a log stayed, SQLite would apply it to the database that replaces its own.
    fn find_unrecorded_logs(&self, remaining: &[usize]) -> BTreeMap<PathBuf, PathBuf> {
        let steps = remaining.iter().map(|number| &self.journal.steps[*number]);
        // A log that existed before the transaction has a step of its own.
        let live_paths: BTreeSet<_> = steps.clone().map(|step| &step.live).collect();
        let mut logs = BTreeMap::new();
        for step in steps {
            let [wal, _, rollback_journal] = database_sidecars(&step.live);
            for log in [wal, rollback_journal] {
                // The database is locked, so it is not opened to be recognized: this would end the lock.
                if !live_paths.contains(&log) && database::begins_like_log(&log) {
                    let folder = self.journal.staging_folder_of(step);
                    let target = folder.join(log.file_name().unwrap_or_default());
                    logs.insert(log, atomic::find_free_path(&target));
                }
            }
        }
        logs
    }

    /// Calls the policy for each entry that is replaced, and adapts the steps to files that other programs
    /// have replaced since the kill. Returns the numbers of the steps to exchange.
    fn prepare_steps(
        &mut self,
        remaining: &[usize],
        direction: Direction,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Vec<usize>, JournalError> {
        if remaining.is_empty() {
            return Ok(Vec::new());
        }

        let mut numbers_by_path = StepNumbersByPath::new();
        for &number in remaining {
            let live = self.journal.steps[number].live.clone();
            numbers_by_path.entry(live).or_default().push(number);
        }

        let home = &self.journal.home.0;
        let mut foreign_paths = BTreeSet::new();
        for (live, numbers) in &numbers_by_path {
            let steps = numbers.iter().map(|n| &self.journal.steps[*n]);
            let filling_step = steps.clone().find(|s| s.fills_live_path(direction));
            let incoming = filling_step.map(|step| step.staged.as_path());
            // Called before any exchange: a login without another copy has to be saved first, and a refusal must
            // leave all steps as they are.
            policy.before_exchange(home, live, incoming)?;

            // The entry is foreign only if no step has recorded it: of two moves, one may not know it.
            let mut is_foreign = true;
            for step in steps {
                is_foreign &= step.is_foreign_entry_at(live)?;
            }
            if is_foreign {
                foreign_paths.insert(live.clone());
                self.journal.keeps_staged_files |= !policy.is_disposable(home, live);
            }
        }

        let adapted_numbers = self.adapt_steps(&numbers_by_path, &foreign_paths, direction)?;
        match self.write_journal() {
            // The disk is full. If this process is killed as well, the next recovery works with the old journal.
            Err(JournalError::Io(e)) if e.is_no_space() && !self.journal.keeps_staged_files => {}
            written => written?,
        }
        Ok(adapted_numbers)
    }

    /// Records the ids of replaced files in the remaining steps. `foreign_paths` are the live paths with an entry of
    /// another program. An exchange can become two moves, so the steps get new numbers. Returns the new numbers of the
    /// remaining steps.
    fn adapt_steps(
        &mut self,
        numbers_by_path: &StepNumbersByPath,
        foreign_paths: &BTreeSet<PathBuf>,
        direction: Direction,
    ) -> Result<Vec<usize>, IoError> {
        let mut interim = self.new_interim_paths();
        let mut adapted_numbers = Vec::new();

        // The caller writes the journal before the first of these steps is done: without recorded ids, a step cannot be
        // recognized after another kill.
        let steps = std::mem::take(&mut self.journal.steps);
        for (number, mut step) in steps.into_iter().enumerate() {
            let path_numbers = numbers_by_path.get(&step.live);
            let Some(path_numbers) = path_numbers.filter(|n| n.contains(&number)) else {
                self.journal.steps.push(step);
                continue;
            };

            let is_foreign = foreign_paths.contains(&step.live);
            let is_one_of_two_moves = path_numbers.len() > 1;
            let adapted = if is_foreign && is_one_of_two_moves {
                step.record_live_entry(direction)?;
                vec![step]
            } else {
                if is_foreign || step.is_foreign_entry_at(&step.staged)? {
                    step.record_current_ids(direction)?;
                }
                let moves = interim.plan_two_moves(&self.journal, &step, direction)?;
                moves.map_or_else(|| vec![step], Vec::from)
            };

            let first_number = self.journal.steps.len();
            adapted_numbers.extend(first_number..first_number + adapted.len());
            self.journal.steps.extend(adapted);
        }
        Ok(adapted_numbers)
    }
}
