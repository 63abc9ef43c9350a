//! The identity of this machine in the cloud folder: one manifest name with one writer.
//!
//! After a disk is restored from a backup or cloned, the manifest under this machine's name may be newer than the local
//! state. Overwriting that manifest would lose the versions that it lists, and two machines would overwrite each
//! other's manifest without end. So a manifest that the local state did not publish counts as another machine's, and
//! this machine continues under a new name.

use super::config::SyncConfig;
use super::ledger::Ledger;
use super::listed_versions::{MAX_MANIFEST_BYTES, RemoteManifests};
use super::manifest::{self, EncodedManifest, ManifestEntry};
use super::sealed_lines;
use super::state::{Replica, StateDamage, SyncState};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, file_open};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub fn own_manifest_path(config: &SyncConfig, state: &SyncState) -> PathBuf {
    manifest::path_of_machine(&config.cloud, &config.machine_id, &state.own.writer)
}

/// Reads the manifests of the other machines.
pub fn read_remote_manifests(
    config: &SyncConfig,
    state: &SyncState,
) -> Result<RemoteManifests, IoError> {
    let own = own_manifest_path(config, state);
    RemoteManifests::read(&config.cloud, &own, &state.own.former_digests)
}

/// Gives this machine a new name in `state` if another machine wrote the manifest under this machine's name. Does not
/// write the state file. Returns the path of that manifest, relative to the cloud folder, and a warning.
///
/// An incomplete manifest is this machine's own if its remainder lists nothing new: a power cut or the cloud client
/// tore it, and the next run overwrites it. Otherwise the cloud client is still delivering the manifest of another
/// machine.
pub fn rename_if_cloned(
    state: &mut SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<Option<(String, String)>, IoError> {
    if state.file.damage == Some(StateDamage::All) {
        // Without the state, the former name of this machine is unknown.
        let former_digests = read_end_digests_of_machine_id(config);
        state.own.former_digests.extend(former_digests);
    }

    let path = own_manifest_path(config, state);
    let digest = match sealed_lines::read_end_digest(&path) {
        Ok(digest) => digest,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", &path),
    };

    let published_digests = &state.own.published_digests;
    let is_own = digest.is_some_and(|digest| published_digests.contains(&digest));
    // Without published digests, the state cannot tell which machine wrote the manifest. Then the manifest counts as
    // this machine's own.
    if is_own || published_digests.is_empty() {
        return Ok(None);
    }
    // A manifest without a digest at its end is incomplete.
    if digest.is_none() && is_own_remainder(&path, state, config, replica)? {
        return Ok(None);
    }

    // Sync never waits for a former manifest. This machine may have written it before its disk was restored.
    state.own.former_digests.extend(digest);
    state.rename_manifest();

    let relative = path.strip_prefix(&config.cloud).unwrap_or(&path);
    let why = "was written by a clone of this machine, or by this machine before it was restored from a \
               backup; it counts as the manifest of another machine, and this machine writes its own under a new name";
    let relative = relative.to_string_lossy().replace('\\', "/");
    Ok(Some((relative, why.to_owned())))
}

/// Returns the end digests of all manifests with this machine id. They count as former manifests of this machine. Sync
/// waits for no file that only such manifests list.
fn read_end_digests_of_machine_id(config: &SyncConfig) -> Vec<Sha256Digest> {
    let prefix = format!("{}-", config.machine_id);
    let has_machine_id = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let writer = name.strip_prefix(&prefix);
        // Another machine id may begin with this one.
        writer.is_some_and(|writer| !writer.contains('-'))
    };
    let paths = manifest::list_paths(&config.cloud).filter(has_machine_id);
    let end_digests = paths.filter_map(|path| sealed_lines::read_end_digest(&path).ok().flatten());
    end_digests.collect()
}

/// Returns true if this machine's manifest is torn and lists nothing new, so that the next run writes it again. Returns
/// false if the manifest cannot be read.
pub fn is_own_manifest_torn(
    state: &SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<bool, IoError> {
    let path = own_manifest_path(config, state);
    match sealed_lines::read_end_digest(&path) {
        Ok(None) => is_own_remainder(&path, state, config, replica),
        _ => Ok(false),
    }
}

/// Returns true if the remainder of a torn manifest belongs to a manifest that this machine wrote or was about to
/// write.
fn is_own_remainder(
    path: &Path,
    state: &SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<bool, IoError> {
    let mut remainder = Vec::new();
    let file = file_open::open(path).at("open", path)?;
    file.take(MAX_MANIFEST_BYTES)
        .read_to_end(&mut remainder)
        .at("read", path)?;

    let mut ledger = Ledger::read(replica.run_folder())?;
    let encode = |files: &_| manifest::encode(&config.machine_id, files, state).at("encode", path);
    let latest = encode(&ledger.files)?;
    // Includes versions that a killed run recorded without publishing them.
    ledger.files.extend(ledger.superseded);
    let with_superseded = encode(&ledger.files)?;
    let own_manifests = [latest, with_superseded];
    Ok(manifest::is_remainder_of(&remainder, &own_manifests))
}

/// Encodes the next manifest of this machine and records its end digest in `state`. The caller writes the state before
/// the manifest.
pub(crate) fn encode_and_record_manifest(
    files: &BTreeMap<String, ManifestEntry>,
    state: &mut SyncState,
    config: &SyncConfig,
) -> Result<EncodedManifest, IoError> {
    let path = own_manifest_path(config, state);
    let encoded = manifest::encode(&config.machine_id, files, state).at("encode", path)?;
    state.own.record_digest_to_publish(encoded.end_digest);
    Ok(encoded)
}

pub(crate) fn write_manifest(
    manifest: &EncodedManifest,
    state: &SyncState,
    config: &SyncConfig,
) -> Result<(), IoError> {
    manifest.write(&config.cloud, &own_manifest_path(config, state))
}

/// Publishes this machine's manifest outside of a run, after writing the state. Writes neither if another machine has
/// written the manifest under this machine's name: the next run takes a new name and reports that.
pub(crate) fn publish_manifest(
    files: &BTreeMap<String, ManifestEntry>,
    state: &mut SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), IoError> {
    if rename_if_cloned(state, config, replica)?.is_some() {
        // The new name is only in memory, so the next run finds the same manifest again.
        return Ok(());
    }
    let manifest = encode_and_record_manifest(files, state, config)?;
    replica.write(state)?;
    write_manifest(&manifest, state, config)
}
