//! Branches of a conversation: two machines continued it from different messages, because one of them was rewound.
//!
//! A rewind begins another rollout, so the files do not conflict, and all of them stay. Codex continues the newest
//! rollout and no longer shows the other branch, as after any rewind. The rollouts alone do not tell a branch of
//! another machine from a branch that the user left on purpose: a rewind on Monday and one on Tuesday look the same on
//! one machine and on two. So the machine that brings two branches together adds a record of the hidden branch to the
//! [`resolutions`], which all machines publish. The record asks for a decision until a user decides; the decision
//! removes no file.

use super::conflicting_versions::ConflictingVersions;
use super::index_updates::{ContentChange, IndexUpdate};
use super::pending_index_updates::PendingIndexUpdates;
use super::plan::{Conflict, SyncPlan};
use super::resolve::KeepChoice;
use super::rewind_knowledge::{self, RewindKnowledge};
use super::state::{Replica, SyncState};
use super::{conflict_copies, resolutions, rollouts};
use crate::codex::rollout::{OrderedRolloutId, open_plain, parse_rollout_id};
use crate::history::rollout::{ends_line_at, read_last_ordinal, resolve_rollout_in_home};
use crate::history::thread_rollouts::{
    ThreadChain, find_newest_rollout, find_rollout, parse_creation_time,
};
use crate::io::atomic::TempFile;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError};
use chrono::{SecondsFormat, TimeDelta};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// The end of the name of the record of a branch. The name is that of a conflict copy, with zeros in the place of the
/// digest, because a branch may grow.
const RECORD_SUFFIX: &str = ".0000000000000000.fork";

const BRANCH_REASON: &str =
    "continued on two machines from different messages, because of a rewind";

/// A branch that Codex does not show.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Name of the record of the branch; see [`record_name`].
    record: String,
    /// The full path of the last rollout of the branch.
    pub file: PathBuf,
    /// The full path of the rollout that Codex continues.
    shown: PathBuf,
    /// False if an earlier rollout of the branch was replaced by another version, so that Codex could not continue it.
    pub is_whole: bool,
    /// The conflict with the branch that Codex shows. Its path is that of `file`, relative to the home.
    pub conflict: Conflict,
}

/// Returns the name of the record of the branch that ends with the rollout of this key.
pub(crate) fn record_name(key: &str) -> String {
    let label = conflict_copies::conversation_label(key);
    format!("{label}{RECORD_SUFFIX}")
}

/// Returns the records that this machine has once it has applied the plan. Leaves out the record of a branch while its
/// file is in conflict, so that no file needs two decisions at once.
pub fn collect_records(plan: &SyncPlan, state: &SyncState) -> BTreeSet<String> {
    let conflicts = plan.conflicts.iter();
    let names_in_conflict = conflicts.filter_map(|c| Some(record_name(&rollouts::key(&c.path)?)));
    let names_in_conflict: Vec<_> = names_in_conflict.collect();

    let published = plan.records.published_records.values().flatten();
    let learned = plan.records.learned_resolutions.iter().chain(published);
    let records = learned.chain(&state.resolutions);
    let is_in_conflict = |r: &String| names_in_conflict.iter().any(|n| r.starts_with(&**n));
    records.filter(|r| !is_in_conflict(r)).cloned().collect()
}

/// Returns the conflicts of the [undecided](find_undecided) branches.
pub fn find_undecided_conflicts(home: &Path, records: &BTreeSet<String>) -> Vec<Conflict> {
    let undecided = find_undecided(home, records).into_iter();
    undecided.map(|branch| branch.conflict).collect()
}

/// Returns the branches among these records that wait for a decision: they have messages that Codex does not show, and
/// the user did not leave them on purpose by a rewind.
pub fn find_undecided(home: &Path, records: &BTreeSet<String>) -> Vec<Branch> {
    let mut undecided = read_branches(home, records, |name| {
        !resolutions::is_dropped(name, [records])
    });
    // Without records, the user has to decide on the branch.
    undecided.retain(|branch| branch.was_left_on_purpose(records) != Some(true));
    undecided
}

/// Returns the branches among these records for which a user has made a decision, if they have messages that Codex does
/// not show.
pub fn find_decided(home: &Path, records: &BTreeSet<String>) -> Vec<Branch> {
    read_branches(home, records, |name| {
        resolutions::is_dropped(name, [records])
    })
}

