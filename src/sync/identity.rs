//! The identity of this machine in the cloud folder: one manifest name with one writer.
//!
//! After a disk is restored from a backup or cloned, the manifest under this machine's name may be newer than the local
//! state. Overwriting that manifest would lose the versions that it lists, and two machines would overwrite each
//! other's manifest without end. So a manifest that the local state did not publish counts as another machine's, and
//! this machine continues under a new name.

use super::config::SyncConfig;
use super::manifest::{self, EncodedManifest, ManifestEntry};
use super::remote::folder::listed_versions::{MANIFEST_LIMITS, RemoteManifests};
use super::state::{Replica, SyncState};
use crate::io::{IoContext, IoError};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

pub(crate) fn own_manifest_path(config: &SyncConfig, state: &SyncState) -> PathBuf {
    manifest::path_of(&config.cloud, &config.machine_id, &state.own.writer)
}

/// Reads the manifests of the other machines.
pub(crate) fn read_remote_manifests(
    config: &SyncConfig,
    state: &SyncState,
) -> Result<RemoteManifests, IoError> {
    let own = own_manifest_path(config, state);
    RemoteManifests::read(&config.cloud, &own, &state.own.former, &MANIFEST_LIMITS)
}

/// Gives this machine a new name in `state` if another machine wrote the manifest under this machine's name. Does not
/// write the state file. Returns the path of that manifest, relative to the cloud folder, and a warning.
pub(crate) fn rename_if_cloned(
    state: &mut SyncState,
    config: &SyncConfig,
) -> Result<Option<(String, String)>, IoError> {
    let path = own_manifest_path(config, state);
    let end = match manifest::read_end_digest(&path) {
        Ok(end) => end,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", &path),
    };
    // A state that has published no manifest cannot recognize one of another machine, so this one counts as its own.
    if state.own.published.is_empty() || end.is_some_and(|end| state.own.published.contains(&end)) {
        return Ok(None);
    }
    // Sync never waits for the machine of this manifest, which may be this machine before its disk was restored.
    state.own.former.extend(end);
    state.rename_manifest();
    let relative = path.strip_prefix(&config.cloud).unwrap_or(&path);
    let why = "was written by a clone of this machine, or by this machine before it was restored from a \
               backup, or a cloud client damaged it; it counts as another machine's, and this machine continues \
               under a new name";
    Ok(Some((
        relative.to_string_lossy().replace('\\', "/"),
        why.to_owned(),
    )))
}

/// Encodes the next manifest of this machine and records its digest in `state`. The caller writes the state before the
/// manifest.
pub(crate) fn encode_next_manifest(
    files: &BTreeMap<String, ManifestEntry>,
    state: &mut SyncState,
    config: &SyncConfig,
) -> Result<EncodedManifest, IoError> {
    let path = own_manifest_path(config, state);
    let encoded = manifest::encode(&config.machine_id, files, state).at("encode", path)?;
    state.own.record_published(encoded.end);
    Ok(encoded)
}

/// Publishes this machine's manifest outside of a run, after writing the state. Writes neither if another machine has
/// written the manifest under this machine's name: the next run takes a new name and reports that.
pub(crate) fn publish_manifest(
    files: &BTreeMap<String, ManifestEntry>,
    state: &mut SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), IoError> {
    if rename_if_cloned(state, config)?.is_some() {
        return Ok(());
    }
    let manifest = encode_next_manifest(files, state, config)?;
    replica.write(state)?;
    manifest.write(&config.cloud, &own_manifest_path(config, state))
}
