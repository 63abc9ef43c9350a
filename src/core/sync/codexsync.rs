//! Imports codexSync's record of its last sync (`state.manifest_file`) at the first sync, so that a file that
//! changed on both sides since then is a conflict and not decided by mtime.
//!
//! The format is that of codexSync 0.1.2: `{"data_version": 1, "files": {"path": {"local": {"mtime_ns",
//! "size"}, "cloud": …}}}`. The file is never written.

use super::file_group::state_key;
use super::scan::SideListing;
use super::sides::Stat;
use super::state::{SideFile, SyncedFile};
use crate::io::{IoError, file_open};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The only `data_version` that codexSync has written so far.
const DATA_VERSION: u64 = 1;

/// An error of reading codexSync's manifest. codexSync, too, refuses to run with an invalid manifest.
#[derive(Debug, thiserror::Error)]
pub enum CodexSyncStateError {
    #[error("state.manifest_file {reason}: {}", path.display())]
    Invalid {
        path: PathBuf,
        /// The defect of the manifest, as a clause.
        reason: String,
    },
    #[error(transparent)]
    Io(#[from] IoError),
}

#[derive(Deserialize)]
struct CodexSyncManifest {
    data_version: u64,
    #[serde(default)]
    files: BTreeMap<String, CodexSyncPair>,
}

#[derive(Deserialize)]
struct CodexSyncPair {
    local: Option<Stat>,
    cloud: Option<Stat>,
}

/// Returns the files that both sides had after codexSync's last sync and still have, by [`state_key`]. Empty if there
/// is no manifest at `path`.
pub(super) fn import_synced_files(
    path: &Path,
    local: &SideListing,
    remote: &SideListing,
) -> Result<HashMap<String, SyncedFile>, CodexSyncStateError> {
    let Some(bytes) = file_open::read_if_exists(path)? else {
        return Ok(HashMap::new());
    };

    let invalid = |reason: String| CodexSyncStateError::Invalid {
        path: path.to_path_buf(),
        reason,
    };
    let manifest: CodexSyncManifest =
        serde_json::from_slice(&bytes).map_err(|e| invalid(format!("is damaged ({e})")))?;
    if manifest.data_version != DATA_VERSION {
        let found = manifest.data_version;
        return Err(invalid(format!("has version {found}, not {DATA_VERSION}")));
    }

    let mut synced_files = HashMap::new();
    let cloud_paths: HashSet<&str> = remote.files.iter().map(|listed| &*listed.path).collect();
    for listed in &local.files {
        let Some(CodexSyncPair {
            local: Some(local_stat),
            cloud: Some(cloud_stat),
        }) = manifest.files.get(&listed.path)
        else {
            continue;
        };

        // A file that one side has lost since then counts as new on the other side, so that sync copies it back.
        if !cloud_paths.contains(&*listed.path) {
            continue;
        }

        let synced_file = SyncedFile {
            local: SideFile::new(&listed.path, *local_stat),
            remote: SideFile::new(&listed.path, *cloud_stat),
            // codexSync records no digests, so the files are read when they differ.
            text: None,
        };
        synced_files.insert(state_key(&listed.path), synced_file);
    }
    Ok(synced_files)
}
