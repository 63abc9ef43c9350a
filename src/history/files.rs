//! The rollouts of a home, each conversation's file once.

use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::rollout::{ConversationFile, ZST};
use crate::io::IoError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// A rollout as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RolloutFile {
    /// Where it is.
    pub path: PathBuf,
    /// Relative to the home.
    pub relative: PathBuf,
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// Whether it lies among the archived ones.
    pub is_archived: bool,
    /// A compressed form of it that lies beside the plain one, which is the one that counts.
    pub twin: Option<PathBuf>,
}

impl RolloutFile {
    /// The path under which the database knows it: that of the plain form.
    pub fn plain_path(&self) -> PathBuf {
        without_zst(&self.path)
    }
}

/// `path` without `.zst` behind it.
pub fn without_zst(path: &Path) -> PathBuf {
    let text = path.to_str().and_then(|text| text.strip_suffix(ZST));
    text.map_or_else(|| path.to_path_buf(), PathBuf::from)
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
    let mut found = BTreeMap::new();
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
            if !entry.file_type().is_file() {
                continue;
            }
            let path = entry.into_path();
            let Some(conversation) = ConversationFile::of(&path) else {
                continue;
            };
            let relative = path.strip_prefix(home).unwrap_or(&path).to_path_buf();
            let file = RolloutFile {
                is_compressed: conversation.compressed,
                is_archived: *top == ARCHIVED_SESSIONS,
                twin: None,
                relative,
                path,
            };
            join(&mut found, file);
        }
    }
    Ok(found.into_values().collect())
}

/// The rollout at this place below `home`; `None` where its name is that of no conversation.
pub fn at(home: &Path, relative: &Path) -> Option<RolloutFile> {
    let path = home.join(relative);
    let conversation = ConversationFile::of(&path)?;
    Some(RolloutFile {
        is_compressed: conversation.compressed,
        is_archived: relative.starts_with(ARCHIVED_SESSIONS),
        twin: None,
        relative: relative.to_path_buf(),
        path,
    })
}

/// Of the plain and the compressed form beside each other the plain one counts.
fn join(found: &mut BTreeMap<PathBuf, RolloutFile>, file: RolloutFile) {
    let key = file.plain_path();
    match found.remove(&key) {
        None => {
            found.insert(key, file);
        }
        Some(other) => {
            let (mut plain, zst) = if file.is_compressed {
                (other, file)
            } else {
                (file, other)
            };
            plain.twin = Some(zst.path);
            found.insert(key, plain);
        }
    }
}
