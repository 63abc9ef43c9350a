//! Compresses the rollouts of conversations that have not changed for a while, and expands compressed ones.

use super::facts;
use super::form::{self, ConversionError, Form, FormSizes, NewForm};
use super::selection::{ResolvedNames, allows_project, read_rows_by_id};
use super::walk::{self, RolloutUsage, find_rollouts};
use crate::codex::{ARCHIVED_SESSIONS, SESSIONS};
use crate::history::ConversationId;
use crate::io::{
    IoError, OrdinaryPath, ProcessTable, Progress, parallel, progress, serialize_displayed,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The size, in bytes, from which rollouts are compressed one at a time by all threads. Smaller rollouts are compressed
/// side by side: each needs a window of at most its own size.
const LARGE_BYTES: u64 = 32 << 20;

/// The largest number of bytes of text that the estimate of a plan reads.
const SAMPLE_BYTES: u64 = 64 << 20;

/// The largest number of bytes of text that the estimate of a report reads.
const REPORT_SAMPLE_BYTES: u64 = 8 << 20;

/// The default time since the last change, in days.
pub const DEFAULT_DAYS: i64 = 14;

/// The default smallest size, in bytes.
pub const DEFAULT_MIN_BYTES: u64 = 16_000;

/// The largest number of rollouts that an estimate reads.
const SAMPLE_ROLLOUTS: usize = 64;

/// The new size of a rollout in bytes, or an error; `None` if the conversion was not begun.
type ConversionResult = Option<Result<u64, ConversionError>>;

/// Chooses the rollouts to convert.
#[derive(Debug, Clone)]
pub struct ShrinkFilter {
    pub to: Form,
    /// The least time since the last change. Does not apply to conversations in `sessions`.
    pub older_than: TimeDelta,
    /// The smallest size in bytes. Does not apply to conversations in `sessions`.
    pub min_bytes: u64,
    /// Folders that conversations work in; empty for any.
    pub projects: Vec<PathBuf>,
    /// Ids, titles, or beginnings of either; empty for any.
    pub sessions: Vec<String>,
}

/// A rollout that a filter matches, with its conversion or the reason why it is not converted.
#[derive(Debug, Clone, Serialize)]
pub struct ShrinkItem {
    pub session_id: ConversationId,
    /// The path of the rollout before the conversion.
    #[serde(serialize_with = "serialize_displayed")]
    pub path: PathBuf,
    /// Size before the conversion.
    pub before_bytes: u64,
    /// Size after the conversion; an estimate in a plan.
    pub after_bytes: u64,
    pub action: ShrinkAction,
    pub reason: Option<String>,
    /// The folder that the conversation works in.
    #[serde(skip)]
    pub project: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShrinkAction {
    Compress,
    Expand,
    /// The conversation is in use or changed, compression saves nothing, or the conversion was not begun.
    Skip,
    /// The rollout could not be read or written, or its two forms differ.
    Fail,
}

/// The rollouts that a filter matches, largest first.
#[derive(Debug)]
pub struct ShrinkPlan {
    to: Form,
    pub items: Vec<ShrinkItem>,
    pub names: ResolvedNames,
    /// The folders that cannot be listed.
    pub unreadable: Vec<IoError>,
}

impl ShrinkPlan {
    /// Plans the conversion of the rollouts of `home` that `filter` matches, and [`ShrinkAction::Skip`] for those that
    /// another process has open. Titles in the filter match nothing if `state_database` cannot be read.
    pub fn read(
        home: &Path,
        state_database: Option<&Path>,
        filter: &ShrinkFilter,
        now: DateTime<Utc>,
    ) -> Self {
        let (mut rollouts, unreadable) = find_rollouts(home);

        let rows = if filter.sessions.is_empty() {
            HashMap::new()
        } else {
            // Without a readable database, ids still name conversations.
            read_rows_by_id(state_database).unwrap_or_default()
        };
        let names = ResolvedNames::resolve(&filter.sessions, &rollouts, &rows);
        rollouts.retain(|rollout| filter.selects_by_usage(rollout, &names, now));
        rollouts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));

        let facts = facts::read_facts(&rollouts, state_database);
        let open_files = list_open_files(home);

        let mut items = Vec::new();
        for (rollout, facts) in rollouts.into_iter().zip(facts) {
            if !allows_project(&filter.projects, &facts.project) {
                continue;
            }
            let Some(id) = rollout.id else { continue };

            let path = rollout.path.into_path_buf();
            // The path of a rollout may contain links, those of open files do not.
            let is_open = !open_files.is_empty()
                && (open_files.contains(&path)
                    || path
                        .canonical()
                        .is_ok_and(|real| open_files.contains(&real)));

            items.push(ShrinkItem {
                session_id: id,
                before_bytes: rollout.bytes,
                after_bytes: rollout.bytes,
                action: match filter.to {
                    _ if is_open => ShrinkAction::Skip,
                    Form::Compressed => ShrinkAction::Compress,
                    Form::Plain => ShrinkAction::Expand,
                },
                reason: is_open.then(|| "a process has it open".to_owned()),
                path,
                project: facts.project.to_string(),
            });
        }

        Self {
            to: filter.to,
            items,
            names,
            unreadable,
        }
    }

    pub fn bytes_to_convert(&self) -> u64 {
        let items = self.items.iter().filter(|item| item.action.converts());
        items.map(|item| item.before_bytes).sum()
    }

    /// Sets the sizes after the conversion from a sample of at most [`SAMPLE_BYTES`].
    pub fn estimate_sizes(&mut self) {
        let to = self.to;
        let items = self.items.iter_mut();
        let mut items: Vec<_> = items.filter(|item| item.action.converts()).collect();
        let paths: Vec<&Path> = items.iter().map(|item| item.path.as_path()).collect();
        let Some(sizes) = measure_samples(&paths, to, SAMPLE_BYTES) else {
            return;
        };

        for item in &mut items {
            let before = item.before_bytes;
            item.after_bytes = match to {
                Form::Compressed => scale(before, sizes.compressed, sizes.plain),
                Form::Plain => scale(before, sizes.plain, sizes.compressed),
            };
        }
    }

    /// Converts the rollouts. Begins no conversion after `deadline` or Ctrl-C. Items that are not converted become
    /// [`ShrinkAction::Skip`] or [`ShrinkAction::Fail`], with a reason unless Ctrl-C kept them from beginning. Returns
    /// false after Ctrl-C.
    pub fn apply(
        &mut self,
        home: &Path,
        deadline: Option<Instant>,
        progress: &dyn Progress,
    ) -> bool {
        let target_form = self.to;
        walk::remove_temps_of_killed_conversions(home);
        let write = |item: &ShrinkItem, workers: usize| {
            let is_past_deadline = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !item.action.converts() || is_past_deadline || progress::is_interrupted() {
                return None;
            }
            let workers = u32::try_from(workers).unwrap_or(1);
            let (id, path) = (item.session_id.to_string(), &item.path);
            let written = form::write_new_form(home, &id, path, target_form, workers, progress);
            Some(written)
        };

        // The plan has the largest rollouts first.
        let large_count = self
            .items
            .partition_point(|item| item.before_bytes >= LARGE_BYTES);
        let (large_items, small_items) = self.items.split_at_mut(large_count);

        let write_with_all_threads = |item: &ShrinkItem| write(item, parallel::thread_count());
        let results = convert_large(large_items, write_with_all_threads);
        record_results(large_items, results, |item| {
            replace_old_form(write_with_all_threads(item))
        });

        let convert_with_one_thread = |item: &ShrinkItem| replace_old_form(write(item, 1));
        let results = convert_small(small_items, convert_with_one_thread);
        record_results(small_items, results, convert_with_one_thread);

        !progress::is_interrupted()
    }
}

