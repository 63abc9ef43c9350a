//! The document `journal.json` of a transaction.

use super::step::Step;
use crate::io::{Document, ListedPath};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub(super) const JOURNAL_NAME: &str = "journal.json";

pub(super) const LOCK_NAME: &str = "lock";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum JournalState {
    /// The new state is being staged. No live file was changed.
    #[default]
    Prepared,
    /// Steps are being done. A recovery continues if any step is done.
    Committing,
    /// Steps are being undone. A recovery continues to undo them.
    Undoing,
    /// All steps are done. The staged files are the old state.
    Committed,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct JournalFile {
    pub(super) state: JournalState,
    pub(super) steps: Vec<Step>,
    /// Every staging folder of this transaction. The first holds the journal.
    pub(super) folders: Vec<ListedPath>,
    /// The folder that is changed.
    pub(super) home: ListedPath,
    /// For each folder, the time of its file system's clock when the transaction began, in nanoseconds since
    /// 1970.
    #[serde(rename = "begun")]
    pub(super) begun_ns: Vec<i64>,
    /// For each folder, the time of its file system's clock just before the first step, in nanoseconds since 1970.
    /// Empty until then.
    #[serde(rename = "since", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) exchange_begun_ns: Vec<i64>,
    /// True if the staged files are kept at the end, because another process may have written to them
    /// while they were live.
    #[serde(rename = "keep", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) keeps_staged_files: bool,
}

impl Document for JournalFile {
    // Indentation would double a journal with one step per file.
    const INDENTED: bool = false;
}

impl JournalFile {
    pub(super) fn without_steps(folders: Vec<ListedPath>, home: ListedPath) -> Self {
        Self {
            folders,
            home,
            ..Self::default()
        }
    }

    /// Returns the index of the innermost staging folder around the staged path of a step; if the path is in no staging
    /// folder, the index of the folder with the journal.
    fn index_of_staging_folder(&self, step: &Step) -> usize {
        let folders = self.folders.iter().enumerate();
        let enclosing = folders.filter(|(_, folder)| step.staged.starts_with(&folder.0));
        let innermost = enclosing.max_by_key(|(_, folder)| folder.0.as_os_str().len());
        innermost.map_or(0, |(index, _)| index)
    }

    pub(super) fn staging_folder_of(&self, step: &Step) -> &Path {
        &self.folders[self.index_of_staging_folder(step)].0
    }

    /// Returns true if the staged path of a step is in a staging folder of this transaction. Such a file is removed at
    /// the end.
    pub(super) fn is_staged_in_own_folder(&self, step: &Step) -> bool {
        let mut folders = self.folders.iter();
        folders.any(|folder| step.staged.starts_with(&folder.0))
    }

    /// Returns the time in `times` for the staging folder of a step. `times` has one time for each staging folder,
    /// because their file systems can have different clocks.
    pub(super) fn time_for(&self, step: &Step, times: &[i64]) -> Option<i64> {
        times.get(self.index_of_staging_folder(step)).copied()
    }
}
