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

/// Returns the paths of the databases of a home whose names begin with `prefix`, sorted by version. Names
/// without a version, such as those of copies, come first.
pub fn find_databases(home: &Path, env: &Environment, prefix: &str) -> Vec<PathBuf> {
    list_databases(&find_state_folder(home, env), prefix)
}

/// Returns the paths of the databases in a folder whose names begin with `prefix`, sorted by version. Names
/// without a version, such as those of copies, come first.
pub(crate) fn list_databases(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut databases: Vec<_> = tree::list_entries(folder)
        .map(|entry| entry.path())
        .filter(|path| home::is_database_named(path, prefix) && database::may_be_sqlite(path))
        .collect();
    let version_of = |path: &PathBuf| home::parse_database_version(path, prefix);
    databases.sort_by_cached_key(|path| (version_of(path), path.clone()));
    databases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_with_the_highest_version_is_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "x_10.sqlite",
            "x_9.sqlite",
            "x_9-copy.sqlite",
            "y_11.sqlite",
        ] {
            rusqlite::Connection::open(folder.path().join(name))
                .and_then(|connection| connection.execute_batch("CREATE TABLE t(a)"))
                .unwrap();
        }
        let databases = list_databases(folder.path(), "x_");
        let names = databases.iter().map(|path| path.file_name().unwrap());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["x_9-copy.sqlite", "x_9.sqlite", "x_10.sqlite"]
        );
    }
}
