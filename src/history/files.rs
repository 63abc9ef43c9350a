//! The rollouts of a home, each conversation's file once.

use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::rollout::{ConversationFile, ZST};
use crate::io::IoError;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// A rollout as it lies on disk. A home may have a hundred thousand of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutFile {
    /// Where it is, relative to the home.
    pub relative: Box<Path>,
    /// Whether it lies among the archived ones.
    pub is_archived: bool,
    /// Whether a compressed form of it lies beside the plain one, which is the one that counts.
    pub has_compressed_copy: bool,
}

impl RolloutFile {
    /// Where it is.
    pub fn path(&self, home: &Path) -> PathBuf {
        home.join(&self.relative)
    }

    /// The path under which the database knows it: that of the plain form.
    pub fn plain_path(&self, home: &Path) -> PathBuf {
        home.join(without_zst(&self.relative))
    }

    /// The compressed form beside it.
    pub fn compressed_copy(&self, home: &Path) -> Option<PathBuf> {
        let mut path = self.path(home).into_os_string();
        path.push(ZST);
        self.has_compressed_copy.then(|| path.into())
    }
}

/// `path` without `.zst` behind it.
pub fn without_zst(path: &Path) -> &Path {
    let plain = path.to_str().and_then(|text| text.strip_suffix(ZST));
    plain.map_or(path, Path::new)
}

/// Which folders are looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folders {
    /// Those of conversations in use.
    Sessions,
    /// The archived ones too.
    All,
}

/// All rollouts below `home`, ordered by path. Names alone are read; links are passed over, as
/// Codex does, but for the folders themselves.
///
/// # Errors
/// A folder cannot be listed. One that is not there has no rollouts.
pub fn find(home: &Path, folders: Folders) -> Result<Vec<RolloutFile>, IoError> {
    let mut found = Vec::new();
    let tops: &[&str] = match folders {
        Folders::Sessions => &[SESSIONS],
        Folders::All => &[SESSIONS, ARCHIVED_SESSIONS],
    };
    for top in tops {
        let folder = home.join(top);
        if !folder.exists() {
            continue;
        }
        for entry in WalkDir::new(&folder) {
            let entry = entry.map_err(|e| IoError {
                action: "list",
                path: e.path().unwrap_or(&folder).to_path_buf(),
                source: e
                    .into_io_error()
                    .unwrap_or_else(|| std::io::ErrorKind::Other.into()),
            })?;
            let path = entry.path();
            if entry.file_type().is_file() && ConversationFile::of(path).is_some() {
                found.push(RolloutFile {
                    relative: path.strip_prefix(home).unwrap_or(path).into(),
                    is_archived: *top == ARCHIVED_SESSIONS,
                    has_compressed_copy: false,
                });
            }
        }
    }
    found.sort_unstable_by(|a, b| {
        let (plain_a, plain_b) = (without_zst(&a.relative), without_zst(&b.relative));
        plain_a
            .cmp(plain_b)
            .then_with(|| a.relative.cmp(&b.relative))
    });
    found.dedup_by(|zst, plain| {
        let is_twin = without_zst(&zst.relative) == &*plain.relative;
        plain.has_compressed_copy |= is_twin;
        is_twin
    });
    found.shrink_to_fit();
    Ok(found)
}

/// The rollout at this place below `home`; `None` where its name is that of no conversation.
pub fn at(relative: &Path) -> Option<RolloutFile> {
    ConversationFile::of(relative)?;
    Some(RolloutFile {
        relative: relative.into(),
        is_archived: relative.starts_with(ARCHIVED_SESSIONS),
        has_compressed_copy: false,
    })
}
