//! Lists the rollouts of a home. A rollout that is there both plain and compressed is listed once.

use super::SkippedFile;
use crate::codex::rollout::{is_rollout_name, without_zst};
use crate::codex::{ARCHIVED_SESSIONS, RolloutName, SESSIONS, ZST};
use crate::io::{IoContext as _, IoError, atomic, tree};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// The path of a rollout. Kept small: a home may have a hundred thousand rollouts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutFile {
    pub relative: Box<Path>,
    pub is_archived: bool,
    /// True if the compressed form lies beside the plain one. Codex uses the plain one.
    pub has_compressed_copy: bool,
}

impl RolloutFile {
    pub fn path(&self, home: &Path) -> PathBuf {
        home.join(&self.relative)
    }

    /// Returns the path without `.zst`, by which Codex finds the rollout even if it is compressed.
    pub(crate) fn plain_path(&self, home: &Path) -> PathBuf {
        home.join(without_zst(&self.relative))
    }

    /// Returns the path of the compressed form, if both forms exist.
    pub fn compressed_copy(&self, home: &Path) -> Option<PathBuf> {
        self.has_compressed_copy
            .then(|| atomic::with_suffix(&self.path(home), ZST))
    }
}

/// Returns all rollouts below `home`, ordered by path. No file is opened. Symbolic links are
/// ignored, as Codex ignores them, except for the two top folders themselves.
///
/// # Errors
/// A folder cannot be listed. A missing folder counts as empty.
pub fn find_rollouts(home: &Path) -> Result<Vec<RolloutFile>, IoError> {
    let (files, errors) = list_rollouts(home);
    errors.into_iter().next().map_or(Ok(files), Err)
}

/// Like [`find_rollouts`], but also returns the folders that this user may not list, instead of an error.
pub(crate) fn find_permitted(home: &Path) -> Result<(Vec<RolloutFile>, Vec<SkippedFile>), IoError> {
    let (files, errors) = list_rollouts(home);
    let mut forbidden = Vec::new();
    for e in errors {
        if e.source.kind() != io::ErrorKind::PermissionDenied {
            return Err(e);
        }
        forbidden.push(SkippedFile::from_error(e));
    }
    Ok((files, forbidden))
}

/// Like [`find_rollouts`], but returns the folders that cannot be listed instead of an error.
pub fn find_readable(home: &Path) -> (Vec<RolloutFile>, Vec<SkippedFile>) {
    let (files, errors) = list_rollouts(home);
    let skipped = errors.into_iter().map(SkippedFile::from_error);
    (files, skipped.collect())
}

/// Like [`find_readable`], with the conversations of the TypeScript version of Codex, which newer versions do not list.
pub(crate) fn find_with_documents(home: &Path) -> (Vec<RolloutFile>, Vec<SkippedFile>) {
    let (mut files, skipped) = find_readable(home);
    let documents = list_documents(home);
    let documents = documents.map(|entry| Path::new(SESSIONS).join(entry.file_name()));
    files.extend(documents.map(|path| RolloutFile {
        relative: path.into(),
        is_archived: false,
        has_compressed_copy: false,
    }));
    (files, skipped)
}

/// Returns the files of conversations that the TypeScript version of Codex wrote.
pub(crate) fn list_documents(home: &Path) -> impl Iterator<Item = DirEntry> {
    let entries = tree::list_entries(&home.join(SESSIONS));
    entries.filter(|entry| RolloutName::parse_document(Path::new(&entry.file_name())).is_some())
}

/// Calls `visit` for each rollout below `home`, in any order, with its entry, its path relative to the home, and true
/// if it is archived. Returns the errors of folders that cannot be listed.
pub fn visit_rollouts(
    home: &Path,
    visit: &mut dyn FnMut(&DirEntry, PathBuf, bool),
) -> Vec<IoError> {
    let mut errors = Vec::new();
    for top_folder in [SESSIONS, ARCHIVED_SESSIONS] {
        if !home.join(top_folder).exists() {
            continue;
        }

        let mut folders = vec![PathBuf::from(top_folder)];
        while let Some(folder) = folders.pop() {
            let visited = visit_folder(home, &folder, &mut |entry, path, is_folder| {
                if is_folder {
                    folders.push(path);
                } else {
                    visit(entry, path, top_folder == ARCHIVED_SESSIONS);
                }
            });
            errors.extend(visited.at("list", home.join(&folder)).err());
        }
    }

    errors.sort_by(|a, b| a.path.cmp(&b.path));
    errors
}

fn visit_folder(
    home: &Path,
    folder: &Path,
    visit: &mut dyn FnMut(&DirEntry, PathBuf, bool),
) -> io::Result<()> {
    for entry in fs::read_dir(home.join(folder))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        if kind.is_dir() || (kind.is_file() && is_rollout_name(&name)) {
            let path = folder.join(&name);
            if !tree::is_too_deep(&path) {
                visit(&entry, path, kind.is_dir());
            }
        }
    }
    Ok(())
}

fn list_rollouts(home: &Path) -> (Vec<RolloutFile>, Vec<IoError>) {
    let mut files = Vec::new();
    let errors = visit_rollouts(home, &mut |_entry, path, is_archived| {
        files.push(RolloutFile {
            relative: path.into(),
            is_archived,
            has_compressed_copy: false,
        });
    });

    // By the paths without `.zst`, plain before compressed. As bytes, because a comparison of paths splits both into
    // their components each time.
    files.sort_unstable_by(|a, b| {
        let [a, b] = [a, b].map(|file| file.relative.as_os_str().as_encoded_bytes());
        let plain_len = |path: &[u8]| path.strip_suffix(ZST.as_bytes()).unwrap_or(path).len();
        a[..plain_len(a)].cmp(&b[..plain_len(b)]).then(a.cmp(b))
    });

    // The compressed form follows the plain one, and `dedup_by` passes the later element first.
    files.dedup_by(|compressed, plain| {
        let is_same_rollout = without_zst(&compressed.relative) == &*plain.relative;
        plain.has_compressed_copy |= is_same_rollout;
        is_same_rollout
    });

    files.shrink_to_fit();
    (files, errors)
}