/// A new form that is not compared yet, or an error; `None` if the conversion was not begun.
type WriteResult = Option<Result<NewForm, ConversionError>>;

fn replace_old_form(written: WriteResult) -> ConversionResult {
    written.map(|form| form?.replace_old_form())
}

/// Converts large rollouts one after another. While one thread compares a new form with its old form, all threads write
/// the next new form.
fn convert_large(
    items: &[ShrinkItem],
    write: impl Fn(&ShrinkItem) -> WriteResult,
) -> Vec<ConversionResult> {
    // No new form waits, because each takes space until its old form is removed.
    let (threads, max_waiting) = (1, 0);
    let mut results = Vec::with_capacity(items.len());
    let Ok(()) = parallel::run_ordered_on::<_, _, _, Infallible>(
        threads,
        max_waiting,
        replace_old_form,
        |result| {
            results.push(result);
            Ok(())
        },
        |submitter| {
            // `submit` fails only after the consumer has failed, and the consumer above never fails.
            let _ = items
                .iter()
                .try_for_each(|item| submitter.submit(write(item)));
            Ok(())
        },
    );
    results
}

/// Converts several small rollouts at a time, each with one thread.
fn convert_small(
    items: &[ShrinkItem],
    convert: impl Fn(&ShrinkItem) -> ConversionResult + Sync,
) -> Vec<ConversionResult> {
    let mut results = Vec::with_capacity(items.len());
    let max_in_flight = 2 * parallel::thread_count();
    let Ok(()) =
        parallel::run_each_ordered::<_, _, Infallible>(max_in_flight, items, convert, |result| {
            results.push(result);
            Ok(())
        });
    results
}

/// Records the results of conversions that ran side by side. Repeats a conversion if another of them may have made it
/// fail.
fn record_results(
    items: &mut [ShrinkItem],
    results: Vec<ConversionResult>,
    convert: impl Fn(&ShrinkItem) -> ConversionResult,
) {
    for (item, result) in items.iter_mut().zip(results) {
        let result = match result {
            Some(Err(error)) if error.may_be_of_another_conversion() => convert(item),
            result => result,
        };
        item.record_result(result);
    }
}

