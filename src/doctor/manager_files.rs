//! The names of codex-manager's own files in the manager home.

use crate::config::FILE_NAME as CONFIG_FILE;
use crate::conversations::index;
use crate::inventory::observations;
use crate::io::temp_name::TEMP_PREFIX;
use crate::launch::{program, registry};
use crate::logging;
use crate::vault;

/// The names of all files and folders that codex-manager creates at the top of the manager home.
const MANAGER_FILES: [&str; 21] = [
    "backups",
    "profiles",
    "sync",
    "sync.toml",
    "sync-backups",
    "tmp",
    "trash",
    "inventory.json",
    "losses.json",
    "cooldown.json",
    registry::FILE_NAME,
    program::FILE_NAME,
    CONFIG_FILE,
    "config.rejected.toml",
    ".lock",
    logging::FOLDER,
    "history",
    "schedule",
    observations::FOLDER,
    index::FOLDER,
    vault::FOLDER,
];

/// Returns true for names that codex-manager gives to files of the manager home, including copies of
/// damaged and imported documents.
pub(super) fn is_manager_file(name: &str) -> bool {
    let kept = [".damaged", ".python-backup"];
    let stem = kept.iter().find_map(|suffix| name.split_once(suffix));
    MANAGER_FILES.contains(&stem.map_or(name, |(stem, _)| stem)) || name.starts_with(TEMP_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_documents_are_manager_files() {
        for name in [
            "cooldown.json.python-backup-2",
            "inventory.json.damaged",
            ".codex-manager-tmp-x",
            ".lock",
        ] {
            assert!(is_manager_file(name), "{name}");
        }
        assert!(!is_manager_file("notes.txt"));
    }
}