/// Reads the branches that `records` name, if `is_wanted` accepts the name. Text after
/// [`RECORD_SUFFIX`] in a record is ignored.
fn read_branches(
    home: &Path,
    records: &BTreeSet<String>,
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<Branch> {
    let names = records.iter().filter_map(|record| {
        let (label, _) = record.split_once(RECORD_SUFFIX)?;
        Some(format!("{label}{RECORD_SUFFIX}"))
    });
    let names: BTreeSet<_> = names.collect();
    let wanted = names.into_iter().filter(|name| is_wanted(name));
    wanted.filter_map(|name| Branch::read(home, name)).collect()
}

impl Branch {
    /// Reads the branch of a record. Returns `None` if the branch is not on this machine or cannot be read, or if Codex
    /// shows all of its messages.
    fn read(home: &Path, record: String) -> Option<Self> {
        let name = format!("{}.jsonl", record.strip_suffix(RECORD_SUFFIX)?);
        let (thread, rollout) = (rollouts::id(&name)?, rollouts::rollout_id(&name)?);
        let file =
            find_rollout(home, &rollout).and_then(|path| resolve_rollout_in_home(home, &path))?;
        let shown = find_newest_rollout(home, &thread)?;

        let read_slices = |newest: &Path| -> Vec<_> {
            let parts = ThreadChain::read(home, &thread, newest).parts.into_iter();
            parts.flat_map(|part| part.slices).collect()
        };
        let (shown_slices, slices) = (read_slices(&shown), read_slices(&file));
        let versions = ConflictingVersions::of_branches(home, &thread, &shown_slices, &slices);
        let versions = versions.ok()?;

        // An earlier rollout has to end a line where the next one branches off; only the last slice has no such end. A
        // rollout that cannot be read counts as replaced.
        let ends_line = |path: &Path, end| ends_line_at(path, end).unwrap_or_default();
        let mut slices = slices.iter();
        let is_whole = slices.all(|slice| slice.end.is_none_or(|end| ends_line(&slice.path, end)));

        let path = path_in_home(home, &file)?;
        if !versions.local_lacks_messages() {
            return None;
        }
        Some(Self {
            record,
            file,
            shown,
            is_whole,
            conflict: Conflict {
                path,
                reason: BRANCH_REASON.to_owned(),
                versions: Some(versions),
                local: None,
                remote: None,
                needed_side: None,
            },
        })
    }

    /// Returns true if the records show that the user knew the whole branch when a rewind created the rollout that
    /// Codex continues. Returns `None` if records are missing, or the file or its name cannot be read.
    fn was_left_on_purpose(&self, records: &BTreeSet<String>) -> Option<bool> {
        let thread = rollouts::id(&self.conflict.path)?.to_lowercase();
        let id = OrderedRolloutId::parse_name(&self.file)?;
        let shown_id = OrderedRolloutId::parse_name(&self.shown)?;
        let last_ordinal = read_last_ordinal(&self.file)?;

        let knowledge = RewindKnowledge::read(&[records]).remove(&thread);
        let knowledge = knowledge.unwrap_or_default();
        let ids = knowledge.ids().chain([&id, &shown_id]).collect();
        knowledge.knows(&shown_id, &id, last_ordinal, &ids)
    }

    /// Carries out the decision of the user, and records it in `state`, which it writes. For
    /// [`KeepChoice::ConflictCopy`], makes Codex continue this branch; for any other choice, Codex goes on with the
    /// branch that it shows. The next sync publishes the decision. `remote_records` has the records of other machines.
    /// The caller holds the lock of the state, and Codex must not use the home.
    pub fn apply_decision(
        &self,
        choice: KeepChoice,
        home: &Path,
        replica: &Replica,
        state: &mut SyncState,
        remote_records: &BTreeSet<String>,
    ) -> Result<(), IoError> {
        let shown_path = path_in_home(home, &self.shown);
        let shown_key = shown_path.as_deref().and_then(rollouts::key);
        let continued_key = if choice == KeepChoice::ConflictCopy {
            let new_key = self.write_continuation(home, replica)?;
            // With this record, the user can return to the branch that Codex showed.
            if let Some(key) = &shown_key {
                resolutions::record_drop(&record_name(key), &mut state.resolutions, remote_records);
            }
            new_key
        } else {
            shown_key
        };
        resolutions::record_drop(&self.record, &mut state.resolutions, remote_records);

        // The decision covers the present lines: lines of a machine that does not know it yet are a new conflict.
        if let Some(key) = &continued_key {
            let known_files = [&self.file, &self.shown].into_iter();
            let records = known_files.filter_map(|known_file| build_end_record(key, known_file));
            state.resolutions.extend(records);
        }

        replica.write(state)
    }

    /// Makes Codex continue this branch: adds a rollout that continues at the end of the branch, like a rewind of no
    /// turns. Moves no rollout, because forks may continue the rollouts. Returns the key of the new rollout, which is
    /// synced like any other.
    fn write_continuation(
        &self,
        home: &Path,
        replica: &Replica,
    ) -> Result<Option<String>, IoError> {
        let (name, line) = self.build_continuation().at("continue", &self.file)?;
        let target = self.shown.with_file_name(name);
        let path = path_in_home(home, &target);
        let path = path.as_deref();
        let update = path.and_then(|path| IndexUpdate::from_path(path, ContentChange::New));
        // Before the file is written, so that Codex's index is completed even after a kill.
        PendingIndexUpdates::new(replica).record(update.as_slice())?;

        let mut temp = TempFile::create_beside(&target)?;
        temp.file().write_all(&line).at("write", &target)?;
        // The file exists if an earlier run was killed before it recorded the decision.
        let _ = temp.publish(&target)?;
        Ok(path.and_then(rollouts::key))
    }

    /// Returns the file name and the text of the rollout that continues this branch. Two machines with the same
    /// decision create the same rollout.
    fn build_continuation(&self) -> io::Result<(String, Vec<u8>)> {
        let no_id = || io::Error::other("the file name has no id of a rollout");
        let id = parse_rollout_id(&self.file).ok_or_else(no_id)?;
        let shown = parse_rollout_id(&self.shown).ok_or_else(no_id)?;
        let no_number = || io::Error::other("the last line has no number (ordinal)");
        let ordinal = read_last_ordinal(&self.file).ok_or_else(no_number)? + 1;
        let end_offset = find_end_of_lines(&self.file)?;

        // Codex continues the rollout with the greatest id, which begins with the time in milliseconds.
        let created = parse_creation_time(&shown).ok_or_else(no_id)? + TimeDelta::milliseconds(1);
        let seed = Sha256Digest::of(format!("{id} {end_offset} {shown}").as_bytes());
        let new_id = rollouts::derive_id(created.timestamp_millis().unsigned_abs(), &seed);

        let name = self.shown.file_name().and_then(|name| name.to_str());
        let stem = name.and_then(rollouts::thread_stem).ok_or_else(no_id)?;

        let mut meta = rollouts::read_first_line(&self.file)?;
        let timestamp = json!(created.to_rfc3339_opts(SecondsFormat::Millis, true));
        meta["ordinal"] = json!(ordinal);
        meta["timestamp"] = timestamp.clone();
        meta["payload"]["timestamp"] = timestamp;
        meta["payload"]["history_base"] = json!({"thread_id": id, "end_ordinal_exclusive": ordinal, "end_byte_offset": end_offset});
        let line = format!("{meta}\n").into_bytes();
        Ok((format!("{stem}_{new_id}.jsonl"), line))
    }
}

/// Returns the record that the user knew the present lines of the rollout `known_file` when the rollout of `key` began.
/// Returns `None` if both are the same rollout, or if an id or the number of the last line cannot be read.
fn build_end_record(key: &str, known_file: &Path) -> Option<String> {
    let known_id = parse_rollout_id(known_file)?;
    let is_same_rollout = rollouts::rollout_id(key)? == known_id;
    let last_ordinal = read_last_ordinal(known_file)?;
    (!is_same_rollout).then(|| rewind_knowledge::record_name(key, &known_id, last_ordinal))
}

/// Returns the path of a file relative to the home, with `/`; `None` if the file is outside or the path is not Unicode.
fn path_in_home(home: &Path, file: &Path) -> Option<String> {
    let path = file.strip_prefix(home).ok()?.to_str()?;
    // The name of a rollout has no backslash, so only separators of Windows are replaced.
    Some(path.replace('\\', "/"))
}

/// Returns the offset after the last complete line of the plain text of a rollout.
fn find_end_of_lines(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::new(open_plain(path)?);
    let (mut end, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let read_bytes = reader.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\n") {
            return Ok(end);
        }
        end += read_bytes as u64;
    }
}
