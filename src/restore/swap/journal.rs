//! `journal.json`: the steps of a running exchange, for the process that has to recover it.

use super::super::journal_path::JournalPath;
use super::super::staging_folder::FOLDER_SUFFIX;
use super::super::step::{Backup, ExchangeStep};
use super::error::SwapError;
use crate::codex::home::AUTH_JSON;
use crate::io::document::Document;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The name of the journal in a staging folder.
pub(super) const JOURNAL: &str = "journal.json";

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
    pub(super) steps: Vec<ExchangeStep>,
    /// Every staging folder of this restore. The first holds the journal.
    pub(super) folders: Vec<JournalPath>,
    /// The folder that is replaced. Older versions did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) home: Option<JournalPath>,
    /// For each folder, the time of its file system's clock just before the first step, in
    /// nanoseconds since 1970. Empty until then, and in journals of older versions.
    #[serde(rename = "since", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) since_ns: Vec<i64>,
    /// Source and destination of the new state, for a restore that is undone while processes may
    /// write to it.
    #[serde(rename = "leave_at", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) undo_destinations: Vec<(JournalPath, JournalPath)>,
}

impl Document for JournalFile {
    const SCHEMA: u64 = 1;
    // Indentation would double a journal with one step per file.
    const INDENTED: bool = false;
}

impl JournalFile {
    /// Returns a journal without steps.
    pub(super) fn prepared(folders: Vec<JournalPath>, home: Option<JournalPath>) -> Self {
        Self {
            folders,
            home,
            ..Self::default()
        }
    }

    /// Returns the index of the staging folder of a step.
    fn folder_of(&self, step: &ExchangeStep) -> Result<usize, SwapError> {
        let folders = self.folders.iter().enumerate();
        let within = folders.filter(|(_, folder)| step.staged.starts_with(&folder.0));
        let nearest = within.max_by_key(|(_, folder)| folder.0.as_os_str().len());
        nearest.map(|(index, _)| index).ok_or_else(|| {
            let path = self.folders.first().map(|f| f.0.join(JOURNAL));
            SwapError::DamagedJournal {
                path: path.unwrap_or_default(),
                detail: "it names a step outside its folders".into(),
            }
        })
    }

    /// Returns the backup paths of step `number`.
    pub(super) fn backup(&self, number: usize) -> Result<Backup, SwapError> {
        let folder = self.folder_of(&self.steps[number])?;
        Ok(Backup::of(&self.folders[folder].0.join("aside"), number))
    }

    /// Returns the scratch folder for later writes to step `number`, on its file system, and the
    /// time when the exchange began there.
    pub(super) fn late_write_scratch(&self, number: usize) -> Result<(PathBuf, i64), SwapError> {
        let folder = self.folder_of(&self.steps[number])?;
        let scratch = self.folders[folder].0.join("found");
        let since_ns = self.since_ns.get(folder).copied().unwrap_or_default();
        Ok((scratch.join(number.to_string()), since_ns))
    }

    /// Returns the folder that is replaced.
    pub(super) fn home(&self) -> PathBuf {
        let recorded = self.home.as_ref().map(|home| home.0.clone());
        recorded
            .or_else(|| self.folders.first().and_then(|own| home_of(&own.0)))
            .unwrap_or_default()
    }

    /// Returns the path of its login.
    pub(super) fn auth_json(&self) -> PathBuf {
        self.home().join(AUTH_JSON)
    }
}

/// Returns the home that a staging folder belongs to, judged by its name.
fn home_of(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?;
    if name == OsStr::new(FOLDER_SUFFIX) {
        return folder.parent().map(Path::to_path_buf);
    }
    let name = name.to_str()?.strip_prefix('.')?;
    let name = name.strip_suffix(FOLDER_SUFFIX)?;
    Some(folder.with_file_name(name))
}
