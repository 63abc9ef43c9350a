//! What codexSync knows of its last sync (`state.manifest_file`): taken over where there is no state of
//! ours yet, so that a change on both sides since then is a conflict and not a matter of times.
//!
//! `{"data_version": 1, "files": {"path": {"local": {"mtime_ns", "size"}, "cloud": …}}}`, as version
//! 0.1.2 writes it. The file is read and never written.

use super::scan::{SideListing, Stat};
use super::state::{SideFile, SyncedFile};
use crate::io::file_open;
use crate::io::{IoContext, IoError};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// The one form that codexSync has written so far.
const DATA_VERSION: u64 = 1;

/// Why the manifest cannot be used. codexSync refuses to run then, too.
#[derive(Debug, thiserror::Error)]
pub enum CodexSyncStateError {
    /// It is none, or of a version that is not known.
    #[error("state.manifest_file {reason}: {}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
}

#[derive(Deserialize)]
struct ManifestFile {
    data_version: u64,
    #[serde(default)]
    files: BTreeMap<String, FilePair>,
}

#[derive(Deserialize)]
struct FilePair {
    local: Option<FileStat>,
    cloud: Option<FileStat>,
}

#[derive(Deserialize)]
struct FileStat {
    mtime_ns: i64,
    size: u64,
}

impl FileStat {
    fn stat(&self) -> Stat {
        Stat {
            size: self.size,
            mtime_ns: self.mtime_ns,
        }
    }
}

/// The files that both sides had after the last sync and have now, by `key_of` their path. None where
/// there is no manifest.
pub(super) fn import_state(
    path: &Path,
    local: &SideListing,
    remote: &SideListing,
    key_of: impl Fn(&str) -> String,
) -> Result<HashMap<String, SyncedFile>, CodexSyncStateError> {
    let bytes = match file_open::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(e) => return Err(e).at("read", path).map_err(Into::into),
    };
    let invalid = |reason: String| CodexSyncStateError::Invalid {
        path: path.to_path_buf(),
        reason,
    };
    let manifest: ManifestFile =
        serde_json::from_slice(&bytes).map_err(|e| invalid(format!("cannot be used ({e})")))?;
    if manifest.data_version != DATA_VERSION {
        let found = manifest.data_version;
        return Err(invalid(format!(
            "is of version {found}, not {DATA_VERSION}"
        )));
    }
    let mut known = HashMap::new();
    let cloud: HashSet<&str> = remote.files.iter().map(|found| &*found.path).collect();
    for found in &local.files {
        let Some(FilePair {
            local: Some(local),
            cloud: Some(was_there),
        }) = manifest.files.get(&found.path)
        else {
            continue;
        };
        // What one side has lost since is as new on the other one: it comes back.
        if !cloud.contains(&*found.path) {
            continue;
        }
        let place = |file: &FileStat| SideFile {
            path: found.path.clone(),
            stat: file.stat(),
        };
        let last = SyncedFile {
            local: place(local),
            remote: place(was_there),
            contents: None,
        };
        known.insert(key_of(&found.path), last);
    }
    Ok(known)
}
