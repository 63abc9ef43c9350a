//! The plan of a sync: the steps, the notices to print, and the records to write.

use super::file_plan::{FileOutcome, FilePlan};
use super::scan::sides::CloudContents;
use super::sync_step::{Conflict, SyncStep};
use crate::io::hash::Sha256Digest;
use crate::sync::cloud_folder::undelivered::UndeliveredVersion;
use crate::sync::config::ConflictPolicy;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::state::SyncedFile;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// All decisions of one sync, computed without writing.
#[derive(Debug, Default)]
pub struct SyncPlan {
    /// True if the plan covers all synced files; false for the one file that `sync resolve` syncs.
    pub is_complete: bool,
    /// Content of the cloud folder before the scan.
    pub cloud_contents: CloudContents,
    /// The changes to make: deletions first, then all other steps, both sorted by path.
    pub steps: Vec<SyncStep>,
    /// Files that wait for a decision of the user.
    pub conflicts: Vec<Conflict>,
    pub notices: PlanNotices,
    pub records: PlanRecords,
    /// Number of files that are equal on both sides.
    pub unchanged: usize,
    /// Temp files that killed runs left.
    pub leftover_temps: Vec<PathBuf>,
}

/// Files and facts that a plan reports. Pairs of strings are a path or the name of a setting, and the reason, for
/// output.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct PlanNotices {
    /// Files of the cloud folder that the sync waits for, because they look incomplete or are not attested.
    pub waiting: Vec<(String, String)>,
    /// Paths in `waiting` whose present content no machine attests.
    pub unlisted: BTreeSet<String>,
    /// True if `--accept-unlisted` would use a waiting file without a newer version in any manifest.
    pub may_accept_unlisted: bool,
    /// Versions that other machines list and that have not reached the cloud folder yet.
    pub undelivered: Vec<UndeliveredVersion>,
    /// Files that stay as they are on both sides.
    pub skipped: Vec<(String, String)>,
    /// Files and settings that cannot be handled as the configuration says, such as a file with a token. Not counted as
    /// partial.
    pub warnings: Vec<(String, String)>,
    /// Facts that need no action of the user.
    pub notes: Vec<(String, String)>,
    /// Entries of the Codex home that are never synced or that the configuration excludes.
    pub excluded: Vec<(String, String)>,
    /// Conflict copies that wait for a decision: file name and size in bytes.
    pub conflict_copies: Vec<(String, u64)>,
    /// True if deletions wait for `--delete-many`.
    pub holds_deletions: bool,
}

impl PlanNotices {
    /// Returns all lists of paths with reasons.
    fn lists_mut(&mut self) -> [&mut Vec<(String, String)>; 5] {
        [
            &mut self.waiting,
            &mut self.skipped,
            &mut self.warnings,
            &mut self.notes,
            &mut self.excluded,
        ]
    }
}

impl Extend<Notice> for PlanNotices {
    fn extend<T: IntoIterator<Item = Notice>>(&mut self, notices: T) {
        for notice in notices {
            let list = match notice.list {
                NoticeList::Waiting => &mut self.waiting,
                NoticeList::WaitingUnlisted => {
                    self.unlisted.insert(notice.path.clone());
                    &mut self.waiting
                }
                NoticeList::Skipped => &mut self.skipped,
                NoticeList::Warning => &mut self.warnings,
                NoticeList::Note => &mut self.notes,
                NoticeList::Excluded => &mut self.excluded,
            };
            list.push((notice.path, notice.why));
        }
    }
}

