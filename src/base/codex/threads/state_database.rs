//! Finds the databases of a home.

use crate::codex::config::CodexConfig;
use crate::codex::{database, home};
use crate::io::environment::Environment;
use crate::io::tree;
use std::path::{Path, PathBuf};

/// Finds the state database of `home`: the one with the highest number in the folder that Codex uses,
/// else in the home's `sqlite/`.
pub fn find_state_database(home: &Path, env: &Environment) -> Option<PathBuf> {
    let folder = find_state_folder(home, env);
    find_newest_state_database(&folder)
        .or_else(|| find_newest_state_database(&home.join(home::SQLITE_FOLDER)))
}

/// Returns the folder in which Codex keeps the databases of `home`.
pub fn find_state_folder(home: &Path, env: &Environment) -> PathBuf {
    let configured_folder = CodexConfig::read(home).database_folder(home, env);
    configured_folder.unwrap_or_else(|| home.to_path_buf())
}

fn find_newest_state_database(folder: &Path) -> Option<PathBuf> {
    let paths = tree::list_entries(folder).map(|entry| entry.path());
    let numbered = paths.filter_map(|path| Some((home::parse_state_version(&path)?, path)));
    numbered.max().map(|(_, path)| path)
}

/// Returns the paths of the databases of a home whose names begin with `prefix`, sorted by version.
pub fn find_databases(home: &Path, env: &Environment, prefix: &str) -> Vec<PathBuf> {
    list_databases(&find_state_folder(home, env), prefix)
}

/// Returns the paths of the databases in a folder whose names begin with `prefix`, sorted by version.
pub(crate) fn list_databases(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut databases: Vec<_> = tree::list_entries(folder)
        .map(|entry| entry.path())
        .filter(|path| home::is_database_named(path, prefix) && database::may_be_sqlite(path))
        .collect();
    // Of two names with one prefix, the longer one has the higher version: `_10` follows `_9`.
    databases.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    databases
}
