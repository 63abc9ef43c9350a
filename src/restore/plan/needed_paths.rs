//! The paths that a restore of a selection reads, for an archive whose files are downloaded first.

use super::restore_plan::Selection;
use crate::archive::file_list::FileList;
use crate::codex::home::kind_of;
use crate::history::session_index;
use crate::restore::settle::reinstated_rows::newest_state_database;
use std::path::PathBuf;

/// Returns the selected paths. For conversations, also those of the state database and the session
/// index, from which a restore of the home takes their rows and names.
pub(crate) fn needed_paths(selection: &Selection, files: &FileList) -> Vec<PathBuf> {
    let mut paths = selection.only.clone();
    let mut has_conversation = false;
    for file in files.iter() {
        let path = file.path.as_path();
        if !selection.wants(path) {
            continue;
        }
        has_conversation |= kind_of(path).is_rollout_folder();
        if !paths.iter().any(|above| path.starts_with(above)) {
            paths.push(path.to_path_buf());
        }
    }
    if has_conversation {
        let database = newest_state_database(files);
        paths.extend(database.map(|file| file.path.as_path().to_path_buf()));
        paths.push(session_index::FILE_NAME.into());
    }
    paths
}
