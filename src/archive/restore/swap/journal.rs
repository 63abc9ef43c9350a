//! `journal.json`: which exchange is under way, for whoever finds it.

use super::super::journal_path::AnyPath;
use super::super::step::{Aside, Step};
use super::{FOLDER_SUFFIX, SwapError};
use crate::codex::home::AUTH_JSON;
use crate::io::document::Document;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Being staged; nothing live has been touched.
    #[default]
    Prepared,
    /// Steps are being done: go on.
    Committing,
    /// Steps are being undone: go on undoing.
    Undoing,
    /// All steps are done; what is staged now is the old state.
    Committed,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct JournalFile {
    pub(super) state: State,
    pub(super) steps: Vec<Step>,
    /// Every folder of this restore, on whatever file system; the first holds the journal.
    pub(super) folders: Vec<AnyPath>,
    /// What is replaced. Older versions do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) home: Option<AnyPath>,
    /// For each folder, what the clock of its file system was just before the first step, in nanoseconds
    /// since 1970. Empty until then, and where an older version wrote it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) since: Vec<i64>,
    /// Where the new state is left when all is undone: from and to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) leave_at: Vec<(AnyPath, AnyPath)>,
}

impl Document for JournalFile {
    const SCHEMA: u64 = 1;
    // Of a home that is exchanged file by file it is as long as the list of its files.
    const INDENTED: bool = false;
}

impl JournalFile {
    /// One that asks for nothing.
    pub(super) fn prepared(folders: Vec<AnyPath>, home: Option<AnyPath>) -> Self {
        Self {
            folders,
            home,
            ..Self::default()
        }
    }

    /// The folder that a step works in.
    fn folder_of(&self, step: &Step) -> Result<usize, SwapError> {
        let folders = self.folders.iter().enumerate();
        let within = folders.filter(|(_, folder)| step.staged.starts_with(&folder.0));
        let nearest = within.max_by_key(|(_, folder)| folder.0.as_os_str().len());
        nearest.map(|(index, _)| index).ok_or_else(|| {
            let path = self.folders.first().map(|f| f.0.join(super::JOURNAL));
            SwapError::DamagedJournal {
                path: path.unwrap_or_default(),
                detail: "it names a step outside its folders".into(),
            }
        })
    }

    /// Where the step `number` sets aside what is live.
    pub(super) fn aside(&self, number: usize) -> Result<Aside, SwapError> {
        let folder = self.folder_of(&self.steps[number])?;
        Ok(Aside::of(&self.folders[folder].0.join("aside"), number))
    }

    /// A name of ours on the file system of the step `number`, for what is found there, and when its
    /// exchange began.
    pub(super) fn finding(&self, number: usize) -> Result<(PathBuf, i64), SwapError> {
        let folder = self.folder_of(&self.steps[number])?;
        let scratch = self.folders[folder].0.join("found");
        let since = self.since.get(folder).copied().unwrap_or_default();
        Ok((scratch.join(number.to_string()), since))
    }

    /// The home that is replaced.
    pub(super) fn home(&self) -> PathBuf {
        let told = self.home.as_ref().map(|home| home.0.clone());
        told.or_else(|| self.folders.first().and_then(|own| home_of(&own.0)))
            .unwrap_or_default()
    }

    /// Its login.
    pub(super) fn auth_json(&self) -> PathBuf {
        self.home().join(AUTH_JSON)
    }
}

/// The home that a folder of ours is made for.
fn home_of(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?;
    if name == OsStr::new(FOLDER_SUFFIX) {
        return folder.parent().map(Path::to_path_buf);
    }
    let name = name.to_str()?.strip_prefix('.')?;
    let name = name.strip_suffix(FOLDER_SUFFIX)?;
    Some(folder.with_file_name(name))
}