/// Changes to the state and to this machine's manifest that no step makes.
#[derive(Debug, Default)]
pub struct PlanRecords {
    /// Files that are equal on both sides, but not as the state records them, by key.
    pub recorded_equal: Vec<(String, SyncedFile)>,
    /// Keys of files that a side lacks, and whose records the sync removes from the state.
    pub forgotten_keys: Vec<String>,
    /// Deletions to publish of files that neither side has any more: digest of the deleted text, by key.
    pub lost_deletions: BTreeMap<String, Sha256Digest>,
    /// Resolutions to publish before the step of a file, by key.
    pub published_records: BTreeMap<String, Vec<String>>,
    /// [`resolutions`](crate::sync::resolutions) to add to the state: resolutions of other machines and, through the
    /// vault, resolutions of conflict copies that became obsolete.
    pub learned_resolutions: Vec<String>,
}

impl SyncPlan {
    pub(super) fn add_file_plan(&mut self, key: &str, file_plan: FilePlan) {
        match file_plan.outcome {
            FileOutcome::LeftAsIs => {}
            FileOutcome::Equal(record) => {
                self.unchanged += 1;
                if let Some(record) = record {
                    self.records.recorded_equal.push((key.to_owned(), record));
                }
            }
            FileOutcome::Step(step) => self.steps.push(step),
            FileOutcome::Conflict(conflict) => self.conflicts.push(conflict),
        }

        self.notices.extend(file_plan.notices);
        if !file_plan.published_records.is_empty() {
            self.records
                .published_records
                .insert(key.to_owned(), file_plan.published_records);
        }
    }

    /// Adds the steps, conflicts and notices of a later round of the same run, so that output shows both rounds as one
    /// plan. The number of unchanged files and the list of conflict copies become those of the later round.
    pub fn append(&mut self, later: Self) {
        self.steps.extend(later.steps);
        self.conflicts.extend(later.conflicts);
        self.unchanged = later.unchanged;

        let (notices, mut later_notices) = (&mut self.notices, later.notices);
        let later_lists = later_notices.lists_mut();
        for (list, later_list) in notices.lists_mut().into_iter().zip(later_lists) {
            later_list.retain(|notice| !list.contains(notice));
            list.append(later_list);
        }

        notices.undelivered.extend(later_notices.undelivered);
        notices.conflict_copies = later_notices.conflict_copies;
        notices.unlisted.extend(later_notices.unlisted);
        notices.may_accept_unlisted |= later_notices.may_accept_unlisted;
        notices.holds_deletions |= later_notices.holds_deletions;
    }

    /// Returns a digest of the notes and of the excluded files, or `None` if there are none. A run prints them only
    /// if the digest differs from that of the last run.
    pub fn notes_digest(&self) -> Option<Sha256Digest> {
        let PlanNotices {
            notes, excluded, ..
        } = &self.notices;
        let is_empty = notes.is_empty() && excluded.is_empty();
        (!is_empty).then(|| Sha256Digest::of(format!("{notes:?}{excluded:?}").as_bytes()))
    }

    /// Sorts the steps, deletions first, and all lists. Deletions go first because a deletion can free the
    /// path of a new file, for example where a folder became a file.
    pub(super) fn sort(&mut self) {
        // `false` sorts before `true`.
        self.steps
            .sort_by(|a, b| (!a.is_deletion(), &a.path).cmp(&(!b.is_deletion(), &b.path)));

        self.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        for list in self.notices.lists_mut() {
            list.sort();
        }
    }

    /// Returns true if files are incomplete, undelivered or skipped; the run then ends with exit code 6.
    pub fn is_partial(&self) -> bool {
        !(self.notices.waiting.is_empty()
            && self.notices.undelivered.is_empty()
            && self.notices.skipped.is_empty())
    }

    /// Returns true if a conflict stops the whole run, because of `manual_abort`, the default of codexSync. Two
    /// branches of a conversation stop no run, because they are not versions of a file.
    pub fn is_stopped_by_conflict(&self, policy: ConflictPolicy) -> bool {
        let is_of_file =
            |conflict: &Conflict| conflict.local.is_some() || conflict.remote.is_some();
        policy == ConflictPolicy::ManualAbort && self.conflicts.iter().any(is_of_file)
    }
}
