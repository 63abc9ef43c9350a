//! Lists the rollouts of a home. A rollout that is there both plain and compressed is listed once.

use super::SkippedFile;
use crate::codex::{ARCHIVED_SESSIONS, RolloutName, SESSIONS, ZST};
use crate::io::{IoError, tree};
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// The path of a rollout. Kept small: a home may have a hundred thousand rollouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RolloutFile {
    /// The path relative to the home.
    pub relative: Box<Path>,
    /// True if the file is below `archived_sessions/`.
    pub is_archived: bool,
    /// True if the compressed form lies beside the plain one. Codex uses the plain one.
    pub has_compressed_copy: bool,
}

impl RolloutFile {
    /// Returns the path below `home`.
    pub(crate) fn path(&self, home: &Path) -> PathBuf {
        home.join(&self.relative)
    }

    /// Returns the path that Codex records in its database: without `.zst`, even for a compressed rollout.
    pub(crate) fn plain_path(&self, home: &Path) -> PathBuf {
        home.join(without_zst(&self.relative))
    }

    /// Returns the path of the compressed form, if both forms exist.
    pub(crate) fn compressed_copy(&self, home: &Path) -> Option<PathBuf> {
        let mut path = self.path(home).into_os_string();
        path.push(ZST);
        self.has_compressed_copy.then(|| path.into())
    }
}

/// Returns `path` without the suffix `.zst`.
pub(crate) fn without_zst(path: &Path) -> &Path {
    let plain = path.to_str().and_then(|text| text.strip_suffix(ZST));
    plain.map_or(path, Path::new)
}

/// Returns all rollouts below `home`, ordered by path. No file is opened. Symbolic links are
/// ignored, as Codex ignores them, except for the two top folders themselves.
///
/// # Errors
/// A folder cannot be listed. A missing folder counts as empty.
pub(crate) fn find(home: &Path) -> Result<Vec<RolloutFile>, IoError> {
    let (found, errors) = walk(home);
    errors.into_iter().next().map_or(Ok(found), Err)
}

/// Like [`find`], but leaves out folders that cannot be listed, and returns those too.
pub(crate) fn find_readable(home: &Path) -> (Vec<RolloutFile>, Vec<SkippedFile>) {
    let (found, errors) = walk(home);
    let skipped = errors.into_iter().map(|e| SkippedFile {
        path: e.path,
        reason: format!("cannot {}: {}", e.action, e.source),
    });
    (found, skipped.collect())
}

/// Like [`find_readable`], with the conversations of the Codex in TypeScript, which newer versions do not list.
pub(crate) fn find_with_documents(home: &Path) -> (Vec<RolloutFile>, Vec<SkippedFile>) {
    let (mut found, skipped) = find_readable(home);
    let entries = std::fs::read_dir(home.join(SESSIONS))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| Path::new(SESSIONS).join(entry.file_name()));
    let documents = names.filter(|path| RolloutName::parse_document(path).is_some());
    found.extend(documents.map(|path| RolloutFile {
        relative: path.into(),
        is_archived: false,
        has_compressed_copy: false,
    }));
    (found, skipped)
}

fn walk(home: &Path) -> (Vec<RolloutFile>, Vec<IoError>) {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for top in [SESSIONS, ARCHIVED_SESSIONS] {
        let folder = home.join(top);
        if !folder.exists() {
            continue;
        }
        let is_near = |entry: &DirEntry| {
            let relative = entry.path().strip_prefix(home);
            !relative.is_ok_and(tree::is_too_deep)
        };
        // Comparing whole paths takes long. In this order of the folders, the paths are almost sorted.
        let walk = WalkDir::new(&folder).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(is_near) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    errors.push(IoError {
                        action: "list",
                        path: e.path().unwrap_or(&folder).to_path_buf(),
                        source: e
                            .into_io_error()
                            .unwrap_or_else(|| std::io::ErrorKind::Other.into()),
                    });
                    continue;
                }
            };
            let path = entry.path();
            if entry.file_type().is_file() && RolloutName::parse(path).is_some() {
                found.push(RolloutFile {
                    relative: path.strip_prefix(home).unwrap_or(path).into(),
                    is_archived: top == ARCHIVED_SESSIONS,
                    has_compressed_copy: false,
                });
            }
        }
    }
    // By bytes: a comparison of paths splits both into their components each time.
    found.sort_unstable_by(|a, b| {
        let [a, b] = [a, b].map(|file| file.relative.as_os_str().as_encoded_bytes());
        let plain = |path: &'_ [u8]| path.strip_suffix(ZST.as_bytes()).unwrap_or(path).len();
        a[..plain(a)].cmp(&b[..plain(b)]).then(a.cmp(b))
    });
    found.dedup_by(|zst, plain| {
        let is_twin = without_zst(&zst.relative) == &*plain.relative;
        plain.has_compressed_copy |= is_twin;
        is_twin
    });
    found.shrink_to_fit();
    (found, errors)
}