impl ShrinkItem {
    fn record_result(&mut self, result: ConversionResult) {
        match result {
            Some(Ok(bytes)) => self.after_bytes = bytes,
            Some(Err(error)) => {
                let (action, reason) = match error {
                    ConversionError::Io(e) => (ShrinkAction::Fail, format!("{e}: {}", e.source)),
                    ConversionError::Diverged => (ShrinkAction::Fail, error.to_string()),
                    other => (ShrinkAction::Skip, other.to_string()),
                };
                self.after_bytes = self.before_bytes;
                (self.action, self.reason) = (action, Some(reason));
            }
            None if self.action.converts() => {
                self.action = ShrinkAction::Skip;
                // The command reports the interruption once, not for each conversation.
                self.reason = (!progress::is_interrupted())
                    .then(|| "the time limit of --max-time was reached".to_owned());
            }
            None => {}
        }
    }
}

impl ShrinkAction {
    pub fn converts(self) -> bool {
        matches!(self, Self::Compress | Self::Expand)
    }
}

impl ShrinkFilter {
    /// Returns true if the filter selects the rollout, apart from `projects`, because the project is in the rollout
    /// itself. `names` are the conversations that `sessions` names.
    fn selects_by_usage(
        &self,
        rollout: &RolloutUsage,
        names: &ResolvedNames,
        now: DateTime<Utc>,
    ) -> bool {
        let Some(id) = &rollout.id else { return false };
        if rollout.form == self.to {
            return false;
        }
        if !self.sessions.is_empty() {
            return names.ids.contains(id);
        }
        let age = rollout.changed.map(|at| now - at);
        // Without a limit, the age need not be known.
        let is_old = self.older_than.is_zero() || age.is_some_and(|age| age >= self.older_than);
        is_old && rollout.bytes >= self.min_bytes
    }
}

/// Estimates from a sample how many bytes `storage shrink` would free with its default selection.
pub(super) fn estimate_gain(rollouts: &[RolloutUsage], now: DateTime<Utc>) -> u64 {
    let filter = ShrinkFilter {
        to: Form::Compressed,
        older_than: TimeDelta::days(DEFAULT_DAYS),
        min_bytes: DEFAULT_MIN_BYTES,
        projects: Vec::new(),
        sessions: Vec::new(),
    };

    let selected = rollouts
        .iter()
        .filter(|rollout| filter.selects_by_usage(rollout, &ResolvedNames::default(), now));
    let selected: Vec<_> = selected.collect();
    let paths: Vec<&Path> = selected.iter().map(|rollout| &*rollout.path).collect();
    let before_bytes: u64 = selected.iter().map(|rollout| rollout.bytes).sum();

    measure_samples(&paths, Form::Compressed, REPORT_SAMPLE_BYTES).map_or(0, |sizes| {
        before_bytes.saturating_sub(scale(before_bytes, sizes.compressed, sizes.plain))
    })
}

/// Converts the beginnings of some of the rollouts without writing: at most `max_bytes` bytes of text in total. Returns
/// the total sizes of these parts; `None` if nothing could be read.
fn measure_samples(rollouts: &[&Path], to: Form, max_bytes: u64) -> Option<FormSizes> {
    let step = rollouts.len().div_ceil(SAMPLE_ROLLOUTS).max(1);
    let sampled = rollouts.iter().step_by(step);
    let bytes_of_each = max_bytes / (sampled.len() as u64).max(1);
    // A file that cannot be read adds nothing.
    let parts = sampled.filter_map(|path| form::measure_sample(path, to, bytes_of_each).ok());
    let total = parts.fold(FormSizes::default(), |total, part| FormSizes {
        plain: total.plain + part.plain,
        compressed: total.compressed + part.compressed,
    });
    Some(total).filter(|sizes| sizes.plain > 0 && sizes.compressed > 0)
}

/// Returns `bytes` × `numerator` / `denominator`.
fn scale(bytes: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(bytes) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Returns the files of conversations that processes have open. Only Linux lists open files. On other systems, the
/// result is empty, and only its lock protects a conversation.
fn list_open_files(home: &Path) -> HashSet<PathBuf> {
    let folders = [SESSIONS, ARCHIVED_SESSIONS].map(|name| home.join(name));
    let folders = folders.map(|folder| folder.canonical_or_self());
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let table = ProcessTable::read();
    let processes = table.iter();
    let open_files = processes.flat_map(|process| process.open_files_beneath(&folders));
    open_files.collect()
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectSum {
    pub conversations: usize,
    pub before_bytes: u64,
    pub after_bytes: u64,
}

/// Returns the sums of the converted rollouts by project, the largest change of size first.
pub fn sum_by_project(items: &[ShrinkItem]) -> Vec<(String, ProjectSum)> {
    let mut sums: BTreeMap<&str, ProjectSum> = BTreeMap::new();
    let mut counted_conversations = HashSet::new();
    for item in items.iter().filter(|item| item.action.converts()) {
        let sum = sums.entry(&item.project).or_default();
        if counted_conversations.insert((&item.project, &item.session_id)) {
            sum.conversations += 1;
        }
        sum.before_bytes += item.before_bytes;
        sum.after_bytes += item.after_bytes;
    }

    let sums = sums.into_iter().map(|(name, sum)| (name.to_owned(), sum));
    let mut sums: Vec<_> = sums.collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.before_bytes.abs_diff(sum.after_bytes)));
    sums
}
