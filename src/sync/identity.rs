//! Who this machine is in the cloud folder, and that nobody else is.
//!
//! A machine that was put back from a backup of its disk, or made as a copy of another one, has a state
//! whose manifest has gone on without it. Were it written again, what it says would be lost, and two
//! machines would overwrite each other's word for ever. So a manifest that this state did not publish
//! is another machine's from then on, and this one takes a name that nobody has.

use super::config::SyncConfig;
use super::ledger::{Ledger, LedgerContents};
use super::manifest::{self, EncodedManifest, ManifestEntry};
use super::remote_manifests::{MANIFEST_LIMITS, RemoteManifests};
use super::state::{Replica, StateDamage, SyncState};
use crate::io::file_open;
use crate::io::{IoContext, IoError};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where this machine's manifest is.
pub fn own_manifest_path(config: &SyncConfig, state: &SyncState) -> PathBuf {
    manifest::path_of(&config.cloud, &config.machine_id, &state.writer)
}

/// What the other machines say.
pub fn read_remote_manifests(
    config: &SyncConfig,
    state: &SyncState,
) -> Result<RemoteManifests, IoError> {
    let own = own_manifest_path(config, state);
    RemoteManifests::read(
        &config.cloud,
        &own,
        &state.former_manifests,
        &MANIFEST_LIMITS,
    )
}

/// Whether another machine has ever said anything, whole or not.
pub fn has_remote_manifests(config: &SyncConfig, state: &SyncState) -> bool {
    let own = own_manifest_path(config, state);
    let end = |path: &PathBuf| manifest::end_digest(path).ok().flatten();
    let is_former =
        |path: &PathBuf| end(path).is_some_and(|end| state.former_manifests.contains(&end));
    manifest::all_paths(&config.cloud).any(|path| path != own && !is_former(&path))
}

/// Takes another name where somebody else has written our manifest. Returns that manifest, relative to
/// the cloud folder, and what is to be said of it.
///
/// One that is torn is ours where nothing that is left of it is news: a power cut or the client has torn
/// it, and the next word takes its place. Else the client is bringing what was not written here.
pub fn rename_if_cloned(
    state: &mut SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<Option<(String, String)>, IoError> {
    if state.damage == Some(StateDamage::All) {
        // Its name is lost. What stands under it is nobody's whose word is to be waited for.
        let of_it = format!("{}-", config.machine_id);
        let is_of_it = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let rest = name.strip_prefix(&of_it);
            rest.is_some_and(|rest| !rest.contains('-'))
        };
        let paths = manifest::all_paths(&config.cloud).filter(is_of_it);
        let ends = paths.filter_map(|path| manifest::end_digest(&path).ok().flatten());
        state.former_manifests.extend(ends);
    }
    let path = own_manifest_path(config, state);
    let end = match manifest::end_digest(&path) {
        Ok(end) => end,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).at("read", &path),
    };
    if state.published_manifests.is_empty()
        || end.is_some_and(|end| state.published_manifests.contains(&end))
    {
        return Ok(None);
    }
    if end.is_none() && is_own_remainder(&path, state, config, replica)? {
        return Ok(None);
    }
    state.former_manifests.extend(end);
    state.take_new_name();
    let relative = path.strip_prefix(&config.cloud).unwrap_or(&path);
    let why = "was written by a copy of this machine, or by this machine before it was put back from a \
               backup; it counts as another machine's, and this one goes on under a new name";
    Ok(Some((
        relative.to_string_lossy().replace('\\', "/"),
        why.to_owned(),
    )))
}

/// Whether this machine's manifest is there, torn: it is written again by the next run.
pub fn is_own_manifest_torn(
    state: &SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<bool, IoError> {
    let path = own_manifest_path(config, state);
    match manifest::end_digest(&path) {
        Ok(None) => is_own_remainder(&path, state, config, replica),
        _ => Ok(false),
    }
}

/// Whether what is left of a torn manifest is of one that this machine wrote, or was about to.
fn is_own_remainder(
    path: &Path,
    state: &SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<bool, IoError> {
    let mut torn = Vec::new();
    let file = file_open::open(path).at("open", path)?;
    file.take(MANIFEST_LIMITS.bytes)
        .read_to_end(&mut torn)
        .at("read", path)?;
    let LedgerContents {
        mut files, earlier, ..
    } = Ledger::read(&replica.folder)?;
    let encode = |files: &_| manifest::encode(&config.machine_id, files, state).at("encode", path);
    let latest = encode(&files)?;
    // What a run noted that was killed before it told anybody.
    files.extend(earlier);
    Ok(manifest::contains_only(&torn, &[latest, encode(&files)?]))
}

/// What this machine says: to be written when the state, which learns of it, is durable.
pub fn encode_next_manifest(
    files: &BTreeMap<String, ManifestEntry>,
    state: &mut SyncState,
    config: &SyncConfig,
) -> Result<EncodedManifest, IoError> {
    let path = own_manifest_path(config, state);
    let encoded = manifest::encode(&config.machine_id, files, state).at("encode", path)?;
    state.record_published(encoded.end);
    Ok(encoded)
}

/// Tells the other machines, outside of a run. Where somebody else has written our manifest, the next
/// run does: it says so.
pub fn publish_manifest(
    files: &BTreeMap<String, ManifestEntry>,
    state: &mut SyncState,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), IoError> {
    if rename_if_cloned(state, config, replica)?.is_some() {
        return Ok(());
    }
    let word = encode_next_manifest(files, state, config)?;
    replica.write(state)?;
    word.write(&config.cloud, &own_manifest_path(config, state))
}
