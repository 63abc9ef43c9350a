//! The paths of an archive that a restore of a selection reads. Only these are downloaded from a snapshot.

use super::request::Selection;
use crate::archive::manifest::is_database_path;
use crate::archive::{FileEntry, FileList};
use crate::codex::{home, kind_of};
use crate::history::session_index;
use std::path::{Path, PathBuf};

/// Returns the selected paths. If conversations are selected, adds the state database and the session index, from which
/// a restore of the home takes the rows and the names of the conversations.
pub fn needed_paths(selection: &Selection, files: &FileList) -> Vec<PathBuf> {
    let mut paths = selection.only.clone();
    let mut has_conversation = false;
    for file in files.iter() {
        let path = file.path.as_path();
        if !selection.wants_of(files, path) {
            continue;
        }

        has_conversation |= kind_of(path).is_rollout_folder();
        if !paths.iter().any(|above| path.starts_with(above)) {
            paths.push(path.to_path_buf());
        }
    }

    if has_conversation {
        if let Some(database) = find_newest_state_database(files) {
            paths.push(database.path.as_path().to_path_buf());
        }
        paths.push(session_index::FILE_NAME.into());
    }

    paths
}

/// Returns the state database that Codex uses, which is the one with the highest version.
pub fn find_newest_state_database(files: &FileList) -> Option<FileEntry> {
    // Codex 0.169 raises the version with the schema and leaves the older files behind.
    let databases = files
        .iter()
        .filter_map(|file| Some((parse_state_version_in_home(file.path.as_path())?, file)));
    let newest = databases.max_by_key(|(version, _)| *version);
    newest.map(|(_, file)| file)
}

/// Returns the version of a state database in a folder where Codex has databases; `None` for other files.
fn parse_state_version_in_home(path: &Path) -> Option<u64> {
    if !is_database_path(path) {
        return None;
    }
    home::parse_state_version(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_of_codex_have_a_version() {
        for (name, version) in [
            ("state_5.sqlite", Some(5)),
            ("sqlite/state_12.sqlite", Some(12)),
            (".codex-manager/sqlite/state_4.sqlite", Some(4)),
            ("skills/x/state_9.sqlite", None),
            ("state_x.sqlite", None),
            ("logs_2.sqlite", None),
        ] {
            assert_eq!(
                parse_state_version_in_home(Path::new(name)),
                version,
                "{name}"
            );
        }
    }
}
