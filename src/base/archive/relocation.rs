//! Opens listed files, also after Codex archived, unarchived or compressed a rollout.

use super::duplicates::parse_rollout_name;
use super::format::{EntryName, LinkEntry, NameSet, NameTable};
use super::scope::CaptureScope;
use super::source_paths::SourcePaths;
use crate::codex::home::{self, kind_of};
use crate::codex::rollout;
use crate::io::{IoContext, IoError, OrdinaryPath, file_open};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A listed file that was opened under its current name.
pub(super) struct OpenedFile {
    pub(super) file: File,
    /// The current name of the file. Differs from the listed name if Codex moved the file.
    pub(super) name: EntryName,
}

/// Finds the files of a scan on disk.
pub(super) struct FileLocator<'a> {
    scope: &'a CaptureScope,
    pub(super) source_paths: &'a SourcePaths,
    links: NameSet,
}

impl<'a> FileLocator<'a> {
    /// Creates a locator for the files of a scan. `links` are the symbolic links in the archive; their names are stored
    /// in `names`.
    pub(super) fn new(
        scope: &'a CaptureScope,
        source_paths: &'a SourcePaths,
        links: &[LinkEntry],
        names: &Arc<NameTable>,
    ) -> Self {
        let mut link_names = NameSet::with_name_table(names);
        link_names.extend(links.iter().map(|link| link.path.clone()));
        Self {
            scope,
            source_paths,
            links: link_names,
        }
    }

    /// Opens a file. Searches a missing rollout in the folders to which Codex may have moved it. Returns `None` if a
    /// file that is no rollout is missing.
    ///
    /// # Errors
    /// The file cannot be opened, or the rollout is in none of these folders.
    pub(super) fn open(&self, planned: &EntryName) -> Result<Option<OpenedFile>, IoError> {
        let source = self.source_paths.source_path(planned);
        let not_found = match file_open::open_no_link(&source) {
            Ok(file) => {
                return Ok(Some(OpenedFile {
                    file,
                    name: planned.clone(),
                }));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => e,
            Err(e) => return Err(e).at("read", &source),
        };

        // Codex moves only rollouts, so any other missing file was deleted.
        let Some(conversation) = parse_rollout_name(planned.as_path()) else {
            return Ok(None);
        };

        let candidates = candidate_paths(planned.as_path(), &conversation.name);
        // Three rounds, because the rollout may move again during the search.
        let attempts = std::iter::repeat_n(&candidates, 3).flatten();
        for candidate in attempts {
            if let Some(moved) = self.open_candidate(candidate) {
                return Ok(Some(moved));
            }
        }

        Err(not_found).at("read", &source)
    }

    fn open_candidate(&self, relative: &Path) -> Option<OpenedFile> {
        let source = self.scope.home.join(relative);
        // A symbolic link at this path could lead out of the home.
        let file = file_open::open_no_link(&source).ok()?;
        let name = EntryName::from_path(&self.find_captured_name(relative)?).ok()?;
        Some(OpenedFile { file, name })
    }

    /// Returns the name of the file `relative` without symbolic links in it, because an archive must not have an entry
    /// below a link. Returns `None` if the scope does not capture the file.
    fn find_captured_name(&self, relative: &Path) -> Option<PathBuf> {
        let archive_name = if self.links.contains_ancestor_of(relative) {
            let real_path = self.scope.home.join(relative).canonical().ok()?;
            let home = self.scope.home.canonical().ok()?;
            real_path.strip_prefix(home).ok()?.to_path_buf()
        } else {
            relative.to_path_buf()
        };

        let is_captured = self.scope.captures(kind_of(&archive_name))
            && self.scope.selects(&archive_name)
            && !self.scope.excludes.matches(&archive_name)
            && !self.links.contains_ancestor_of(&archive_name);
        is_captured.then_some(archive_name)
    }
}

/// Returns the paths to which Codex may have moved the rollout at `path`. `name` is the file name
/// without `.zst`.
fn candidate_paths(path: &Path, name: &str) -> Vec<PathBuf> {
    let zst = format!("{name}{}", rollout::ZST);
    let mut candidates = vec![path.with_file_name(name), path.with_file_name(&zst)];
    for name in [name, &zst] {
        candidates.push(Path::new(home::ARCHIVED_SESSIONS).join(name));
        // rollout-YYYY-MM-DDT…: sessions/YYYY/MM/DD.
        if let (Some(y), Some(m), Some(d)) = (name.get(8..12), name.get(13..15), name.get(16..18)) {
            candidates.push(Path::new(home::SESSIONS).join(y).join(m).join(d).join(name));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::metadata::BackupMode;
    use crate::archive::scope::Excludes;
    use std::fs;

    #[test]
    fn a_rollout_that_moved_into_an_excluded_folder_is_not_opened() {
        let home = tempfile::tempdir().unwrap();
        let name = "rollout-2026-11-18T10-00-00-01a1f78b-4d30-7ef3-b0ee-5caab8d3b455.jsonl";
        fs::create_dir(home.path().join(home::ARCHIVED_SESSIONS)).unwrap();
        let moved = home.path().join(home::ARCHIVED_SESSIONS).join(name);
        fs::write(moved, "x").unwrap();
        let planned = EntryName::from_path(&Path::new("sessions/2026/11/18").join(name)).unwrap();
        let mut scope = CaptureScope::new(home.path(), BackupMode::Full);
        let source_paths = SourcePaths::default();
        let open = |scope: &CaptureScope| {
            let names = Arc::default();
            let locator = FileLocator::new(scope, &source_paths, &[], &names);
            locator.open(&planned).map(|opened| opened.is_some())
        };
        assert!(open(&scope).unwrap());
        scope.excludes = Excludes::compile(&["archived_sessions".to_owned()]).unwrap();
        assert!(open(&scope).is_err());
    }
}
